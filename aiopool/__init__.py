"""aiopool: asyncio-native pooling. Create once, reuse always.

async with ConnectionPool(factory) as pool:
    async with pool.acquire() as conn:
        ...
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aiopool.config import PoolConfig
from aiopool.connection import PooledConnection
from aiopool.errors import (
    ForkedPool,
    LeaseExpired,
    PoolClosed,
    PoolConfigError,
    PoolError,
    PoolFull,
    PoolNotFound,
    PoolOverloaded,
    PoolTimeout,
    PoolUnavailable,
    WrongLoop,
)
from aiopool.events import (
    Acquired,
    Closed,
    Drained,
    Event,
    Leaked,
    Opened,
    OpenFailed,
    Released,
    Resized,
    Resumed,
    Shed,
    Suspended,
    Unavailable,
)
from aiopool.handoff import HandoffQueue
from aiopool.lease import Acquisition, Lease
from aiopool.pool import ConnectionPool
from aiopool.stats import PoolStats

if TYPE_CHECKING:
    from aiopool.adapters.http import HTTPClientPool
    from aiopool.adapters.mcp import MCPSessionPool
    from aiopool.adapters.postgres import DatabasePool
    from aiopool.adapters.redis import RedisPool
    from aiopool.manager import PoolManager, pools

__version__ = "0.1.0"

__all__ = [
    "Acquired",
    "Acquisition",
    "Closed",
    "ConnectionPool",
    "DatabasePool",
    "Drained",
    "Event",
    "ForkedPool",
    "HTTPClientPool",
    "HandoffQueue",
    "Leaked",
    "Lease",
    "LeaseExpired",
    "MCPSessionPool",
    "OpenFailed",
    "Opened",
    "PoolClosed",
    "PoolConfig",
    "PoolConfigError",
    "PoolError",
    "PoolFull",
    "PoolManager",
    "PoolNotFound",
    "PoolOverloaded",
    "PoolStats",
    "PoolTimeout",
    "PoolUnavailable",
    "PooledConnection",
    "RedisPool",
    "Released",
    "Resized",
    "Resumed",
    "Shed",
    "Suspended",
    "Unavailable",
    "WrongLoop",
    "pools",
]

#: Imported when first asked for, so that the core needs no driver.
_LAZY = {
    "DatabasePool": "aiopool.adapters.postgres",
    "HTTPClientPool": "aiopool.adapters.http",
    "MCPSessionPool": "aiopool.adapters.mcp",
    "PoolManager": "aiopool.manager",
    "RedisPool": "aiopool.adapters.redis",
    "pools": "aiopool.manager",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'aiopool' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
