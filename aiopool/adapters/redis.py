"""Redis through redis-py: its own client, on connections that live in our pool.

`RedisPool` is the class that most callers want. `RedisConnectionPool` takes the place of redis-py's pools in code
that builds its clients itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from aiopool.adapters import complaint
from aiopool.adapters._given import ensure_unshared
from aiopool.adapters._redis_pool import RedisConnectionPool
from aiopool.adapters._redispy import (
    BookkeepingConnection,
    Client,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from aiopool.adapters.face import PoolFace
from aiopool.config import PoolConfig
from aiopool.errors import PoolConfigError

__all__ = ["RedisConnectionPool", "RedisPool"]


class RedisPool(PoolFace[BookkeepingConnection]):
    """A pool of Redis connections, and the client on top of it.

        async with RedisPool("redis://localhost:6379/0") as cache:
            await cache.set("key", "value", ttl=60)
            await cache.client.lpush("queue", "job")

    `client` is a full `redis.asyncio.Redis`. `min_size` connections (5, or `max_connections` if that is less) are
    kept open, and up to `max_connections` (50, or `config.max_size`) when they are needed; a caller waits up to
    `acquire_timeout` for one, then gets `PoolTimeout`. `connection_kwargs` go to redis-py's connections.

    With `batching`, what tasks ask in one turn of the event loop shares a connection and goes out in one write; what
    blocks, listens, or changes its session takes a connection of its own. A command whose connection is lost is not
    sent again then. Needs hiredis.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        host: str = "localhost",
        port: int = 6379,
        db: int = 0,
        password: str | None = None,
        max_connections: int | None = None,
        config: PoolConfig | None = None,
        name: str | None = None,
        batching: bool = False,
        **connection_kwargs: Any,
    ) -> None:
        ensure_unshared("RedisPool", config)
        settings: dict[str, Any] = {
            "decode_responses": True,
            "db": db,
            "password": password,
            **(_placed(host, port, **connection_kwargs) if url is None else connection_kwargs),
            "max_connections": max_connections,
            "config": config,
            "name": name,
        }
        self._connections = _connections(url, settings)
        self.pool = self._connections.pool
        if batching:
            from aiopool.adapters._redis_client import BatchingClient

            self.client: Client = BatchingClient(connection_pool=self._connections)
        else:
            self.client = Client(connection_pool=self._connections)
        self._execute: Callable[..., Awaitable[Any]] = self.client.execute_command

    @property
    def config(self) -> PoolConfig:
        return self.pool.config

    async def open(self, wait: bool = True, timeout: float | None = None) -> None:
        """Start; with `wait`, return when `min_size` connections stand.

        Raises `PoolUnavailable` if they can't be had, or not within `timeout` seconds; at once if nobody answers at
        the address and no connection exists.
        """
        await self._connections.open(wait, timeout)

    async def get(self, key: str) -> Any:
        """The value, or None."""
        return await self._execute("GET", key)

    async def set(self, key: str, value: Any, ttl: float | timedelta | None = None) -> bool:
        """Set a value, to vanish after `ttl` seconds if that is given."""
        if isinstance(ttl, timedelta):
            ttl = ttl.total_seconds()
        if ttl is None:
            return bool(await self._execute("SET", key, value))
        if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0.001 <= ttl < float("inf"):
            raise ValueError(f"ttl={ttl!r} is not allowed: seconds, 0.001 or more, or None for ever")
        return bool(await self.client.set(key, value, px=round(ttl * 1000)))

    async def delete(self, *keys: str) -> int:
        """Delete keys; return how many there were."""
        return int(await self.client.delete(*keys)) if keys else 0


def _placed(
    host: str, port: int, *, ssl: bool = False, unix_socket_path: str | None = None, **settings: Any
) -> dict[str, Any]:
    """In the words of redis-py's connections, which are not all those of its client."""
    if unix_socket_path is not None:
        settings["path"] = unix_socket_path
    if "path" in settings:
        return {"connection_class": UnixDomainSocketConnection, **settings}
    return {"connection_class": SSLConnection if ssl else Connection, "host": host, "port": port, **settings}


def _connections(url: str | None, settings: dict[str, Any]) -> RedisConnectionPool:
    try:
        connections = RedisConnectionPool(**settings) if url is None else _from_url(url, settings)
        connections.make_connection()  # type: ignore[no-untyped-call]
        return connections
    except TypeError as exc:
        # A keyword that redis-py does not know, told now rather than at the first use. Unless it is from the URL:
        # what follows a question mark in a password would be one.
        told = complaint(exc, url)
    if url is None or told:
        raise TypeError(
            f"RedisPool was given a keyword that redis-py refuses{told}: it takes those of redis-py's connections; "
            "ssl=True beside a URL is rediss:// in it, and the pool's own settings go into PoolConfig"
        )
    raise _refused("")


def _from_url(url: str, settings: dict[str, Any]) -> RedisConnectionPool:
    try:
        return RedisConnectionPool.from_url(url, **settings)
    except PoolConfigError:
        raise
    except ValueError as exc:
        told = complaint(exc, url)
    # Raised here because inside `except` it would carry the original along, password and all.
    raise _refused(told)


def _refused(told: str) -> PoolConfigError:
    return PoolConfigError(
        f"redis-py refuses the URL{told}: write redis://user:password@host:6379/0, rediss://… for TLS or "
        "unix:///path, with what is special in the password percent-encoded"
    )
