"""`RedisPool`: Redis through redis-py's asyncio client."""

from __future__ import annotations

import asyncio
import itertools
import time
from types import TracebackType
from typing import Any, Self, TypedDict, cast

from aiopool.adapters import complaint, missing_driver
from aiopool.config import PoolConfig
from aiopool.errors import PoolClosed, PoolConfigError, PoolTimeout, PoolUnavailable

try:
    import redis.asyncio as redis
    from redis.asyncio.retry import Retry
    from redis.backoff import ExponentialWithJitterBackoff
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import RedisError
except ModuleNotFoundError as exc:
    if exc.name != "redis":
        raise
    raise missing_driver("redis", "redis") from None

DEFAULT_MAX_CONNECTIONS = 50
RETRIES = 3

_numbers = itertools.count(1)


class RedisStats(TypedDict):
    """What redis-py's pool knows of itself; each key means what it means in `PoolStats`."""

    name: str
    size: int
    available: int
    in_use: int
    waiting: int
    min_size: int
    max_size: int


class RedisPool:
    """A pool of Redis connections, and the client on top of it.

        async with RedisPool("redis://localhost:6379/0") as cache:
            await cache.set("key", "value", ttl=60)
            await cache.client.lpush("queue", "job")

    `client` is a full `redis.asyncio.Redis`. At most `max_connections` (50, or `config.max_size`) are opened,
    when they are needed; a caller waits up to `config.acquire_timeout` for one, then gets `PoolTimeout`.
    `connection_kwargs` go to redis-py's connections.
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
        **connection_kwargs: Any,
    ) -> None:
        self.config = config = _sized(config, max_connections)
        self.name = name if name is not None else f"redis-{next(_numbers)}"
        settings: dict[str, Any] = {
            "decode_responses": True,
            "socket_keepalive": True,
            "socket_connect_timeout": config.open_timeout,
            "health_check_interval": config.health_check_interval,
            # redis-py's own client does so too; without it, each idle connection that died costs a command.
            "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=1), RETRIES),
            "db": db,
            "password": password,
            **connection_kwargs,
            "max_connections": config.max_size,
            "timeout": config.acquire_timeout,
        }
        if url is None:
            self._connections = _Connections(host=host, port=port, **settings)
        else:
            self._connections = _from_url(url, settings)
        self._connections.owner = self
        self.client: redis.Redis = redis.Redis(connection_pool=self._connections)

    async def get(self, key: str) -> Any:
        """The value, or None."""
        return await self.client.get(key)

    async def set(self, key: str, value: Any, ttl: float | None = None) -> bool:
        """Set a value, to vanish after `ttl` seconds if that is given."""
        if ttl is None:
            return bool(await self.client.set(key, value))
        if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0.001 <= ttl < float("inf"):
            raise ValueError(f"ttl={ttl!r} is not allowed: seconds, 0.001 or more, or None for ever")
        return bool(await self.client.set(key, value, px=round(ttl * 1000)))

    async def delete(self, *keys: str) -> int:
        """Delete keys; return how many there were."""
        return int(await self.client.delete(*keys)) if keys else 0

    async def open(self) -> None:
        """Open a first connection, so that errors come early: `PoolUnavailable`, with its cause."""
        self._connections.reopen()
        try:
            async with asyncio.timeout(self.config.open_timeout):
                await cast(Any, self.client.ping())
        except (RedisError, OSError) as exc:
            await self.close(0)
            raise PoolUnavailable(
                f"pool {self.name!r}: Redis could not be reached ({type(exc).__name__}); "
                "check that it runs, its address and the password"
            ) from exc

    async def close(self, timeout: float | None = 10) -> None:
        """Refuse newcomers and those in line, wait for running commands up to `timeout`, then disconnect."""
        await self._connections.shut(timeout)

    def stats(self) -> RedisStats:
        in_use = len(self._connections._in_use_connections)
        idle = sum(connection.is_connected for connection in self._connections._available_connections)
        return {
            "name": self.name,
            "size": idle + in_use,
            "available": idle,
            "in_use": in_use,
            "waiting": self._connections.waiting,
            "min_size": 0,
            "max_size": self.config.max_size,
        }

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class _Connections(redis.BlockingConnectionPool):
    """redis-py's own pool; what it adds is our errors, the number of those who wait, and an end."""

    owner: RedisPool

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.waiting = 0
        self.is_closed = False

    async def get_connection(self, *args: Any, **kwargs: Any) -> Any:
        began = time.monotonic()
        waits = not self.can_get_connection()
        self.waiting += waits
        try:
            return await super().get_connection(*args, **kwargs)  # type: ignore[no-untyped-call]
        except RedisConnectionError as exc:
            if str(exc) != "No connection available.":
                raise
            waited, stats = time.monotonic() - began, self.owner.stats()
        finally:
            self.waiting -= waits
        figures = " ".join(f"{key}={value}" for key, value in stats.items() if key != "name")
        raise PoolTimeout(
            f"pool {self.owner.name!r}: no connection came free ({figures}, waited {waited:.2f}s); "
            "raise max_connections, or hold connections for a shorter time",
            waited=waited,
            stats=stats,
        )

    def can_get_connection(self) -> bool:
        # redis-py asks this of everybody who comes, and again of those in line whenever something happens.
        if self.is_closed:
            raise PoolClosed(f"pool {self.owner.name!r} is closed; open() it again before use")
        return bool(super().can_get_connection())

    def reopen(self) -> None:
        self.is_closed = False
        for connection in (*self._available_connections, *self._in_use_connections):
            connection.retry.update_retries(RETRIES)

    async def shut(self, timeout: float | None) -> None:
        self.is_closed = True
        try:
            async with asyncio.timeout(timeout), self._condition:
                self._condition.notify_all()
                await self._condition.wait_for(lambda: not self._in_use_connections)
        except TimeoutError:
            # They are disconnected under their holders, who must not connect again to repeat their commands.
            for connection in self._in_use_connections:
                connection.retry.update_retries(0)
        finally:
            await self.aclose()


def _sized(config: PoolConfig | None, max_connections: int | None) -> PoolConfig:
    if config is None:
        return PoolConfig(
            max_size=DEFAULT_MAX_CONNECTIONS if max_connections is None else max_connections,
            health_check_interval=30,
        )
    if max_connections not in (None, config.max_size):
        raise PoolConfigError(
            f"max_connections={max_connections!r} is not allowed with config.max_size={config.max_size}: "
            "they mean the same; give one of them"
        )
    return config


def _from_url(url: str, settings: dict[str, Any]) -> _Connections:
    try:
        return _Connections.from_url(url, **settings)
    except ValueError as exc:
        told = complaint(exc, url)
    raise PoolConfigError(
        f"redis-py refuses the URL{told}: write redis://user:password@host:6379/0, rediss://… for TLS or "
        "unix:///path, with what is special in the password percent-encoded"
    )
