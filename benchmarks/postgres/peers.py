"""The pools of others. None of them begins a transaction, for neither do we."""

from __future__ import annotations

from typing import Any, ClassVar

from benchmarks.postgres.client import QUERY, Client
from benchmarks.servers import CONNECTIONS


class Asyncpg(Client):
    name = "asyncpg.Pool"
    settings: ClassVar[dict[str, Any]] = {}

    async def open(self) -> None:
        import asyncpg

        self._pool: Any = await asyncpg.create_pool(
            self.dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, **self.settings
        )

    async def close(self) -> None:
        await self._pool.close()

    async def call(self) -> None:
        await self._pool.fetchval(QUERY)


async def _do_nothing(connection: object) -> None: ...


class AsyncpgWithoutReset(Asyncpg):
    name = "asyncpg.Pool, no-op reset"
    settings: ClassVar[dict[str, Any]] = {"reset": _do_nothing}


class Psycopg(Client):
    name = "psycopg_pool, autocommit"
    package = "psycopg[binary,pool]"

    async def open(self) -> None:
        from psycopg_pool import AsyncConnectionPool

        self._pool = AsyncConnectionPool(
            self.dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, open=False, kwargs={"autocommit": True}
        )
        await self._pool.open(wait=True)

    async def close(self) -> None:
        await self._pool.close()

    async def call(self) -> None:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(QUERY)
            await cursor.fetchone()


class SQLAlchemy(Client):
    name = "SQLAlchemy over asyncpg, autocommit"
    package = "sqlalchemy[asyncio]"

    async def open(self) -> None:
        from sqlalchemy import text
        from sqlalchemy.ext.asyncio import create_async_engine

        self._query = text(QUERY)
        self._engine = create_async_engine(
            self.dsn.replace("postgresql://", "postgresql+asyncpg://", 1),
            pool_size=CONNECTIONS,
            max_overflow=0,
            isolation_level="AUTOCOMMIT",
        )

    async def close(self) -> None:
        await self._engine.dispose()

    async def call(self) -> None:
        async with self._engine.connect() as connection:
            (await connection.execute(self._query)).scalar()
