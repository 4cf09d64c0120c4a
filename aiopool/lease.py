"""`Lease`: the right to use one connection, until it is given back."""

from __future__ import annotations

from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from aiopool.connection import PooledConnection

if TYPE_CHECKING:
    from aiopool.pool import ConnectionPool

T = TypeVar("T")


class Lease(Generic[T]):
    """What `pool.acquire()` returns: `async with` it for the connection, or `await` it for the lease itself.

    `release` and `discard` are synchronous, and a second call is a no-op. `connection` and `info` stay readable.
    """

    __slots__ = ("__weakref__", "_info", "_is_held", "_pool", "_timeout", "_watch")

    def __init__(self, pool: ConnectionPool[T], timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._info: PooledConnection[T] | None = None
        self._is_held = False

    @property
    def info(self) -> PooledConnection[T]:
        """What the pool knows of the connection: its age, its uses, its capacity."""
        if self._info is None:
            raise RuntimeError("this lease holds nothing yet: `await` it or enter it with `async with`")
        return self._info

    @property
    def connection(self) -> T:
        return self.info.connection

    def release(self) -> None:
        """Gives the connection back. Never waits."""
        if self._is_held:
            self._is_held = False
            self._pool._release(self, None)

    def discard(self) -> None:
        """Gives the connection back to be closed, not lent again."""
        if self._is_held:
            self._is_held = False
            self._pool._release_with_care(self, None, self._pool._now(), is_wanted=False)

    async def __aenter__(self) -> T:
        if self._info is not None:
            return self._enter_held()
        pool = self._pool
        info = pool._take()
        if info is None:
            info = await pool._wait(self._timeout)
        self._info = info
        self._is_held = True
        self._watch = pool._watch(info) if pool._is_watching else None
        return info.connection

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._is_held:
            self._is_held = False
            self._pool._release(self, exc)

    def __await__(self) -> Generator[object, None, Self]:
        yield from self.__aenter__().__await__()
        return self

    def _enter_held(self) -> T:
        """`async with await pool.acquire()`"""
        if not self._is_held:
            raise RuntimeError("this lease has ended: call `pool.acquire()` for another")
        return self.connection

    def __del__(self) -> None:
        if self._is_held:
            self._pool._lost(self)

    def __repr__(self) -> str:
        state = "held" if self._is_held else "not acquired" if self._info is None else "ended"
        return f"<Lease of pool {self._pool.name!r}, {state}>"
