"""One line of waiting callers and one stack of idle connections: `HandoffQueue`."""

from __future__ import annotations

import asyncio
import weakref
from bisect import insort
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

from aiopool.connection import IDLE, LEASED, PooledConnection
from aiopool.errors import PoolError
from aiopool.policies.codel import CoDel

T = TypeVar("T")

_leases = attrgetter("leases")

#: Timers are set in differences of the clock's readings, and may be early by what is lost in that.
CLOCK_TOLERANCE = 1e-6


class Waiter(Generic[T]):
    """A caller in the line. Its future gets a connection, leased to it already, or the error that it is to raise."""

    __slots__ = ("deadline", "future", "since")

    def __init__(self, future: asyncio.Future[PooledConnection[T] | PoolError], since: float) -> None:
        self.future = future
        self.since = since
        #: Where the line itself watches over it.
        self.deadline: float | None = None


class Server(Protocol[T]):
    """Who owns the connections, and knows what to tell a caller who gets none."""

    now: Callable[[], float]

    def give_back(self, info: PooledConnection[T]) -> None: ...
    def timed_out(self, waiter: Waiter[T]) -> PoolError: ...
    def shed(self, waiter: Waiter[T]) -> PoolError: ...


class HandoffQueue(asyncio.LifoQueue[PooledConnection[T]]):
    """An `asyncio.LifoQueue` that hands over: what is put goes to the head of the line, and nobody overtakes it.

    The inherited queue only wakes a getter, so that whoever calls `get` before it runs takes the item (barging). Here
    ownership moves at the moment of the hand-off, and a waiter who is cancelled in that very turn gives it back.
    """

    #: In the order they came. A waiter leaves in O(1), so `waiting` is exact and 30,000 timeouts cost no scan.
    waiters: OrderedDict[Waiter[T], None]
    _queue: list[PooledConnection[T]]
    #: Last in, first out: what may be lent now, that is idle, or leased with room for more. Empty while anybody
    #: waits, but for connections that must be checked first, and while paused.
    stack: list[PooledConnection[T]]

    #: Set when the pool opens; before that nobody joins the line.
    server: Server[T]
    loop: asyncio.AbstractEventLoop

    def __init__(
        self, *, usual_timeout: float | None = None, codel: CoDel | None = None, is_shared: bool = False
    ) -> None:
        super().__init__()
        self._usual_timeout = usual_timeout
        self._alarm: asyncio.TimerHandle | None = None
        self.stack = []
        self._queue = self.stack  # what the inherited methods know it by
        self.waiters = OrderedDict()
        self._codel = codel
        self._is_paused = False
        self._is_shared = is_shared
        #: The stack, as long as a newcomer may take from its top; otherwise an empty list: one question, not three.
        self.top = self.stack
        #: What is put may simply go on top: nobody waits, nothing is paused or shared.
        self.is_calm = True
        #: When the line last moved.
        self.moved_at = float("-inf")
        self._look()

    @property
    def waiting(self) -> int:
        return len(self.waiters)

    @property
    def head(self) -> Waiter[T] | None:
        return next(iter(self.waiters), None)

    @property
    def lendable(self) -> list[PooledConnection[T]]:
        """A copy, the one to be lent next last."""
        return self.stack[:]

    # -- the stack

    def get_nowait(self) -> PooledConnection[T]:
        """Takes what is to be lent next; raises `asyncio.QueueEmpty` if there is none or if others wait for it."""
        try:
            return self.top.pop()
        except IndexError:
            raise asyncio.QueueEmpty from None

    def pop(self) -> PooledConnection[T]:
        """The same for those who wait."""
        return self.stack.pop()

    def put_back(self, item: PooledConnection[T]) -> None:
        """Undoes a `get_nowait`, or returns what was lent but has room for more."""
        if self._is_shared:  # the fullest is lent first, so that the others can go
            insort(self.stack, item, key=_leases)
        else:
            self.stack.append(item)

    def put_nowait(self, item: PooledConnection[T], now: float = 0.0) -> None:
        """To the head of the line, at the time `now`; what nobody waits for goes onto the stack."""
        if self.is_calm:
            item.place = IDLE
            self.stack.append(item)
            return
        self.moved_at = now
        if self.stack:
            self.discard(item)
        while self.waiters and not self._is_paused and item.leases < item.capacity:
            waiter = self._next_waiter(now)
            if waiter is not None:
                item.place = LEASED
                item.leases += 1
                item.use_count += 1
                item.last_used = now
                waiter.future.set_result(item)
        if not item.leases:
            item.place = IDLE
        if item.leases < item.capacity:
            self.put_back(item)

    def discard(self, item: PooledConnection[T]) -> None:
        """Takes that one off the stack, if it is there."""
        if item in self.stack:
            self.stack.remove(item)

    def move_to(self, server: Server[T], loop: asyncio.AbstractEventLoop) -> None:
        """The pool was opened, perhaps again and on another loop: what was timed before counts no more."""
        self.server, self.loop = server, loop
        self._alarm = None
        self.moved_at = float("-inf")
        if self._codel is not None:
            self._codel.start_afresh()

    # -- the line

    def line_up(self, now: float) -> Waiter[T]:
        waiter: Waiter[T] = Waiter(asyncio.Future(loop=self.loop), now)
        self.waiters[waiter] = None
        if len(self.waiters) == 1:
            self._look()
            if self._codel is not None:
                self._codel.line_is_empty()
        return waiter

    def bound(self, waiter: Waiter[T], timeout: float | None) -> asyncio.TimerHandle | None:
        """Refuses the waiter after so many seconds; returns a timer if it is to be cancelled when the waiting ends.

        With the usual timeout the line runs out of time in its own order, so one alarm at its head does for all.
        """
        if timeout is None:
            return None
        if timeout != self._usual_timeout:
            return self.loop.call_later(timeout, self.time_out, waiter)
        waiter.deadline = waiter.since + timeout
        if self._alarm is None:
            self._alarm = self.loop.call_later(timeout, _expire, weakref.ref(self))
        return None

    def expire(self) -> None:
        """Refuses those at the head whose time is up, and sets the alarm for the next."""
        self._alarm = None
        now = self.server.now() + CLOCK_TOLERANCE
        due = []
        for waiter in self.waiters:
            if waiter.deadline is None:
                continue
            if waiter.deadline > now:
                self._alarm = self.loop.call_later(waiter.deadline - now, _expire, weakref.ref(self))
                break
            due.append(waiter)
        for waiter in due:
            self.time_out(waiter)

    async def get(self) -> PooledConnection[T]:
        waiter = self.line_up(self.server.now())
        try:
            outcome = await waiter.future
        except BaseException:
            self.abandon(waiter)
            raise
        if isinstance(outcome, PoolError):
            raise outcome
        return outcome

    def leave(self, waiter: Waiter[T]) -> None:
        self.waiters.pop(waiter, None)
        if not self.waiters:
            self._look()

    def time_out(self, waiter: Waiter[T]) -> None:
        if not waiter.future.done():
            self.refuse(waiter, self.server.timed_out(waiter))

    def refuse(self, waiter: Waiter[T], error: PoolError) -> None:
        self.leave(waiter)
        if not waiter.future.done():
            waiter.future.set_result(error)

    def refuse_all(self, error: Callable[[Waiter[T]], PoolError]) -> None:
        for waiter in list(self.waiters):
            self.refuse(waiter, error(waiter))

    def shed_if_stuck(self, now: float) -> None:
        """For when nothing returns: refuses all who have waited too long, if the queue stands."""
        head = self.head
        if head is None or self._codel is None or self._is_paused:
            return
        if not self._codel.is_stuck(now, now - head.since):
            return
        for waiter in list(self.waiters):
            if now - waiter.since <= 2 * self._codel.target:
                break
            self.refuse(waiter, self.server.shed(waiter))

    @property
    def is_paused(self) -> bool:
        """Nothing is lent."""
        return self._is_paused

    def pause(self) -> None:
        self._is_paused = True
        self._look()

    def resume(self) -> None:
        self._is_paused = False
        self._look()
        if self._codel is not None:  # the wait until now says nothing about the load
            self._codel.start_afresh()

    @property
    def is_shared(self) -> bool:
        """Some connection carries several leases at once."""
        return self._is_shared

    def share(self) -> None:
        self._is_shared = True
        self.stack.sort(key=_leases)
        self._look()

    def _look(self) -> None:
        """Decides beforehand what the fast path may do."""
        is_open = not self.waiters and not self._is_paused
        self.top = self.stack if is_open else []
        self.is_calm = is_open and not self._is_shared

    def is_among_first(self, waiter: Waiter[T], count: int) -> bool:
        return any(other is waiter for other in islice(self.waiters, count))

    def _next_waiter(self, now: float) -> Waiter[T] | None:
        waiter, _ = self.waiters.popitem(last=False)
        if not self.waiters:
            self._look()
        if waiter.future.done():  # cancelled in this very turn
            return None
        if self._codel is not None:
            if self._codel.is_to_shed(now, now - waiter.since):
                waiter.future.set_result(self.server.shed(waiter))
                return None
            if not self.waiters:
                self._codel.line_is_empty()
        return waiter

    def abandon(self, waiter: Waiter[T]) -> None:
        """The waiter was cancelled: what it was handed in the same turn is the next one's."""
        self.leave(waiter)
        if waiter.future.done() and not waiter.future.cancelled():
            outcome = waiter.future.result()
            if isinstance(outcome, PooledConnection):
                self.server.give_back(outcome)


def _expire(line: weakref.ref[Any]) -> None:
    """By a weak reference, so that the alarm doesn't keep a dropped pool alive."""
    if (target := line()) is not None:
        target.expire()
