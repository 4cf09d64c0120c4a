"""Redis: the server's own statistics count connections and ECHOs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Self

from aiopool import PoolConfig, embedded
from benchmarks.cancel_storm.pool import CALLERS, SIZE, Census, Pool
from benchmarks.results import Kind


class Server:
    def __init__(self, server: embedded.RedisServer, admin: Any) -> None:
        self.url = server.url
        self._admin = admin

    @classmethod
    @asynccontextmanager
    async def of(cls, server: embedded.RedisServer) -> AsyncIterator[Self]:
        import redis.asyncio as redis

        async with redis.Redis.from_url(server.url, single_connection_client=True) as admin:
            yield cls(server, admin)

    async def census(self) -> Census:
        connections = (await self._admin.info("stats"))["total_connections_received"]
        commands = await self._admin.info("commandstats")
        return Census(connections, commands.get("cmdstat_echo", {"calls": 0})["calls"])


class Ours(Pool):
    name = "aiopool, RedisPool"
    kind = Kind.OURS
    settings: ClassVar[dict[str, Any]] = {}
    #: Something with redis-py's commands.
    _client: Any

    def __init__(self, server: Server) -> None:
        self.server = server

    async def open(self) -> None:
        from aiopool.adapters.redis import RedisPool

        self._pool = RedisPool(self.server.url, config=PoolConfig(min_size=SIZE, max_size=SIZE), **self.settings)
        await self._pool.open()
        self._client = self._pool.client

    async def close(self) -> None:
        await self._pool.close(timeout=0)

    async def ask(self, number: int, seconds: float = 0.0) -> int:
        if seconds:
            # Nobody ever pushes anything, so that it blocks until its time is over.
            await self._client.blpop([f"nothing:{number}"], timeout=seconds)
        return int(await self._client.echo(str(number)))


class OursBatching(Ours):
    name = "aiopool, RedisPool, batching"
    settings: ClassVar[dict[str, Any]] = {"batching": True}


class Blocking(Ours):
    name = "redis-py BlockingConnectionPool"
    kind = Kind.PEER

    async def open(self) -> None:
        import redis.asyncio as redis

        pool = redis.BlockingConnectionPool.from_url(self.server.url, max_connections=SIZE)
        self._client = redis.Redis.from_pool(pool)

    async def close(self) -> None:
        await self._client.aclose()


class OnePerCaller(Blocking):
    """It refuses those beyond its limit, so there are as many connections as callers."""

    name = f"redis-py ConnectionPool (size {CALLERS})"

    async def open(self) -> None:
        import redis.asyncio as redis

        self._client = redis.Redis.from_pool(redis.ConnectionPool.from_url(self.server.url, max_connections=CALLERS))


CONTESTANTS: tuple[type[Ours], ...] = (Ours, OursBatching, Blocking, OnePerCaller)
