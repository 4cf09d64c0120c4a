"""`Limit`: how many connections may exist over all origins, and who gives way to whom."""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Iterable
from typing import Protocol

from aiopool.adapters._http_wire import Wire
from aiopool.connection import Place, PooledConnection
from aiopool.pool import ConnectionPool


class Origin(Protocol):
    """What the limit needs to know of one."""

    limit: Limit
    pool: ConnectionPool[Wire]
    wires: dict[Wire, PooledConnection[Wire]]

    @property
    def is_awaited(self) -> bool:
        """Somebody waits there for a connection."""
        ...

    @property
    def staying(self) -> int:
        """Its connections that are not on their way out."""
        ...


class Limit:
    """How many connections may exist over all origins.

    One that is idle gives way to one that is needed elsewhere, and so does one that comes back to a shorter wait.
    """

    def __init__(self, size: int, max_idle: int | None) -> None:
        self.size = size
        self._max_idle = sys.maxsize if max_idle is None else max_idle
        self.taken = 0
        self.origins: weakref.WeakSet[Origin] = weakref.WeakSet()
        #: Openings that wait for a place, in the order they came, each with the time it began.
        self._parked: dict[asyncio.Future[None], tuple[Origin, float]] = {}
        #: Connections that were sent away for them and are not gone yet.
        self._leaving: dict[Wire, PooledConnection[Wire]] = {}

    def anew(self, origins: Iterable[Origin]) -> Limit:
        """The same with all places free."""
        limit = Limit(self.size, self._max_idle)
        for origin in origins:
            limit.origins.add(origin)
            origin.limit = limit
        return limit

    @property
    def is_reached(self) -> bool:
        return self.taken >= self.size

    async def enter(self, origin: Origin) -> None:
        if not self.is_reached:
            self.taken += 1
            return
        loop = asyncio.get_running_loop()
        place = loop.create_future()
        self._parked[place] = (origin, loop.time())
        self.review()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()
            raise
        finally:
            self._parked.pop(place, None)

    def leave(self, wire: Wire | None = None) -> None:
        self.taken -= 1
        if wire is not None:
            self._leaving.pop(wire, None)
        self.review()

    def released(self, info: PooledConnection[Wire], origin: Origin, now: float) -> bool:
        """Whether this one is to go: there are too many, or somebody at another origin has waited for longer."""
        # After a shrink; what is too much for its own pool is closed by that.
        if self.taken > self.size and origin.staying <= self.size < self._staying:
            return True
        if self._parked:
            since = next((since for other, since in self._wanting() if other is not origin), now)
            waits_longer = now - since > origin.pool.stats()["oldest_wait"]
            if waits_longer and self.is_reached and self._going(with_busy=info.leases > 0) < len(self._wanting()):
                self._leaving[info.connection] = info
                return True
        elif (
            self.taken > self._max_idle
            and len(self.origins) > 1
            and sum(1 for _ in self._idle(besides=None)) >= self._max_idle
        ):
            self._dismiss_idle(besides=None)
        return False

    def review(self) -> None:
        """Places, first for those whose callers wait; if there is none, somebody idle goes, whose end leads here."""
        for place, (origin, _) in sorted(self._parked.items(), key=lambda parked: not parked[1][0].is_awaited):
            if place.done():
                continue
            if not self.is_reached:
                self.taken += 1
                place.set_result(None)
            elif origin.is_awaited and self._going(with_busy=False) < len(self._wanting()):
                self._dismiss_idle(besides=origin)

    def resize(self, size: int) -> None:
        """After the pools have been resized."""
        self.size = size
        for _ in range(self._staying - size):
            self._dismiss_idle(besides=None)
        self.review()

    @property
    def _staying(self) -> int:
        return sum(origin.staying for origin in self.origins)

    def _going(self, *, with_busy: bool) -> int:
        """Connections that were sent away; the busy ones may still serve somebody for as long as they like."""
        return sum(with_busy or not info.leases for info in self._leaving.values())

    def _wanting(self) -> list[tuple[Origin, float]]:
        return [(origin, since) for origin, since in self._parked.values() if origin.is_awaited]

    def _idle(self, besides: Origin | None) -> Iterable[tuple[PooledConnection[Wire], Origin]]:
        for origin in self.origins:
            if origin is not besides:
                for info in origin.wires.values():
                    if info.place is Place.IDLE:
                        yield info, origin

    def _dismiss_idle(self, besides: Origin | None) -> None:
        longest = min(self._idle(besides), key=lambda one: one[0].last_used, default=None)
        if longest is not None:
            info, origin = longest
            self._leaving[info.connection] = info
            origin.pool.evict(info.connection)
