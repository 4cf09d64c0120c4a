"""The worker that opens connections: under the semaphore, in parallel, with backoff when the backend is down."""

from __future__ import annotations

import asyncio
import logging
import weakref
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from aiopool.config import PoolConfig
from aiopool.handoff import HandoffQueue
from aiopool.lifecycle import Lifecycle, Owner
from aiopool.policies.backoff import Backoff
from aiopool.policies.growth import OpenTime, opens_wanted
from aiopool.stats import Counters

T = TypeVar("T")
SHORTEST_TIMER = 0.001

log = logging.getLogger("aiopool")


class Slots(asyncio.Semaphore):
    """How many connections may exist. Taken synchronously or not at all: nobody ever waits here."""

    @property
    def free(self) -> int:
        """Negative after a shrink, until enough connections are closed."""
        return self._value

    def locked(self) -> bool:
        return self._value <= 0

    def acquire_nowait(self) -> bool:
        if self._value <= 0:
            return False
        self._value -= 1
        return True

    def resize(self, difference: int) -> None:
        self._value += difference


@dataclass(slots=True)
class Demand:
    """What the pool has, and lacks, at one moment."""

    waiting: int
    #: Being checked or reset, and likely to be back soon.
    coming: int
    #: When the first of `coming` stops counting.
    coming_until: float | None
    leased: int
    #: Idle, checking, leased or resetting.
    alive: int
    is_suspended: bool


class Host(Protocol[T]):
    """What the opener needs of its pool."""

    name: str

    @property
    def config(self) -> PoolConfig: ...
    def now(self) -> float: ...
    def demand(self, now: float) -> Demand: ...
    def is_awaited(self) -> bool:
        """True if anybody waits for a connection, or for `min_size` of them."""

    def admit(self, connection: T, owner: Owner[T] | None, attempt: Attempt) -> None: ...
    def open_failed(self, error: BaseException) -> None: ...
    def give_up(self, error: BaseException) -> None:
        """Nothing can be had as far as we know: whoever waits shall not wait for another attempt."""

    def is_fatal(self, error: BaseException) -> bool: ...
    def settled(self) -> None:
        """Called when an attempt has ended, whichever way, and its outcome is recorded."""


class Attempt:
    """One connection being opened. `is_over`: its outcome doesn't count any more, only its slot does."""

    __slots__ = ("began_at", "covers_until", "epoch", "is_over", "task", "timer")

    task: asyncio.Task[None]
    timer: asyncio.TimerHandle

    def __init__(self, began_at: float, covers_until: float, epoch: int) -> None:
        self.began_at = began_at
        #: Until then it stands for a waiter. Later it counts as hanging, and covers nobody.
        self.covers_until = covers_until
        #: Stamped when opening starts, so that a drain reaches what was being opened with the old credentials.
        self.epoch = epoch
        self.is_over = False


