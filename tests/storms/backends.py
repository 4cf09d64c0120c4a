"""The pools that storms are driven against, each with the questions that its users ask."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from aiopool import PoolConfig, embedded
from aiopool.adapters.http import HTTPClientPool
from aiopool.adapters.postgres import DatabasePool, ResetMode
from aiopool.adapters.redis import RedisPool
from tests.storms import servers
from tests.storms.storm import Backend

SIZE = 10
RESET_MODES: tuple[ResetMode, ...] = ("session", "transaction", "none")


def postgres(server: embedded.PostgresServer, reset: ResetMode) -> Backend:
    name = f"storm-{reset}"
    config = PoolConfig(min_size=SIZE, max_size=SIZE, validate_after=0.02)
    # A small cache, so that it is full soon, and statements are closed as well as prepared.
    settings: dict[str, Any] = {"statement_cache_size": 5, "server_settings": {"application_name": name}}
    db = DatabasePool(server.dsn, config, reset=reset, **settings)

    async def a_value(nonce: int) -> int:
        return int(await db.fetchval("select $1::int", nonce))

    async def many_rows(nonce: int) -> int:
        rows = await db.fetch("select $1::int from generate_series(1, 100)", nonce)
        (answer,) = {row[0] for row in rows}
        return int(answer)

    async def an_unprepared_statement(nonce: int) -> int:
        return int((await db.execute(f"select {nonce} from pg_sleep(0.002)"))[0][0])

    async def a_transaction(nonce: int) -> int:
        async with db.transaction() as connection:
            # What another transaction has set may be neither open still, nor visible.
            left = await connection.fetchval("select current_setting('storm.nonce', true)")
            assert left in (None, ""), f"inside the transaction of {left}"
            await connection.execute(f"set local storm.nonce = '{nonce}'")
            return int(await connection.fetchval("select current_setting('storm.nonce')"))

    async def a_savepoint_and_a_cursor(nonce: int) -> int:
        async with db.transaction(isolation="repeatable_read") as connection, connection.transaction():
            rows = [row[0] async for row in connection.cursor("select $1::int from generate_series(1, 60)", nonce)]
        (answer,) = set(rows)
        return int(answer)

    async def a_copy(nonce: int) -> int:
        out = io.BytesIO()
        async with db.connection() as connection:
            await connection.copy_from_query(f"select {nonce} from generate_series(1, 3000)", output=out)
        (answer,) = set(out.getvalue().split())
        return int(answer)

    async def two_on_one_lease(nonce: int) -> int:
        lease = await db.connection()
        async with lease as connection:
            first = await connection.fetchval("select $1::int + 1", nonce)
            return int(await connection.fetchval("select $1::int - 1", first))

    ways = [a_value, many_rows, an_unprepared_statement, a_transaction, a_savepoint_and_a_cursor, two_on_one_lease]
    # Nothing is sent that could mend an open transaction, and half a COPY is ended by closing: here both may cost
    # their connections. Without them, not one may be lost.
    is_bare = reset == "none"
    return Backend(
        title=f"PostgreSQL, reset={reset}",
        pool=db,
        ways=[*ways, a_copy] if is_bare else ways,
        connections=lambda: servers.postgres_backends(server.dsn, name),
        busy=lambda: servers.busy_postgres_backends(server.dsn, name),
        size=SIZE,
        may_reopen=is_bare,
    )


def redis(server: embedded.RedisServer, *, batching: bool = False) -> Backend:
    config = PoolConfig(min_size=SIZE, max_size=SIZE, validate_after=0.02)
    cache = RedisPool(server.url, config=config, batching=batching)
    client: Any = cache.client

    async def an_echo(nonce: int) -> int:
        return int(await client.echo(nonce))

    async def set_and_get(nonce: int) -> int:
        key = f"storm:{nonce}"
        await cache.set(key, nonce, ttl=60)
        return int(await cache.get(key))

    async def a_transaction(nonce: int) -> int:
        async with client.pipeline(transaction=True) as pipe:
            first, second = await pipe.echo(nonce).echo(nonce).execute()
            assert first == second
            return int(second)

    async def a_long_pipeline(nonce: int) -> int:
        async with client.pipeline(transaction=False) as pipe:
            for _ in range(50):
                pipe.echo(nonce)
            (answer,) = set(await pipe.execute())
            return int(answer)

    async def a_watched_key(nonce: int) -> int:
        key = f"storm:watched:{nonce}"
        async with client.pipeline() as pipe:
            await pipe.watch(key)
            assert await pipe.get(key) is None
            pipe.multi()
            pipe.set(key, nonce, px=60_000).get(key).delete(key)
            return int((await pipe.execute())[1])

    async def a_blocking_pop(nonce: int) -> int:
        key = f"storm:list:{nonce}"
        await client.rpush(key, nonce)
        _, answer = await client.blpop([key], timeout=5)
        return int(answer)

    async def a_subscription(nonce: int) -> int:
        async with client.pubsub() as listener:
            await listener.subscribe(f"storm:{nonce}")
            confirmation = await listener.get_message(timeout=5)
            return int(confirmation["channel"].removeprefix("storm:"))

    async def a_large_value(nonce: int) -> int:
        answer = await client.echo(f"{nonce} " * 20_000)
        (answer,) = set(answer.split())
        return int(answer)

    return Backend(
        title="Redis, batching" if batching else "Redis",
        pool=cache,
        ways=(
            an_echo,
            set_and_get,
            a_transaction,
            a_long_pipeline,
            a_watched_key,
            a_blocking_pop,
            a_subscription,
            a_large_value,
        ),
        connections=lambda: servers.redis_clients(server.url),
        busy=lambda: servers.busy_redis_clients(server.url),
        size=SIZE,
        may_reopen=True,
    )


def http(server: embedded.HTTPSServer, *, http2: bool) -> Backend:
    api = HTTPClientPool(server.url, max_connections=SIZE, max_keepalive=SIZE, http2=http2, verify=server.ssl_context)

    def nonce_in(response: httpx.Response) -> int:
        assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        return int(response.json()["query"].removeprefix("nonce="))

    async def a_get(nonce: int) -> int:
        return nonce_in(await api.get(f"/echo?nonce={nonce}"))

    async def a_post(nonce: int) -> int:
        return int((await api.post("/echo", content=str(nonce))).json()["body"])

    async def a_large_post(nonce: int) -> int:
        answer = (await api.post("/echo", content=f"{nonce} " * 10_000)).json()["body"]
        (answer,) = set(answer.split())
        return int(answer)

    async def a_slow_upload(nonce: int) -> int:
        async def pieces() -> AsyncIterator[bytes]:
            for piece in str(nonce):
                await asyncio.sleep(0.001)
                yield piece.encode()

        return int((await api.post("/echo", content=pieces())).json()["body"])

    async def a_stream(nonce: int) -> int:
        async with api.stream("GET", f"/echo?nonce={nonce}") as response:
            pieces = [piece async for piece in response.aiter_bytes(7)]
        return int(json.loads(b"".join(pieces))["query"].removeprefix("nonce="))

    async def a_stream_left_early(nonce: int) -> int:
        async with api.stream("GET", "/stream/200") as response:
            async for _ in response.aiter_bytes():
                break
        return nonce_in(await api.client.get(f"/echo?nonce={nonce}"))

    async def connections() -> int | None:
        return servers.https_connections(server)

    return Backend(
        title="HTTP/2" if http2 else "HTTP/1.1",
        pool=api,
        ways=(a_get, a_post, a_large_post, a_slow_upload, a_stream, a_stream_left_early),
        connections=connections,
    )
