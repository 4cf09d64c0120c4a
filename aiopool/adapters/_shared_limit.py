"""`SharedLimit`: how many connections several pools may have together, and which of them gives way to which."""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Iterable
from math import inf
from typing import Generic, Protocol, TypeVar

from aiopool.connection import Place, PooledConnection
from aiopool.pool import ConnectionPool

T = TypeVar("T")


class Member(Protocol[T]):
    """One of the pools."""

    pool: ConnectionPool[T]
    connections: dict[T, PooledConnection[T]]

    @property
    def is_awaited(self) -> bool:
        """Somebody waits there for a connection."""
        ...


class SharedLimit(Generic[T]):
    """A place is taken before a connection is opened, and free again when it is closed.

    One that is idle gives way to one that is needed elsewhere, and so does one that comes back to a shorter wait.
    """

    def __init__(self, size: int, max_idle: int | None = None) -> None:
        self.size = size
        self._max_idle = sys.maxsize if max_idle is None else max_idle
        self.taken = 0
        self.members: weakref.WeakSet[Member[T]] = weakref.WeakSet()
        #: Openings that wait for a place, in the order they came, each with the time it began.
        self._parked: dict[asyncio.Future[None], tuple[Member[T], float]] = {}
        #: Connections that were sent away for them and are not gone yet.
        self._leaving: dict[T, PooledConnection[T]] = {}

    @property
    def is_reached(self) -> bool:
        return self.taken >= self.size

    def is_parked(self, member: Member[T]) -> bool:
        """Whether it waits for a place."""
        return any(other is member for other, _ in self._parked.values())

    async def enter(self, member: Member[T]) -> None:
        if not self.is_reached:
            self.taken += 1
            return
        loop = asyncio.get_running_loop()
        place = loop.create_future()
        self._parked[place] = (member, loop.time())
        self.review()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()
            raise
        finally:
            del self._parked[place]

    def leave(self, connection: T | None = None) -> None:
        self.taken -= 1
        if connection is not None:
            self._leaving.pop(connection, None)
        self.review()

    def gives_way(self, info: PooledConnection[T], member: Member[T], now: float) -> bool:
        """Whether this one, which comes back, is to go: there are too many, or others have waited for longer."""
        # After a shrink; what is too much for its own pool is closed by that.
        if self.taken > self.size and _staying(member) <= self.size < self._staying:
            return True
        if self._parked:
            since = next((since for other, since in self._wanting() if other is not member), now)
            waits_longer = now - since > member.pool.stats()["oldest_wait"]
            if waits_longer and self.is_reached and self._going(with_busy=info.leases > 0) < len(self._wanting()):
                self._leaving[info.connection] = info
                return True
        elif (
            self.taken > self._max_idle
            and len(self.members) > 1
            and sum(1 for _ in self._idle(besides=None)) >= self._max_idle
        ):
            self._dismiss_idle(besides=None)
        return False

    def review(self) -> None:
        """Places, first for those whose callers wait; if there is none, somebody idle goes, whose end leads here."""
        for place, (member, _) in sorted(self._parked.items(), key=lambda parked: not parked[1][0].is_awaited):
            if place.done():
                continue
            if not self.is_reached:
                self.taken += 1
                place.set_result(None)
            elif member.is_awaited and self._going(with_busy=False) < len(self._wanting()):
                self._dismiss_idle(besides=member)

    def resize(self, size: int) -> None:
        """After the pools have been resized."""
        self.size = size
        for _ in range(self._staying - size):
            self._dismiss_idle(besides=None)
        self.review()

    @property
    def _staying(self) -> int:
        return sum(_staying(member) for member in self.members)

    def _going(self, *, with_busy: bool) -> int:
        """Connections that were sent away; the busy ones may still serve somebody for as long as they like."""
        return sum(with_busy or not info.leases for info in self._leaving.values())

    def _wanting(self) -> list[tuple[Member[T], float]]:
        return [(member, since) for member, since in self._parked.values() if member.is_awaited]

    def _idle(self, besides: Member[T] | None) -> Iterable[tuple[PooledConnection[T], Member[T]]]:
        for member in self.members:
            if member is not besides:
                for info in member.connections.values():
                    if info.place is Place.IDLE:
                        yield info, member

    def _dismiss_idle(self, besides: Member[T] | None) -> None:
        longest = min(self._idle(besides), key=lambda one: one[0].last_used, default=None)
        if longest is not None:
            info, member = longest
            self._leaving[info.connection] = info
            member.pool.evict(info.connection)


def _staying(member: Member[T]) -> int:
    """Its connections that nobody has told to go."""
    return sum(info.expires_at != -inf for info in member.connections.values())
