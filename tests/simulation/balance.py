"""Every figure that the pool gives of itself, against an independent count."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.simulation.history import Act
from tests.simulation.ledger import Attempt, Broken
from tests.simulation.rules import TOLERANCE, Rules

#: Whatever is under way has ended after so many seconds: the sum of all timeouts and steps of backoff; and what is idle
#: has been so for longer than any `max_idle_time`.
CALM = 30.0
#: What may be lost in sums of many differences of the clock.
ROUNDING = 1e-3


class Balance:
    def __init__(self, rules: Rules) -> None:
        self.rules, self.pool, self.server = rules, rules.pool, rules.server
        self.config = self.pool.config
        self.stats: dict[str, Any] = {**self.pool.stats()}

    def fits(self) -> None:
        """At any moment."""
        stats, rules = self.stats, self.rules
        for key, value in stats.items():
            if isinstance(value, (int, float)) and value < 0:
                raise Broken(f"{key}={value}")
        self._is("min_size", self.config.min_size)
        self._is("max_size", self.config.max_size)
        self._is("closed", sum(stats["closed_by"].values()))
        self._is("size", stats["opened"] - stats["closed"])
        for key in ("acquired", "timeouts", "rejected", "shed", "cancelled", "waited"):
            self._is(key, rules.outcomes[key], rules.outcomes[key] + rules.acquiring)

    def is_calm(self) -> None:
        """An open pool, some time after the last trouble."""
        self.fits()
        for key in ("in_use", "opening", "waiting", "oldest_wait", "oldest_lease"):
            self._is(key, 0)
        self._is("size", self.config.min_size, self.config.max_size)
        config = self.config
        if config.max_idle_time is not None and config.max_lifetime is None:
            self._is("size", config.min_size)
        # What comes while the pool is suspended is kept for those who wait, and they may leave.
        was_suspended = any(isinstance(op, Act) and op.what == "suspend" for op in self.server.history.ops)
        if config.max_idle is not None and config.max_shares == 1 and not was_suspended:
            self._is("available", 0, max(config.max_idle, config.min_size))
        in_check = len(self.pool._stock.health.in_care)
        self._is("available", (self.stats["size"] - in_check) * self.config.max_shares)
        self._is("size", self.server.standing + self.server.in_flight)

    def is_final(self, tasks: set[asyncio.Task[Any]]) -> None:
        """After the last close."""
        self.fits()
        for key in ("size", "available", "in_use", "opening", "waiting"):
            self._is(key, 0)
        if tasks:
            raise Broken(f"{len(tasks)} tasks are left: {sorted(task.get_name() for task in tasks)}")
        if self.server.standing or self.server.in_flight:
            raise Broken(f"{self.server.standing} connections are left on the server")
        if self.rules.acquiring or self.rules.holding:
            raise Broken("callers are left")
        self._opens()
        self._seconds()
        self._leaks()
        if "listener" in self.server.history.hooks:
            self._events()

    def _opens(self) -> None:
        """An opening that ends in the moment of its timeout, or while the pool closes, may count either way."""
        verdicts = [self._verdict(attempt) for attempt in self.server.attempts]
        doubtful = verdicts.count("")
        for key in ("opened", "open_failures"):
            self._is(key, verdicts.count(key), verdicts.count(key) + doubtful)

    def _verdict(self, attempt: Attempt) -> str:
        assert attempt.ended_at is not None
        if any(attempt.began_at <= at <= attempt.ended_at for at in self.rules.closings):
            return ""
        left = self.config.open_timeout - (attempt.ended_at - attempt.began_at)
        if left > TOLERANCE:
            return "opened" if attempt.outcome == "opened" else "open_failures"
        return "open_failures" if left < -self.rules.lateness - TOLERANCE else ""

    def _seconds(self) -> None:
        self._is("wait_time", self.rules.waited - ROUNDING, self.rules.waited + ROUNDING)
        if not self.rules.takes_back and not self.rules.lost:
            used = sum(self.rules.holds)
            self._is("use_time", used - ROUNDING, used + ROUNDING)

    def _leaks(self) -> None:
        limit, late = self.config.leak_after, self.rules.lateness + 0.002
        if limit is None or self.rules.takes_back:
            return
        longer = sum(held > limit + late for held in self.rules.holds)
        about = sum(held >= limit - TOLERANCE for held in self.rules.holds)
        self._is("leaks", longer, about + self.rules.lost)

    def _events(self) -> None:
        counts = self.server.counts
        for event, key in {"Opened": "opened", "Closed": "closed", "OpenFailed": "open_failures"}.items():
            self._is(key, counts[event])
        self._is("shed", counts["Shed"])
        if counts["Acquired"] < self.stats["acquired"]:
            raise Broken(f"{counts['Acquired']} events Acquired, but acquired={self.stats['acquired']}")

    def _is(self, key: str, least: float, most: float | None = None) -> None:
        most = least if most is None else most
        if not least <= self.stats[key] <= most:
            expected = f"{least}" if least == most else f"{least} to {most}"
            raise Broken(f"{key}={self.stats[key]}, counted from outside: {expected}")
