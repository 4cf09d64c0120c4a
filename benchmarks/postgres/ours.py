"""`DatabasePool`, in its three ways to make a connection ready for the next caller."""

from __future__ import annotations

from typing import Any, ClassVar

from aiopool import PoolConfig
from benchmarks.postgres.client import QUERY, Client
from benchmarks.results import Kind
from benchmarks.servers import CONNECTIONS


class PerSession(Client):
    name = "aiopool, reset=session"
    kind = Kind.OURS
    reset: ClassVar[Any] = "session"

    async def open(self) -> None:
        from aiopool.adapters.postgres import DatabasePool

        self._pool = DatabasePool(self.dsn, PoolConfig(min_size=CONNECTIONS, max_size=CONNECTIONS), reset=self.reset)
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    async def call(self) -> None:
        await self._pool.fetchval(QUERY)


class PerTransaction(PerSession):
    name = "aiopool, reset=transaction"
    reset = "transaction"


class WithoutReset(PerSession):
    name = "aiopool, reset=none"
    reset = "none"
