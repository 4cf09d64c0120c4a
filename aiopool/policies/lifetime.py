"""How long a connection lives: spread, so that connections opened together don't die together."""

from __future__ import annotations

import math
import random
from collections.abc import Callable


def draw_lifetime(max_lifetime: float | None, jitter: float, rand: Callable[[], float] = random.random) -> float:
    """Seconds, uniform in [max_lifetime * (1 - jitter), max_lifetime]; infinite without a limit."""
    if max_lifetime is None:
        return math.inf
    return max_lifetime * (1.0 - jitter * rand())
