"""`PoolFace`: what every class that stands on a `ConnectionPool` has in common."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from aiopool.events import Listener
from aiopool.pool import ConnectionPool
from aiopool.stats import PoolStats

T = TypeVar("T")


class PoolFace(Generic[T]):
    """A user-facing class on top of `pool`: its lifespan, maintenance and figures are the pool's own."""

    pool: ConnectionPool[T]

    @property
    def name(self) -> str:
        return self.pool.name

    async def open(self, wait: bool = True, timeout: float | None = None) -> None:
        """Start; with `wait`, return when `min_size` connections stand, or raise `PoolUnavailable`."""
        await self.pool.open(wait=wait, timeout=timeout)

    async def close(self, timeout: float | None = 10) -> None:
        """Refuse newcomers, wait for leases until the deadline (None: for ever), then close everything."""
        await self.pool.close(timeout=timeout)

    async def drain(self, over: float = 0.0) -> None:
        """Replace every connection that exists now, idle ones at once or spread over `over` seconds."""
        await self.pool.drain(over)

    async def check(self) -> int:
        """Validate all idle connections now; return how many were replaced."""
        return await self.pool.check()

    def resize(self, *, min_size: int | None = None, max_size: int | None = None) -> None:
        self.pool.resize(min_size=min_size, max_size=max_size)

    def suspend(self) -> None:
        """Let callers wait, each for its own timeout, until `resume()`."""
        self.pool.suspend()

    def resume(self) -> None:
        self.pool.resume()

    def stats(self) -> PoolStats:
        return self.pool.stats()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Tell `listener` of every event of the pool, until the function that this returns is called."""
        return self.pool.subscribe(listener)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.pool.__aexit__(kind, exc, traceback)

    def __repr__(self) -> str:
        # Never more than the name: the settings hold passwords.
        return f"<{type(self).__name__} {self.name!r}>"
