"""The contestants: each pool as shipped, and with every bound that a careful user would give it."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from contextlib import suppress
from typing import Any, ClassVar

from benchmarks.harness import Contestant
from benchmarks.results import Kind

SIZE = 8
#: The acquire timeout of all of them, and every other bound that the careful ones set.
TIMEOUT = 5.0
QUERY = "select 1"
#: For pools that end politely, and not before everything has been answered.
PATIENCE = 3.0


class Pool(Contestant):
    #: How long one call may take by what the settings promise; None: nothing is promised.
    bound: ClassVar[float | None] = None
    _pool: Any = None

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    @abstractmethod
    async def call(self) -> None: ...

    def is_whole(self) -> bool | None:
        """Whether the pool says that all of its connections are there and idle; None: it cannot tell."""
        return None

    async def close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._pool.close()


class Ours(Pool):
    """The bound is `acquire_timeout` and `command_timeout`."""

    name = "aiopool"
    kind = Kind.OURS
    package = "aiopool-core[postgres]"
    bound = TIMEOUT + 60

    async def open(self) -> None:
        from aiopool.adapters.postgres import DatabasePool
        from aiopool.config import PoolConfig

        self._pool = DatabasePool(self.dsn, PoolConfig(min_size=SIZE, max_size=SIZE, acquire_timeout=TIMEOUT))
        await self._pool.open()

    async def call(self) -> None:
        await self._pool.fetchval(QUERY)

    def is_whole(self) -> bool:
        return bool(self._pool.stats()["available"] == SIZE)

    async def close(self) -> None:
        await self._pool.close(timeout=0)


class OursBounded(Ours):
    """The call's own timeout bounds all of it."""

    name = "aiopool, timeout=5"
    bound = TIMEOUT

    async def call(self) -> None:
        await self._pool.fetchval(QUERY, timeout=TIMEOUT)


class Asyncpgs(Pool):
    name = "asyncpg.Pool"
    package = "asyncpg"
    settings: ClassVar[dict[str, Any]] = {}

    async def open(self) -> None:
        import asyncpg

        self._pool = await asyncpg.create_pool(self.dsn, min_size=SIZE, max_size=SIZE, **self.settings)

    async def call(self) -> None:
        async with self._pool.acquire(timeout=TIMEOUT) as connection:
            await connection.fetchval(QUERY)

    def is_whole(self) -> bool:
        return bool(self._pool.get_idle_size() == SIZE)

    async def close(self) -> None:
        self._pool.terminate()


class AsyncpgsBounded(Asyncpgs):
    """Acquiring, connecting included, and then the command."""

    name = "asyncpg.Pool, command_timeout=5, timeout=5"
    settings: ClassVar[dict[str, Any]] = {"command_timeout": TIMEOUT, "timeout": TIMEOUT}
    bound = 2 * TIMEOUT


class Psycopgs(Pool):
    """Nothing bounds a statement on the client's side."""

    name = "psycopg_pool"
    package = "psycopg[binary,pool]"
    settings: ClassVar[dict[str, Any]] = {}
    is_checked: ClassVar[bool] = False

    async def open(self) -> None:
        from psycopg_pool import AsyncConnectionPool

        check = AsyncConnectionPool.check_connection if self.is_checked else None
        self._pool = AsyncConnectionPool(
            self.dsn, min_size=SIZE, max_size=SIZE, timeout=TIMEOUT, open=False, check=check, kwargs=self.settings
        )
        await self._pool.open(wait=True)

    async def call(self) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(QUERY)

    def is_whole(self) -> bool:
        return bool(self._pool.get_stats()["pool_available"] == SIZE)


class PsycopgsBounded(Psycopgs):
    name = "psycopg_pool, check, connect_timeout=5, tcp_user_timeout=5"
    settings: ClassVar[dict[str, Any]] = {"connect_timeout": int(TIMEOUT), "tcp_user_timeout": int(TIMEOUT * 1000)}
    is_checked = True


class Alchemys(Pool):
    name = "SQLAlchemy"
    package = "sqlalchemy[asyncio]"
    settings: ClassVar[dict[str, Any]] = {}

    async def open(self) -> None:
        from sqlalchemy import text
        from sqlalchemy.ext.asyncio import create_async_engine

        dsn = self.dsn.replace("postgresql://", "postgresql+asyncpg://", 1)
        limits = {"pool_size": SIZE, "max_overflow": 0, "pool_timeout": TIMEOUT}
        self._pool = create_async_engine(dsn, **limits, **self.settings)
        self._query = text(QUERY)

    async def call(self) -> None:
        async with self._pool.connect() as connection:
            await connection.execute(self._query)

    async def close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._pool.dispose()


class AlchemysBounded(Alchemys):
    """Waiting, the ping, connecting anew if that fails, and then the command."""

    name = "SQLAlchemy, pool_pre_ping, command_timeout=5, timeout=5"
    settings: ClassVar[dict[str, Any]] = {
        "pool_pre_ping": True,
        "connect_args": {"command_timeout": TIMEOUT, "timeout": TIMEOUT},
    }
    bound = 4 * TIMEOUT


CONTESTANTS: tuple[type[Pool], ...] = (
    Ours,
    OursBounded,
    Asyncpgs,
    AsyncpgsBounded,
    Psycopgs,
    PsycopgsBounded,
    Alchemys,
    AlchemysBounded,
)
