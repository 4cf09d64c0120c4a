"""aiopool: asyncio-native pooling. Create once, reuse always.

async with ConnectionPool(factory) as pool:
    async with pool.acquire() as conn:
        ...
"""

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
from aiopool.lease import Lease
from aiopool.pool import ConnectionPool
from aiopool.stats import PoolStats

__version__ = "0.1.0"
