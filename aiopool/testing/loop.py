"""An event loop on which time costs nothing and a seed decides who runs first."""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


class Stuck(AssertionError):
    """Nothing is ready, and nothing ever will be."""


class SimulationLoop(asyncio.BaseEventLoop):
    """Real tasks and futures, a virtual clock, no I/O: sockets and threads can't be awaited on it.

    When nothing is ready, the clock jumps to the next timer. With a `seed`, the next callback to run is drawn from all
    that are ready, so that a run goes one of the many ways that a busy program may go, and the same way again for the
    same seed; without, they run in the order in which they became ready, as asyncio promises them to. Timers fire up
    to `lateness` seconds late.

    A hang is an error instead of a hang: `Stuck` is raised when nothing is ready and no timer is set, when the clock
    leaves `horizon` (something ticks on, but what is awaited never comes), or when `patience` is spent, in seconds of
    the processor.

    After FoundationDB's simulation and madsim's scheduler.
    """

    def __init__(
        self,
        seed: int | str | None = None,
        *,
        start: float = 1_000.0,
        horizon: float = 1_000_000.0,
        lateness: float = 0.0,
        patience: float = 90.0,
    ) -> None:
        super().__init__()
        self._dice = None if seed is None else random.Random(seed)
        # A clock that starts at zero hides every "0 means unset" bug.
        self._now = start
        self._last = start + horizon
        self._lateness = lateness
        self._gives_up_at = time.process_time() + patience
        #: Callbacks that have run.
        self.steps = 0
        #: Called after each of them; what it raises ends the run.
        self.after_step: Callable[[], object] | None = None

    def time(self) -> float:
        return self._now

    def tasks(self) -> str:
        """Where every task stands: what one wants to read when a run is stuck."""
        lines = []
        for task in asyncio.all_tasks(self):
            stack = task.get_stack(limit=1)
            where = f"{stack[-1].f_code.co_filename}:{stack[-1].f_lineno}" if stack else "finished"
            lines.append(f"  {task.get_name()} {task.get_coro()!r} at {where}")
        return "\n".join(lines)

    # What `BaseEventLoop` leaves to its heirs. `_ready`, `_scheduled` and `_stopping` are its own, the same since
    # Python 3.4.

    def _run_once(self) -> None:
        ready, timers = self._ready, self._scheduled  # type: ignore[attr-defined]
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            self._jump(timers)
        due = self._now + self._clock_resolution  # type: ignore[attr-defined]
        while timers and (timers[0]._when <= due or timers[0]._cancelled):
            timer = heapq.heappop(timers)
            timer._scheduled = False
            ready.append(timer)
        if not ready:
            return
        if self._dice is not None and len(ready) > 1:
            ready.rotate(-int(self._dice.random() * len(ready)))
        handle = ready.popleft()
        if handle._cancelled:
            return
        handle._run()
        self.steps += 1
        if self.steps % 1024 == 0 and time.process_time() > self._gives_up_at:
            raise Stuck(f"too many seconds of the processor went by\n{self.tasks()}")
        if self.after_step is not None:
            self.after_step()

    def _jump(self, timers: list[Any]) -> None:
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
        if not timers:
            raise Stuck(f"nothing is ready and no timer is set\n{self.tasks()}")
        late = self._lateness * self._dice.random() if self._dice is not None else self._lateness
        self._now = max(self._now, timers[0]._when + late)
        if self._now > self._last:
            raise Stuck(f"the virtual clock ran past its horizon\n{self.tasks()}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass  # it is dropped when its time comes

    def _write_to_self(self) -> None:
        pass  # there is no selector to wake


def run(main: Coroutine[Any, Any, R], *, seed: int | str | None = None) -> R:
    """Like `asyncio.run`, on a `SimulationLoop`. A `seed` decides what the module `random` draws as well."""
    state = random.getstate()
    if seed is not None:
        random.seed(seed)
    try:
        with asyncio.Runner(loop_factory=lambda: SimulationLoop(seed)) as runner:
            return runner.run(main)
    finally:
        random.setstate(state)
