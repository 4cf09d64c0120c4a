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

    def __init__(self, statement: Statement, values: Sequence[object], timeout: float) -> None:
        self._cursor: Any = statement.cursor(*values, prefetch=1, timeout=timeout).__aiter__()
        self._timeout = timeout
        self._is_bound = False

    async def fetch(self, rows: int) -> Sequence[Record]:
        """So many, or fewer: then there are no more."""
        fetching = self._cursor._exec if self._is_bound else self._cursor._bind_exec
        self._is_bound = True
        fetched: Sequence[Record] = await fetching(rows, self._timeout)
        return fetched

    @property
    def is_exhausted(self) -> bool:
        return bool(self._cursor._exhausted)
