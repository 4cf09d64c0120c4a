"""`EnginePool`: the pool of an SQLAlchemy engine, with any of its asyncio drivers.

    engine = create_async_engine("postgresql+asyncpg://user@host/database", poolclass=EnginePool)

SQLAlchemy's records of connections live in our core. Whoever uses the engine sees no difference but in who gets the
next connection, and when.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import monotonic
from typing import Any, NoReturn

from aiopool.adapters import missing_driver
from aiopool.adapters._given import ensure_unshared
from aiopool.config import PoolConfig
from aiopool.errors import PoolClosed, PoolConfigError, PoolTimeout
from aiopool.lease import Lease
from aiopool.pool import CONFIGURED, ConnectionPool
from aiopool.stats import PoolStats

try:
    from sqlalchemy import exc as sqlalchemy_errors
    from sqlalchemy.pool import ConnectionPoolEntry, Pool
    from sqlalchemy.util import await_only, greenlet_spawn
    from sqlalchemy.util.concurrency import in_greenlet
except ModuleNotFoundError:
    raise missing_driver("sqlalchemy[asyncio]", "sqlalchemy") from None

from aiopool.adapters._engine_errors import is_fatal


class EnginePoolTimeout(PoolTimeout, sqlalchemy_errors.TimeoutError):
    """No connection could be had in time: for those who know SQLAlchemy, and those who know aiopool."""


class EnginePool(Pool):
    """For `create_async_engine(poolclass=EnginePool)`, whose keywords for `AsyncAdaptedQueuePool` it takes.

    `pool_size` connections are kept (5), `max_overflow` more may exist (10), `pool_timeout` bounds the wait for one in
    seconds (30). Or `config`, which says all of that, and more; not both. With `pool_pre_ping` connections are checked
    whenever they are lent; else if they were idle for longer than `validate_after`. What came back last is lent first:
    `pool_use_lifo` may be True only. `pool` is the `ConnectionPool` in which the connections live, until the engine is
    disposed of. Raises `PoolConfigError` for sizes without a limit; `connect()` raises what `ConnectionPool.acquire`
    does, a `PoolTimeout` that is SQLAlchemy's `TimeoutError`, too.
    """

    _is_asyncio: Any = True

    def __init__(
        self,
        creator: Any,
        pool_size: int | None = None,
        max_overflow: int | None = None,
        timeout: float | None = None,
        config: PoolConfig | None = None,
        pre_ping: bool = False,
        use_lifo: bool = True,
        logging_name: str | None = None,
        **kw: Any,
    ) -> None:
        if not use_lifo:
            raise PoolConfigError(
                f"pool_use_lifo={use_lifo!r} is not allowed: what came back last is lent first, so that the others can "
                "be closed for being idle; leave it out"
            )
        # Not told to SQLAlchemy: it would check in the caller's time, and without a bound.
        super().__init__(creator, logging_name=logging_name, **kw)
        self._given: dict[str, Any] = {
            "pool_size": pool_size,
            "max_overflow": max_overflow,
            "timeout": timeout,
            "config": config,
            "pre_ping": pre_ping,
        }
        self._config = _config(pool_size, max_overflow, timeout, config, pre_ping)
        #: Each with the loop it was lent on.
        self._leases: dict[ConnectionPoolEntry, tuple[Lease[ConnectionPoolEntry], asyncio.AbstractEventLoop]] = {}
        #: Where `pool` lives, as soon as somebody has asked it for a connection.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_disposed = False
        #: The engine's pool after this one.
        self._heir: EnginePool | None = None
        self._closings: set[asyncio.Task[None]] = set()
        self.pool = self._core()

    def _core(self) -> ConnectionPool[ConnectionPoolEntry]:
        return ConnectionPool(
            self._open,
            self._config,
            validator=self._is_alive,
            destroyer=self._close,
            aborter=self._abort if getattr(self._dialect, "has_terminate", False) else None,
            # SQLAlchemy has closed it, as after an error that says so, or its user has taken it out of the pool.
            is_broken=lambda record, _: record.dbapi_connection is None,
            is_fatal=lambda error: is_fatal(error, self._dialect),
            name=self._orig_logging_name,
        )

    def stats(self) -> PoolStats:
        return self.pool.stats()

    # -- for SQLAlchemy

    def _do_get(self, timeout: float | None = CONFIGURED) -> ConnectionPoolEntry:
        if self._heir is not None:
            return self._heir._do_get(timeout)
        core, loop, began = self.pool, asyncio.get_running_loop(), monotonic()
        if self._loop is None:
            self._loop = loop
        try:
            lease = await_only(core.acquire(timeout))
        except PoolTimeout as exc:
            self._told(exc)
        except PoolClosed:
            if core is self.pool and self._heir is None:  # whoever closed it, it was not by `dispose`
                raise
        else:
            self._leases[lease.connection] = lease, loop
            return lease.connection
        limit = core.config.acquire_timeout if timeout is CONFIGURED else timeout
        return self._do_get(None if limit is None else max(0.0, limit - (monotonic() - began)))

    def _told(self, exc: PoolTimeout) -> NoReturn:
        error = EnginePoolTimeout(str(exc), waited=exc.waited, stats=exc.stats)
        error.phase = exc.phase
        raise error from exc.__cause__

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        lease, loop = self._leases.pop(record)
        if loop is _running_loop() or loop.is_closed():
            lease.release()
        else:  # the garbage collector found it, in whichever thread it ran
            loop.call_soon_threadsafe(lease.release)

    def _close_connection(self, connection: Any, *, terminate: bool = False) -> None:
        if terminate:
            super()._close_connection(connection, terminate=True)
            return
        try:
            self._dialect.do_close(connection)
        except Exception:  # not a cancellation, which SQLAlchemy would tell as well: the core knows what it means
            self.logger.error("Exception closing connection %r", connection, exc_info=True)

    def dispose(self) -> None:
        """Closes what is idle, and what is in use when it comes back; whoever waits is served by new connections.

        Returns when what was idle is closed; outside of SQLAlchemy's greenlets, or of the loop, at once.
        """
        self._is_disposed, heir = True, self._heir
        core, self.pool = self.pool, self._core()
        loop, self._loop = self._loop, None
        is_in_demand = core.stats()["waiting"] > 0  # then nothing is idle, and those who wait need `recreate` at once
        closing = self._begin_to_close(core, loop)
        if closing is not None and in_greenlet() and not is_in_demand:
            await_only(_until_only_leases_are_left(core, closing))
        if self._heir is not None and self._heir is not heir:  # another call was quicker: the engine's pool is that one
            self._heir.dispose()

    def _begin_to_close(
        self, core: ConnectionPool[ConnectionPoolEntry], loop: asyncio.AbstractEventLoop | None
    ) -> asyncio.Task[None] | None:
        """In the background, where the core lives; None if that is elsewhere."""
        running = _running_loop()
        home = running if loop is None or loop.is_closed() else loop
        if home is None:
            return None
        if home is not running:
            home.call_soon_threadsafe(self._spawn_close, core)
            return None
        return self._spawn_close(core)

    def _spawn_close(self, core: ConnectionPool[ConnectionPoolEntry]) -> asyncio.Task[None]:
        closing = asyncio.get_running_loop().create_task(core.close(timeout=None))
        self._closings.add(closing)
        closing.add_done_callback(self._closings.discard)
        return closing

    def recreate(self) -> EnginePool:
        heir = type(self)(
            self._creator,
            **self._given,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )
        if self._is_disposed:
            self._heir = heir
            if self._loop is not None:  # some came while the old connections were being closed
                self._begin_to_close(self.pool, self._loop)
        return heir

    def size(self) -> int:
        """How many connections are kept: `pool_size`."""
        config = self.pool.config
        return config.max_size if config.max_idle is None else config.max_idle

    def checkedin(self) -> int:
        return self.pool.stats()["available"]

    def checkedout(self) -> int:
        return self.pool.stats()["in_use"]

    def overflow(self) -> int:
        """How many connections there are beyond `size()`; less than 0 as long as there are fewer."""
        return self.pool.stats()["size"] - self.size()

    def status(self) -> str:
        stats = self.pool.stats()
        return "size={size} available={available} in_use={in_use} waiting={waiting} max_size={max_size}".format(**stats)

    # -- for the pool

    async def _open(self) -> ConnectionPoolEntry:
        return await greenlet_spawn(self._create_connection)

    async def _is_alive(self, record: ConnectionPoolEntry) -> bool:
        dialect: Any = self._dialect  # an engine's, complete
        return bool(await greenlet_spawn(dialect.do_ping, record.dbapi_connection))

    async def _close(self, record: ConnectionPoolEntry) -> None:
        await greenlet_spawn(record.close)

    def _abort(self, record: ConnectionPoolEntry) -> None:
        record.invalidate()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _until_only_leases_are_left(core: ConnectionPool[Any], closing: asyncio.Task[None]) -> None:
    are_left = asyncio.get_running_loop().create_future()

    def look(_: object) -> None:
        stats = core.stats()
        if stats["size"] == stats["in_use"] > 0 and not are_left.done():
            are_left.set_result(None)

    unsubscribe = core.subscribe(look)
    try:
        await asyncio.sleep(0)  # the closing begins
        look(None)
        limit = 2 * core.config.close_timeout + 1
        await asyncio.wait((closing, are_left), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
    finally:
        unsubscribe()


def _config(
    pool_size: int | None, max_overflow: int | None, timeout: float | None, config: PoolConfig | None, pre_ping: bool
) -> PoolConfig:
    ensure_unshared("EnginePool", config)
    if config is not None:
        for key, value in (("pool_size", pool_size), ("max_overflow", max_overflow), ("pool_timeout", timeout)):
            if value is not None:
                raise PoolConfigError(f"{key}={value!r} is not allowed with config=, which says it as well: remove one")
        if pre_ping:
            raise PoolConfigError("pool_pre_ping=True is not allowed with config=: set validate_after=0 there")
        return config
    size, overflow = 5 if pool_size is None else pool_size, 10 if max_overflow is None else max_overflow
    if size < 1 or overflow < 0:
        name, value = ("pool_size", size) if size < 1 else ("max_overflow", overflow)
        raise PoolConfigError(f"{name}={value!r} is not allowed: a pool has a limit; say how many there may be at most")
    made = PoolConfig(
        min_size=0, max_size=size + overflow, max_idle=size, acquire_timeout=30.0 if timeout is None else timeout
    )
    return replace(made, validate_after=0.0) if pre_ping else made
