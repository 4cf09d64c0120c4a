"""Who takes part in `redis`."""

from __future__ import annotations

from typing import Any

from aiopool import embedded
from benchmarks import servers

KEY, VALUE = "benchmark", "x" * 100


class Client(servers.Client):
    """A way to have a SET and a GET answered."""

    package = "aiopool-core[redis]"
    #: Something with redis-py's commands.
    _client: Any

    def __init__(self, server: embedded.RedisServer) -> None:
        self.url = server.url

    async def close(self) -> None:
        await self._client.delete(KEY)
        await self._client.aclose()

    async def call(self) -> None:
        await self._client.set(KEY, VALUE)
        await self._client.get(KEY)
