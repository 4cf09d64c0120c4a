"""The worker that opens connections: under the semaphore, in parallel, with backoff when the backend is down."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from aiopool import events
from aiopool.config import PoolConfig
from aiopool.errors import PoolError
from aiopool.handoff import HandoffQueue
from aiopool.lifecycle import Lifecycle, Owner
from aiopool.policies.backoff import Backoff
from aiopool.policies.growth import OpenTime, opens_wanted
from aiopool.policies.outage import Outage
from aiopool.refusals import Refusals
from aiopool.stats import Counters

T = TypeVar("T")
SHORTEST_TIMER = 0.001

log = logging.getLogger("aiopool")


class Slots(asyncio.Semaphore):
    """How many connections may exist. Taken synchronously or not at all: nobody ever waits here."""

    def locked(self) -> bool:
        return self._value <= 0

    def acquire_nowait(self) -> bool:
        if self._value <= 0:
            return False
        self._value -= 1
        return True

    def resize(self, difference: int) -> None:
        """A shrink may leave fewer than none, until enough connections are closed."""
        self._value += difference


@dataclass(slots=True)
class Supply:
    """What the pool has at one moment, for those who wait."""

    #: Idle, checking, leased or resetting.
    alive: int
    leased: int
    #: Leases that could be granted at once, were the pool not suspended.
    withheld: int
    #: In check or in reset, and expected back soon; and when the first of them stops counting.
    coming: int
    coming_until: float | None


class Host(Protocol[T]):
    """What the opener needs of its pool."""

    name: str
    config: PoolConfig
    now: Callable[[], float]
    emit: Callable[..., None]

    def supply(self, now: float) -> Supply: ...
    def serve_line(self) -> None:
        """Idle connections for those who wait, then a review."""

    def is_fatal(self, error: BaseException) -> bool: ...
    def admit(self, connection: T, owner: Owner[T] | None, attempt: Attempt) -> None: ...
    def loop_ends(self) -> None:
        """Somebody else cancelled our task."""

    def settled(self) -> None:
        """An attempt has ended, whichever way, and its outcome is recorded."""


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

    def covers(self, now: float) -> bool:
        return now < self.covers_until and not self.is_over

    def end(self) -> None:
        self.is_over = True
        self.timer.cancel()


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
        refusals: Refusals,
        open_time: OpenTime,
    ) -> None:
        config = host.config
        self._host = host
        self._line = line
        self._lifecycle = lifecycle
        self._counters = counters
        self._refusals = refusals
        self._open_time = open_time
        #: Invariant: size + opening <= max_size. A slot is taken before a factory is called, and given back after the
        #: connection is closed.
        self.slots = Slots(config.max_size)
        #: In the order they began.
        self.attempts: dict[Attempt, None] = {}
        self.epoch = 0
        self.outage = Outage(Backoff(config.backoff_initial, config.backoff_max), config.unavailable_after)
        #: Those who wait in `open` for `min_size` connections, and since when.
        self._awaiting_min_size: dict[asyncio.Future[PoolError | None], float] = {}
        #: Total seconds and count of the leases that had ended when the line last formed.
        self._using_before = (0.0, 0)
        self._alarm: asyncio.TimerHandle | None = None
        self._is_closed = False

    def line_forms(self) -> None:
        """Somebody has to wait: from now on, see how long leases last."""
        self._using_before = (self._counters.using.total, self._counters.using.count)

    def cover(self, now: float) -> float:
        """Until when a check that begins now may be counted on."""
        return now + self._open_time.cover(0, self._host.config.open_timeout)

    def patience(self) -> float:
        return self._open_time.patience(self._age_of_oldest(self._host.now()))

    def await_min_size(self) -> asyncio.Future[PoolError | None]:
        """Done when so many connections stand, with None, or when they can't be had, with the error."""
        reached: asyncio.Future[PoolError | None] = self._lifecycle.loop.create_future()
        self._awaiting_min_size[reached] = self._host.now()
        self._tell_if_min_size(self._host.supply(self._host.now()).alive)
        self.review()
        return reached

    def was_stillborn(self) -> None:
        """What was opened has ended before its first use: back off, or we would open in a circle."""
        error = ConnectionError("the connection ended by itself before it was used")
        self.outage.failed(self._host.now(), error, is_fatal=False)

    def is_hopeless(self, now: float, deadline: float) -> bool:
        """Whether a caller who can wait until then would wait in vain.

        Asking makes the next attempt come sooner, and the attempt under way is worth waiting for: or else, after an
        outage, all would be refused for as long as a whole step and an opening.
        """
        self._forget_what_is_stale(now)
        if not self.outage.is_hopeless(now):
            return False
        if not self._is_trying(now):
            self.outage.asked()
            self.review()
        return not any(attempt.covers(now) and attempt.covers_until <= deadline for attempt in self.attempts)

    def _is_trying(self, now: float) -> bool:
        return any(attempt.covers(now) for attempt in self.attempts)

    def review(self, *, eager: bool = False) -> None:
        """Opens as many as are lacking now. `eager`: don't count on returns."""
        if self.outage.since is None and not self._line.stack and self.slots.locked():
            return
        if self._is_closed or self._lifecycle.loop.is_closed():
            return
        now = self._host.now()
        supply = self._host.supply(now)
        self._tell_if_min_size(supply.alive)
        self._forget_what_is_stale(now)
        if self.outage.since is None:
            for _ in range(self._lacking(supply, now, eager)):
                if not self._start(now):
                    break
        else:
            self._retry(supply, now)
        self._set_alarm(supply, now)

    def _forget_what_is_stale(self, now: float) -> None:
        if not self.attempts:
            self.outage.forget_if_stale(now)

    def close(self) -> None:
        """Starts nothing any more, and cancels what is being opened."""
        self._is_closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        self._tell_awaiting(lambda _: self._refusals.closed())
        for attempt in self.attempts:
            attempt.end()
            attempt.task.cancel()

    # -- how many

    def _lacking(self, supply: Supply, now: float, eager: bool) -> int:
        config = self._host.config
        covering = sum(attempt.covers(now) for attempt in self.attempts)
        for_the_line = opens_wanted(
            waiting=self._line.waiting - supply.withheld,
            coming=covering + supply.coming,
            leased=supply.leased,
            in_flight=len(self.attempts),
            shares=config.max_shares,
            hold=self._hold(),
            opening=max(self._open_time.known or 0.0, self._age_of_oldest(now)),
            stands_still=eager or now >= self._patience_ends(),
        )
        return max(for_the_line, config.min_size - supply.alive - len(self.attempts))

    def _hold(self) -> float | None:
        """How long the leases last that ended since the line formed."""
        seconds, count = self._using_before
        ended = self._counters.using.count - count
        return (self._counters.using.total - seconds) / ended if ended else None

    def _patience_ends(self) -> float:
        head = self._line.head
        return max(self._line.moved_at, head.since if head else self._line.moved_at) + self.patience()

    def _age_of_oldest(self, now: float) -> float:
        """Of the opens in flight: a lower bound of how long opening takes."""
        oldest = next(iter(self.attempts), None)
        return now - oldest.began_at if oldest else 0.0

    def _retry(self, supply: Supply, now: float) -> None:
        # Who came after the first refusal waits for the attempt under way, and is told by its outcome.
        is_awaited = self.outage.is_told and self._is_trying(now)
        if self.outage.is_hopeless(now) and not is_awaited and not supply.alive and not self._line.is_paused:
            self._give_up(now)
        if now >= self.outage.retry_at and self._is_wanted(supply, now) and self._start(now):
            self.outage.tried(now)

    def _is_wanted(self, supply: Supply, now: float) -> bool:
        below_min = supply.alive + len(self.attempts) < self._host.config.min_size
        is_awaited = self._line.waiting > 0 or bool(self._awaiting_min_size)
        # While the pool is down nobody can wait: a probe a step shows newcomers the recovery.
        return below_min or is_awaited or (not supply.alive and self.outage.is_long(now))

    def _set_alarm(self, supply: Supply, now: float) -> None:
        """Wakes us when the answer may be another one."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        outage, due = self.outage, []
        if outage.since is not None:
            if outage.gives_up_at is not None and outage.gives_up_at > now and not supply.alive:
                due.append(outage.gives_up_at)
            elif self._line.waiting:
                due += [attempt.covers_until for attempt in self.attempts if attempt.covers(now)]
            if not self.slots.locked() and self._is_wanted(supply, max(now, outage.retry_at)):
                due.append(outage.retry_at)
        elif self._line.waiting and (self._line.stack or not self.slots.locked()):
            due = [attempt.covers_until for attempt in self.attempts if attempt.covers(now)]
            due += [date for date in (supply.coming_until, self._patience_ends()) if date is not None and date > now]
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
        attempt.timer = self._lifecycle.loop.call_later(
            config.open_timeout, self._overdue, attempt, context=self._lifecycle.context
        )
        attempt.task = self._lifecycle.spawn(self._run(attempt), "opener")
        # A task that is cancelled before it starts does nothing at all.
        attempt.task.add_done_callback(lambda _: self._ended(attempt))
        return True

    async def _run(self, attempt: Attempt) -> None:
        lifecycle, unwanted = self._lifecycle, None
        try:
            connection, owner = unwanted = await lifecycle.connect()
            if not attempt.is_over:  # what comes too late would hang there with nobody to cancel it
                await lifecycle.configure(connection)
            if not attempt.is_over:
                unwanted = None
                self._succeeded(attempt, connection, owner)
        except BaseException as exc:
            if isinstance(exc, asyncio.CancelledError) and attempt.task.cancelling() and not attempt.is_over:
                self._host.loop_ends()
            if not attempt.is_over:
                self._failed(attempt, exc)
            if not isinstance(exc, (Exception, asyncio.CancelledError)):
                raise
        finally:
            if unwanted is not None:
                await lifecycle.close(*unwanted)
            self._ended(attempt)

    def _succeeded(self, attempt: Attempt, connection: T, owner: Owner[T] | None) -> None:
        if self.outage.since is not None:
            log.info("pool %r: opening connections works again", self._host.name)
        self.outage.is_over()
        seconds = self._host.now() - attempt.began_at
        self._open_time.learn(seconds)
        self._counters.opened += 1
        self._counters.opening.record(seconds)
        # The slot passes from the attempt to the connection, in one step.
        attempt.end()
        del self.attempts[attempt]
        # Those that began before now hang, or take much longer than they should: they have covered for long enough.
        covered_until = self.cover(attempt.began_at)
        for other in self.attempts:
            other.covers_until = min(other.covers_until, max(covered_until, self.cover(other.began_at)))
        self._host.admit(connection, owner, attempt)
        self._tell_if_min_size(self._host.supply(self._host.now()).alive)

    def _overdue(self, attempt: Attempt) -> None:
        """Failed now, though its task may take longer to notice; the slot stays taken until it really ends."""
        self._failed(attempt, TimeoutError(f"opening took longer than open_timeout={self._host.config.open_timeout}s"))
        attempt.task.cancel()

    def _failed(self, attempt: Attempt, error: BaseException) -> None:
        attempt.end()
        now = self._host.now()
        self._counters.open_failures += 1
        is_fatal = self._host.is_fatal(error)
        if self.outage.failed(now, error, is_fatal=is_fatal):
            outlook = "trying again will hardly help" if is_fatal else "retrying"
            self._log(
                logging.WARNING,
                "pool %r: opening a connection failed: %s; %s",
                self._host.name,
                type(error).__name__,
                outlook,
            )
        self._host.emit(events.OpenFailed, error)
        if self.outage.is_hopeless(now):
            self._tell_awaiting(lambda since: self._refusals.unavailable(now - since, error))
        self.review()

    def _ended(self, attempt: Attempt) -> None:
        """If it has no connection that its slot has passed to, the slot is free again."""
        if attempt in self.attempts:
            del self.attempts[attempt]
            self.slots.release()
        self.review()
        self._host.settled()

    def _log(self, level: int, message: str, *details: object) -> None:
        """Where callers are told of each failure at once, the log need not repeat it."""
        log.log(logging.DEBUG if self._host.config.unavailable_after == 0 else level, message, *details)

    # -- those who wait

    def _give_up(self, now: float) -> None:
        """Nothing can be had, as far as we know: whoever waits shall not wait for another attempt."""
        error = self.outage.error
        if not self.outage.is_told and error is not None:
            self.outage.is_told = True
            self._log(logging.ERROR, "pool %r is unavailable: %s", self._host.name, type(error).__name__)
            self._host.emit(events.Unavailable, error)
        self._line.refuse_all(lambda waiter: self._refusals.unavailable(now - waiter.since, error))
        self._tell_awaiting(lambda since: self._refusals.unavailable(now - since, error))

    def _tell_if_min_size(self, alive: int) -> None:
        if self._awaiting_min_size and alive >= self._host.config.min_size:
            self._tell_awaiting(None)

    def _tell_awaiting(self, error: Callable[[float], PoolError] | None) -> None:
        awaiting, self._awaiting_min_size = self._awaiting_min_size, {}
        for reached, since in awaiting.items():
            if not reached.done():
                reached.set_result(error(since) if error else None)


def _review(opener: weakref.ref[Any]) -> None:
    """By a weak reference, so that an alarm doesn't keep a dropped pool alive."""
    if (target := opener()) is not None:
        target._host.serve_line()
