"""`DatabasePool`: PostgreSQL through asyncpg.

Read from the top: the class that callers use, and in its second half the few callables that tell the pool how
to open, check, reset and close a connection.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from configparser import Error as ServiceFileError
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ssl import SSLError
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from aiopool.adapters._asyncpg import (
    Connection,
    asyncpg,
    bad_parameters,
    is_broken,
    is_cancelling,
    is_fatal,
    refuse_ambiguous,
    watch_peer,
)
from aiopool.adapters._given import ensure_unshared, refuse_other, refuse_seconds, refuse_unknown
from aiopool.adapters._postgres_hosts import Hosts
from aiopool.adapters._postgres_listen import Notifications, listen
from aiopool.adapters._postgres_password import provided
from aiopool.adapters._postgres_reset import Reset, ResetMode
from aiopool.adapters.face import PoolFace
from aiopool.config import PoolConfig
from aiopool.lease import Acquisition
from aiopool.pool import CONFIGURED, ConnectionPool

#: How long a command may take that was given no `timeout`: longer than anybody waits for a page or a tool. What is
#: meant to take longer (a report, a migration) is rare enough to say so.
COMMAND_TIMEOUT = 60.0
#: Linux takes no longer times between keepalives.
LONGEST_WATCH = 32767

R = TypeVar("R")
Row: TypeAlias = asyncpg.Record
Isolation = Literal["read_uncommitted", "read_committed", "repeatable_read", "serializable"]


class DatabasePool(PoolFace[Connection]):
    """A pool of asyncpg connections.

        async with DatabasePool("postgresql://user@host/database") as db:
            rows = await db.fetch("select * from orders where id = $1", 42)
            async with db.transaction() as connection:
                await connection.execute("update ...")

    `connect_kwargs` go to `asyncpg.connect`; settings that must outlive a reset belong in `server_settings`
    there. `configure(connection)` runs once for each new connection; what it sets up on the client (type
    codecs, loggers) outlives resets.

    `command_timeout`, in seconds, bounds every command that has no `timeout` of its own, on lent connections too; None:
    only calls with a `timeout` are bounded. `dead_peer_after`, in whole seconds, is how long the other machine may
    answer nothing, not even the kernel's own probes, before the connection counts as dead; by default as long as a
    command may take; None: for as long as the system's own settings say, on Linux 15 minutes or more.

    `reset` says what happens to a connection between two callers, in the background:

    - `"session"`: whatever a session remembers is cleared, in one round trip: an open transaction, settings,
      role and session authorization, temporary tables, advisory locks, cursors, LISTEN, sequence values. The
      statements that asyncpg has prepared stay valid; so do names given by an SQL `PREPARE`.
    - `"transaction"`: an open transaction is rolled back, with a round trip only if there is one.
    - `"none"`: nothing is undone. A connection that comes back inside a transaction is closed, never lent.

    In every mode one caller's listeners and statement objects are dead for the next, a query that was cancelled,
    which asyncpg then cancels on the server, is over before the connection is lent again, and the locks of a
    statement that was prepared and never executed are released, with a round trip if there is no other.
    """

    def __init__(
        self,
        dsn: str | None = None,
        config: PoolConfig | None = None,
        *,
        reset: ResetMode = "session",
        configure: Callable[[Connection], object] | None = None,
        name: str | None = None,
        command_timeout: float | None = COMMAND_TIMEOUT,
        dead_peer_after: float | None = CONFIGURED,
        **connect_kwargs: Any,
    ) -> None:
        ensure_unshared("DatabasePool", config)
        refuse_other("reset", reset, get_args(ResetMode))
        refuse_unknown("DatabasePool", connect_kwargs, asyncpg.connect, "the pool's own settings go into PoolConfig")
        refuse_seconds("command_timeout", command_timeout, 0.001, 10**9)
        if dead_peer_after is CONFIGURED:
            # Never shorter: a server that does not read (a COPY that waits for a lock) must not look dead before that.
            dead_peer_after = min(max(COMMAND_TIMEOUT, command_timeout or 0), LONGEST_WATCH)
        refuse_seconds("dead_peer_after", dead_peer_after, 1, LONGEST_WATCH)
        self.config = config = config if config is not None else PoolConfig()
        self._dsn = dsn
        # The pool bounds an open already; asyncpg's own 60 s must not cut a longer bound short.
        connect_kwargs = {
            "timeout": config.open_timeout,
            "command_timeout": command_timeout,
            **connect_kwargs,
        }
        password: Any = connect_kwargs.get("password")
        self._has_provider = callable(password)
        if self._has_provider:
            connect_kwargs["password"] = provided(password)
        self._hosts = Hosts(dsn, connect_kwargs, config.open_timeout)
        self._command_timeout = command_timeout
        self._dead_peer_after = dead_peer_after
        self._configure = configure
        self._reset = Reset(reset, config.reset_timeout, self._hosts)
        self.pool = ConnectionPool(
            self._connect,
            config,
            configure=self._set_up,
            validator=self._is_valid,
            resetter=self._reset,
            destroyer=self._close,
            aborter=lambda connection: connection.terminate(),
            is_broken=is_broken,
            is_fatal=self._is_fatal,
            name=name,
        )

    # ------------------------------------------------------------------------------------------- for callers

    def connection(self, timeout: float | None = CONFIGURED) -> Acquisition[Connection]:
        """A connection of one's own: `async with` it, or `await` it for the lease, as with `pool.acquire`."""
        return self.pool.acquire(timeout)

    @asynccontextmanager
    async def transaction(
        self,
        *,
        isolation: Isolation | None = None,
        readonly: bool = False,
        deferrable: bool = False,
        timeout: float | None = CONFIGURED,
    ) -> AsyncIterator[Connection]:
        """A connection in a transaction: commits when the block ends, rolls back if an exception leaves it.

        `timeout` bounds the wait for the connection. A cancellation does not wait for the server: the pool
        rolls back in the background.
        """
        if isolation is not None:
            refuse_other("isolation", isolation, get_args(Isolation))
        async with self.pool.acquire(timeout) as connection:
            # asyncpg's own, so that a `connection.transaction()` inside becomes a savepoint.
            begin = connection.transaction(isolation=isolation, readonly=readonly, deferrable=deferrable)
            await begin.start()
            try:
                yield connection
            except Exception:
                await self._try_to_roll_back(connection)
                raise
            # The server answers the COMMIT of a failed transaction with success and the word ROLLBACK.
            if await connection.execute("COMMIT") == "ROLLBACK":
                raise asyncpg.InFailedSQLTransactionError(
                    "the transaction was rolled back, not committed: a statement in it failed and its error "
                    "was caught inside the block; let it leave the block, or give the statement a savepoint "
                    "of its own with `async with connection.transaction()`"
                )

    def listen(
        self, *channels: str, max_unread: int = 1000, timeout: float | None = CONFIGURED
    ) -> AbstractAsyncContextManager[Notifications]:
        """What is sent by `NOTIFY` on these channels from now on: `async for channel, payload, pid in notifications`.

        Keeps a connection to itself, one of `max_size`, until the block ends. `timeout` bounds the wait for it. The
        iteration raises `ConnectionDoesNotExistError` when that connection has ended, and `PoolError` when more than
        `max_unread` notifications were left unread: then some are lost.
        """
        return listen(self.pool, channels, max_unread=max_unread, timeout=timeout, reset=self._reset.mode)

    async def execute(self, query: str, *params: object, timeout: float | None = None) -> list[Row]:
        """Run a statement and return its rows, [] if it has none. Without `params`, several will do.

        Here and below, `timeout` bounds the whole call, waiting for a connection included.
        """

        async def run(connection: Connection, left: float | None) -> list[Row]:
            began = time.monotonic()
            try:
                return await connection.fetch(query, *params, timeout=left)
            except asyncpg.PostgresSyntaxError:
                # Several statements can't be prepared, and nothing of them has been run.
                if params or ";" not in query.strip().rstrip(";"):
                    raise
                await connection.execute(query, timeout=left if left is None else left - (time.monotonic() - began))
                return []

        return await self._run(run, timeout)

    async def fetch(self, query: str, *params: object, timeout: float | None = None) -> list[Row]:
        """All rows."""
        return await self._run(lambda conn, left: conn.fetch(query, *params, timeout=left), timeout)

    async def fetchrow(self, query: str, *params: object, timeout: float | None = None) -> Row | None:
        """The first row, or None."""
        return await self._run(lambda conn, left: conn.fetchrow(query, *params, timeout=left), timeout)

    async def fetchval(self, query: str, *params: object, column: int = 0, timeout: float | None = None) -> Any:
        """One value of the first row, or None."""
        return await self._run(lambda conn, left: conn.fetchval(query, *params, column=column, timeout=left), timeout)

    async def executemany(self, query: str, args: Iterable[Sequence[object]], *, timeout: float | None = None) -> None:
        """Run a statement once for each of `args`, all or nothing."""
        await self._run(lambda conn, left: conn.executemany(query, args, timeout=left), timeout)

    async def _run(self, work: Callable[[Connection, float | None], Awaitable[R]], timeout: float | None) -> R:
        acquisition, deadline = self.pool.acquire(CONFIGURED if timeout is None else timeout), None
        if timeout is not None:
            deadline = time.monotonic() + timeout
            limit = self.config.acquire_timeout
            if limit is not None and limit < timeout:
                acquisition = self.pool.acquire(limit)
        async with acquisition as connection:
            left = self._command_timeout if deadline is None else deadline - time.monotonic()
            try:
                return await work(connection, left)
            except (asyncpg.InterfaceError, asyncpg.InternalClientError) as exc:
                if not connection.is_closed():
                    raise
                raise asyncpg.ConnectionDoesNotExistError("the server had ended the connection") from exc
            except TimeoutError as exc:
                if exc.args:
                    raise
                bound = f"command_timeout={self._command_timeout}" if timeout is None else f"timeout={timeout}"
                raise TimeoutError(
                    f"pool {self.name!r}: no answer within {bound} seconds, and the query was cancelled: give the call "
                    "a longer timeout, or look for what holds the query up"
                ) from exc

    async def _try_to_roll_back(self, connection: Connection) -> None:
        # The caller's error matters more than one of the rollback; what remains undone, the reset will do. So it will
        # after a command's timeout: the caller has waited long enough, and the server may be gone.
        try:
            if connection.is_in_transaction() and not is_cancelling(connection):
                await connection.execute("ROLLBACK", timeout=self.config.reset_timeout)
        except Exception:
            return

    # ------------------------------------------------------------------------------------------- for the pool

    async def _connect(self) -> Connection:
        try:
            refuse_ambiguous(self._dsn)
            return await self._hosts.connect()
        except (ValueError, ServiceFileError) as exc:
            if isinstance(exc, SSLError):
                raise
            error = bad_parameters(exc, self._dsn)
        # Raised here because inside `except` it would carry the original along, DSN and all.
        raise error

    def _is_fatal(self, error: BaseException) -> bool:
        # A provider may give a better password next time, above all while it is being changed.
        is_refused = isinstance(error, asyncpg.InvalidAuthorizationSpecificationError)
        return is_fatal(error) and not (is_refused and self._has_provider)

    async def _set_up(self, connection: Connection) -> None:
        connection.add_termination_listener(self._was_terminated)
        if self._dead_peer_after is not None:
            watch_peer(connection, self._dead_peer_after)
        if self._configure is not None and inspect.isawaitable(result := self._configure(connection)):
            await result
        self._reset.remember(connection)

    def _was_terminated(self, connection: Any) -> None:
        # A server that goes away takes its idle connections out of the pool at once.
        self.pool.evict(connection)

    async def _is_valid(self, connection: Connection) -> bool:
        query = self.config.validation_query or "SELECT 1"
        await connection.execute(query, timeout=self.config.validate_timeout)
        return not connection.is_in_transaction() and self._hosts.suits(connection)

    async def _close(self, connection: Connection) -> None:
        await connection.close(timeout=self.config.close_timeout)
