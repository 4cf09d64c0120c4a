"""aiopool with nothing to do but to pool, and with all that an adapter asks of it."""

from __future__ import annotations

from typing import Any

from aiopool import ConnectionPool, PoolConfig
from benchmarks.pools.pool import Pool
from benchmarks.results import Kind


class _Connection:
    is_closed = False


class Bare(Pool):
    name = "aiopool"
    kind = Kind.OURS
    max_shares = 1

    def hooks(self) -> dict[str, Any]:
        return {}

    async def open(self) -> None:
        config = PoolConfig(min_size=self.least, max_size=self.size, max_shares=self.max_shares)
        self._pool: ConnectionPool[_Connection] = ConnectionPool(self._connect, config, **self.hooks())
        await self._pool.open()
        self.lease = self._pool.acquire

    async def _connect(self) -> _Connection:
        await self.connect()
        return _Connection()

    async def close(self) -> None:
        await self._pool.close()


class WithHooks(Bare):
    """A validator (asked only of what idled for long), a resetter and a judge at every release."""

    name = "aiopool, with hooks"

    def hooks(self) -> dict[str, Any]:
        return {
            "validator": lambda connection: not connection.is_closed,
            "resetter": lambda connection: None,
            "is_broken": lambda connection, exc: connection.is_closed,
        }


class Shared(Bare):
    """A connection carries many leases, like the streams of HTTP/2."""

    name = "aiopool, shared"
    max_shares = 100
