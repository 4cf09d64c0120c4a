"""`Acquisition` and `Lease`: the right to use one connection, until it is given back."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from aiopool.connection import PooledConnection
from aiopool.watch import Watch

T = TypeVar("T")


class Lender(Protocol[T]):
    """The pool, as far as leases need it."""

    name: str
    _is_watching: bool

    def _take(self) -> PooledConnection[T] | None: ...
    async def _wait(self, timeout: float | None) -> PooledConnection[T]: ...
    def _watch(self, info: PooledConnection[T]) -> Watch[T]: ...
    def _release(self, info: PooledConnection[T], exc: BaseException | None, holder: object) -> None: ...
    def _release_with_care(
        self, info: PooledConnection[T], exc: BaseException | None, watch: Watch[T] | None, *, is_wanted: bool = True
    ) -> None: ...
    def _lost(self, info: PooledConnection[T], watch: Watch[T] | None) -> None: ...


class Acquisition(Coroutine[Any, Any, "Lease[T]"]):
    """What `pool.acquire()` returns: `async with` it for a connection, or `await` it for a `Lease`.

    It is a coroutine, too, so that `asyncio.create_task(pool.acquire())` puts a caller in the line.
    """

    __slots__ = ("_awaiting", "_info", "_pool", "_timeout", "_watch")

    _watch: Watch[T]
    _awaiting: Generator[Any, Any, Lease[T]]

    def __init__(self, pool: Lender[T], timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._info: PooledConnection[T] | None = None

    async def __aenter__(self) -> T:
        if self._info is not None:
            raise RuntimeError("this acquisition is in use: call `pool.acquire()` for another")
        pool = self._pool
        self._info = info = pool._take() or await pool._wait(self._timeout)
        if pool._is_watching:
            self._watch = pool._watch(info)
        return info.connection

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        info = self._info
        if info is not None:
            self._info = None
            self._pool._release(info, exc, self)

    def __await__(self) -> Generator[Any, Any, Lease[T]]:
        yield from self.__aenter__().__await__()
        info, self._info = self._info, None
        assert info is not None
        return Lease(self._pool, info, getattr(self, "_watch", None))

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
            self._pool._release_with_care(self.info, None, self._watch, is_wanted=False)

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
            self._pool._release(self.info, exc, self)

    def __del__(self) -> None:
        if self._is_held:
            self._pool._lost(self.info, self._watch)

    def __repr__(self) -> str:
        return f"<Lease of pool {self._pool.name!r}, {'held' if self._is_held else 'ended'}>"
