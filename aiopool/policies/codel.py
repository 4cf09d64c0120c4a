"""Which waiting callers to refuse under a standing queue: controlled delay (CoDel).

A queue that empties now and then is a burst, and serves everybody. A queue in which even the luckiest caller of a
whole interval waited longer than the target only adds delay: from then on those who waited over twice the target
are refused, so that those behind them are served while their answer still matters.

Sources: K. Nichols and V. Jacobson, "Controlling Queue Delay", ACM Queue 2012; the "twice the target" rule as in
folly's Codel and Elixir's db_connection.
"""

from __future__ import annotations

from math import inf


class CoDel:
    """The state of one queue. All times are seconds on the same clock."""

    __slots__ = ("_interval_ends", "_is_slow", "_least_wait", "interval", "target")

    def __init__(self, target: float, interval: float) -> None:
        self.target = target
        self.interval = interval
        self._interval_ends = -inf
        #: The shortest wait seen in the running interval.
        self._least_wait = 0.0
        self._is_slow = False

    def is_to_shed(self, now: float, waited: float) -> bool:
        """Asked for the head of the line when a connection is there for it. True: refuse it, ask for the next."""
        if now >= self._interval_ends:
            self._begin_interval(now, waited)
            return False
        if self._is_slow and waited > 2 * self.target:
            return True
        self._least_wait = min(self._least_wait, waited)
        return False

    def is_stuck(self, now: float, waited: float) -> bool:
        """Asked about the head now and then, in case nothing ever returns. True: refuse all over twice the target."""
        if now < self._interval_ends:
            return self._is_slow
        self._begin_interval(now, waited)
        return self._is_slow

    def line_is_empty(self) -> None:
        """Nobody waits: the luckiest caller of this interval waited for nothing."""
        self._least_wait = 0.0

    def start_afresh(self) -> None:
        """Forgets what it saw: the next who is served begins an interval in which nobody is refused."""
        self._interval_ends = -inf
        self._least_wait = 0.0

    def _begin_interval(self, now: float, waited: float) -> None:
        self._is_slow = self._least_wait > self.target
        self._interval_ends = now + self.interval
        self._least_wait = waited
