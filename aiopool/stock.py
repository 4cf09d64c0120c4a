"""`Stock`: the connections of an open pool, and the owner of every move that they make from place to place.

Each method is one synchronous step: it decides and records without an `await` in between, so that at any moment each
connection is in exactly one place. What takes time runs in the background and comes back through `give` or `retire`.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, Generic, TypeVar

from aiopool import events
from aiopool.config import PoolConfig
from aiopool.connection import Place, PooledConnection
from aiopool.errors import Phase, PoolError
from aiopool.handoff import HandoffQueue, Waiter
from aiopool.health import Health
from aiopool.lifecycle import Lifecycle, Owner
from aiopool.opener import Attempt, Opener, Supply
from aiopool.policies.growth import OpenTime
from aiopool.policies.lifetime import draw_lifetime
from aiopool.refusals import Refusals
from aiopool.stats import Counters, Gauges, Reason
from aiopool.watch import Watch, Watches

T = TypeVar("T")

#: Torn down rather than closed politely: the peer may be dead, or somebody may still be using it.
_ABRUPT = {Reason.INVALID, Reason.BROKEN, Reason.RECLAIMED, Reason.LOST, Reason.RESET_FAILED}

#: A context manager that ends by itself sooner than this, in seconds, and unused, has not really opened.
STILLBORN = 1.0

log = logging.getLogger("aiopool")


class Stock(Generic[T]):
    """Lives from one `open` to the `close` after it, on one event loop."""

    def __init__(
        self,
        name: str,
        config: PoolConfig,
        *,
        now: Callable[[], float],
        line: HandoffQueue[T],
        lifecycle: Lifecycle[T],
        counters: Counters,
        refusals: Refusals,
        open_time: OpenTime,
        is_fatal: Callable[[BaseException], bool],
        emit: Callable[..., None],
        features_changed: Callable[[], None],
    ) -> None:
        self.name = name
        self.config = config
        self.now = now
        self.line = line
        self.lifecycle = lifecycle
        self.counters = counters
        self.emit = emit
        self._refusals = refusals
        self._judge_fatal = is_fatal
        self._features_changed = features_changed
        #: Every connection that was opened and is not closed yet, in the order of opening: `size` of them.
        self.connections: dict[PooledConnection[T], None] = {}
        self._closing = 0
        #: There were more than `max_size` when last seen: what comes back is closed.
        self.is_shrinking = False
        self._is_closed = False
        #: Done when the last connection of a closing pool is gone.
        self.emptied: asyncio.Future[None] = lifecycle.loop.create_future()
        line.move_to(self, lifecycle.loop)
        self.watches: Watches[T] = Watches(name, config, counters, emit, self._reclaim)
        self.opener: Opener[T] = Opener(self, line, lifecycle, counters, refusals, open_time)
        self.health: Health[T] = Health(self, line, lifecycle)
        self.opener.review()

    # -- how many

    @property
    def alive(self) -> int:
        """Idle, in check, leased or in reset."""
        return len(self.connections) - self._closing

    @property
    def in_use(self) -> int:
        return sum(info.leases for info in self.connections)

    @property
    def available(self) -> int:
        return sum(info.capacity - info.leases for info in self.line.lendable)

    @property
    def surplus(self) -> int:
        """Connections above `min_size`."""
        return self.alive - self.config.min_size

    @property
    def _oversize(self) -> int:
        """Connections above `max_size`, after a shrink."""
        staying = sum(info.expires_at != -inf for info in self.connections)
        return staying + len(self.opener.attempts) - self.config.max_size

    def supply(self, now: float) -> Supply:
        coming = [info.covers_until for info in self.health.in_care if info.covers_until > now]
        return Supply(
            alive=self.alive,
            leased=self.in_use,
            withheld=self.available if self.line.is_paused else 0,
            coming=len(coming),
            coming_until=min(coming, default=None),
        )

    def gauges(self) -> Gauges:
        now = self.now()
        began = [info.last_used for info in self.connections if info.leases]
        oldest_lease = self.watches.oldest() or min(began, default=now)
        head = self.line.head
        return {
            "size": len(self.connections),
            "available": self.available,
            "in_use": self.in_use,
            "opening": len(self.opener.attempts),
            "waiting": self.line.waiting,
            "acquired": self.counters.acquired_before + sum(info.use_count for info in self.connections),
            "oldest_wait": now - head.since if head else 0.0,
            "oldest_lease": now - oldest_lease,
        }

    # -- callers who have to wait

    def refusal(self, now: float, deadline: float) -> PoolError | None:
        """For one more, who can wait until `deadline`, if waiting makes no sense."""
        if self._is_closed:
            return self._refusals.closed()
        outage, limit = self.opener.outage, self.config.max_waiting
        is_down = outage.since is not None and not self.alive and not self.line.is_paused
        if is_down and self.opener.is_hopeless(now, deadline):
            return self._refusals.unavailable(0.0, outage.error)
        if limit is not None:
            # Callers beyond what the pool can carry at all: only they queue for a return.
            room = self.config.max_size - len(self.connections)
            carries = room * self.config.max_shares + sum(max(i.capacity, i.leases) for i in self.connections)
            if self.line.waiting + self.in_use + 1 - carries > limit:
                return self._refusals.full(limit)
        return None

    def serve_line(self, *, eager: bool = False) -> None:
        """What is idle for those who wait: at once if it is fresh, else after a check; and new ones for the rest."""
        if self.line.stack:
            self._serve_from_stack()
        self.opener.review(eager=eager)

    def _serve_from_stack(self) -> None:
        line, now, stale = self.line, self.now(), []
        while line.waiters and line.stack and not line.is_paused:
            info = line.pop()
            if now >= info.expires_at:
                self.retire(info, info.expires_as)
            elif now < info.fresh_until or info.leases:
                self.pass_on(info, now)
            elif line.waiting > self.health.checks_to_count_on(now):
                self.health.check(info)
            else:
                stale.append(info)
                if not line.is_shared:  # the others are staler still
                    break
        for info in reversed(stale):
            line.put_back(info)

    def timed_out(self, waiter: Waiter[T]) -> PoolError:
        phase: Phase = "wait"
        if self.line.is_among_first(waiter, self.health.checking):
            phase = "validate"
        elif not self.alive:
            phase = "open"
        waited, cause = self.now() - waiter.since, self.opener.outage.error
        return self._refusals.timed_out(phase, waited, cause, is_suspended=self.line.is_paused)

    def shed(self, waiter: Waiter[T]) -> PoolError:
        return self._refusals.overloaded(self.now() - waiter.since, self.config.shed_target or 0.0)

    # -- a connection comes

    def admit(self, connection: T, owner: Owner[T] | None, attempt: Attempt) -> None:
        """From opening to the head of the line, or to idle."""
        now, config = self.now(), self.config
        lifetime = draw_lifetime(config.max_lifetime, config.lifetime_jitter)
        info = PooledConnection(
            connection, now, self.lifecycle.loop, capacity=config.max_shares, owner=owner, lifetime=lifetime
        )
        this = weakref.ref(self)  # an open context manager must not keep a dropped pool alive
        info._on_capacity = lambda info: stock.capacity_changed(info) if (stock := this()) else None
        if owner is not None:
            owner.task.add_done_callback(lambda _: _owner_ended(this, info))
        self.connections[info] = None
        self.emit(events.Opened, info, now - attempt.began_at)
        if attempt.epoch == self.opener.epoch:
            self.give(info, now)
        else:
            self.retire(info, Reason.DRAINED)

    def give(self, info: PooledConnection[T], now: float) -> None:
        """It was proven good just now."""
        fresh_for = self.lifecycle.fresh_for
        info.fresh_until = info.expires_at if fresh_for is None else min(info.expires_at, now + fresh_for)
        self.pass_on(info, now)

    def pass_on(self, info: PooledConnection[T], now: float) -> None:
        """To the head of the line, or to idle, unless its time is up or there are too many."""
        if now >= info.expires_at:
            self.retire(info, info.expires_as)
        elif self.is_shrinking and self._shrinks(info):
            pass
        else:
            self.line.put_nowait(info, now)
            if info.place is Place.IDLE and self._are_too_many_idle():  # those who waited may have gone in this turn
                self.retire(info, Reason.IDLE)

    def give_back(self, info: PooledConnection[T]) -> None:
        """Handed to a caller who, in that very turn, was cancelled or found the pool closed: it was never used."""
        if info.place is Place.GONE:
            self.counters.acquired_before -= 1
        else:
            info.use_count -= 1
        if info.place is Place.LEASED:
            info.leases -= 1
            now = self.now()
            if not info.leases:
                self.line.discard(info)  # it had room for more
            # Others may have made use of a shared one meanwhile, and have left the reset to the last.
            is_clean = info.leases or not self.line.is_shared or not self.lifecycle.can_reset
            if is_clean or self.reset(info, now):
                self.pass_on(info, now)

    def reset(self, info: PooledConnection[T], now: float) -> bool:
        """Cleans what comes back. True if it is clean already; otherwise it comes back by itself, or is retired."""
        if self.lifecycle.is_ending:
            self.retire(info, Reason.RESET_FAILED)
            return False
        try:
            rest = self.lifecycle.begin_reset(info.connection)
        except (Exception, asyncio.CancelledError) as exc:
            log.debug("pool %r: a reset failed: %s", self.name, type(exc).__name__)
            self.retire(info, Reason.RESET_FAILED)
            return False
        if rest is None:
            return True
        self.health.reset(info, rest, covers_until=now + self.opener.patience())
        return False

    def capacity_changed(self, info: PooledConnection[T]) -> None:
        """It carries more leases, or fewer, from now on."""
        if info.capacity != 1 and not self.line.is_shared:
            self.line.share()
            self._features_changed()
        if info.place is Place.IDLE or info.leases:
            self.line.discard(info)
            if info.leases < info.capacity and self.now() < info.expires_at:
                self.line.put_back(info)
                self.serve_line()

    def _are_too_many_idle(self) -> bool:
        limit = self.config.max_idle
        return limit is not None and len(self.line.stack) > limit and self.surplus > 0 and not self.line.waiters

    # -- a connection goes

    def retire(self, info: PooledConnection[T], reason: Reason, *, abruptly: bool = False) -> None:
        """Never lent again: closed now, or when its last lease is back."""
        self.line.discard(info)
        info.expire(-inf, reason)
        if info.leases or info.place in (Place.CLOSING, Place.GONE):
            return
        info.place = Place.CLOSING
        self._closing += 1
        politely = not abruptly and reason not in _ABRUPT
        rest = self.lifecycle.begin_close(info.connection, info.owner, politely=politely)
        if rest is None:
            self._gone(info)
        else:
            self.lifecycle.spawn_surely(self._close(info, rest), "close")
            self.opener.review()

    def retire_from_anywhere(self, info: PooledConnection[T], reason: Reason) -> None:
        """Retires what is idle now; what is leased, in check or in reset when it comes back."""
        if info.place is Place.IDLE:
            self.retire(info, reason)
        elif info.place is not Place.GONE:
            self.line.discard(info)
            info.expire(-inf, reason)

    async def _close(self, info: PooledConnection[T], rest: Coroutine[Any, Any, None]) -> None:
        try:
            await rest
        finally:
            self._gone(info)

    def _gone(self, info: PooledConnection[T]) -> None:
        """Closed: only now its slot is free."""
        if info.place is Place.GONE:
            return
        info.place = Place.GONE
        self._closing -= 1
        del self.connections[info]
        self.counters.acquired_before += info.use_count
        self.counters.closed_by[info.expires_as] += 1
        self.opener.slots.release()
        self.emit(events.Closed, info, info.expires_as)
        self.opener.review()
        self.settled()

    def evict(self, connection: T) -> None:
        """That one is dead or unwanted."""
        for info in list(self.connections):
            if info.connection is connection:
                self.retire_from_anywhere(info, Reason.BROKEN)

    def retire_broken(self, info: PooledConnection[T], error: BaseException | None) -> None:
        self.retire(info, Reason.BROKEN)
        if isinstance(error, (ConnectionError, EOFError)):
            self.found_dead()

    def found_dead(self) -> None:
        """The other idle ones may be dead as well: check them now, before callers find out one by one."""
        if self.lifecycle.can_validate and not self._is_closed and self.line.stack:
            self.lifecycle.spawn(self.health.check_all(self.line.lendable), "sweep")

    def _reclaim(self, watch: Watch[T]) -> None:
        self._take_from_holder(watch.info, watch.since, Reason.RECLAIMED)

    def lost(self, info: PooledConnection[T], watch: Watch[T] | None) -> None:
        """A lease was garbage-collected while it was held."""
        if info.place is Place.LEASED and not (watch is not None and watch.is_reclaimed):
            self.counters.leaks += 1
            if watch is not None:
                self.watches.forget(watch)
            self._take_from_holder(info, watch.since if watch else info.last_used, Reason.LOST)

    def _take_from_holder(self, info: PooledConnection[T], began: float, reason: Reason) -> None:
        self.counters.using.record(self.now() - began)
        info.leases -= 1
        self.retire(info, reason)

    # -- all at once

    def drain(self, over: float) -> None:
        """Replaces what exists and, by the epoch, what is being opened. Only the idle need to be spread."""
        self.opener.epoch += 1
        now = self.now()
        idle = {info: None for info in self.line.lendable if not info.leases} if over > 0 else {}
        for n, info in enumerate(idle, start=1):
            info.expire(now + over * n / len(idle), Reason.DRAINED)
        for info in list(self.connections):
            if info not in idle:
                self.retire_from_anywhere(info, Reason.DRAINED)
        self.health.wake()

    def resize(self, config: PoolConfig) -> None:
        self.opener.slots.resize(config.max_size - self.config.max_size)
        self.config = config
        for info in self.line.lendable:
            if not info.leases and not self._shrinks(info) and self._are_too_many_idle():
                self.retire(info, Reason.IDLE)
        self.is_shrinking = self._oversize > 0
        self.health.wake()
        self.serve_line()

    def _shrinks(self, info: PooledConnection[T]) -> bool:
        """Closes that one if there are too many."""
        self.is_shrinking = self._oversize > 0
        if self.is_shrinking:
            self.retire(info, Reason.SHRUNK)
        return self.is_shrinking

    def close(self) -> None:
        """Closes what nobody holds; what is leased is closed when it comes back."""
        self._is_closed = True
        self.line.refuse_all(lambda _: self._refusals.closed())
        self.opener.close()
        self.health.close()
        for info in list(self.connections):
            self.retire_from_anywhere(info, Reason.POOL_CLOSED)
        self.settled()

    def terminate(self) -> None:
        """Closes what is still leased, under its holders, and what is in reset."""
        self.health.terminate()
        for info in list(self.connections):
            if info.place is Place.LEASED:
                info.leases = 0
                self.retire(info, Reason.POOL_CLOSED, abruptly=True)

    def give_up(self) -> None:
        """What can't be closed is not counted any more."""
        for info in list(self.connections):
            self._gone(info)

    def loop_ends(self) -> None:
        """Somebody cancels the pool's own tasks, as `asyncio.run` does at its end: no time is left for anything."""
        self.lifecycle.is_ending = True
        self.close()
        self.health.terminate()

    def abandon(self) -> None:
        """The loop is closed with the pool open: connections are torn down, nothing can be awaited any more."""
        self._is_closed = self.lifecycle.is_ending = True
        self.line.waiters.clear()
        self.opener.attempts.clear()
        self.health.in_care.clear()
        for info in list(self.connections):
            info.leases = 0
            self.retire(info, Reason.POOL_CLOSED)
        self.lifecycle.tasks.clear()

    def settled(self) -> None:
        if self._is_closed and not self.connections and not self.opener.attempts and not self.emptied.done():
            self.emptied.set_result(None)

    def is_fatal(self, error: BaseException) -> bool:
        try:
            return bool(self._judge_fatal(error))
        except (Exception, asyncio.CancelledError) as exc:
            log.warning("pool %r: is_fatal raised %s", self.name, type(exc).__name__)
            return False


def _owner_ended(stock: weakref.ref[Any], info: PooledConnection[Any]) -> None:
    """The context manager of a connection has ended. If the pool did not ask for it, the connection is dead."""
    target = stock()
    if target is not None and info.place not in (Place.CLOSING, Place.GONE):
        if info.use_count == 0 and target.now() - info.created_at < STILLBORN:
            target.opener.was_stillborn()
        target.retire_from_anywhere(info, Reason.LOST)
