"""`EnginePool`: the pool of an SQLAlchemy engine, with any of its asyncio drivers.

    engine = create_async_engine("postgresql+asyncpg://user@host/database", poolclass=EnginePool)

SQLAlchemy's records of connections live in our core. Whoever uses the engine sees no difference but in who gets the
next connection, and when.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, NoReturn

from aiopool.adapters import missing_driver
from aiopool.config import PoolConfig
from aiopool.errors import PoolConfigError, PoolTimeout
from aiopool.lease import Lease
from aiopool.pool import ConnectionPool
from aiopool.stats import PoolStats

try:
    from sqlalchemy import exc as sqlalchemy_errors
    from sqlalchemy.pool import ConnectionPoolEntry, Pool
    from sqlalchemy.util import await_only, greenlet_spawn
except ModuleNotFoundError:
    raise missing_driver("sqlalchemy[asyncio]", "sqlalchemy") from None


class EnginePoolTimeout(PoolTimeout, sqlalchemy_errors.TimeoutError):
    """No connection could be had in time: for those who know SQLAlchemy, and those who know aiopool."""


class EnginePool(Pool):
    """For `create_async_engine(poolclass=EnginePool)`, whose keywords for `AsyncAdaptedQueuePool` it takes.

    `pool_size` connections are kept (5), `max_overflow` more may exist (10), `pool_timeout` bounds the wait for one in
    seconds (30). Or `config`, which says all of that, and more; not both. With `pool_pre_ping` connections are checked
    whenever they are lent; else if they were idle for longer than `validate_after`. `pool` is the `ConnectionPool` in
    which the connections live. Raises `PoolConfigError` for sizes without a limit; `connect()` raises what
    `ConnectionPool.acquire` does, a `PoolTimeout` that is SQLAlchemy's `TimeoutError`, too.
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
        logging_name: str | None = None,
        **kw: Any,
    ) -> None:
        # Not told to SQLAlchemy: it would check in the caller's time, and without a bound.
        super().__init__(creator, logging_name=logging_name, **kw)
        self._given: dict[str, Any] = {
            "pool_size": pool_size,
            "max_overflow": max_overflow,
            "timeout": timeout,
            "config": config,
            "pre_ping": pre_ping,
        }
        self._leases: dict[ConnectionPoolEntry, Lease[ConnectionPoolEntry]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.pool: ConnectionPool[ConnectionPoolEntry] = ConnectionPool(
            self._open,
            _config(pool_size, max_overflow, timeout, config, pre_ping),
            validator=self._is_alive,
            destroyer=self._close,
            aborter=self._abort if getattr(self._dialect, "has_terminate", False) else None,
            # SQLAlchemy has closed it, as after an error that says so, or its user has taken it out of the pool.
            is_broken=lambda record, _: record.dbapi_connection is None,
            name=logging_name,
        )

    def stats(self) -> PoolStats:
        return self.pool.stats()

    # -- for SQLAlchemy

    def _do_get(self) -> ConnectionPoolEntry:
        try:
            lease = await_only(self.pool.acquire())
        except PoolTimeout as exc:
            self._told(exc)
        self._loop = asyncio.get_running_loop()
        self._leases[lease.connection] = lease
        return lease.connection

    def _told(self, exc: PoolTimeout) -> NoReturn:
        error = EnginePoolTimeout(str(exc), waited=exc.waited, stats=exc.stats)
        error.phase = exc.phase
        raise error from exc.__cause__

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        lease = self._leases.pop(record)
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop or self._loop is None or self._loop.is_closed():
            lease.release()
        else:  # the garbage collector found it, in whichever thread it ran
            self._loop.call_soon_threadsafe(lease.release)

    def dispose(self) -> None:
        """Closes all connections: those in use when they come back, or after ten seconds."""
        await_only(self.pool.close())

    def recreate(self) -> EnginePool:
        return type(self)(
            self._creator,
            **self._given,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )

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


def _config(
    pool_size: int | None, max_overflow: int | None, timeout: float | None, config: PoolConfig | None, pre_ping: bool
) -> PoolConfig:
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
