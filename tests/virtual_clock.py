"""An event loop whose clock is a number: waiting costs nothing, and a hang is an error instead of a hang."""

from __future__ import annotations

import asyncio
import selectors
import time
from typing import Any


class Stuck(AssertionError):
    """Nothing is ready, and nothing ever will be."""


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """Real selector, real callbacks, virtual time.

    When nothing is ready, the clock jumps to the next timer. Without a timer the run ends with `Stuck`; so
    it does when the clock leaves `horizon` (a background task ticks on, but what is awaited never comes) or
    when `patience` is spent in real seconds (something spins). Threads can't be awaited on this loop.
    """

    def __init__(self, *, start: float = 1_000.0, horizon: float = 1_000_000.0, patience: float = 90.0) -> None:
        # A clock that starts at zero hides every "0 means unset" bug.
        self._now = start
        self._last = start + horizon
        self._give_up = time.monotonic() + patience
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._now

    def jump(self) -> None:
        """Move the clock to the next timer. asyncio has dropped cancelled timers from the head before."""
        self._now = max(self._now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        if self._now > self._last:
            raise Stuck(f"the virtual clock ran past its horizon\n{self.tasks()}")

    def check_patience(self) -> None:
        if time.monotonic() > self._give_up:
            raise Stuck(f"too many real seconds went by\n{self.tasks()}")

    def tasks(self) -> str:
        """Where every task stands: what one wants to read when a test is stuck."""
        lines = []
        for task in asyncio.all_tasks(self):
            stack = task.get_stack(limit=1)
            where = f"{stack[-1].f_code.co_filename}:{stack[-1].f_lineno}" if stack else "finished"
            lines.append(f"  {task.get_name()} {task.get_coro()!r} at {where}")
        return "\n".join(lines)


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    def __init__(self, loop: VirtualClockLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        self._loop.check_patience()
        if events or timeout == 0:
            return events
        if timeout is None:
            raise Stuck(f"nothing is ready and no timer is set\n{self._loop.tasks()}")
        self._loop.jump()
        return events
