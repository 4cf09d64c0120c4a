"""When to try again: exponential steps with full jitter.

Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """The delays between attempts: uniform in [0, step], the step doubling from `initial` to `maximum` seconds."""

    __slots__ = ("_random", "_step", "initial", "maximum")

    def __init__(self, initial: float, maximum: float, rand: Callable[[], float] = random.random) -> None:
        self.initial = self._step = initial
        self.maximum = maximum
        self._random = rand

    def next_delay(self) -> float:
        delay = self._random() * self._step
        self._step = min(self.maximum, self._step * 2)
        return delay

    def reset(self) -> None:
        self._step = self.initial
