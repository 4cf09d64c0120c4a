"""redis-py's pool, with its connections in one of ours."""

from __future__ import annotations

import asyncio
import itertools
import socket
from typing import Any, cast

from aiopool.adapters._given import ensure_allowed, ensure_unshared
from aiopool.adapters._redispy import (
    AbstractConnection,
    BookkeepingConnection,
    Connection,
    ConnectionLost,
    ExponentialWithJitterBackoff,
    NoBackoff,
    Retry,
    is_fatal,
    is_unreachable,
    keeping_books,
)
from aiopool.adapters._redispy import ConnectionPool as RedisPyPool
from aiopool.config import PoolConfig
from aiopool.errors import LeaseExpired, PoolClosed, PoolConfigError
from aiopool.lease import Lease
from aiopool.pool import CONFIGURED, ConnectionPool
from aiopool.stats import Reason

DEFAULT_MAX_CONNECTIONS = 50
#: Of `PoolConfig`, under the names that redis-py has for them.
FIELDS = {"max_connections": "max_size", "timeout": "acquire_timeout"}
#: Seconds for the server to answer, beyond what a blocking command allows itself. Longer than any command should
#: keep a server that does one thing at a time; short enough for a caller to notice that it has gone silent.
SOCKET_TIMEOUT = 5.0
#: Only after a connection was lost: what got no answer in time is not sent again, the server may be at it still.
RETRIES = 3

_numbers = itertools.count(1)


