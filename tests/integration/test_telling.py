"""What a model is told of errors as drivers and servers really raise them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import httpx
import psycopg
import pytest
import redis.asyncio as redis
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from aiopool import DatabasePool, HTTPClientPool, PoolConfig, RedisPool, embedded
from aiopool.telling import explain

Ask = Callable[[str], Awaitable[object]]

#: What a model got wrong, and how it learns of it.
MISTAKES = {
    "selec 1": 'syntax error at or near "selec" (SQLSTATE 42601, at character 1)',
    "select relnames from pg_class": (
        'column "relnames" does not exist (SQLSTATE 42703, at character 8)\n'
        'HINT: Perhaps you meant to reference the column "pg_class.relname".'
    ),
    "select 1/0": "division by zero (SQLSTATE 22012)",
    "select count(pg_sleep(20))": (
        "the query ran too long and the server cancelled it; let it do less: canceling statement due to statement "
        "timeout (SQLSTATE 57014)"
    ),
}

TOO_LONG = "the query ran longer than it may and was cancelled; let it do less"
NO_CONNECTION = "no connection came free in time; retry later or raise the pool's max_size"


async def told(doing: Awaitable[object]) -> str:
    with pytest.raises(Exception) as caught:
        await doing
    return explain(caught.value)


async def bounded(doing: Awaitable[object]) -> None:
    """By the caller's own timeout, which has no words."""
    async with asyncio.timeout(0.1):
        await doing


async def assert_mistakes_are_told(ask: Ask) -> None:
    await ask("set statement_timeout = 100")
    for query, text in MISTAKES.items():
        assert await told(ask(query)) == text


async def test_of_asyncpg(postgres: embedded.PostgresServer) -> None:
    connection = await asyncpg.connect(postgres.dsn)
    await assert_mistakes_are_told(connection.fetch)
    assert await told(connection.fetch("select $1::int", "x")) == (
        "invalid input for query argument $1: 'x' ('str' object cannot be interpreted as an integer) (SQLSTATE 22000)"
    )
    assert await told(connection.fetch("select $1::int")) == (
        "the server expects 1 argument for this query, 0 were passed\n"
        "HINT:  Check the query against the passed list of arguments."
    )
    await connection.execute("set statement_timeout = 0")
    assert await told(connection.fetch("select pg_sleep(20)", timeout=0.1)) == TOO_LONG
    await connection.close()


async def test_of_psycopg(postgres: embedded.PostgresServer) -> None:
    async with await psycopg.AsyncConnection.connect(postgres.dsn, autocommit=True) as connection:
        await assert_mistakes_are_told(connection.execute)
        assert await told(connection.execute("select %s", (1, 2))) == (
            "the query has 1 placeholders but 2 parameters were passed"
        )


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_of_sqlalchemy_what_its_driver_says(postgres: embedded.PostgresServer, driver: str) -> None:
    engine = create_async_engine(postgres.dsn.replace("postgresql:", f"postgresql+{driver}:"))
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await assert_mistakes_are_told(lambda query: connection.execute(sqlalchemy.text(query)))
    await engine.dispose()


@pytest.mark.parametrize(
    "connect",
    [
        lambda: asyncpg.connect("postgresql://app:xyzzy@127.0.0.1:1/app"),
        lambda: psycopg.AsyncConnection.connect("postgresql://app:xyzzy@127.0.0.1:1/app"),
        lambda: redis.Redis.from_url("redis://app:xyzzy@127.0.0.1:1/0").ping(),
        lambda: httpx.AsyncClient().get("http://app:xyzzy@127.0.0.1:1/"),
    ],
)
async def test_of_nobody_there_no_address(connect: Callable[[], Any]) -> None:
    text = await told(connect())
    assert re.search(r"(cannot be reached|was lost).*; retry later$", text)
    assert not re.search(r"xyzzy|app|127|:1", text)


@pytest.mark.parametrize("how", ["wrong password", "no such database"])
async def test_of_a_refused_login_no_name(postgres: embedded.PostgresServer, how: str) -> None:
    user, database = ("nobody", "postgres") if how == "wrong password" else ("postgres", "nothing")
    text = await told(asyncpg.connect(postgres.dsn, user=user, password="xyzzy", database=database))
    assert re.fullmatch(r"the database refuses the login \(SQLSTATE \w+\); the query is not at fault", text)


async def test_of_our_pools(
    postgres: embedded.PostgresServer, redis_server: embedded.RedisServer, https_server: embedded.HTTPSServer
) -> None:
    async with DatabasePool(postgres.dsn, PoolConfig(min_size=1, max_size=1), name="database") as database:
        assert re.fullmatch(
            r"pool 'database': no answer within timeout=0\.1 seconds, and the query was cancelled: .*",
            await told(database.fetch("select pg_sleep(20)", timeout=0.1)),
        )
        assert await told(bounded(database.fetch("select pg_sleep(20)"))) == TOO_LONG
        async with database.connection():
            assert await told(bounded(database.fetch("select 1"))) == NO_CONNECTION
            assert (await told(database.fetch("select 1", timeout=0.1))).startswith(
                "pool 'database' is exhausted: 1 of 1"
            )
    async with RedisPool(redis_server.url, config=PoolConfig(min_size=1, max_size=1), name="redis") as cache:
        assert await told(cache.client.execute_command("NONSENSE", "xyzzy")) == "unknown command 'NONSENSE'"
    settings: dict[str, Any] = {"verify": https_server.ssl_context, "max_connections": 1, "name": "api"}
    async with HTTPClientPool(https_server.url, http2=False, **settings) as api:
        assert await told(api.get("/delay/2000", timeout=0.1)) == (
            "the HTTP server did not answer in time (ReadTimeout); retry later"
        )
        async with api.stream("GET", "/stream/1000"):
            assert await told(bounded(api.get("/"))) == NO_CONNECTION
            assert (await told(api.get("/", timeout=0.1))).startswith("pool 'api' is exhausted: 1 of 1 in use")
