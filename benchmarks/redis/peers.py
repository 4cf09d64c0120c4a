"""redis-py's pools."""

from __future__ import annotations

from benchmarks.redis.client import Client
from benchmarks.servers import CONNECTIONS


class Blocking(Client):
    name = "redis-py BlockingConnectionPool"

    async def open(self) -> None:
        import redis.asyncio as redis

        # A task may have to wait for the whole of a cell.
        pool = redis.BlockingConnectionPool.from_url(self.url, max_connections=CONNECTIONS, timeout=60)
        self._client = redis.Redis.from_pool(pool)


class OnePerTask(Client):
    """It makes nobody wait: everybody gets a connection, or an error beyond the limit, which is therefore high."""

    name = "redis-py ConnectionPool, no limit"
    most_connections = 1000

    async def open(self) -> None:
        import redis.asyncio as redis

        self._client = redis.Redis.from_pool(
            redis.ConnectionPool.from_url(self.url, max_connections=self.most_connections)
        )
