"""`Watches`: who holds which connection, since when; leak reports, and leases that are taken back."""

from __future__ import annotations

import asyncio
import logging
import sys
import traceback
from collections.abc import Callable
from os.path import dirname
from typing import Generic, TypeVar

from aiopool import events
from aiopool.config import PoolConfig
from aiopool.connection import PooledConnection
from aiopool.stats import Counters

T = TypeVar("T")

_QUIET = (dirname(__file__), dirname(asyncio.__file__))

log = logging.getLogger("aiopool")


class Watch(Generic[T]):
    """One lease while it lasts. Does not hold the lease itself, so that a lost one is noticed."""

    __slots__ = ("_stack", "info", "is_reclaimed", "is_reported", "since", "task_name")

    def __init__(self, info: PooledConnection[T], since: float, *, with_stack: bool) -> None:
        self.info = info
        self.since = since
        self.is_reported = False
        self.is_reclaimed = False
        self.task_name = ""
        self._stack: traceback.StackSummary | None = None
        if with_stack:
            task = asyncio.current_task()
            self.task_name = task.get_name() if task else ""
            # Lines are looked up when the stack is shown, which is hardly ever.
            frames = traceback.walk_stack(sys._getframe(1))
            self._stack = traceback.StackSummary.extract(frames, limit=24, lookup_lines=False)

    @property
    def stack(self) -> str:
        """The stack that acquired the lease, without our own frames, outermost call first."""
        if self._stack is None:
            return ""
        frames = [frame for frame in reversed(self._stack) if not frame.filename.startswith(_QUIET)]
        return "".join(traceback.StackSummary.from_list(frames).format())


class Watches(Generic[T]):
    """The leases under watch, if the pool watches over them at all."""

    def __init__(
        self,
        name: str,
        config: PoolConfig,
        counters: Counters,
        emit: Callable[..., None],
        reclaim: Callable[[Watch[T]], None],
    ) -> None:
        self._name = name
        self._leak_after, self._max_hold = config.leak_after, config.max_hold
        self._counters = counters
        self._emit = emit
        self._reclaim = reclaim
        #: In the order in which they began, which is the order in which they are due.
        self._running: dict[Watch[T], None] = {}

    def begin(self, info: PooledConnection[T], now: float) -> Watch[T]:
        watch = Watch(info, now, with_stack=self._leak_after is not None or self._max_hold is not None)
        self._running[watch] = None
        return watch

    def end(self, watch: Watch[T], now: float) -> None:
        self.forget(watch)
        if watch.is_reported:
            held = now - watch.since
            log.info("pool %r: the lease reported as leaked came back after %.1fs", self._name, held)
            self._emit(events.Leaked, watch.info, held, watch.stack, True)

    def forget(self, watch: Watch[T]) -> None:
        del self._running[watch]

    def oldest(self) -> float | None:
        return next((watch.since for watch in self._running), None)

    def attend(self, now: float) -> float:
        """Reports and takes back what is due; returns when something may be due again."""
        next_due = now + min(self._leak_after or 1e9, self._max_hold or 1e9)  # for a lease that begins now
        for watch in list(self._running):
            if self._max_hold is not None:
                if now >= watch.since + self._max_hold:
                    self._take_back(watch, now)
                    continue
                next_due = min(next_due, watch.since + self._max_hold)
            if self._leak_after is not None and not watch.is_reported:
                if now >= watch.since + self._leak_after:
                    self._report(watch, now)
                else:
                    next_due = min(next_due, watch.since + self._leak_after)
        return next_due

    def _report(self, watch: Watch[T], now: float) -> None:
        watch.is_reported = True
        self._counters.leaks += 1
        self._complain(
            "a lease has been held for %.1fs by task %r, longer than leak_after=%ss", watch, now, self._leak_after
        )
        self._emit(events.Leaked, watch.info, now - watch.since, watch.stack)

    def _take_back(self, watch: Watch[T], now: float) -> None:
        self.forget(watch)
        watch.is_reclaimed = True
        self._complain(
            "took back a lease held for %.1fs by task %r, longer than max_hold=%ss", watch, now, self._max_hold
        )
        self._reclaim(watch)

    def _complain(self, what: str, watch: Watch[T], now: float, limit: float | None) -> None:
        log.warning(
            f"pool %r: {what}; acquired at:\n%s", self._name, now - watch.since, watch.task_name, limit, watch.stack
        )
