"""The worker that keeps connections healthy: retires, checks, resets, and watches over leases."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from math import inf
from typing import Any, Generic, Protocol, TypeVar

from aiopool.config import PoolConfig
from aiopool.connection import Place, PooledConnection
from aiopool.handoff import CLOCK_TOLERANCE, HandoffQueue
from aiopool.lifecycle import Lifecycle
from aiopool.opener import Opener
from aiopool.stats import Reason
from aiopool.watch import Watches

T = TypeVar("T")
SHORTEST_SLEEP = 0.001

log = logging.getLogger("aiopool")


class Host(Protocol[T]):
    """What the health worker needs of its pool."""

    name: str
    config: PoolConfig
    now: Callable[[], float]
    connections: dict[PooledConnection[T], None]
    watches: Watches[T]
    opener: Opener[T]

    @property
    def surplus(self) -> int:
        """Connections above `min_size`."""
        ...

    def give(self, info: PooledConnection[T], now: float) -> None:
        """To the head of the line, or to idle."""

    def serve_line(self) -> None: ...

    def retire(self, info: PooledConnection[T], reason: Reason) -> None: ...
    def loop_ends(self) -> None:
        """Somebody else cancelled our task."""

    def found_dead(self) -> None:
        """An idle connection turned out dead: the others may be dead as well."""


class Health(Generic[T]):
    """Sleeps until the next due date. What begins later is due later, so nobody has to wake it for a new lease."""

    def __init__(self, host: Host[T], line: HandoffQueue[T], lifecycle: Lifecycle[T]) -> None:
        self._host = host
        self._line = line
        self._lifecycle = lifecycle
        #: Connections in check or in reset, each with the task that works on it, or the answer that is awaited.
        self.in_care: dict[PooledConnection[T], asyncio.Future[Any]] = {}
        #: Those among them that wait for an answer, in the order in which their time is up; and the alarm of the first.
        self._answers_due: dict[PooledConnection[T], float] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._next_patrol = host.now() + host.config.health_check_interval
        self._wake: asyncio.Future[None] | None = None
        self._is_closed = False
        self._is_on_patrol = False
        self._task = lifecycle.spawn(_keep_healthy(weakref.ref(self)), "health")

    @property
    def checking(self) -> int:
        return sum(info.place is Place.CHECKING for info in self.in_care)

    def checks_to_count_on(self, now: float) -> int:
        """Those that have not taken so long yet that another connection should be tried."""
        return sum(info.place is Place.CHECKING and info.covers_until > now for info in self.in_care)

    def was_cancelled(self) -> None:
        if not self._is_closed:
            self._host.loop_ends()

    def close(self) -> None:
        """Checks end now. A reset goes on: it may be telling the server to stop what its caller has left."""
        self._is_closed = True
        self._task.cancel()
        for info, work in self.in_care.items():
            if info.place is Place.CHECKING:
                work.cancel()

    def terminate(self) -> None:
        """Resets end, too."""
        for work in self.in_care.values():
            work.cancel()
        if self._alarm is not None:
            self._alarm.cancel()

    def wake(self) -> None:
        """A due date may have come nearer."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # -- one connection

    def check(self, info: PooledConnection[T], *, is_sweep: bool = False) -> asyncio.Task[bool]:
        """Validates a connection that was taken off the stack; whoever heads the line by then gets it."""
        info.place = Place.CHECKING
        info.covers_until = self._host.opener.cover(self._host.now())
        self.in_care[info] = task = self._lifecycle.spawn_surely(self._check(info, is_sweep), "check")
        return task

    async def _check(self, info: PooledConnection[T], is_sweep: bool) -> bool:
        is_valid = False
        try:
            is_valid = await self._lifecycle.validate(info.connection)
        finally:  # also when the pool closes and cancels us
            self._let_go(info, None if is_valid else Reason.INVALID)
            if info.place is Place.IDLE and self._host.now() >= self._idle_until(info):
                self.wake()  # its time came while we had it
            if not is_valid and not is_sweep:
                self._host.found_dead()
        return is_valid

    def reset(self, info: PooledConnection[T], rest: Awaitable[object], covers_until: float) -> None:
        """Ends a reset that takes time, in the background; in a task of its own, unless an answer is all it needs."""
        info.place = Place.RESETTING
        info.covers_until = covers_until
        if isinstance(rest, asyncio.Future) and not isinstance(rest, asyncio.Task):
            self._await_answer(info, rest)
        else:
            self.in_care[info] = self._lifecycle.spawn_surely(self._reset(info, rest), "reset")

    def _await_answer(self, info: PooledConnection[T], answer: asyncio.Future[object]) -> None:
        """Without a task, which would cost as much as all the rest of a release; one alarm bounds all of them."""
        self.in_care[info] = answer
        limit = self._host.config.reset_timeout
        self._answers_due[info] = self._host.now() + limit
        if self._alarm is None:
            self._alarm = self._lifecycle.loop.call_later(limit, _expire, weakref.ref(self))
        answer.add_done_callback(partial(self._answered, info), context=self._lifecycle.context)

    def _answered(self, info: PooledConnection[T], answer: asyncio.Future[object]) -> None:
        del self._answers_due[info]
        error = asyncio.CancelledError() if answer.cancelled() else answer.exception()
        if error is not None:
            self._reset_failed(error)
        self._let_go(info, None if error is None else Reason.RESET_FAILED)

    def expire(self) -> None:
        """Gives up the answers that are overdue, and sets the alarm for the next."""
        self._alarm = None
        now = self._host.now() + CLOCK_TOLERANCE
        for info, due in self._answers_due.items():
            if due > now:
                self._alarm = self._lifecycle.loop.call_later(due - now, _expire, weakref.ref(self))
                break
            self.in_care[info].cancel()

    async def _reset(self, info: PooledConnection[T], rest: Awaitable[object]) -> bool:
        is_clean = False
        try:
            await self._lifecycle.finish_reset(rest)
            is_clean = True
        except Exception as exc:
            self._reset_failed(exc)
        finally:
            self._let_go(info, None if is_clean else Reason.RESET_FAILED)
        return is_clean

    def _reset_failed(self, error: BaseException) -> None:
        log.debug("pool %r: a reset failed: %s", self._host.name, type(error).__name__)

    def _let_go(self, info: PooledConnection[T], trouble: Reason | None) -> None:
        del self.in_care[info]
        if trouble is not None:
            self._host.retire(info, trouble)
        else:
            self._host.give(info, self._host.now())
        if self._line.waiters:
            self._host.serve_line()

    async def check_all(self, infos: Iterable[PooledConnection[T]], *, is_sweep: bool = True) -> int:
        """Checks those that are idle, all at once; returns how many had to go."""
        tasks = []
        for info in infos:
            if info.place is Place.IDLE:
                self._line.discard(info)
                tasks.append(self.check(info, is_sweep=is_sweep))
        if not tasks:
            return 0
        await asyncio.wait(tasks)
        return sum(task.cancelled() or not task.result() for task in tasks)

    # -- the round

    def attend(self) -> float:
        """Does what is due, and returns the seconds until something may be due again."""
        host, now = self._host, self._host.now()
        next_watch = host.watches.attend(now)
        for info in list(host.connections):
            if now >= info.expires_at and info.place in (Place.IDLE, Place.LEASED):
                host.retire(info, info.expires_as)
        for info in self._line.lendable:  # the one that was idle for longest first
            if info.place is Place.IDLE and now >= self._idle_until(info) and host.surplus > 0:
                host.retire(info, Reason.IDLE)
        self._line.shed_if_stuck(now)
        if now >= self._next_patrol:
            self._next_patrol = now + host.config.health_check_interval
            if self._lifecycle.can_validate and not self._is_on_patrol:
                self._lifecycle.spawn(self._patrol(), "patrol")
        host.opener.review()
        return max(SHORTEST_SLEEP, min(next_watch, self._next_due(now)) - now)

    def _idle_until(self, info: PooledConnection[T]) -> float:
        limit = self._host.config.max_idle_time
        return inf if limit is None or info.leases else info.last_used + limit

    def _next_due(self, now: float) -> float:
        config = self._host.config
        # What has not begun yet is due then, at the earliest.
        due = [self._next_patrol, now + (config.max_idle_time or inf)]
        if config.max_lifetime is not None:
            due.append(now + config.max_lifetime * (1.0 - config.lifetime_jitter))
        if config.shed_target is not None:
            due.append(now + config.shed_interval)
        due += [info.expires_at for info in self._host.connections]
        if self._host.surplus > 0:
            due += [self._idle_until(info) for info in self._host.connections]
        # What is overdue now is held by somebody, who will see to it.
        return min(date for date in due if date > now)

    async def _patrol(self) -> None:
        """Checks the idle connections one at a time, so that the others stay at hand."""
        self._is_on_patrol = True
        for info in self._line.lendable:
            await self.check_all([info], is_sweep=False)
        self._is_on_patrol = False


async def _keep_healthy(health: weakref.ref[Any]) -> None:
    """By a weak reference while it sleeps, so that a dropped pool can be collected."""
    loop = asyncio.get_running_loop()
    while (target := health()) is not None:
        try:
            delay = target.attend()
        except Exception:
            log.exception("pool %r: the health worker stumbled", target._host.name)
            delay = 1.0
        target._wake = wake = loop.create_future()
        del target
        timer = loop.call_later(delay, _set, wake)
        try:
            await wake
        except asyncio.CancelledError:
            if (target := health()) is not None:
                target.was_cancelled()
            raise
        finally:
            timer.cancel()


def _expire(health: weakref.ref[Any]) -> None:
    """By a weak reference, so that the alarm doesn't keep a dropped pool alive."""
    if (target := health()) is not None:
        target.expire()


def _set(wake: asyncio.Future[None]) -> None:
    if not wake.done():
        wake.set_result(None)
