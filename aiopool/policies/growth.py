"""How many connections to open now, for those who wait.

A waiter takes the first of a returned and a newly opened connection, so an open is worth starting only for whom a
return would come later. Opening too few makes a ramp of long work slow; opening too many makes a spike of short work
end in `max_size` connections. Pure functions: no clock, no I/O.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SHORTEST_PATIENCE, LONGEST_PATIENCE = 0.005, 0.030
#: How long a first open may take before another is tried beside it: TCP sends again after 1 second, and then it works.
UNKNOWN_OPEN = 1.5


@dataclass(slots=True)
class OpenTime:
    """What is known of how long opening takes, in seconds.

    An average that jumps up to a slower sample and forgets it slowly, so that an open counts as hanging only when
    it is slower than the slow ones of late.
    """

    known: float | None = None

    def learn(self, seconds: float) -> None:
        if self.known is None or seconds > self.known:
            self.known = seconds
        else:
            self.known += (seconds - self.known) * 0.1

    def patience(self, oldest_open: float) -> float:
        """How long the line may stand still before we stop counting on returns; an open in flight is a lower bound."""
        return min(LONGEST_PATIENCE, max(SHORTEST_PATIENCE, 0.1 * max(self.known or 0.0, oldest_open)))

    def cover(self, hanging: int, open_timeout: float) -> float:
        """How long an open that starts now stands for a waiter, before another may be started in its place.

        Doubled for each one that already hangs: against a black hole new attempts go on, ever slower, and leave slots.
        """
        if self.known is None:
            return min(UNKNOWN_OPEN, open_timeout)
        return min(open_timeout, (self.known + self.patience(0.0)) * 2.0 ** min(hanging, 30))


def opens_wanted(
    *,
    waiting: int,
    coming: int,
    leased: int,
    in_flight: int,
    shares: int,
    hold: float | None,
    opening: float,
    stands_still: bool,
) -> int:
    """How many opens to start now.

    `waiting` callers, of whom `coming` are covered by what is being opened, checked or reset. `leased` connections may
    return, after `hold` seconds on average (None: not known yet). `opening`: seconds that a new one will take, of which
    `in_flight` are. `stands_still`: nothing has returned to the line for the length of our patience.
    """
    uncovered = waiting - coming * shares
    # 1. Nobody needs a connection that is not on its way.
    if uncovered <= 0:
        return 0
    # 2. Nothing can return, or nothing does: only new ones help.
    if leased == 0 or stands_still:
        return math.ceil(uncovered / shares)
    # 3. Nobody has returned one yet, so nothing is known: give the first a moment.
    if hold is None:
        return 0
    # 4. Returns serve the head of the line in the time that opening takes; new ones are for the rest. No more at a time
    #    than are at work, for opening may take longer than it used to, and then it was not worth it.
    if hold > 0:
        uncovered -= math.floor(leased * opening / hold)
        return max(0, min(math.ceil(uncovered / shares), leased - in_flight))
    return 0
