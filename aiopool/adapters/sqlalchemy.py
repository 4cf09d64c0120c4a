"""SQLAlchemy on a `DatabasePool`: its engine borrows from our pool instead of keeping one of its own.

    engine = create_async_engine("postgresql+asyncpg://", async_creator=creator(db), poolclass=NullPool)

Needs nothing of SQLAlchemy: its asyncpg dialect asks the creator for an asyncpg connection, and closes it when it is
done. Closing ours gives it back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiopool.adapters._asyncpg import Connection, asyncpg
from aiopool.adapters.postgres import DatabasePool
from aiopool.lease import Lease


def creator(db: DatabasePool) -> Callable[[], Awaitable[Any]]:
    """An `async_creator` for an engine. The engine's URL names no server: where it is, the pool knows."""

    async def connect() -> _Leased:
        return _Leased(await db.connection())

    return connect


class _Leased:
    """A lease with the face of an asyncpg connection: `close` gives it back, `terminate` gives it back to be closed."""

    __slots__ = ("_lease",)

    def __init__(self, lease: Lease[Connection]) -> None:
        self._lease: Lease[Connection] | None = lease

    def __getattr__(self, name: str) -> Any:
        if self._lease is None:
            raise asyncpg.InterfaceError("connection is closed: it was given back to the pool")
        return getattr(self._lease.connection, name)

    def is_closed(self) -> bool:
        return self._lease is None or self._lease.connection.is_closed()

    async def close(self, *, timeout: float | None = None) -> None:
        """Never waits: what is left undone is undone in the background."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()

    def terminate(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.discard()
