"""What a pool must know of asyncpg: what its errors mean, and the state that it keeps to itself."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from configparser import Error as ServiceFileError
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from aiopool.adapters import complaint, missing_driver
from aiopool.adapters._asyncpg_timer import CommandTimer
from aiopool.errors import PoolConfigError

try:
    import asyncpg as asyncpg
except ModuleNotFoundError as exc:
    if exc.name != "asyncpg":
        raise
    raise missing_driver("asyncpg", "postgres") from None

#: How much later than its bound a call is ended by force, which costs the connection.
LAST_RESORT = 0.05

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection


def is_fatal(error: BaseException) -> bool:
    """Whether opening again cannot help: wrong password or certificate, unknown database, wrong parameters.

    A server that is starting, stopping, full or out of reach may be better soon.
    """
    return isinstance(
        error,
        (
            ValueError,  # PoolConfigError and SSLCertVerificationError are some
            TypeError,
            asyncpg.InvalidAuthorizationSpecificationError,  # InvalidPasswordError is one
            asyncpg.InvalidCatalogNameError,
            asyncpg.InsufficientPrivilegeError,
        ),
    )


def refuse_ambiguous(dsn: str | None) -> None:
    """asyncpg would take what stands between two @ for a host, and ask the resolver for a part of the password."""
    if dsn is not None and re.match("[^/?#]*//[^/?#]*@[^/?#]*@", dsn):
        raise ValueError("more than one @ stands before the database")


def bad_parameters(error: Exception, dsn: str | None) -> PoolConfigError:
    if isinstance(error, ServiceFileError):  # it quotes the file, password and all
        return PoolConfigError(
            f"asyncpg cannot read the service file ({type(error).__name__}): write a [section] for each service, "
            "one key=value in a line, and a % in a value as %%"
        )
    return PoolConfigError(
        f"asyncpg refuses the connection parameters{complaint(error, dsn)}: write the DSN as "
        "postgresql://user:password@host:5432/database, with what is special in the password percent-encoded "
        "(@ as %40, / as %2F, : as %3A, # as %23, ? as %3F), or pass host=, user=, password= as keywords"
    )


# What asyncpg does not offer publicly, read against its versions 0.30 to 0.32. `connection` is an
# `asyncpg.Connection`; it is `Any` because the type stubs don't show what is private.


class _Synchronized:
    """Knows whether the server is left in the middle of something that asyncpg takes for done.

    asyncpg parses a statement without a Sync, which comes with its execution. In between, and for good if there is
    none, the server is in a transaction that it began for the statement, with its locks, and no answer says so. And a
    cancellation in the very turn in which a piece of a COPY TO arrives finds nothing to cancel.
    """

    _config: Any
    _loop: asyncio.AbstractEventLoop
    _protocol: Any
    _stmt_cache: Any
    _parsed_at = -1
    terminate: Callable[[], None]
    is_closed: Callable[[], bool]

    def __init__(self, protocol: Any, transport: Any, loop: Any, *args: Any) -> None:
        # The timer is for the protocol only.
        super().__init__(protocol, transport, loop.loop if isinstance(loop, CommandTimer) else loop, *args)  # type: ignore[call-arg]

    def _get_statement(self, query: str, timeout: float | None, *, use_cache: bool = True, **kwargs: Any) -> Any:
        self._parsed_at = self._protocol.queries_count  # of executions
        getting = super()._get_statement(query, timeout, use_cache=use_cache, **kwargs)  # type: ignore[misc]
        record_class = kwargs.get("record_class") or self._protocol.get_record_class()
        if use_cache and self._stmt_cache.has((query, record_class, kwargs.get("ignore_custom_codec", False))):
            return getting
        return self._bounded(getting, self._config.command_timeout if timeout is None else timeout)

    async def _bounded(self, getting: Awaitable[Any], timeout: float | None) -> Any:
        # asyncpg bounds each command, but not the closing of old statements that it does on the way.
        guard = None if timeout is None else self._loop.call_later(timeout + LAST_RESORT, self.terminate)
        try:
            statement = await getting
        finally:
            if guard is not None:
                guard.cancel()
        if self.is_closed():  # a loop that came late to the answer came late to the guard as well
            raise TimeoutError
        return statement

    async def _copy_out(self, *args: Any) -> Any:
        try:
            return await super()._copy_out(*args)  # type: ignore[misc]
        except asyncio.CancelledError:
            if not is_cancelling(self):
                self.terminate()
            raise


@cache
def synchronized(connection_class: Any) -> type[Any]:
    """The same class, for `asyncpg.connect`, with what the functions below need."""
    return type(connection_class.__name__, (_Synchronized, connection_class), {})


async def connect(dsn: str | None, connection_class: Any = asyncpg.Connection, **kwargs: Any) -> Connection:
    """`asyncpg.connect`, for a `synchronized` connection whose timers cost little."""
    kwargs["loop"] = CommandTimer(asyncio.get_running_loop())
    connection: Connection = await asyncpg.connect(dsn, connection_class=synchronized(connection_class), **kwargs)
    return connection


def needs_sync(connection: Any) -> bool:
    """Whether a statement may have been parsed last and not executed: any simple query ends that."""
    return bool(connection._parsed_at == connection._protocol.queries_count)


def watch_peer(connection: Any, seconds: float) -> None:
    """Lets the kernel end the connection when the other machine has been gone for so long.

    Half of the time may pass in silence, then it is asked three times (keepalive); what was sent must be taken within
    the whole of it (TCP_USER_TIMEOUT). A kernel answers for its machine, so a server that computes is not disturbed.
    See tcp(7). Does what the platform can do; Unix sockets need none of it.
    """
    sock = connection._transport.get_extra_info("socket")
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    idle, interval = max(1, round(seconds / 2)), max(1, round(seconds / 6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", idle),
        ("TCP_KEEPALIVE", idle),  # what macOS calls it
        ("TCP_KEEPINTVL", interval),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", round(seconds * 1000)),
    ):
        if (number := getattr(socket, option, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, number, value)


def send(connection: Any, query: str, timeout: float) -> asyncio.Future[str]:
    """Sends a query at once, of one or more statements; the future is its answer's, and asyncpg's own.

    asyncpg only waits for it, and does nothing after, so its coroutine may end here.
    """
    command = connection._protocol.query(query, timeout)
    answer: asyncio.Future[str] = command.send(None)
    answer._asyncio_future_blocking = False  # no task awaits it yet
    command.close()
    return answer


class Callbacks:
    """The callbacks that belong to a connection itself, and the way back to them."""

    __slots__ = ("_own",)

    def __init__(self, connection: Any) -> None:
        # asyncpg changes these sets in place and never replaces them.
        sets = (connection._log_listeners, connection._query_loggers, connection._termination_listeners)
        self._own = [(callbacks, frozenset(callbacks)) for callbacks in sets]

    def restore(self, connection: Any) -> bool:
        """Forget what a caller left on the client's side; return whether it listened for notifications.

        asyncpg's public `reset()` does this too, but with a round trip more if a transaction is open, which
        it also reports to the loop's exception handler.
        """
        for callbacks, own in self._own:
            if callbacks != own:
                callbacks.clear()
                callbacks.update(own)
        listened = bool(connection._listeners)
        connection._listeners.clear()
        # Or the next caller's transaction would be taken for a savepoint inside this one.
        connection._top_xact = None
        # Statements, cursors and transactions made under an earlier count refuse to work: their caller may
        # still have them.
        connection._pool_release_ctr += 1
        return listened


def is_broken(connection: Any, error: BaseException | None) -> bool:
    """Judges by the connection's own state; what left the caller's block is the caller's business.

    After a cancellation or a query's timeout the connection is good. asyncpg asks the server to cancel the
    query in a callback of the future that the caller awaits, added before the caller's own wake-up: so it has
    asked by the time the caller's block is left. It passes over the rest of the answer, and `cancellation`
    waits for its end.
    """
    if connection.is_closed():
        return True
    # Reading is paused between two pieces of a COPY TO, and only then. What comes next is another piece.
    if not connection._transport.is_reading():
        return True
    return not is_cancelling(connection) and _is_in_use(connection)


def is_cancelling(connection: Any) -> bool:
    """Whether a query was cancelled, and nobody has awaited `cancellation` since."""
    return bool(connection._protocol._is_cancelling())


def cancellation(connection: Any) -> Awaitable[object]:
    """Ends when the server has closed the connection that carried the cancel request, and the query is over.

    The server closes it after it has signalled the backend, so the signal cannot hit a query that is sent
    later; and the protocol drops every message up to the ReadyForQuery of the cancelled query. If the request
    could not be sent, the connection is closed, or this raises.
    """
    waiting: Awaitable[object] = connection._protocol._wait_for_cancellation()
    return waiting


def _is_in_use(connection: Any) -> bool:
    """Whether an operation is still running, in a task that the caller has left behind.

    `_drain_cancels` cancels a running operation and waits for it; if there is none, its first step is its
    last. Before asyncpg 0.32, which brought it, the next operation fails with "another operation is in
    progress" instead.
    """
    drain = getattr(connection._protocol, "_drain_cancels", None)
    if drain is None:
        return False
    first_step = drain()
    try:
        first_step.send(None)
    except StopIteration:
        return False
    first_step.close()
    return True
