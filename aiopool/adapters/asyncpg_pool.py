"""`create_pool` and `Pool` with the names, keywords and errors of asyncpg's, on our pool.

    from aiopool.adapters.asyncpg_pool import create_pool

is all that code written for `asyncpg.create_pool` has to change.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import time
import weakref
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from aiopool.adapters._asyncpg import (
    Connection,
    asyncpg,
    cancellation,
    is_broken,
    is_cancelling,
    send,
    synchronized,
)
from aiopool.adapters._asyncpg_holder import Holder, Hook, Proxy
from aiopool.adapters._asyncpg_opening import CONNECT_TIMEOUT, connect_as, connect_by_asyncpg, is_hopeless, own_error
from aiopool.adapters._asyncpg_reset import is_unsynchronized, reset_query
from aiopool.adapters._given import ensure_unshared
from aiopool.config import PoolConfig
from aiopool.errors import PoolClosed, PoolConfigError, PoolUnavailable
from aiopool.events import Event, OpenFailed
from aiopool.pool import CONFIGURED, ConnectionPool

if TYPE_CHECKING:
    AsyncpgPool: TypeAlias = asyncpg.pool.Pool[asyncpg.Record]
else:
    AsyncpgPool = asyncpg.pool.Pool

__all__ = ["Pool", "create_pool"]

#: What `asyncpg.create_pool` has where nothing is given.
DEFAULTS = {"min_size": 10, "max_size": 10, "max_inactive_connection_lifetime": 300.0}

log = logging.getLogger("aiopool")

_numbers = itertools.count(1)


class Pool(AsyncpgPool):
    """An `asyncpg.Pool` whose connections live in a `ConnectionPool`, its `pool`.

    The keywords are those of `asyncpg.create_pool`. `config` says what asyncpg has no word for, and then the sizes and
    the idle time, too. Without it nobody waits less than with asyncpg: `acquire` for ever, unless it has a `timeout`;
    an open as long as its own `timeout`. Raises `ValueError`, `PoolConfigError` for one, for settings that contradict.
    """

    pool: ConnectionPool[Connection]

    # What asyncpg's own has, and its type stubs don't show.
    _holders: Collection[Holder]
    _loop: asyncio.AbstractEventLoop
    _initialized: bool
    _closing: bool
    _closed: bool
    _minsize: int
    _max_queries: int
    _connect: Hook
    _setup: Hook | None
    _reset: Hook | None
    _check_init: Callable[[], None]
    _get_new_connection: Callable[[], Awaitable[Any]]
    _warn_on_long_close: Callable[[], None]

    def __init__(
        self,
        dsn: str | None = None,
        *,
        init_size: int | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        max_queries: int = 50_000,
        max_inactive_connection_lifetime: float | None = None,
        connect: Hook | None = None,
        setup: Hook | None = None,
        init: Hook | None = None,
        reset: Hook | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        connection_class: type[Connection] = Connection,
        record_class: type[asyncpg.Record] = asyncpg.Record,
        config: PoolConfig | None = None,
        name: str | None = None,
        **connect_kwargs: Any,
    ) -> None:
        ensure_unshared("create_pool", config)
        sizes = _sizes(config, min_size, max_size, max_inactive_connection_lifetime)
        if init_size is not None:  # which asyncpg has since 0.32
            sizes["init_size"] = init_size
        hooks: dict[str, Any] = {"connect": connect, "setup": setup, "init": init, "reset": reset}
        super().__init__(
            dsn,
            **sizes,
            max_queries=max_queries,
            **hooks,
            loop=loop,
            connection_class=connection_class,
            record_class=record_class,
            **connect_kwargs,
        )
        own_class = synchronized(connection_class)
        self._connect = functools.partial(connect_as, own_class, connect) if connect is not None else connect_by_asyncpg
        self._holder_of: dict[Connection, Holder] = {}
        self._holders = self._holder_of.values()
        self._termination: asyncio.Task[None] | None = None
        if config is None:
            config = PoolConfig(
                min_size=sizes["min_size"],
                max_size=sizes["max_size"],
                max_idle_time=sizes["max_inactive_connection_lifetime"] or None,
                acquire_timeout=None,
                open_timeout=connect_kwargs.get("timeout") or CONNECT_TIMEOUT,
            )
        self.pool = ConnectionPool(
            self._open,
            config if init_size is None else replace(config, min_size=init_size),
            validator=self._is_valid,
            resetter=self._clean,
            destroyer=self._close_one,
            aborter=lambda connection: connection.terminate(),
            is_broken=is_broken,
            is_fatal=is_hopeless,
            name=name if name is not None else f"asyncpg-{next(_numbers)}",
        )

    # -- what callers of asyncpg's pool call, and what is called by the rest of it

    async def _initialize(self) -> None:
        """What can't be opened in the midst of work is tried again, but here it is told at once."""
        opening = asyncio.create_task(self.pool.open())
        errors: list[BaseException] = []

        def look(event: Event) -> None:
            if isinstance(event, OpenFailed):
                errors.append(event.error)
                opening.cancel()

        unsubscribe = self.pool.subscribe(look)
        try:
            await asyncio.wait((opening,))
        finally:
            unsubscribe()
            opening.cancel()
        if errors:
            raise errors[0]
        opening.result()
        if self.pool.config.min_size != self._minsize:
            self.pool.resize(min_size=self._minsize)

    def _schedule_min_size_maintenance(self) -> None:
        """The pool keeps `min_size` by itself."""

    async def _acquire(self, timeout: float | None) -> Proxy:
        if self._closing:
            raise asyncpg.InterfaceError("pool is closing")
        self._check_init()
        ends = None if timeout is None else time.monotonic() + timeout

        def left() -> float | None:
            return None if ends is None else max(ends - time.monotonic(), 0)

        try:
            lease = await self.pool.acquire(CONFIGURED if timeout is None else left())
            while lease.connection.is_closed():  # in this very turn
                lease.release()
                lease = await self.pool.acquire(CONFIGURED if timeout is None else left())
        except PoolClosed as exc:
            raise asyncpg.InterfaceError("pool is closing") from exc
        except PoolUnavailable as exc:
            error = own_error(exc)
        else:
            return await self._holder_of[lease.connection].lend(lease, self._setup, left())
        # Raised here because inside `except` it would carry the pool's own along.
        raise error

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        """Gives a connection back, at once; the reset follows in the background, so nothing is left to `timeout`."""
        holder = connection._holder if type(connection) is Proxy else None
        if not isinstance(holder, Holder) or holder._pool is not self:
            raise asyncpg.InterfaceError(
                f"Pool.release() received invalid connection: {connection!r} is not a member of this pool"
            )
        if connection._con is None:
            return
        self._check_init()
        try:
            connection._con._on_release()  # which may warn, and a warning may be an error
        finally:
            holder.take_back()

    async def close(self) -> None:
        """Waits until all connections are released, and closes them; a cancelled `close` terminates."""
        if self._closed:
            return
        self._check_init()
        self._closing = True
        warning = asyncio.get_running_loop().call_later(60, self._warn_on_long_close)
        try:
            await self.pool.close(timeout=None)
        finally:
            warning.cancel()
            self._closed, self._closing = True, False

    def terminate(self) -> None:
        """Ends all connections, those in use as well, without waiting for anything."""
        if self._closed:
            return
        self._check_init()
        self._closed = True
        for holder in list(self._holders):
            holder.terminate()
        if not self._loop.is_closed():
            self._termination = self._loop.create_task(self.pool.close(timeout=0))

    async def expire_connections(self) -> None:
        """Replaces every connection that is open: the idle ones now, those in use when they come back."""
        if self._initialized and not self.is_closing():
            await self.pool.drain()

    # -- what the pool calls

    async def _open(self) -> Connection:
        connection = await self._get_new_connection()
        if connection.is_closed():
            raise asyncpg.ConnectionDoesNotExistError("connection was closed during pool initialization")
        holder = Holder(self, connection)
        if hasattr(connection, "_pool_holder"):  # asyncpg 0.32 tells of every end by it, earlier ones of those in use
            connection._pool_holder = weakref.ref(holder)
        else:
            connection.add_termination_listener(holder._release_on_close)
        self._holder_of[connection] = holder
        return connection  # type: ignore[no-any-return]

    async def _is_valid(self, connection: Connection) -> bool:
        config = self.pool.config
        await connection.execute(config.validation_query or "SELECT 1", timeout=config.validate_timeout)
        return not connection.is_in_transaction()

    def _clean(self, connection: Any) -> Awaitable[object] | None:
        if self._reset is None and type(connection).reset is Connection.reset and not is_cancelling(connection):
            query = reset_query(connection)
            return send(connection, query, self.pool.config.reset_timeout) if query else None
        return self._clean_slowly(connection)

    async def _clean_slowly(self, connection: Any) -> None:
        try:
            if is_cancelling(connection):
                await cancellation(connection)
            if self._reset is None:
                await connection.reset()
            else:
                await connection._reset()
                await self._reset(connection)
            if is_unsynchronized(connection):
                await connection.execute("SELECT 1")
        except Exception as exc:
            if not connection.is_closed():
                log.warning("pool %r: the reset of a connection failed: %s", self.pool.name, type(exc).__name__)
            raise

    def _close_one(self, connection: Connection) -> Awaitable[None]:
        self._forget(connection)
        return connection.close(timeout=self.pool.config.close_timeout)

    def _forget(self, connection: Connection) -> None:
        self._holder_of.pop(connection, None)
        self.pool.evict(connection)


#: `pool = await create_pool(...)` or `async with create_pool(...) as pool`.
create_pool = Pool


def _sizes(config: PoolConfig | None, *given: float | None) -> dict[str, Any]:
    sizes: dict[str, Any] = DEFAULTS
    if config is not None:
        sizes = dict(zip(DEFAULTS, (config.min_size, config.max_size, config.max_idle_time or 0), strict=True))
    for name, value in zip(sizes, given, strict=True):
        if config is not None and value not in (None, sizes[name]):
            field = name.replace("max_inactive_connection_lifetime", "max_idle_time")
            raise PoolConfigError(
                f"{name}={value!r} is not allowed with config.{field}={getattr(config, field)!r}: "
                "they mean the same; give one of them"
            )
    return {name: sizes[name] if value is None else value for name, value in zip(sizes, given, strict=True)}
