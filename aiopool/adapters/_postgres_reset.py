"""What happens to a PostgreSQL connection between two callers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal
from weakref import WeakKeyDictionary

from aiopool.adapters._asyncpg import Callbacks, Connection, cancellation, is_cancelling, needs_sync
from aiopool.errors import PoolError

ResetMode = Literal["session", "transaction", "none"]

#: Back to the session as it was at login, in one message. The server runs the statements of one simple query
#: as one transaction, and none of these refuses to run in one. (DISCARD ALL does, and it would drop the
#: prepared statements that asyncpg goes on using.) Authorization comes first, for the rest may need it.
#: RESET ALL resets what only a superuser may set as well, such as session_replication_role.
SESSION_RESET = (
    "RESET SESSION AUTHORIZATION; RESET ROLE; CLOSE ALL; RESET ALL; UNLISTEN *; "
    "SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES"
)


class Reset:
    """The pool's resetter: what is done on the client is done at once, what takes a round trip is awaited.

    Raises `PoolError` for a connection that no reset makes good, by `suits` or by its state.
    """

    def __init__(self, mode: ResetMode, timeout: float, suits: Callable[[Connection], bool]) -> None:
        self.mode: ResetMode = mode
        self._timeout = timeout
        self._suits = suits
        self._own_callbacks: WeakKeyDictionary[Connection, Callbacks] = WeakKeyDictionary()

    def remember(self, connection: Connection) -> None:
        """What the connection has by now outlives resets."""
        self._own_callbacks[connection] = Callbacks(connection)

    def __call__(self, connection: Connection) -> Awaitable[None] | None:
        listened = self._own_callbacks[connection].restore(connection)
        needs_more = self.mode == "session" or (self.mode == "transaction" and listened)
        if needs_more or connection.is_in_transaction() or is_cancelling(connection) or needs_sync(connection):
            return self._restore(connection, listened)
        self._check(connection)
        return None

    async def _restore(self, connection: Connection, listened: bool) -> None:
        # First of all: only then does the connection know whether it is in a transaction.
        if is_cancelling(connection):
            await cancellation(connection)
        statements = []
        if connection.is_in_transaction():
            if self.mode == "none":
                raise PoolError("a connection came back inside a transaction, with reset='none'")
            statements.append("ROLLBACK")
        if self.mode == "session":
            statements.append(SESSION_RESET)
        elif self.mode == "transaction" and listened:
            statements.append("UNLISTEN *")
        elif not statements and needs_sync(connection):
            statements.append("SELECT 1")  # asyncpg stumbles over the answer to an empty query
        if statements:
            # The pool bounds this as well, but a shorter `command_timeout` must not.
            await connection.execute("; ".join(statements), timeout=self._timeout)
        # Only now: a caller's own `set default_transaction_read_only` looks like a server that only reads.
        self._check(connection)

    def _check(self, connection: Connection) -> None:
        if not self._suits(connection):
            raise PoolError("the server is no longer what target_session_attrs asks for")
