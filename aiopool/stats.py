"""What a pool counts: counters, log-scale latency histograms, and the `PoolStats` snapshot of both."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from enum import StrEnum
from inspect import iscoroutinefunction
from itertools import accumulate
from math import inf
from typing import Any, TypedDict, cast


class Reason(StrEnum):
    """Why a connection was closed."""

    IDLE = "idle"
    LIFETIME = "lifetime"
    USES = "uses"
    INVALID = "invalid"
    BROKEN = "broken"
    DISCARDED = "discarded"
    RECLAIMED = "reclaimed"
    LOST = "lost"
    RESET_FAILED = "reset_failed"
    DRAINED = "drained"
    SHRUNK = "shrunk"
    POOL_CLOSED = "pool_closed"


class PoolStats(TypedDict):
    """One moment of a pool: a plain dict, ready for JSON. Counters go on through close and reopen.

    `size` counts what is idle, in check, leased, in reset or being closed; `in_use` counts leases; `available` those
    that could be granted now without opening. Times are seconds: totals, and the age of the oldest.
    """

    name: str
    size: int
    available: int
    in_use: int
    opening: int
    waiting: int
    min_size: int
    max_size: int
    acquired: int
    waited: int
    timeouts: int
    rejected: int
    shed: int
    cancelled: int
    opened: int
    open_failures: int
    closed: int
    closed_by: dict[str, int]
    close_failures: int
    leaks: int
    wait_time: float
    use_time: float
    open_time: float
    oldest_wait: float
    oldest_lease: float


class Gauges(TypedDict):
    """The part of `PoolStats` that an open pool adds."""

    size: int
    available: int
    in_use: int
    opening: int
    waiting: int
    acquired: int
    oldest_wait: float
    oldest_lease: float


#: Seconds: from 0.12 µs they double up to 68 minutes.
BOUNDS = [2.0**exponent for exponent in range(-23, 13)]


class Histogram:
    """Latencies in buckets that double."""

    __slots__ = ("slots", "total")

    def __init__(self) -> None:
        #: Slot i holds what took longer than BOUNDS[i - 1], but no longer than BOUNDS[i]; the last has all the rest.
        self.slots = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def record(self, seconds: float) -> None:
        self.total += seconds
        self.slots[bisect_left(BOUNDS, seconds)] += 1

    @property
    def count(self) -> int:
        return sum(self.slots)

    def buckets(self) -> list[tuple[float, int]]:
        """(upper bound in seconds, how many took no longer) with the bounds rising; the last bound is infinite."""
        return list(zip((*BOUNDS, inf), accumulate(self.slots), strict=True))


class Counters:
    """The figures that only grow."""

    __slots__ = (
        "acquired_before",
        "cancelled",
        "close_failures",
        "closed_by",
        "leaks",
        "open_failures",
        "opened",
        "opening",
        "rejected",
        "shed",
        "timeouts",
        "using",
        "waiting",
    )

    def __init__(self) -> None:
        #: Leases of the connections that are gone; those of the others are their `use_count`.
        self.acquired_before = 0
        self.timeouts = self.rejected = self.shed = self.cancelled = 0
        self.opened = self.open_failures = self.close_failures = self.leaks = 0
        self.closed_by: dict[str, int] = {reason.value: 0 for reason in Reason}
        #: How long callers stood in line, connections were leased, and opening took.
        self.waiting, self.using, self.opening = Histogram(), Histogram(), Histogram()

    def snapshot(self) -> PoolStats:
        """The counters of this moment, with every gauge at 0."""
        return {
            "name": "",
            "size": 0,
            "available": 0,
            "in_use": 0,
            "opening": 0,
            "waiting": 0,
            "min_size": 0,
            "max_size": 0,
            "acquired": self.acquired_before,
            "waited": self.waiting.count,
            "timeouts": self.timeouts,
            "rejected": self.rejected,
            "shed": self.shed,
            "cancelled": self.cancelled,
            "opened": self.opened,
            "open_failures": self.open_failures,
            "closed": sum(self.closed_by.values()),
            "closed_by": dict(self.closed_by),
            "close_failures": self.close_failures,
            "leaks": self.leaks,
            "wait_time": self.waiting.total,
            "use_time": self.using.total,
            "open_time": self.opening.total,
            "oldest_wait": 0.0,
            "oldest_lease": 0.0,
        }


def stats_of(pool: Any) -> Mapping[str, Any]:
    """Of any pool; of somebody else's none, unless it has a plain `stats()` that returns a mapping."""
    read = getattr(type(pool), "stats", None)
    stats = pool.stats() if callable(read) and not iscoroutinefunction(read) else {}
    return stats if isinstance(stats, Mapping) else {}


def summed(parts: Sequence[PoolStats]) -> PoolStats:
    """The figures of several pools as those of one, with the name and `max_size` of the first."""
    total: dict[str, Any] = {**parts[0]}
    for part in parts[1:]:
        for key, value in part.items():
            if key in ("oldest_wait", "oldest_lease"):
                total[key] = max(total[key], value)
            elif key == "closed_by":
                total[key] = {reason: n + part["closed_by"][reason] for reason, n in total[key].items()}
            elif key not in ("name", "max_size"):
                total[key] += value
    return cast(PoolStats, total)
