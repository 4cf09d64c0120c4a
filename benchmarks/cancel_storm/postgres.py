"""PostgreSQL: the server logs who logs in, and a sequence counts the questions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

from aiopool import PoolConfig, embedded
from benchmarks.cancel_storm.pool import SIZE, Census, Pool
from benchmarks.results import Kind

SETTINGS = {"log_connections": "authorization"}
QUESTION = "select {}::int, nextval('asked'), pg_sleep({})"
#: Seconds that the server takes for an answer if nobody asks it to take longer.
WORK = 0.001


class Server:
    def __init__(self, server: embedded.PostgresServer, admin: Any) -> None:
        self.dsn = server.dsn
        self._log = server.folder / "server.log"
        self._admin = admin

    @classmethod
    @asynccontextmanager
    async def of(cls, server: embedded.PostgresServer) -> AsyncIterator[Self]:
        import asyncpg

        admin = await asyncpg.connect(server.dsn)
        try:
            await admin.execute("create sequence asked")
            yield cls(server, admin)
        finally:
            await admin.close()

    async def census(self) -> Census:
        asked = await self._admin.fetchval("select case when is_called then last_value else 0 end from asked")
        return Census(self._log.read_bytes().count(b"connection authorized:"), asked)


class Ours(Pool):
    name = "aiopool, DatabasePool"
    kind = Kind.OURS

    def __init__(self, server: Server) -> None:
        self.server = server

    async def open(self) -> None:
        from aiopool.adapters.postgres import DatabasePool

        self._pool = DatabasePool(self.server.dsn, PoolConfig(min_size=SIZE, max_size=SIZE))
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close(timeout=0)

    async def ask(self, number: int, seconds: float = 0.0) -> int:
        return int(await self._pool.fetchval(QUESTION.format("$1", "$2"), number, seconds or WORK))


class Asyncpg(Ours):
    name = "asyncpg.Pool"
    kind = Kind.PEER

    async def open(self) -> None:
        import asyncpg

        self._pool: Any = await asyncpg.create_pool(self.server.dsn, min_size=SIZE, max_size=SIZE)

    async def close(self) -> None:
        self._pool.terminate()


class Psycopg(Ours):
    name = "psycopg_pool"
    kind = Kind.PEER
    package = "psycopg[binary,pool]"

    async def open(self) -> None:
        from psycopg_pool import AsyncConnectionPool

        self._pool: Any = AsyncConnectionPool(
            self.server.dsn, min_size=SIZE, max_size=SIZE, open=False, kwargs={"autocommit": True}
        )
        await self._pool.open(wait=True)

    async def close(self) -> None:
        await self._pool.close(timeout=1)

    async def ask(self, number: int, seconds: float = 0.0) -> int:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(QUESTION.format("%s", "%s"), (number, seconds or WORK))
            return int((await cursor.fetchone())[0])


class SQLAlchemy(Ours):
    name = "SQLAlchemy over asyncpg"
    kind = Kind.PEER
    package = "sqlalchemy[asyncio]"

    async def open(self) -> None:
        from sqlalchemy import text
        from sqlalchemy.ext.asyncio import create_async_engine

        self._question = text(QUESTION.format("cast(:number as int)", "cast(:seconds as float)"))
        dsn = self.server.dsn.replace("postgresql://", "postgresql+asyncpg://", 1)
        self._engine = create_async_engine(dsn, pool_size=SIZE, max_overflow=0, isolation_level="AUTOCOMMIT")

    async def close(self) -> None:
        await self._engine.dispose()

    async def ask(self, number: int, seconds: float = 0.0) -> int:
        async with self._engine.connect() as connection:
            found = await connection.execute(self._question, {"number": number, "seconds": seconds or WORK})
            return int(found.scalar_one())


CONTESTANTS: tuple[type[Ours], ...] = (Ours, Asyncpg, Psycopg, SQLAlchemy)
