"""What happens to a PostgreSQL connection between two callers."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Literal
from weakref import WeakKeyDictionary

from aiopool.adapters._asyncpg import Callbacks, Connection, cancellation, is_cancelling, needs_sync, send
from aiopool.adapters._postgres_hosts import Hosts
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

    Raises `PoolError` for a connection that no reset makes good, by its server or by its state.
    """

    def __init__(self, mode: ResetMode, timeout: float, hosts: Hosts) -> None:
        self.mode: ResetMode = mode
        self._timeout = timeout
        self._hosts = hosts
        self._own_callbacks: WeakKeyDictionary[Connection, Callbacks] = WeakKeyDictionary()

    def remember(self, connection: Connection) -> None:
        """What the connection has by now outlives resets."""
        self._own_callbacks[connection] = Callbacks(connection)

    def __call__(self, connection: Connection) -> Awaitable[object] | None:
        listened = self._own_callbacks[connection].restore(connection)
        if is_cancelling(connection):
            return self._restore_after_cancellation(connection, listened)
        return self._restore(connection, listened)

    async def _restore_after_cancellation(self, connection: Connection, listened: bool) -> None:
        # Only then does the connection know whether it is in a transaction.
        await cancellation(connection)
        if (rest := self._restore(connection, listened)) is not None:
            await rest

    def _restore(self, connection: Connection, listened: bool) -> Awaitable[object] | None:
        query = self._query(connection, listened)
        if query is None:
            self._check(connection)
            return None
        # The pool bounds this as well, but a shorter `command_timeout` must not.
        answer = send(connection, query, self._timeout)
        return self._check_after(answer, connection) if self._hosts.are_chosen else answer

    def _query(self, connection: Connection, listened: bool) -> str | None:
        """What the server has to do, if anything."""
        is_in_transaction = connection.is_in_transaction()
        if self.mode == "session":
            return f"ROLLBACK; {SESSION_RESET}" if is_in_transaction else SESSION_RESET
        if self.mode == "transaction" and listened:
            return "ROLLBACK; UNLISTEN *" if is_in_transaction else "UNLISTEN *"
        if is_in_transaction:
            if self.mode == "none":
                raise PoolError("a connection came back inside a transaction, with reset='none'")
            return "ROLLBACK"
        return "SELECT 1" if needs_sync(connection) else None  # asyncpg stumbles over the answer to an empty query

    async def _check_after(self, answer: Awaitable[object], connection: Connection) -> None:
        await answer
        # Only now: a caller's own `set default_transaction_read_only` looks like a server that only reads.
        self._check(connection)

    def _check(self, connection: Connection) -> None:
        if not self._hosts.suits(connection):
            raise PoolError("the server is no longer what target_session_attrs asks for")
