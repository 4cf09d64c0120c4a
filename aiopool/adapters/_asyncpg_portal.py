"""Rows of a statement bit by bit, in fewer round trips than asyncpg offers it.

Like `_asyncpg`, this knows what asyncpg does not offer publicly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from aiopool.adapters._asyncpg import Connection

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.prepared_stmt import PreparedStatement

    Statement: TypeAlias = PreparedStatement[Record]


async def prepared(connection: Connection, text: str, timeout: float, *, is_kept: bool) -> Statement:
    """The statement, sent by the extended protocol, which takes one.

    One that is kept is among those that asyncpg has prepared on the connection already, when it comes again, and
    raises `InvalidCachedStatementError` in its execution if its table has changed meanwhile.
    """
    unnamed_unless_kept = None if is_kept else ""
    preparing: Any = connection._prepare  # type: ignore[attr-defined]
    statement: Statement = await preparing(text, name=unnamed_unless_kept, timeout=timeout, use_cache=is_kept)
    return statement


class Portal:
    """A statement under way, of which the server makes as many rows as are fetched. It ends with its transaction."""

    def __init__(self, connection: Connection, statement: Statement, values: Sequence[object], timeout: float) -> None:
        self._protocol: Any = connection._protocol  # type: ignore[attr-defined]
        self._state: Any = statement._state  # type: ignore[attr-defined]
        self._values = values
        self._timeout = timeout
        self._is_bound = False
        #: Whether there are no more rows.
        self.is_exhausted = False
        #: What the server says at the end, such as `UPDATE 3`.
        self.status = ""

    async def fetch(self, rows: int) -> Sequence[Record]:
        """So many rows, or fewer."""
        how = ("", rows, True, self._timeout)
        if self._is_bound:
            fetching = self._protocol.execute(self._state, *how)
        else:
            fetching = self._protocol.bind_execute(self._state, self._values, *how)
        self._is_bound = True
        fetched: Sequence[Record]
        fetched, status, self.is_exhausted = await fetching
        self.status = (status or b"").decode()
        return fetched
