"""What must hold after every step of the loop, and what must be true when all is over.

Looks into the pool for where things are, but not for what has happened: that it compares with the ledger.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

from aiopool import ConnectionPool
from aiopool.connection import Place, PooledConnection
from aiopool.pool import State
from aiopool.testing.server import SimulatedConnection
from tests.simulation.ledger import Attempt, Broken, WatchedServer

if TYPE_CHECKING:
    from aiopool.handoff import Waiter

TOLERANCE = 2e-6


class Rules:
    """Called after every step; raises `Broken`. On the side it cancels callers at the moments that were asked for."""

    def __init__(self, pool: ConnectionPool[SimulatedConnection], server: WatchedServer) -> None:
        self.pool, self.server, self.loop = pool, server, server.loop
        self.lateness = server.history.lateness
        #: By independent count: what became of the callers.
        self.outcomes = Counter[str]()
        #: Seconds that callers waited and held, and the length of each hold that has ended.
        self.waited = 0.0
        self.holds: list[float] = []
        #: When the pool stopped being open.
        self.closings: list[float] = []
        #: Callers between `acquire` and its outcome; callers that hold a lease.
        self.acquiring = 0
        self.holding = 0
        #: Leases that were dropped; the pool is told a little later.
        self.lost = 0
        #: Steps at which the pool was drained, and until when an older connection may still be lent.
        self.drains: list[tuple[int, float]] = []
        self.is_suspended = False
        self.close_deadline: float | None = None
        #: Calls of `open`, which undo what they began when they fail.
        self.being_opened = 0
        self.was_undone = False
        self.cancels: list[tuple[int, int, asyncio.Task[Any]]] = []
        self.cancelled: set[asyncio.Task[Any]] = set()
        self.cancel_when_served: list[asyncio.Task[Any]] = []
        self._numbers = itertools.count()
        self._line: list[Waiter[Any]] = []
        self._opening = 0
        self._uses: dict[PooledConnection[Any], int] = {}
        self._suspended_before = False
        self._state_before = State.NEW
        server.may_cancel = self._may_cancel_opening
        server.may_take = self._may_take
        server.room = self._room

    # -- cancelling

    def cancel_later(self, task: asyncio.Task[Any], steps: int) -> None:
        heapq.heappush(self.cancels, (self.loop.steps + steps, next(self._numbers), task))

    def _cancel_due(self) -> None:
        while self.cancels and self.cancels[0][0] <= self.loop.steps:
            self._cancel(heapq.heappop(self.cancels)[2])

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        if task.cancel():
            self.cancelled.add(task)

    # -- after every step

    def after_step(self) -> None:
        if self.cancels:
            self._cancel_due()
        if self.server.objections:
            raise Broken(self.server.objections[0])
        state = self.pool._state
        if state is State.OPEN or state is State.CLOSING:
            self._check_places()
            self._check_line()
        elif self._state_before is State.CLOSING or self._state_before is State.OPEN:
            self.is_suspended = False  # it ends with the pool's life
        if self._state_before is State.OPEN and state is not State.OPEN:
            self.closings.append(self.loop.time())
        self._suspended_before, self._state_before = self.is_suspended, state

    def _check_places(self) -> None:
        stock = self.pool._stock
        line, care = stock.line, stock.health.in_care
        closing = leases = 0
        for info in stock.connections:
            place = info.place
            if place is Place.LEASED:
                leases += info.leases
                is_right = info.leases > 0 and info not in care
            elif place is Place.IDLE:
                is_right = not info.leases and (info in line._queue or info.capacity == 0)
            elif place is Place.CHECKING or place is Place.RESETTING:
                is_right = not info.leases and info in care and info not in line._queue
            else:
                closing += 1
                is_right = place is Place.CLOSING and not info.leases and info not in line._queue
            if not is_right:
                raise Broken(f"{info} of {info.connection} is not in exactly one place")
            uses = self._uses.get(info)
            if uses is None or uses < info.use_count:
                self.lent(info)
            self._uses[info] = info.use_count
        opening = len(stock.opener.attempts)
        existing = len(stock.connections) + opening
        max_size = stock.config.max_size
        if closing != stock._closing:
            raise Broken(f"{closing} connections are closing, {stock._closing} are counted")
        if stock.opener.slots._value != max_size - existing:
            raise Broken(f"{stock.opener.slots._value} slots are free where {max_size} - {existing} should be")
        if existing > max_size and opening > self._opening:
            raise Broken(f"an opening began with {existing} connections where {max_size} are allowed")
        self._opening = opening
        is_short = leases < self.holding and not self.takes_back
        if is_short or leases > self.holding + self.acquiring + self.lost:
            raise Broken(f"{leases} leases are out, but {self.holding} are held and {self.acquiring} asked for")

    @property
    def takes_back(self) -> bool:
        """Whether connections may be, or have been, closed under their holders."""
        return bool(self.pool.config.max_hold or self.close_deadline or self.being_opened or self.was_undone)

    def _check_line(self) -> None:
        line, before = self.pool._line, self._line
        if not line.waiters and not before:
            return
        waiters = list(line.waiters)
        if len(waiters) > self.acquiring:
            raise Broken(f"{len(waiters)} are in the line, but {self.acquiring} callers ask")
        if before:
            left_behind = False
            for waiter in before:
                if waiter in line.waiters:
                    left_behind = True
                elif _is_served(waiter):
                    if left_behind:
                        raise Broken("somebody was served before one who came earlier")
                    self._cancel_the_served(waiter)
        known = set(before)
        if [w for w in before if w in line.waiters] + [w for w in waiters if w not in known] != waiters:
            raise Broken("the line is not in the order in which they came")
        self._line = waiters
        if waiters and not self.is_suspended and self._is_idle_and_good():
            raise Broken("somebody waits although a good connection is idle")

    def _is_idle_and_good(self) -> bool:
        now = self.loop.time()
        queue: list[PooledConnection[Any]] = self.pool._line._queue
        return any(now < info.fresh_until and info.leases < info.capacity for info in queue)

    def _cancel_the_served(self, waiter: Waiter[Any]) -> None:
        for task in self.cancel_when_served:
            if getattr(task, "_fut_waiter", None) is waiter.future:
                self.cancel_when_served.remove(task)
                self._cancel(task)
                return

    # -- when a connection is lent

    def lent(self, info: PooledConnection[SimulatedConnection]) -> None:
        """In the step in which a lease began."""
        connection, now, config = info.connection, self.loop.time(), self.pool.config
        account = self.server.accounts[connection]
        account.info = info
        self._uses[info] = info.use_count
        if not info.leases:
            return  # it was only opened
        hooks = self.server.history.hooks
        if (connection.is_closed or account.condemned) and not account.has_left:  # the pool is told in the next step
            raise Broken(f"{connection} was lent although {account.condemned or 'it is closed'}")
        if account.busy and not account.has_left:
            raise Broken(f"{connection} was lent during its {account.busy}")
        if self._suspended_before and self.is_suspended:
            raise Broken(f"{connection} was lent while the pool is suspended")
        if account.is_dirty and hooks & {"resetter", "quick resetter"} and info.leases == 1:
            raise Broken(f"{connection} was lent without a reset")
        if config.max_shares == 1 and account.held_since:
            raise Broken(f"{connection} was lent twice")
        if connection.is_out_of_step and config.max_shares == 1:
            raise Broken(f"{connection} was lent with somebody's answer in it")
        if info.leases > max(info.capacity, 1):
            raise Broken(f"{connection} carries {info.leases} leases where {info.capacity} fit")
        if config.max_uses is not None and config.max_shares == 1 and info.use_count > config.max_uses:
            raise Broken(f"{connection} was lent {info.use_count} times")
        if config.max_lifetime is not None and now > info.created_at + config.max_lifetime + TOLERANCE:
            raise Broken(f"{connection} was lent at the age of {now - info.created_at}")
        if hooks & {"validator", "quick validator"} and config.validate_after is not None and info.leases == 1:
            unproven_for = now - account.proven_at
            if unproven_for > config.validate_after + TOLERANCE:
                raise Broken(f"{connection} was lent unchecked, {unproven_for:.3f}s after it was proven")
        for step, deadline in self.drains:
            if account.asked_step < step and now > deadline + TOLERANCE:
                raise Broken(f"{connection} was lent although it was drained")

    # -- what the server asks

    def _room(self) -> int:
        """An opening that began before a shrink may still go on; the slots themselves are checked above."""
        stock = self.pool._stock
        return len(stock.connections) + len(stock.opener.attempts)

    def _may_cancel_opening(self, attempt: Attempt) -> bool:
        is_overdue = self.loop.time() >= attempt.began_at + self.pool.config.open_timeout - TOLERANCE
        return is_overdue or self.pool._state is not State.OPEN

    def _may_take(self, connection: SimulatedConnection) -> bool:
        account, now = self.server.accounts[connection], self.loop.time()
        is_undone = self.being_opened > 0 and self.pool._state is State.CLOSING
        if (
            account.has_left
            or is_undone
            or (self.close_deadline is not None and now >= self.close_deadline - TOLERANCE)
        ):
            return True
        hold = self.pool.config.max_hold
        return hold is not None and now >= max(account.held_since) + hold - TOLERANCE


def _is_served(waiter: Waiter[Any]) -> bool:
    future = waiter.future
    return future.done() and not future.cancelled() and isinstance(future.result(), PooledConnection)
