"""A plugin of pytest: wherever redis-py's own tests make a connection pool, they get ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import redis.asyncio
import redis.asyncio.client
import redis.asyncio.connection

from aiopool.adapters.redis import RedisConnectionPool

_made: list[RedisConnectionPool] = []


class Pool(RedisConnectionPool):
    """Ends with its test; redis-py's pools need no end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _made.append(self)


def pytest_configure(config: pytest.Config) -> None:
    for module in (redis.asyncio, redis.asyncio.client, redis.asyncio.connection):
        module.ConnectionPool = Pool  # type: ignore[misc, attr-defined]
    redis.asyncio.BlockingConnectionPool = Pool  # type: ignore[misc, assignment]


@pytest_asyncio.fixture(autouse=True)
async def _pools_end() -> AsyncIterator[None]:
    yield
    while _made:
        await _made.pop().pool.close(timeout=0)
