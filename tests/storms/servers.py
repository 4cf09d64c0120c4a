"""What the servers hold at a moment: asked of them, not of the pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg
import redis.asyncio

from aiopool import embedded


async def ask_postgres(dsn: str, query: str, *params: object) -> Any:
    """On a connection of its own, so that no pool is asked about itself."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query, *params)
    finally:
        await connection.close()


async def postgres_backends(dsn: str, name: str) -> int:
    """Sessions with this `application_name`, as `pg_stat_activity` has them."""
    return int(await ask_postgres(dsn, "select count(*) from pg_stat_activity where application_name = $1", name))


async def busy_postgres_backends(dsn: str, name: str) -> int:
    """Those that execute, or are in a transaction, even one that the client does not know of."""
    busy = "select count(*) from pg_stat_activity where application_name = $1 and state <> 'idle'"
    return int(await ask_postgres(dsn, busy, name))


async def redis_clients(url: str) -> int:
    """Connections of everybody but the asking one, as `CLIENT LIST` has them."""
    async with redis.asyncio.Redis.from_url(url, single_connection_client=True) as admin:
        return len(await admin.client_list()) - 1


async def busy_redis_clients(url: str) -> int:
    """Those that are blocked, or in a transaction, or watch or subscribe to anything."""
    async with redis.asyncio.Redis.from_url(url, single_connection_client=True) as admin:
        clients = await admin.client_list()
    blocked, subscribed, in_multi = "b", "P", "x"
    return sum(
        not {blocked, subscribed, in_multi}.isdisjoint(client["flags"]) or client["watch"] != "0" for client in clients
    )


async def none() -> int:
    return 0


def https_connections(server: embedded.HTTPSServer) -> int | None:
    """The server's sockets that a client has, or had and the server has not closed; None where nobody tells."""
    table = Path("/proc/net/tcp")
    if not table.exists():
        return None
    rows = [line.split() for line in table.read_text().splitlines()[1:]]
    established, close_wait = "01", "08"
    return sum(row[1].endswith(f":{server.port:04X}") and row[3] in (established, close_wait) for row in rows)
