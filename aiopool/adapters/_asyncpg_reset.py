"""asyncpg's own reset, so that what `init` has set up stays, and `get_reset_query` can be overridden."""

from __future__ import annotations

from typing import Any

from aiopool.adapters._asyncpg import needs_sync


def reset_query(connection: Any) -> str:
    """Does at once what `Connection.reset()` does on the client; returns what is left to the server, if anything."""
    connection._listeners.clear()
    connection._log_listeners.clear()
    transaction, statements = connection._top_xact, []
    if transaction is not None or connection.is_in_transaction():
        if transaction is None or not transaction._managed:
            message = f"Resetting connection with an active transaction {connection!r}"
            connection._loop.call_exception_handler({"message": message})
        connection._top_xact = None
        statements.append("ROLLBACK")
    if query := connection.get_reset_query():
        statements.append(query)
    if not statements and is_unsynchronized(connection):
        return "SELECT 1"
    return "; ".join(statements)


def is_unsynchronized(connection: Any) -> bool:
    # A `connect` may insist on a class of its own, of which nobody knows.
    return hasattr(connection, "_parsed_at") and needs_sync(connection)
