"""`PooledConnection`: one connection, its birth, age, uses and place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from enum import Enum
from math import inf
from typing import Any, Generic, TypeVar, cast

from aiopool.stats import Reason

T = TypeVar("T")


class Place(Enum):
    """Where a connection is. It is in exactly one place, and each move is one synchronous step."""

    OPENING = "opening"
    IDLE = "idle"
    CHECKING = "checking"
    LEASED = "leased"
    RESETTING = "resetting"
    CLOSING = "closing"
    GONE = "gone"


#: For the fast path: looking a member up in its enum costs as much as a clock.
IDLE, LEASED = Place.IDLE, Place.LEASED


def finished(result: T, loop: asyncio.AbstractEventLoop) -> Coroutine[Any, Any, T]:
    """An awaitable of what is there already, to be awaited as often as one likes: a future that is done.

    `AbstractAsyncContextManager` wants coroutines to be returned, but nobody does more with them than to await.
    """
    future: asyncio.Future[T] = asyncio.Future(loop=loop)
    future.set_result(result)
    return cast("Coroutine[Any, Any, T]", future)


class PooledConnection(Generic[T]):
    """What a pool knows of one connection. Times are seconds on the pool's clock."""

    __slots__ = (
        "__weakref__",
        "_capacity",
        "_on_capacity",
        "connection",
        "covers_until",
        "created_at",
        "expires_as",
        "expires_at",
        "fresh_until",
        "last_used",
        "leases",
        "owner",
        "place",
        "ready",
        "use_count",
    )

    def __init__(
        self,
        connection: T,
        created_at: float,
        loop: asyncio.AbstractEventLoop,
        *,
        capacity: int = 1,
        owner: Any = None,
        lifetime: float = inf,
    ) -> None:
        self.connection = connection
        #: The same, to be awaited by whoever need not wait: see `Lender._released`.
        self.ready = finished(connection, loop)
        self.created_at = created_at
        #: When the running lease began or the last one ended; so a long use never counts as idleness.
        self.last_used = created_at
        self.use_count = 0
        self.place = Place.OPENING
        #: Leases held now. More than 0 exactly while `place` is LEASED.
        self.leases = 0
        self._capacity = capacity
        self._on_capacity: Callable[[PooledConnection[T]], None] | None = None
        #: From then on it is never lent again, and closed as soon as nobody holds it, for this reason.
        self.expires_at = created_at + lifetime
        self.expires_as = Reason.LIFETIME
        #: Until then it is lent without a check. Never later than `expires_at`.
        self.fresh_until = created_at
        #: While it is being checked or reset: until when a waiter may count on it.
        self.covers_until = created_at
        #: The task that entered its context manager and must leave it, if its factory gave one.
        self.owner = owner

    @property
    def capacity(self) -> int:
        """Leases it carries at once; may change while it lives (HTTP/2 SETTINGS)."""
        return self._capacity

    @capacity.setter
    def capacity(self, capacity: int) -> None:
        if not isinstance(capacity, int) or capacity < 0:
            raise ValueError(f"capacity={capacity!r} is not allowed: it must be a whole number, 0 or more")
        self._capacity = capacity
        if self._on_capacity is not None:
            self._on_capacity(self)

    def is_stale(self, max_idle: float, now: float) -> bool:
        """True if it has been idle for longer than `max_idle` seconds."""
        return self.leases == 0 and now - self.last_used > max_idle

    def expire(self, at: float, reason: Reason) -> None:
        """Ends its life at that time, unless it ends earlier anyway. The first reason stands."""
        if at < self.expires_at:
            self.expires_at, self.expires_as = at, reason
            self.fresh_until = min(self.fresh_until, at)

    def __repr__(self) -> str:
        return f"<PooledConnection {self.place.value} leases={self.leases} uses={self.use_count}>"
