"""Bounds on a machine that has other things to do."""

from __future__ import annotations

import asyncio
from typing import Self

TICK = 0.01


class Stopwatch:
    """Counts the seconds in which the running loop had its turns: what a busy machine takes from it is not counted.

    For upper bounds. It is never ahead of the time, so it says nothing of lower ones; and how long another process
    takes is not its business.
    """

    def __init__(self) -> None:
        self._ticks = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(TICK, self._tick)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    @property
    def seconds(self) -> float:
        """How many are over, at least."""
        return self._ticks * TICK

    def _tick(self) -> None:
        self._ticks += 1
        self._timer = self._loop.call_later(TICK, self._tick)
