"""Notifications: a connection of its own that listens, and a bounded queue in between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiopool.adapters._asyncpg import Connection, asyncpg
from aiopool.adapters._postgres_reset import ResetMode
from aiopool.errors import PoolConfigError, PoolError
from aiopool.pool import ConnectionPool


class Notification(NamedTuple):
    channel: str
    payload: str
    #: Of the server process that sent it.
    pid: int


class Notifications(AsyncIterator[Notification]):
    """What arrives, in its order; for any number of tasks, each notification to one of them.

    Ends with an error, after what had arrived before: `ConnectionDoesNotExistError` when the connection has ended,
    `PoolError` when more than `max_unread` were left unread.
    """

    def __init__(self, max_unread: int) -> None:
        self._max_unread = max_unread
        self._unread: deque[Notification] = deque()
        self._end: Exception | None = None
        self._changed = asyncio.Event()

    @property
    def unread(self) -> int:
        """How many have arrived and were not taken yet."""
        return len(self._unread)

    async def __anext__(self) -> Notification:
        while not self._unread:
            if self._end is not None:
                raise self._end
            self._changed.clear()
            await self._changed.wait()
        return self._unread.popleft()

    def _arrived(self, _connection: object, pid: int, channel: str, payload: str) -> None:
        if self._end is not None:
            return
        if len(self._unread) < self._max_unread:
            self._unread.append(Notification(channel, payload, pid))
            self._changed.set()
        else:
            self._ended(
                PoolError(
                    f"{self._max_unread} notifications are unread (max_unread={self._max_unread}), and later ones are "
                    "lost: listen again and read what they are about anew; take them faster, or raise max_unread"
                )
            )

    def _was_terminated(self, _connection: object) -> None:
        self._ended(
            asyncpg.ConnectionDoesNotExistError(
                "the connection that listened has ended, and later notifications are lost: listen again and read what "
                "they are about anew"
            )
        )

    def _ended(self, error: Exception) -> None:
        self._end = self._end or error
        self._changed.set()


@asynccontextmanager
async def listen(
    pool: ConnectionPool[Connection],
    channels: tuple[str, ...],
    *,
    max_unread: int,
    timeout: float | None,
    reset: ResetMode,
) -> AsyncIterator[Notifications]:
    if not channels:
        raise PoolConfigError("listen() was given no channel: name at least one")
    if wrong := [channel for channel in channels if not isinstance(channel, str)]:
        raise PoolConfigError(f"channel {wrong[0]!r} is not allowed: it must be a string")
    if max_unread < 1:
        raise PoolConfigError(f"max_unread={max_unread!r} is not allowed: it must be at least 1")
    lease = await pool.acquire(timeout)
    connection: Any = lease.connection
    notifications = Notifications(max_unread)
    # The reset ends what asyncpg knows of. Until all have been added, and without a reset, that is not all.
    is_known = False
    try:
        connection.add_termination_listener(notifications._was_terminated)
        for channel in dict.fromkeys(channels):
            await connection.add_listener(channel, notifications._arrived)
        is_known = reset != "none"
        yield notifications
    finally:
        if is_known:
            lease.release()
        else:
            lease.discard()
