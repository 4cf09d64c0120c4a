"""`Room`: how many sessions may exist over all servers and identities, and who gives way to whom."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from aiopool.adapters._mcp_session import Session
from aiopool.connection import Place, PooledConnection
from aiopool.pool import ConnectionPool


class Branch(Protocol):
    """The sessions with one server for one identity."""

    pool: ConnectionPool[Session]
    sessions: dict[Session, PooledConnection[Session]]

    @property
    def waiting(self) -> float:
        """For how long the first of those has waited who want a session there; 0 if there is nobody."""
        ...


class Room:
    """A place is taken before a session is opened, and free again when it is closed.

    If none is left, the session that was idle for longest gives way; and one that comes back, to a shorter wait, does.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self._branches: set[Branch] = set()
        #: Openings that wait for a place, in the order they came.
        self._parked: dict[asyncio.Future[None], Branch] = {}
        #: Sessions that were sent away for them and are not gone yet.
        self._leaving: dict[Session, PooledConnection[Session]] = {}

    def add(self, branch: Branch) -> None:
        self._branches.add(branch)

    def remove(self, branch: Branch) -> None:
        self._branches.discard(branch)

    def is_parked(self, branch: Branch) -> bool:
        """Whether it waits for a place."""
        return branch in self._parked.values()

    async def enter(self, branch: Branch) -> None:
        if self.taken < self.size:
            self.taken += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._parked[place] = branch
        self.review()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave(None)
            raise
        finally:
            del self._parked[place]

    def leave(self, session: Session | None) -> None:
        self.taken -= 1
        if session is not None:
            self._leaving.pop(session, None)
        self.review()

    def review(self) -> None:
        """Places, first for those whose callers wait; if there is none, somebody idle goes, whose end leads here."""
        for place, branch in sorted(self._parked.items(), key=lambda parked: parked[1].waiting == 0):
            if place.done():
                continue
            if self.taken < self.size:
                self.taken += 1
                place.set_result(None)
            elif branch.waiting and self._going(with_busy=False) < len(self._wanting()):
                self._dismiss_idle(besides=branch)

    def gives_way(self, session: Session, info: PooledConnection[Session], branch: Branch) -> bool:
        """Whether this one, which comes back now, is to go, because somebody elsewhere has waited for longer."""
        if not self._parked:
            return False
        wanting = self._wanting()
        longest = max((other.waiting for other in wanting if other is not branch), default=0.0)
        if longest <= branch.waiting or self._going(with_busy=True) >= len(wanting):
            return False
        self._leaving[session] = info
        return True

    def _wanting(self) -> list[Branch]:
        return [branch for branch in self._parked.values() if branch.waiting]

    def _going(self, *, with_busy: bool) -> int:
        """Sessions that were sent away; the busy ones may still serve somebody for as long as they like."""
        return sum(with_busy or not info.leases for info in self._leaving.values())

    def _idle(self, besides: Branch) -> Iterable[tuple[Session, PooledConnection[Session], Branch]]:
        for branch in self._branches:
            if branch is not besides:
                for session, info in branch.sessions.items():
                    if info.place is Place.IDLE:
                        yield session, info, branch

    def _dismiss_idle(self, besides: Branch) -> None:
        longest = min(self._idle(besides), key=lambda one: one[1].last_used, default=None)
        if longest is not None:
            session, info, branch = longest
            self._leaving[session] = info
            branch.pool.evict(session)
