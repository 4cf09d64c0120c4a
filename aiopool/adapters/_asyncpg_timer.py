"""One alarm for all commands of a connection: a timer for each costs up to a tenth of a small query."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any


class CommandTimer:
    """The event loop, for asyncpg's protocol, which asks it for a timer at each command and cancels it soon after.

    The alarm runs on when a command is over, and looks whose time is up, if anybody's, when it rings. So timers of
    60 seconds cost one timer of the loop in 60 seconds.
    """

    __slots__ = ("_alarm", "_args", "_callback", "_due", "_rings_at", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._alarm: asyncio.TimerHandle | None = None
        self._rings_at = inf
        #: Of the command under way; None: there is none, or nothing bounds it.
        self._callback: Callable[..., object] | None = None
        self._args: tuple[Any, ...] = ()
        self._due = inf

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop, name)

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Any:
        """What it returns has a `cancel`, all that asyncpg needs."""
        if self._callback is not None:  # where asyncpg tries several connections, they have this in common
            return self.loop.call_later(delay, callback, *args)
        self._callback, self._args = callback, args
        self._due = due = monotonic() + delay
        if due < self._rings_at:
            self._set_alarm(delay)
        return self

    def cancel(self) -> None:
        # The arguments would keep the command's future.
        self._callback, self._args = None, ()

    def _set_alarm(self, delay: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._rings_at = self._due
        self._alarm = self.loop.call_later(delay, self._ring)

    def _ring(self) -> None:
        self._alarm, self._rings_at = None, inf
        callback, args, left = self._callback, self._args, self._due - monotonic()
        if callback is None:
            return
        if left > 0:
            self._set_alarm(left)
        else:
            self.cancel()
            callback(*args)
