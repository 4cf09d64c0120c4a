"""Redis: SET and GET of a short value through redis-py."""

from __future__ import annotations

from typing import Any

from aiopool import embedded
from benchmarks.load import Caller
from benchmarks.results import Kind

CONNECTIONS = 10
KEY, VALUE = "benchmark", "x" * 100


class Client(Caller):
    package = "aiopool-core[redis]"
    _client: Any

    def __init__(self, server: embedded.RedisServer) -> None:
        self.url = server.url

    async def open(self) -> None:
        self._client = self._connect()

    async def close(self) -> None:
        await self._client.delete(KEY)
        await self._client.aclose()

    def _connect(self) -> Any:
        import redis.asyncio as redis

        return redis.Redis.from_url(self.url)

    async def call(self) -> None:
        await self._client.set(KEY, VALUE)
        await self._client.get(KEY)


class Unpooled(Client):
    name = "unpooled"
    kind = Kind.UNPOOLED

    async def call(self) -> None:
        async with self._connect() as client:
            await client.set(KEY, VALUE)
            await client.get(KEY)


class Ours(Client):
    name = "aiopool"
    kind = Kind.OURS

    def _connect(self) -> Any:
        from aiopool.adapters.redis import RedisPool

        return RedisPool(self.url, max_connections=CONNECTIONS)

    async def open(self) -> None:
        self._client = self._connect()
        await self._client.open()

    async def close(self) -> None:
        await self._client.delete(KEY)
        await self._client.close()


class Blocking(Client):
    name = "redis-py, blocking pool"

    def _connect(self) -> Any:
        import redis.asyncio as redis

        pool = redis.BlockingConnectionPool.from_url(self.url, max_connections=CONNECTIONS)
        return redis.Redis.from_pool(pool)


class Default(Client):
    """What `Redis.from_url` makes: it opens a connection for every task, up to a limit, then refuses."""

    name = "redis-py, default pool"


CONTESTANTS: tuple[type[Client], ...] = (Unpooled, Ours, Blocking, Default)
