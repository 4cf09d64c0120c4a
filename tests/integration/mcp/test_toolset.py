"""Toolsets on real servers: how a full pool, a slow query and a short timeout are told, and servers of their own."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
import pytest

from aiopool import embedded
from aiopool.toolserver.toolset import Toolset


def file(timeout: float, **pool: Any) -> dict[str, Any]:
    nap = {"sql": "select pg_sleep(:s)", "parameters": [{"name": "s", "type": "number", "required": True}]}
    return {
        "pools": {"database": {"min_size": 1, "max_size": 1, **pool}},
        "tools": [{"name": "nap", "timeout": timeout, **nap}],
    }


async def told_while_the_pool_is_full(toolset: Toolset) -> str:
    async with toolset.pools.get("database").connection():
        result = await toolset.call("nap", {"s": 0})
    assert result.is_error
    return result.text


async def test_a_full_pool_a_short_timeout_and_a_slow_query_are_told_apart(postgres: embedded.PostgresServer) -> None:
    env = {"DATABASE_URL": postgres.dsn}
    async with Toolset.from_file(file(10, acquire_timeout=0.2), env=env) as toolset:
        exhausted = await told_while_the_pool_is_full(toolset)
    async with Toolset.from_file(file(0.4), env=env) as toolset:
        waiting = await told_while_the_pool_is_full(toolset)
        slow = (await toolset.call("nap", {"s": 5})).text
        assert not (await toolset.call("nap", {"s": 0})).is_error
    assert exhausted.startswith("pool 'database' is exhausted: 1 of 1 in use")
    assert waiting.startswith("tool 'nap' did not end within its timeout of 0.4 s (no connection came free in time")
    assert slow.startswith("the query ran longer than ")


async def test_a_cancelled_call_gives_its_connection_back(postgres: embedded.PostgresServer) -> None:
    async with Toolset.from_file(file(10), env={"DATABASE_URL": postgres.dsn}) as toolset:
        call = asyncio.create_task(toolset.call("nap", {"s": 9}))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        began = time.monotonic()
        assert not (await toolset.call("nap", {"s": 0})).is_error
        assert time.monotonic() - began < 5


async def test_pools_without_an_address_get_servers_that_end_with_the_toolset() -> None:
    pools = {"database": {"dsn": "${NOPE}", "min_size": 1}, "db": {"min_size": 0}, "redis": {"min_size": 1}}
    tools = [
        {"name": "where", "sql": "select inet_server_port() as port", "pool": "database"},
        {"name": "also", "sql": "select inet_server_port() as port", "pool": "db"},
        {"name": "ping", "redis": ["PING"]},
    ]
    async with Toolset.from_file({"pools": pools, "tools": tools}, env={}, embedded=True) as toolset:
        where, also = await toolset.call("where"), await toolset.call("also")
        assert where.structured == also.structured
        assert not (await toolset.call("ping")).is_error
        assert where.structured is not None
        [row] = where.structured["rows"]
    with pytest.raises(OSError):
        await asyncpg.connect(f"postgresql://x@127.0.0.1:{row['port']}/x", timeout=5)
