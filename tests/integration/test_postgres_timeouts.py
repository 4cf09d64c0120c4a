"""Timeouts that the server keeps, beside those of `DatabasePool`: they outlive resets, and cost no wrong answer."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from aiopool import embedded
from aiopool.adapters.postgres import DatabasePool
from aiopool.config import PoolConfig

ONE = PoolConfig(min_size=1, max_size=1, validate_after=None)
SETTINGS = {
    "statement_timeout": "90s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "2min",
    "client_connection_check_interval": "1s",
}
SHOW = "select name, current_setting(name) from unnest($1::text[]) as name"

RESETS = pytest.mark.parametrize("reset", ["session", "transaction", "none"])


@RESETS
async def test_what_server_settings_says_outlives_every_reset(postgres: embedded.PostgresServer, reset: Any) -> None:
    async with DatabasePool(postgres.dsn, ONE, reset=reset, server_settings={**SETTINGS, "timezone": "UTC"}) as db:
        for _ in range(3):
            assert dict(await db.fetch(SHOW, list(SETTINGS))) == {
                "statement_timeout": "90s",
                "lock_timeout": "5s",
                "idle_in_transaction_session_timeout": "2min",
                "client_connection_check_interval": "1s",
            }
            async with db.transaction() as connection:
                await connection.execute("set local statement_timeout = 0")
        assert db.stats()["opened"] == 1


async def test_a_callers_own_timeout_gives_way_to_that_of_server_settings(postgres: embedded.PostgresServer) -> None:
    async with DatabasePool(postgres.dsn, ONE, server_settings=SETTINGS) as db:
        async with db.connection() as connection:
            await connection.execute("set statement_timeout = 0; reset lock_timeout; set lock_timeout = '1h'")
        assert (await db.fetchval("show statement_timeout"), await db.fetchval("show lock_timeout")) == ("90s", "5s")
        assert db.stats()["opened"] == 1


@RESETS
async def test_a_statement_that_the_server_cancels_keeps_its_connection(
    postgres: embedded.PostgresServer, reset: Any
) -> None:
    async with DatabasePool(postgres.dsn, ONE, reset=reset, server_settings={"statement_timeout": "50"}) as db:
        for _ in range(3):
            with pytest.raises(asyncpg.QueryCanceledError, match="statement timeout"):
                await db.execute("select pg_sleep(30)")
        with pytest.raises(asyncpg.QueryCanceledError, match="statement timeout"):
            async with db.transaction() as connection:
                await connection.execute("select pg_sleep(30)")
        assert await db.fetchval("select 42") == 42
        assert db.stats()["opened"] == 1


async def test_whichever_of_the_two_is_shorter_ends_a_command_and_says_so(postgres: embedded.PostgresServer) -> None:
    given = {"statement_timeout": "100"}
    async with DatabasePool(postgres.dsn, ONE, command_timeout=30, server_settings=given) as db:
        with pytest.raises(asyncpg.QueryCanceledError):
            await db.execute("select pg_sleep(20)")
    given = {"statement_timeout": "30000"}
    async with DatabasePool(postgres.dsn, ONE, command_timeout=0.1, server_settings=given) as db:
        with pytest.raises(TimeoutError, match=r"command_timeout=0\.1"):
            await db.execute("select pg_sleep(20)")
        assert await db.fetchval("select 42") == 42
        assert db.stats()["opened"] == 1


async def test_the_timeout_of_a_statement_bounds_neither_the_reset_nor_the_check(
    postgres: embedded.PostgresServer,
) -> None:
    """They are short by themselves. One that is too long for the server costs its connection, no caller's error."""
    config = PoolConfig(min_size=1, max_size=1, validate_after=0, validation_query="select pg_sleep(0.2)")
    async with DatabasePool(postgres.dsn, config, server_settings={"statement_timeout": "50"}) as db:
        assert await db.fetchval("select 1") == 1
        assert await db.fetchval("select 2") == 2
        assert db.stats()["closed_by"]["invalid"] >= 1


async def test_a_transaction_that_idles_too_long_loses_its_connection_and_the_pool_gets_another(
    postgres: embedded.PostgresServer,
) -> None:
    given = {"idle_in_transaction_session_timeout": "50"}
    async with DatabasePool(postgres.dsn, ONE, server_settings=given) as db:
        lease = await db.connection()
        await lease.connection.execute("begin")
        ended = asyncio.Event()
        lease.connection.add_termination_listener(lambda _: ended.set())
        await asyncio.wait_for(ended.wait(), 10)
        with pytest.raises((asyncpg.InterfaceError, asyncpg.PostgresConnectionError)):
            await lease.connection.execute("select 1")
        lease.release()
        assert await db.fetchval("select 42", timeout=10) == 42
        assert db.stats()["opened"] == 2
