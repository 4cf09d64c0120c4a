"""`Acquisition` and `Lease`: the right to use one connection, until it is given back."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from aiopool.connection import IDLE, LEASED, PooledConnection
from aiopool.handoff import HandoffQueue
from aiopool.home import IS_LOOP, Clock, whereabouts
from aiopool.stats import BOUNDS, Histogram
from aiopool.watch import Watch

T = TypeVar("T")


class Lender(Protocol[T]):
    """The pool, as far as leases need it."""

    name: str
    _line: HandoffQueue[T]
    _now: Clock
    _loop: asyncio.AbstractEventLoop
    _home: object
    _using: Histogram
    #: Somebody watches leases or listens to events.
    _is_observed: bool
    #: A release has more to decide than whether the connection is good.
    _is_special: bool
    #: Something is asked, or done, at every release.
    _is_hooked: bool
    #: For how long, in seconds, a connection that came back is lent without a check; None: as long as it lives.
    _fresh_for: float | None
    #: A finished future: what has been done already is awaited in half of the time that a coroutine takes.
    _released: Coroutine[Any, Any, None]

    async def _wait(self, acquisition: Acquisition[T]) -> T: ...
    def _lent(self, info: PooledConnection[T]) -> Watch[T] | None: ...
    def _is_good(self, info: PooledConnection[T], exc: BaseException | None, now: float) -> bool: ...
    def _release(
        self, info: PooledConnection[T], exc: BaseException | None, watch: Watch[T] | None, *, is_wanted: bool = True
    ) -> None: ...
    def _lost(self, info: PooledConnection[T], watch: Watch[T] | None) -> None: ...


class Acquisition(Coroutine[Any, Any, "Lease[T]"]):
    """What `pool.acquire()` returns: `async with` it for a connection, or `await` it for a `Lease`.

    It is a coroutine, too, so that `asyncio.create_task(pool.acquire())` puts a caller in the line.
    """

    __slots__ = ("_awaiting", "_info", "_pool", "_timeout", "_watch")

    _awaiting: Generator[Any, Any, Lease[T]]

    def __init__(self, pool: Lender[T], timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._info: PooledConnection[T] | None = None
        self._watch: Watch[T] | None = None

    def __aenter__(self) -> Coroutine[Any, Any, T]:
        """The fast path, in one step: what is idle, if it needs no check and nobody waits for it."""
        if self._info is not None:
            raise RuntimeError("this acquisition is in use: call `pool.acquire()` for another")
        pool = self._pool
        idle = pool._line.top
        if idle:
            info = idle[-1]
            now = pool._now()
            if now < info.fresh_until and whereabouts() == pool._home and (IS_LOOP or pool._loop.is_running()):
                del idle[-1]  # this is `line.get_nowait()`, without the call
                info.place = LEASED
                info.leases += 1
                info.use_count += 1
                info.last_used = now
                self._info = info
                if pool._is_observed:
                    self._watch = pool._lent(info)
                return info.ready
        return pool._wait(self)

    def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> Coroutine[Any, Any, None]:
        """The fast path back, in one step, so that nothing can be cancelled half-way: what takes time comes later."""
        info, pool = self._info, self._pool
        if info is None:
            return pool._released
        self._info = None
        now = pool._now()
        if pool._is_special or now >= info.expires_at:
            pool._release(info, exc, self._watch)
            return pool._released
        held, using = now - info.last_used, pool._using
        using.total += held
        using.slots[bisect_left(BOUNDS, held)] += 1
        info.leases = 0
        info.last_used = now
        if (pool._is_hooked or exc is not None) and not pool._is_good(info, exc, now):
            return pool._released
        if pool._fresh_for is not None:
            fresh_until = now + pool._fresh_for
            info.fresh_until = fresh_until if fresh_until < info.expires_at else info.expires_at
        line = pool._line
        if line.is_calm:  # this is `line.put_nowait(info)`, without the call
            info.place = IDLE
            line.top.append(info)
        else:
            line.put_nowait(info, now)
        return pool._released

    def __await__(self) -> Generator[Any, Any, Lease[T]]:
        yield from self.__aenter__().__await__()
        info, self._info = self._info, None
        assert info is not None
        return Lease(self._pool, info, self._watch)

    def send(self, value: Any, /) -> Any:
        return self._as_coroutine().send(value)

    def throw(self, *exc: Any) -> Any:
        return self._as_coroutine().throw(*exc)

    def close(self) -> None:
        self._as_coroutine().close()

    def _as_coroutine(self) -> Generator[Any, Any, Lease[T]]:
        if not hasattr(self, "_awaiting"):
            self._awaiting = self.__await__()
        return self._awaiting


class Lease(Generic[T]):
    """One connection, held until `release` or `discard`, or until the end of an `async with` block.

    Both are synchronous, and a second call is a no-op. `connection` and `info` stay readable. A lease that is
    garbage-collected while it is held warns, and its connection is closed.
    """

    __slots__ = ("_is_held", "_pool", "_watch", "info")

    def __init__(self, pool: Lender[T], info: PooledConnection[T], watch: Watch[T] | None) -> None:
        self._pool = pool
        self._watch = watch
        #: What the pool knows of the connection: its age, its uses, its capacity.
        self.info = info
        self._is_held = True

    @property
    def connection(self) -> T:
        return self.info.connection

    def release(self) -> None:
        """Gives the connection back. Never waits."""
        self._end(None)

    def discard(self) -> None:
        """Gives the connection back to be closed, not lent again."""
        if self._is_held:
            self._is_held = False
            self._pool._release(self.info, None, self._watch, is_wanted=False)

    async def __aenter__(self) -> T:
        if not self._is_held:
            raise RuntimeError("this lease has ended: call `pool.acquire()` for another")
        return self.info.connection

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._end(exc)

    def _end(self, exc: BaseException | None) -> None:
        if self._is_held:
            self._is_held = False
            self._pool._release(self.info, exc, self._watch)

    def __del__(self) -> None:
        if self._is_held:
            self._pool._lost(self.info, self._watch)

    def __repr__(self) -> str:
        return f"<Lease of pool {self._pool.name!r}, {'held' if self._is_held else 'ended'}>"
