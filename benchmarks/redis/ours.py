"""`RedisPool`, with a connection for each command, and with all commands of a turn in one write."""

from __future__ import annotations

from typing import Any, ClassVar

from benchmarks.redis.client import KEY, Client
from benchmarks.results import Kind
from benchmarks.servers import CONNECTIONS


class Exclusive(Client):
    name = "aiopool"
    kind = Kind.OURS
    settings: ClassVar[dict[str, Any]] = {}

    async def open(self) -> None:
        from aiopool.adapters.redis import RedisPool

        self._client = RedisPool(self.url, max_connections=CONNECTIONS, **self.settings)
        await self._client.open()

    async def close(self) -> None:
        await self._client.delete(KEY)
        await self._client.close()


class Batching(Exclusive):
    name = "aiopool, batching"
    settings: ClassVar[dict[str, Any]] = {"batching": True}
