"""One pool of each kind, as the programs of `child` use them; only the driver that is needed is imported."""

from __future__ import annotations

from typing import Any

from aiopool import PoolConfig


def make(kind: str, address: str, **settings: Any) -> Any:
    """A pool of 3 to 5 connections; HTTP opens its own when they are needed."""
    config = PoolConfig(**{"min_size": 3, "max_size": 5, "validate_after": None, **settings})
    if kind == "postgres":
        from aiopool.adapters.postgres import DatabasePool

        return DatabasePool(address, config, server_settings={"application_name": "child"})
    if kind == "redis":
        from aiopool.adapters.redis import RedisPool

        return RedisPool(address, config=config)
    from aiopool.adapters.http import HTTPClientPool

    url, _, ca_file = address.partition("#")
    return HTTPClientPool(url, max_connections=config.max_size, http2=kind == "http2", verify=ca_file)


async def ask(pool: Any, nonce: int, milliseconds: int = 0) -> int:
    """The nonce, out of the answer of the server, which takes so long."""
    if hasattr(pool, "fetchval"):
        return int(await pool.fetchval("select $1::int from pg_sleep($2)", nonce, milliseconds / 1000))
    if hasattr(pool.client, "echo"):
        if milliseconds:
            await pool.client.blpop(["nothing"], timeout=milliseconds / 1000)
        return int(await pool.client.echo(nonce))
    if milliseconds:
        await pool.get(f"/delay/{milliseconds}")
    return int((await pool.get(f"/echo?{nonce}")).json()["query"])
