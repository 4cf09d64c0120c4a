"""`PooledConnection`: one connection, its birth, age, uses and place."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from math import inf
from typing import Any, Generic, TypeVar

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
        "use_count",
    )

    def __init__(
        self, connection: T, created_at: float, *, capacity: int = 1, owner: Any = None, lifetime: float = inf
    ) -> None:
        self.connection = connection
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

    def mark_used(self, now: float) -> None:
        """A lease begins."""
        self.place = Place.LEASED
        self.leases += 1
        self.use_count += 1
        self.last_used = now

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