class Opener(Generic[T]):
    """Opens what is lacking. `review` is called whenever supply or demand changes, and by an alarm of its own.

    Opening belongs to the pool: a caller who leaves neither stops nor leaks a connection that is being opened.
    """

    def __init__(
        self,
        host: Host[T],
        line: HandoffQueue[T],
        lifecycle: Lifecycle[T],
        counters: Counters,
        open_time: OpenTime,
    ) -> None:
        config = host.config
        self._host = host
        self._line = line
        self._lifecycle = lifecycle
        self._counters = counters
        self._open_time = open_time
        #: Invariant: size + opening <= max_size. A slot is taken before a factory is called, and given back after the
        #: connection is closed.
        self.slots = Slots(config.max_size)
        #: In the order they began.
        self.attempts: dict[Attempt, None] = {}
        self.epoch = 0
        self._is_closed = False
        self._alarm: asyncio.TimerHandle | None = None
        #: Total seconds and count of the leases that had ended when the line last formed.
        self._using_before = (0.0, 0)
        # Failure: all None while opening works
        self._backoff = Backoff(config.backoff_initial, config.backoff_max)
        self._retry_at = 0.0
        self._failing_since: float | None = None
        self._is_fatal = False
        #: Without its traceback: frames hold passwords.
        self.last_error: BaseException | None = None

    # -- what the pool tells and asks

    def line_forms(self) -> None:
        """Somebody has to wait: from now on, see how long leases last."""
        self._using_before = (self._counters.using.total, self._counters.using.count)

    def cover(self, now: float) -> float:
        """Until when a check that begins now may be counted on."""
        return now + self._open_time.cover(0, self._host.config.open_timeout)

    def patience(self) -> float:
        return self._open_time.patience(0.0)

    def is_down(self, alive: int, now: float) -> bool:
        """No connection exists and none can be had, as far as we know: waiting makes no sense."""
        if alive or self._failing_since is None:
            return False
        return (self._is_fatal and now < self._retry_at) or self._has_failed_for_long(now)

    def _has_failed_for_long(self, now: float) -> bool:
        limit = self._host.config.unavailable_after
        return self._failing_since is not None and limit is not None and now >= self._failing_since + limit

    def review(self, *, eager: bool = False) -> None:
        """Opens as many as are lacking now. `eager`: don't count on returns."""
        if self.slots.locked() and self._failing_since is None:
            return
        if self._is_closed or self._lifecycle.loop.is_closed():
            return
        now = self._host.now()
        demand = self._host.demand(now)
        if self._failing_since is None:
            for _ in range(self._lacking(demand, now, eager)):
                if not self._start(now):
                    break
        else:
            self._retry(demand, now)
        self._set_alarm(demand, now)

    def close(self) -> None:
        """Starts nothing any more, and cancels what is being opened."""
        self._is_closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        for attempt in self.attempts:
            attempt.is_over = True
            attempt.timer.cancel()
            attempt.task.cancel()

    # -- how many

    def _lacking(self, demand: Demand, now: float, eager: bool) -> int:
        config = self._host.config
        covering = sum(attempt.covers_until > now for attempt in self.attempts)
        age = self._age_of_oldest(now)
        for_the_line = opens_wanted(
            waiting=demand.waiting,
            coming=covering + demand.coming,
            leased=demand.leased,
            shares=config.max_shares,
            hold=self._hold(),
            opening=max(self._open_time.known or 0.0, age),
            stands_still=eager or now >= self._still_since() + self._open_time.patience(age),
        )
        return max(for_the_line, config.min_size - demand.alive - len(self.attempts))

    def _age_of_oldest(self, now: float) -> float:
        """Of the opens in flight: a lower bound of how long opening takes."""
        oldest = next(iter(self.attempts), None)
        return now - oldest.began_at if oldest else 0.0

    def _hold(self) -> float | None:
        """How long the leases last that ended since the line formed."""
        seconds, count = self._using_before
        ended = self._counters.using.count - count
        return (self._counters.using.total - seconds) / ended if ended else None

    def _still_since(self) -> float:
        head = self._line.head
        return self._line.moved_at if head is None else max(self._line.moved_at, head.since)

    def _retry(self, demand: Demand, now: float) -> None:
        """One attempt a step, whether or not the one before has ended."""
        if not demand.is_suspended and self.is_down(demand.alive, now):
            assert self.last_error is not None
            self._host.give_up(self.last_error)
        if now < self._retry_at or not self._is_wanted(demand, now):
            return
        if self._start(now):
            self._retry_at = now + self._backoff.next_delay()

    def _is_wanted(self, demand: Demand, now: float) -> bool:
        below_min = demand.alive + len(self.attempts) < self._host.config.min_size
        # While the pool is down nobody can wait: a probe a step shows newcomers the recovery.
        return below_min or self._host.is_awaited() or (not demand.alive and self._has_failed_for_long(now))

    def _set_alarm(self, demand: Demand, now: float) -> None:
        """Wakes us when the answer may be another one."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        due: list[float] = []
        if self._failing_since is not None:
            limit = self._host.config.unavailable_after
            gives_up_at = self._failing_since + limit if limit is not None else now
            if gives_up_at > now and not demand.alive:
                due.append(gives_up_at)
            if not self.slots.locked() and self._is_wanted(demand, max(now, self._retry_at)):
                due.append(self._retry_at)
        elif demand.waiting and not self.slots.locked():
            due += [attempt.covers_until for attempt in self.attempts if attempt.covers_until > now]
            if demand.coming_until is not None:
                due.append(demand.coming_until)
            patience_ends = self._still_since() + self._open_time.patience(self._age_of_oldest(now))
            if patience_ends > now:
                due.append(patience_ends)
        if due:
            delay = max(SHORTEST_TIMER, min(due) - now)
            self._alarm = self._lifecycle.loop.call_later(delay, _review, weakref.ref(self))

    # -- one attempt

    def _start(self, now: float) -> bool:
        config = self._host.config
        if config.max_opening is not None and len(self.attempts) >= config.max_opening:
            return False
        if not self.slots.acquire_nowait():
            return False
        hanging = sum(attempt.covers_until <= now for attempt in self.attempts)
        attempt = Attempt(now, now + self._open_time.cover(hanging, config.open_timeout), self.epoch)
        self.attempts[attempt] = None
        attempt.timer = self._lifecycle.loop.call_later(config.open_timeout, self._overdue, attempt)
        attempt.task = self._lifecycle.spawn(self._run(attempt), "opener")
        # A task that is cancelled before it starts does nothing at all.
        attempt.task.add_done_callback(lambda _: self._ended(attempt))
        return True

    async def _run(self, attempt: Attempt) -> None:
        try:
            connection, owner = await self._lifecycle.connect()
            if attempt.is_over:  # it came too late: nobody counts on it
                rest = self._lifecycle.begin_close(connection, owner, politely=True)
                if rest is not None:
                    await rest
            else:
                self._succeeded(attempt, connection, owner)
        except BaseException as exc:
            if not attempt.is_over:
                self._failed(attempt, exc)
            if not isinstance(exc, (Exception, asyncio.CancelledError)):
                raise
        finally:
            self._ended(attempt)

    def _ended(self, attempt: Attempt) -> None:
        """Without a connection, or its slot would have passed to that: give it back."""
        if attempt in self.attempts:
            del self.attempts[attempt]
            self.slots.release()
        attempt.timer.cancel()
        self.review()
        self._host.settled()

    def _succeeded(self, attempt: Attempt, connection: T, owner: Owner[T] | None) -> None:
        if self._failing_since is not None:
            log.info("pool %r: opening connections works again", self._host.name)
        self._failing_since = self.last_error = None
        self._is_fatal = False
        self._backoff.reset()
        seconds = self._host.now() - attempt.began_at
        self._open_time.learn(seconds)
        self._counters.opened += 1
        self._counters.opening.record(seconds)
        # The slot passes from the attempt to the connection, in one step.
        del self.attempts[attempt]
        self._host.admit(connection, owner, attempt)

    def _overdue(self, attempt: Attempt) -> None:
        """Failed now, though its task may take longer to notice; the slot stays taken until it really ends."""
        error = TimeoutError(f"opening took longer than open_timeout={self._host.config.open_timeout}s")
        self._failed(attempt, error)
        attempt.task.cancel()
        self.review()

    def _failed(self, attempt: Attempt, error: BaseException) -> None:
        attempt.is_over = True
        now = self._host.now()
        self._counters.open_failures += 1
        self.last_error = _without_tracebacks(error)
        if self._failing_since is None:
            self._failing_since = now
            self._retry_at = now + self._backoff.next_delay()
            log.warning("pool %r: opening a connection failed: %s; retrying", self._host.name, type(error).__name__)
        elif now >= self._retry_at:
            self._retry_at = now + self._backoff.next_delay()
        self._is_fatal = self._host.is_fatal(error)
        self._host.open_failed(self.last_error)


def _review(opener: weakref.ref[Opener[Any]]) -> None:
    """By a weak reference, so that an alarm doesn't keep a dropped pool alive."""
    if (target := opener()) is not None:
        target.review()


def _without_tracebacks(error: BaseException) -> BaseException:
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        exc = pending.pop()
        if exc is None or id(exc) in seen:
            continue
        seen.add(id(exc))
        exc.__traceback__ = None
        pending += [exc.__cause__, exc.__context__]
        if isinstance(exc, BaseExceptionGroup):
            pending += exc.exceptions
    return error
