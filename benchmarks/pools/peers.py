"""Other pools, each over a connection that does nothing.

Where a pool looks at the connection, it sees the driver's own class with the network taken out. Pools without a
context manager of their own get the shortest one that can be written.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from benchmarks.pools.pool import Pool


class _Lease:
    """Of a pool that has a coroutine to get a connection and one to give it back."""

    __slots__ = ("_connection", "_get", "_put")

    def __init__(self, get: Callable[[], Awaitable[Any]], put: Callable[[Any], Awaitable[object]]) -> None:
        self._get = get
        self._put = put

    async def __aenter__(self) -> object:
        self._connection = connection = await self._get()
        return connection

    async def __aexit__(self, kind: object, exc: object, traceback: object) -> None:
        await self._put(self._connection)


class PsycopgPool(Pool):
    name = "psycopg_pool"
    package = "psycopg[binary,pool]"

    async def open(self) -> None:
        from psycopg.pq import TransactionStatus
        from psycopg_pool import AsyncConnectionPool

        connect = self.connect

        class Idle:
            transaction_status = TransactionStatus.IDLE

        class Dummy:
            closed = broken = False
            pgconn = Idle()

            @classmethod
            async def connect(cls, *_: object, **__: object) -> Dummy:
                await connect()
                return cls()

            async def close(self) -> None: ...

            async def __aenter__(self) -> Dummy:
                return self

            async def __aexit__(self, *_: object) -> None: ...

        settings: dict[str, Any] = {"connection_class": Dummy, "open": False}
        self._pool: Any = AsyncConnectionPool(min_size=self.least, max_size=self.size, **settings)
        await self._pool.open(wait=True)
        self.lease = self._pool.connection

    async def close(self) -> None:
        await self._pool.close()


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


class AsyncpgPool(Pool):
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
            await self.connect()
            return Dummy()

        settings: dict[str, Any] = {"connect": connect, "connection_class": Dummy}
        self._pool: Any = await asyncpg.create_pool(min_size=self.least, max_size=self.size, **settings)
        self.lease = self._pool.acquire

    async def close(self) -> None:
        await self._pool.close()


class SQLAlchemyPool(Pool):
    """`AsyncAdaptedQueuePool`, as `AsyncEngine` uses it: the pool's own code runs in a greenlet."""

    name = "SQLAlchemy, async queue pool"
    package = "sqlalchemy[asyncio]"

    async def open(self) -> None:
        from sqlalchemy.pool import AsyncAdaptedQueuePool
        from sqlalchemy.util.concurrency import await_only, greenlet_spawn

        class Dummy:
            def rollback(self) -> None: ...

            def close(self) -> None: ...

        def create() -> Any:
            await_only(self.connect())
            return Dummy()

        self._pool = AsyncAdaptedQueuePool(create, pool_size=self.size, max_overflow=0)
        self._spawn = greenlet_spawn
        held = [await self._get() for _ in range(self.least)]
        for connection in held:
            await self._put(connection)
        self.lease = partial(_Lease, self._get, self._put)

    async def close(self) -> None:
        await self._spawn(self._pool.dispose)

    async def _get(self) -> Any:
        return await self._spawn(self._pool.connect)

    async def _put(self, connection: Any) -> None:
        await self._spawn(connection.close)

    async def spin(self, times: int) -> None:
        spawn, pool = self._spawn, self._pool
        for _ in range(times):
            connection = await spawn(pool.connect)
            try:
                pass
            finally:
                await spawn(connection.close)


class RedisPool(Pool):
    name = "redis-py, blocking pool"
    package = "aiopool-core[redis]"

    async def open(self) -> None:
        from redis.asyncio import BlockingConnectionPool, Connection

        connect = self.connect

        class Dummy(Connection):
            is_open = False

            async def connect(self) -> None:
                if not self.is_open:
                    await connect()
                    self.is_open = True

            async def can_read(self) -> bool:
                return False

            async def disconnect(self, *_: object, **__: object) -> None: ...

        pool: Any = BlockingConnectionPool(connection_class=Dummy, max_connections=self.size)
        self._pool = pool
        held = [await pool.get_connection() for _ in range(self.least)]
        for connection in held:
            await pool.release(connection)
        self.lease = partial(_Lease, pool.get_connection, pool.release)

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


class _Exchange:
    """A request, and its answer read to the end: a connection with something left to read is not kept."""

    __slots__ = ("_answer", "_stream")

    def __init__(self, stream: Callable[[], Any]) -> None:
        self._stream = stream()

    async def __aenter__(self) -> object:
        self._answer = await self._stream.__aenter__()
        return self._answer

    async def __aexit__(self, *exc: object) -> None:
        try:
            await self._answer.aread()
        finally:
            await self._stream.__aexit__(*exc)


class HTTPCorePool(Pool):
    """Over HTTP/1.1, whose requests and answers it writes and parses at every turn."""

    name = "httpcore, HTTP/1.1 included"
    package = "aiopool-core[http]"
    most_tasks = 200
    why_no_more = "at every turn it goes through all requests that wait"

    async def open(self) -> None:
        import httpcore

        class Peer(httpcore.AsyncNetworkStream):
            async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
                return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

            async def write(self, buffer: bytes, timeout: float | None = None) -> None: ...

            async def aclose(self) -> None: ...

            def get_extra_info(self, info: str) -> Any:
                return False if info == "is_readable" else None

        connect = self.connect

        class Network(httpcore.AsyncNetworkBackend):
            async def connect_tcp(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
                await connect()
                return Peer()

        self._pool = httpcore.AsyncConnectionPool(
            max_connections=self.size, max_keepalive_connections=self.size, network_backend=Network()
        )
        self.lease = partial(_Exchange, partial(self._pool.stream, "GET", "http://peer/"))
        held = [self.lease() for _ in range(self.least)]
        for each in held:
            await each.__aenter__()
        for each in held:
            await each.__aexit__(None, None, None)

    async def close(self) -> None:
        await self._pool.aclose()
