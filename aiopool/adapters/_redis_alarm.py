"""One alarm for many reads: a timer for each would cost a tenth of a command."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from math import inf


class Alarm:
    """Rings if what was begun is not ended within its limit. The timer runs on, and sees then whether that is so."""

    def __init__(self, ring: Callable[[], None]) -> None:
        # The loop knows the timer, and must not keep a pool alive that everybody else has dropped.
        self._ring = weakref.WeakMethod(ring)
        self._timer: asyncio.TimerHandle | None = None
        self._due = inf

    def begin(self, limit: float) -> None:
        """`limit` in seconds; `inf`: it may take for ever."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + limit
        if limit != inf and (self._timer is None or self._timer.when() > self._due):
            self.cancel()
            self._timer = loop.call_at(self._due, self._look, loop)

    def end(self) -> None:
        self._due = inf

    def cancel(self) -> None:
        """Also the timer, which would otherwise wait until it is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._due > loop.time():
            if self._due != inf:
                self._timer = loop.call_at(self._due, self._look, loop)
        elif (ring := self._ring()) is not None:
            ring()
