"""One connection of asyncpg's pool on ours, and the proxy that its callers hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from aiopool.adapters._asyncpg import Connection, asyncpg
from aiopool.lease import Lease

if TYPE_CHECKING:
    from aiopool.adapters.asyncpg_pool import Pool

    Proxy: TypeAlias = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    Proxy = asyncpg.pool.PoolConnectionProxy

#: A coroutine function of the pool's user.
Hook: TypeAlias = Callable[..., Coroutine[Any, Any, Any]]


class Holder:
    """One connection of a pool, as asyncpg's connections and proxies know it."""

    __slots__ = ("__weakref__", "_con", "_lease", "_pool", "_proxy")

    def __init__(self, pool: Pool, connection: Any) -> None:
        self._pool = pool
        self._con = connection
        self._proxy: Any = None
        self._lease: Lease[Connection] | None = None

    def is_connected(self) -> bool:
        return self._con is not None and not self._con.is_closed()

    def is_idle(self) -> bool:
        return self._lease is None

    def terminate(self) -> None:
        if self._con is not None:
            self._con.terminate()

    async def lend(self, lease: Lease[Connection], setup: Hook | None, timeout: float | None) -> Proxy:
        proxy: Any = Proxy(self, self._con)  # type: ignore[arg-type]
        if setup is not None:
            try:
                async with asyncio.timeout(timeout):
                    await setup(proxy)
            except BaseException:
                # Nobody knows what it has done; and its proxy shall say that it is closed.
                proxy._con.terminate()
                lease.discard()
                raise
        self._proxy, self._lease = proxy, lease
        return proxy  # type: ignore[no-any-return]

    def take_back(self) -> None:
        """One synchronous step."""
        proxy, lease = self._proxy, self._lease
        self._proxy = self._lease = None
        if proxy is not None and lease is not None:
            connection = proxy._detach()
            is_worn = not connection.is_closed() and connection._protocol.queries_count >= self._pool._max_queries
            lease.discard() if is_worn else lease.release()

    def _release_on_close(self, *_: object) -> None:
        """asyncpg calls this when the connection is closed, by whomever: nobody has to release it any more."""
        connection, self._con = self._con, None
        if connection is not None:
            self._pool._forget(connection)
            self.take_back()
