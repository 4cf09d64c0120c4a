"""`Limit`: how many connections may exist over all origins, and who gives way to whom."""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiopool.connection import Place, PooledConnection

if TYPE_CHECKING:
    from aiopool.adapters._http_origin import Origin
    from aiopool.adapters._http_wire import Wire


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
        self._leaving = 0

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
        self._review()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()
            raise
        finally:
            self._parked.pop(place, None)

    def leave(self) -> None:
        self.taken -= 1
        self._leaving = max(0, self._leaving - 1)
        if self._parked:
            self._review()

    def released(self, wire: Wire, origin: Origin, now: float) -> bool:
        """Returns whether this one is to go, so that somebody at another origin who waits for longer gets its place."""
        if self._parked:
            since = next((since for other, since in self._wanting() if other is not origin), now)
            if self.is_reached and now - since > origin.pool.stats()["oldest_wait"] and self._may_send_away():
                self._leaving += 1
                return True
        elif (
            self.taken > self._max_idle
            and len(self.origins) > 1
            and sum(1 for _ in self._idle(besides=None)) >= self._max_idle
        ):
            self._dismiss_idle(besides=None)
        return False

    def _review(self) -> None:
        """Places, first for those whose callers wait; if there is none, somebody idle goes, whose end leads here."""
        for place, (origin, _) in sorted(self._parked.items(), key=lambda parked: not parked[1][0].is_awaited):
            if place.done():
                continue
            if not self.is_reached:
                self.taken += 1
                place.set_result(None)
            elif origin.is_awaited and self._may_send_away():
                self._leaving += self._dismiss_idle(besides=origin)

    def _may_send_away(self) -> bool:
        return self._leaving < sum(1 for _ in self._wanting())

    def _wanting(self) -> Iterable[tuple[Origin, float]]:
        return ((origin, since) for origin, since in self._parked.values() if origin.is_awaited)

    def _idle(self, besides: Origin | None) -> Iterable[tuple[PooledConnection[Wire], Origin]]:
        for origin in self.origins:
            if origin is not besides:
                for info in origin.wires.values():
                    if info.place is Place.IDLE:
                        yield info, origin

    def _dismiss_idle(self, besides: Origin | None) -> bool:
        longest = min(self._idle(besides), key=lambda one: one[0].last_used, default=None)
        if longest is not None:
            info, origin = longest
            origin.pool.evict(info.connection)
        return longest is not None
