"""A backend that does what a script says and writes down what was done to it."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


def now() -> float:
    return asyncio.get_running_loop().time()


async def settle(turns: int = 40) -> None:
    """Let everything happen that needs no time."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def timed(awaitable: Awaitable[Any]) -> tuple[float, Any]:
    """How long it took, and what came of it: the result or the exception."""
    start = now()
    try:
        result = await awaitable
    except Exception as error:
        result = error
    return now() - start, result


def take(pool: Any, **options: Any) -> asyncio.Task[Any]:
    """A caller in a task of its own; the task's result is the lease."""

    async def caller() -> Any:
        return await pool.acquire(**options)

    return asyncio.create_task(caller())


async def hold(pool: Any, seconds: float = 0.0, **options: Any) -> float:
    """Acquire, work for a while, release. Returns the seconds waited."""
    start = now()
    async with pool.acquire(**options):
        waited = now() - start
        await asyncio.sleep(seconds)
    return waited


async def release_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for lease in await asyncio.gather(*tasks):
        lease.release()


@dataclass
class Step:
    """How one call of the backend goes: how long it takes, and how it ends."""

    delay: float = 0.0
    error: BaseException | None = None
    hang: bool = False
    ignore_cancel: float = 0.0
    """Seconds it goes on after it was cancelled, as if nothing had happened."""

    async def run(self) -> None:
        try:
            await (asyncio.Event().wait() if self.hang else asyncio.sleep(self.delay))
        except asyncio.CancelledError:
            if not self.ignore_cancel:
                raise
            await asyncio.sleep(self.ignore_cancel)
        if self.error is not None:
            # A new one each time, for an exception that is raised again drags its old traceback along.
            raise type(self.error)(*self.error.args)


@dataclass(eq=False)
class FakeConnection:
    id: int
    opened_at: float
    healthy: bool = True
    closed_at: float | None = None
    destroyed: int = 0
    aborted: int = 0
    holders: set[object] = field(default_factory=set)
    entered_by: asyncio.Task[Any] | None = None
    left_by: asyncio.Task[Any] | None = None

    @property
    def closed(self) -> bool:
        return self.closed_at is not None


@dataclass(eq=False)
class Backend:
    """Give `open`, `close`, `abort`, `validate` and `reset` to a pool; script each with a `Step`."""

    opens: Step = field(default_factory=Step)
    closes: Step = field(default_factory=Step)
    validates: Step = field(default_factory=Step)
    resets: Step = field(default_factory=Step)
    next_opens: deque[Step] = field(default_factory=deque)
    """Steps for the next openings; when they are used up, `opens` counts."""
    limit: Callable[[], int] | None = None
    """How many may exist at the moment an opening starts; more are written to `violations`."""

    connections: list[FakeConnection] = field(default_factory=list)
    attempts: list[float] = field(default_factory=list)
    log: list[tuple[str, int]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    opening: int = 0
    peak: int = 0
    peak_opening: int = 0
    validating: int = 0
    peak_validating: int = 0
    ids: Any = field(default_factory=itertools.count)

    @property
    def live(self) -> list[FakeConnection]:
        return [c for c in self.connections if not c.closed]

    @property
    def ended(self) -> list[FakeConnection]:
        return [c for c in self.connections if c.closed]

    def calls(self, what: str) -> list[int]:
        """The ids of the connections this was called for, in order."""
        return [number for name, number in self.log if name == what]

    async def open(self) -> FakeConnection:
        step = self.next_opens.popleft() if self.next_opens else self.opens
        self.attempts.append(now())
        self.opening += 1
        self.peak_opening = max(self.peak_opening, self.opening)
        existing = len(self.live) + self.opening
        self.peak = max(self.peak, existing)
        if self.limit is not None and existing > self.limit():
            self.violations.append(f"{existing} connections where {self.limit()} are allowed at {now()}")
        try:
            await step.run()
        finally:
            self.opening -= 1
        connection = FakeConnection(next(self.ids), now())
        self.connections.append(connection)
        return connection

    async def close(self, connection: FakeConnection) -> None:
        self.log.append(("close", connection.id))
        connection.destroyed += 1
        try:
            await self.closes.run()
        finally:
            connection.closed_at = now()

    def abort(self, connection: FakeConnection) -> None:
        self.log.append(("abort", connection.id))
        connection.aborted += 1
        connection.closed_at = now()

    async def validate(self, connection: FakeConnection) -> bool:
        self.log.append(("validate", connection.id))
        self.validating += 1
        self.peak_validating = max(self.peak_validating, self.validating)
        try:
            await self.validates.run()
        finally:
            self.validating -= 1
        return connection.healthy

    async def reset(self, connection: FakeConnection) -> None:
        self.log.append(("reset", connection.id))
        await self.resets.run()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[FakeConnection]:
        """The same backend for those who want a context manager."""
        connection = await self.open()
        connection.entered_by = asyncio.current_task()
        try:
            yield connection
        finally:
            connection.left_by = asyncio.current_task()
            await self.close(connection)

    def assert_nothing_is_left(self) -> None:
        """Every connection that was created is gone, and was closed once."""
        assert [c.id for c in self.live] == []
        assert self.opening == 0
        assert [c.id for c in self.connections if c.destroyed > 1 or c.aborted > 1] == []
        assert self.violations == []
