"""PostgreSQL: `select 1` through asyncpg."""

from __future__ import annotations

from typing import Any, ClassVar

from aiopool import PoolConfig, embedded
from benchmarks.load import Caller
from benchmarks.results import Kind

CONNECTIONS = 10
QUERY = "select 1"


class Client(Caller):
    package = "aiopool-core[postgres]"

    def __init__(self, server: embedded.PostgresServer) -> None:
        self.dsn = server.dsn


class Unpooled(Client):
    name = "unpooled"
    kind = Kind.UNPOOLED

    async def open(self) -> None:
        import asyncpg

        self._connect: Any = asyncpg.connect

    async def call(self) -> None:
        connection = await self._connect(self.dsn)
        try:
            await connection.fetchval(QUERY)
        finally:
            await connection.close()


class _Pooled(Client):
    _pool: Any

    async def close(self) -> None:
        await self._pool.close()

    async def call(self) -> None:
        await self._pool.fetchval(QUERY)


class Ours(_Pooled):
    """Clears all that a session remembers, which asyncpg's own reset does not."""

    name = "aiopool, reset=session"
    kind = Kind.OURS
    reset: ClassVar[Any] = "session"

    async def open(self) -> None:
        from aiopool.adapters.postgres import DatabasePool

        config = PoolConfig(min_size=CONNECTIONS, max_size=CONNECTIONS)
        self._pool = DatabasePool(self.dsn, config, reset=self.reset)
        await self._pool.open()


class OursPerTransaction(Ours):
    name = "aiopool, reset=transaction"
    reset = "transaction"


class Asyncpgs(_Pooled):
    name = "asyncpg.Pool"
    settings: ClassVar[dict[str, Any]] = {}

    async def open(self) -> None:
        import asyncpg

        self._pool = await asyncpg.create_pool(self.dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, **self.settings)


async def _do_nothing(connection: object) -> None: ...


class AsyncpgsWithoutReset(Asyncpgs):
    name = "asyncpg.Pool, no-op reset"
    settings: ClassVar[dict[str, Any]] = {"reset": _do_nothing}


CONTESTANTS: tuple[type[Client], ...] = (Unpooled, Ours, OursPerTransaction, Asyncpgs, AsyncpgsWithoutReset)
