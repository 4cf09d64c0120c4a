"""Clients killed with -9: the kernel closes their sockets, and the server has its own timeouts to notice."""

from __future__ import annotations

import asyncio
import time

import pytest

from aiopool import embedded
from tests.storms import census, child, pools, servers

KILL = "os.kill(os.getpid(), signal.SIGKILL)"


async def is_clean(server: embedded.Server) -> bool:
    """Soon: no keepalive of the system, and no timeout of the server, takes so short."""
    return await census.eventually(lambda: child.is_gone(server), within=8)


async def test_a_killed_client_is_gone_from_the_server_at_once(kind: str, server: embedded.Server) -> None:
    script = f"""
        async def main():
            pool = make(kind, address)
            await pool.open()
            await asyncio.gather(*(ask(pool, n, 20) for n in range(5)))
            print(pool.stats()["size"], flush=True)
            {KILL}
        asyncio.run(main())
    """
    run = await asyncio.to_thread(child.run, kind, server, script)
    assert (run.returncode, int(run.stdout) > 0) == (-9, True)
    assert await is_clean(server)


async def test_locks_and_transactions_of_a_killed_client_end_with_it(postgres: embedded.PostgresServer) -> None:
    script = f"""
        async def main():
            db = make(kind, address)
            async with db.transaction() as connection:
                await connection.execute("select pg_advisory_lock(4712)")
                await connection.execute("create table murdered (x int)")
                {KILL}
        asyncio.run(main())
    """
    run = await asyncio.to_thread(child.run, "postgres", postgres, script)
    assert run.returncode == -9
    assert await is_clean(postgres)
    assert await servers.ask_postgres(postgres.dsn, "select pg_try_advisory_lock(4712)")
    assert await servers.ask_postgres(postgres.dsn, "select to_regclass('murdered')") is None


@pytest.mark.parametrize(
    ("interval", "takes", "earliest"),
    [("0", 1.5, 0.5), ("100ms", 30, 0)],
    ids=["at its end by default", "after client_connection_check_interval"],
)
async def test_a_query_of_a_killed_client_ends(
    postgres: embedded.PostgresServer, interval: str, takes: float, earliest: float
) -> None:
    """PostgreSQL reads from its client only between queries, unless it is told to look after it now and then."""
    script = f"""
        async def main():
            db = make(kind, address)
            async with db.connection() as connection:
                await connection.execute("set client_connection_check_interval = '{interval}'")
                asyncio.get_running_loop().call_later(0.2, lambda: {KILL})
                await connection.execute("select pg_sleep({takes})")
        asyncio.run(main())
    """
    run = await asyncio.to_thread(child.run, "postgres", postgres, script)
    assert run.returncode == -9
    began = time.monotonic()
    assert await is_clean(postgres)
    assert time.monotonic() - began >= earliest


async def test_a_blocked_command_of_a_killed_client_takes_nothing(redis_server: embedded.RedisServer) -> None:
    """Redis sees the end of a blocked client at once, and hands the next element to somebody who is there."""
    script = f"""
        async def main():
            cache = make(kind, address)
            asyncio.get_running_loop().call_later(0.3, lambda: {KILL})
            await cache.client.blpop(["storms:murdered"], timeout=30)
        asyncio.run(main())
    """
    run = await asyncio.to_thread(child.run, "redis", redis_server, script)
    assert run.returncode == -9
    assert await is_clean(redis_server)
    async with pools.make("redis", redis_server.url) as cache:
        await cache.client.rpush("storms:murdered", "kept")
        assert await cache.client.lpop("storms:murdered") == "kept"