class RedisConnectionPool(RedisPyPool):
    """A pool for redis-py's clients: `redis.asyncio.Redis(connection_pool=RedisConnectionPool.from_url(...))`.

    Takes the keywords of redis-py's pools and connections; `timeout`, as of its blocking pool, is `acquire_timeout`.
    `pool` is the `ConnectionPool` in which the connections live. Raises `PoolConfigError` if sizes contradict.
    """

    pool: ConnectionPool[BookkeepingConnection]

    def __init__(
        self,
        connection_class: type[AbstractConnection] = Connection,
        max_connections: int | None = None,
        *,
        timeout: float | None = CONFIGURED,
        config: PoolConfig | None = None,
        name: str | None = None,
        **connection_kwargs: Any,
    ) -> None:
        ensure_unshared(type(self).__name__, config)
        config = _sized(config, max_connections, timeout)
        #: Those that are open, and the leases of those that redis-py has.
        self._open: dict[BookkeepingConnection, None] = {}
        self._leases: dict[BookkeepingConnection, Lease[BookkeepingConnection]] = {}
        self._is_opening = False
        super().__init__(
            keeping_books(connection_class),
            config.max_size,
            **{**_defaults(connection_class, config), **connection_kwargs},
        )
        self.pool = ConnectionPool(
            self._connect,
            config,
            validator=BookkeepingConnection.answers,
            resetter=lambda connection: connection.clean() if connection.is_dirty else None,
            destroyer=self._disconnect,
            aborter=self._abort,
            is_broken=lambda connection, _: connection.is_unfit,
            is_fatal=self._is_fatal,
            name=name if name is not None else f"redis-{next(_numbers)}",
        )

    async def open(self, wait: bool = True, timeout: float | None = None) -> None:
        """Opens the pool, also one that was closed, as `ConnectionPool.open` does.

        A server that can't be reached is waited for in the midst of work, but here it is told at once.
        """
        self._is_opening = wait
        try:
            await self.pool.open(wait, timeout)
        finally:
            self._is_opening = False

    # -- what redis-py's clients call

    async def get_connection(self, *_: Any, **__: Any) -> Any:
        return await self.lend()

    async def release(self, connection: AbstractConnection) -> None:
        # Must not await: redis-py calls this on the way out of a cancelled command.
        self.take_back(cast(BookkeepingConnection, connection))

    async def lend(self, timeout: float | None = CONFIGURED) -> BookkeepingConnection:
        """A connection that is sound, to be given back by `take_back`. Raises what `ConnectionPool.acquire` does."""
        lease = await self.pool.acquire(timeout)
        # Those that were closed while they were idle cost nobody an error; after so many, one may as well try.
        for _attempt in range(self.pool.config.max_size):
            if lease.connection.is_sound:
                break
            self.pool.evict(lease.connection)
            lease.release()
            lease = await self.pool.acquire(timeout)
        self._leases[lease.connection] = lease
        return lease.connection

    def take_back(self, connection: BookkeepingConnection) -> None:
        lease = self._leases.pop(connection, None)
        if lease is not None:  # else the pool has closed it under its holder
            lease.release()

    def can_get_connection(self) -> bool:
        stats = self.pool.stats()
        return stats["available"] > 0 or stats["size"] + stats["opening"] < stats["max_size"]

    def reset(self) -> None:
        for connection in self._available_connections:
            self.pool.evict(connection)

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Closes what is idle, and under their holders what is leased; the pool goes on."""
        self.reset()
        for connection in list(self._leases) if inuse_connections else ():
            await connection.disconnect()

    async def aclose(self) -> None:
        """Closes the pool at once, as redis-py does; it stays closed until `open()`."""
        await self.pool.close(timeout=0)

    async def re_auth_callback(self, token: Any) -> None:
        """The credentials have changed: new connections log in with them, old ones go as they come back."""
        if self._open:
            await self.pool.drain()

    @property
    def _available_connections(self) -> list[Any]:
        return [connection for connection in self._open if connection not in self._leases]

    @_available_connections.setter
    def _available_connections(self, _: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """redis-py starts with an empty list of its own."""

    @property
    def _in_use_connections(self) -> set[Any]:
        return set(self._leases)

    @_in_use_connections.setter
    def _in_use_connections(self, _: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """And with an empty set."""

    # -- what the pool calls

    async def _connect(self) -> BookkeepingConnection:
        connection = cast(BookkeepingConnection, self.make_connection())  # type: ignore[no-untyped-call]
        # The pool itself tries again, with one backoff for all.
        retry, connection.retry = connection.retry, Retry(NoBackoff(), 0)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            connection.abort()
            raise
        connection.retry = retry
        self._loop, connection.on_let_go = asyncio.get_running_loop(), self._let_go
        self._open[connection] = None
        return connection

    def _let_go(self, connection: BookkeepingConnection) -> None:
        """By a `PubSub` that gives it back in this very turn, or never: dropped, at any moment, in any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._drop, connection, self._leases.get(connection))

    def _drop(self, connection: BookkeepingConnection, lease: Lease[BookkeepingConnection] | None) -> None:
        """Forgets a lease that was not given back, which warns, and closes the connection. The next one's stays."""
        if lease is not None and self._leases.get(connection) is lease:
            del self._leases[connection]

    def _is_fatal(self, error: BaseException) -> bool:
        return is_fatal(error) or (self._is_opening and is_unreachable(error))

    async def _disconnect(self, connection: BookkeepingConnection) -> None:
        self._part(connection)
        await connection.disconnect()

    def _abort(self, connection: BookkeepingConnection) -> None:
        self._part(connection)
        connection.abort()

    def _part(self, connection: BookkeepingConnection) -> None:
        # Whoever still has it must not connect it again, to repeat a command: nobody would count that connection.
        self._open.pop(connection, None)
        lease = self._leases.pop(connection, None)
        is_end = lease is not None and lease.info.expires_as is Reason.POOL_CLOSED
        connection.parting = self._closed if is_end else self._expired

    def _closed(self) -> PoolClosed:
        return PoolClosed(
            f"pool {self.pool.name!r} was closed while this connection was in use: give `close()` a longer timeout, "
            "and `open()` it to use it again"
        )

    def _expired(self) -> LeaseExpired:
        return LeaseExpired(
            f"pool {self.pool.name!r} has closed this connection (max_hold={self.pool.config.max_hold}s): hold it for "
            "a shorter time, or raise max_hold"
        )

    def __repr__(self) -> str:
        # Never more than the name: the settings hold passwords.
        return f"<{type(self).__name__} {self.pool.name!r}>"


def _sized(config: PoolConfig | None, max_connections: int | None, timeout: float | None) -> PoolConfig:
    given: dict[str, Any] = {} if max_connections is None else {"max_connections": max_connections}
    if timeout is not CONFIGURED:
        given["timeout"] = timeout
    for name, value in given.items():
        field = FIELDS[name]
        if config is None:
            ensure_allowed(name, value, field)
        elif value != getattr(config, field):
            raise PoolConfigError(
                f"{name}={value!r} is not allowed with config.{field}={getattr(config, field)}: "
                "they mean the same; give one of them"
            )
    fields: dict[str, Any] = {FIELDS[name]: value for name, value in given.items()}
    return config or PoolConfig(**{"max_size": DEFAULT_MAX_CONNECTIONS, **fields})


def _defaults(connection_class: type[AbstractConnection], config: PoolConfig) -> dict[str, Any]:
    """What redis-py leaves open or to its version."""
    defaults: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": config.open_timeout,
        "health_check_interval": 0,  # the pool checks
        "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=1), RETRIES, (ConnectionLost,)),
    }
    if issubclass(connection_class, Connection):
        # A peer that the network has lost is found after 45 s, in the middle of a command that blocks, too.
        options = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 45_000}
        defaults["socket_keepalive"] = True
        defaults["socket_keepalive_options"] = {
            getattr(socket, option): value for option, value in options.items() if hasattr(socket, option)
        }
    return defaults
