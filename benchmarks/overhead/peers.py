"""Other pools, each over a connection that does nothing.

Where a pool looks at the connection, it sees the driver's own class with the network taken out. Pools without a
context manager of their own are called directly, which spares them its price.
"""

from __future__ import annotations

from typing import Any

from benchmarks.overhead.contestant import SIZE, Spinner


class PsycopgPool(Spinner):
    name = "psycopg_pool"
    package = "psycopg[binary,pool]"

    async def open(self) -> None:
        from psycopg.pq import TransactionStatus
        from psycopg_pool import AsyncConnectionPool

        class Idle:
            transaction_status = TransactionStatus.IDLE

        class Dummy:
            closed = broken = False
            pgconn = Idle()

            @classmethod
            async def connect(cls, *_: object, **__: object) -> Dummy:
                return cls()

            async def close(self) -> None: ...

            async def __aenter__(self) -> Dummy:
                return self

            async def __aexit__(self, *_: object) -> None: ...

        settings: dict[str, Any] = {"connection_class": Dummy, "min_size": SIZE, "max_size": SIZE, "open": False}
        self._pool: Any = AsyncConnectionPool(**settings)
        await self._pool.open(wait=True)

    async def close(self) -> None:
        await self._pool.close()

    async def spin(self, times: int) -> None:
        pool = self._pool
        for _ in range(times):
            async with pool.connection():
                pass


class PsycopgPoolDirect(PsycopgPool):
    """Without its context manager, which is a generator and begins and ends a transaction."""

    name = "psycopg_pool, getconn/putconn"

    async def spin(self, times: int) -> None:
        pool = self._pool
        for _ in range(times):
            connection = await pool.getconn()
            try:
                pass
            finally:
                await pool.putconn(connection)


class AsyncpgPool(Spinner):
    name = "asyncpg.Pool"
    package = "aiopool-core[postgres]"

    async def open(self) -> None:
        import asyncpg

        class Protocol:
            queries_count = 0

            def is_connected(self) -> bool:
                return True

            def _is_cancelling(self) -> bool:
                return False

        class Dummy(asyncpg.Connection):  # type: ignore[misc, type-arg, unused-ignore]
            __slots__ = ()

            def __init__(self) -> None:
                slots: dict[str, object] = {
                    "_protocol": Protocol(),
                    "_proxy": None,
                    "_pool_release_ctr": 0,
                    "_listeners": {},
                    "_log_listeners": set(),
                    "_source_traceback": None,
                }
                for name, value in slots.items():
                    setattr(self, name, value)

            def __del__(self) -> None: ...

            def is_closed(self) -> bool:
                return False

            async def reset(self, *, timeout: float | None = None) -> None: ...

            async def close(self, *, timeout: float | None = None) -> None: ...

        async def connect(*_: object, **__: object) -> Dummy:
            return Dummy()

        settings: dict[str, Any] = {"connect": connect, "connection_class": Dummy}
        self._pool: Any = await asyncpg.create_pool(min_size=SIZE, max_size=SIZE, **settings)

    async def close(self) -> None:
        await self._pool.close()

    async def spin(self, times: int) -> None:
        pool = self._pool
        for _ in range(times):
            async with pool.acquire():
                pass


class SQLAlchemyPool(Spinner):
    """`AsyncAdaptedQueuePool`, as `AsyncEngine` uses it: the pool's own code runs in a greenlet."""

    name = "SQLAlchemy, async queue pool"
    package = "sqlalchemy[asyncio]"

    async def open(self) -> None:
        from sqlalchemy.pool import AsyncAdaptedQueuePool
        from sqlalchemy.util.concurrency import greenlet_spawn

        class Dummy:
            def rollback(self) -> None: ...

            def close(self) -> None: ...

        create: Any = Dummy
        self._pool = AsyncAdaptedQueuePool(create, pool_size=SIZE, max_overflow=0)
        self._spawn = greenlet_spawn
        held = [await greenlet_spawn(self._pool.connect) for _ in range(SIZE)]
        for connection in held:
            await greenlet_spawn(connection.close)

    async def close(self) -> None:
        await self._spawn(self._pool.dispose)

    async def spin(self, times: int) -> None:
        spawn, pool = self._spawn, self._pool
        for _ in range(times):
            connection = await spawn(pool.connect)
            try:
                pass
            finally:
                await spawn(connection.close)


class RedisPool(Spinner):
    name = "redis-py, blocking pool"
    package = "aiopool-core[redis]"

    async def open(self) -> None:
        from redis.asyncio import BlockingConnectionPool, Connection

        class Dummy(Connection):
            async def connect(self) -> None: ...

            async def can_read(self) -> bool:
                return False

            async def disconnect(self, *_: object, **__: object) -> None: ...

        pool: Any = BlockingConnectionPool(connection_class=Dummy, max_connections=SIZE)
        self._pool = pool
        held = [await pool.get_connection() for _ in range(SIZE)]
        for connection in held:
            await pool.release(connection)

    async def close(self) -> None:
        await self._pool.aclose()

    async def spin(self, times: int) -> None:
        pool = self._pool
        for _ in range(times):
            connection = await pool.get_connection()
            try:
                pass
            finally:
                await pool.release(connection)
