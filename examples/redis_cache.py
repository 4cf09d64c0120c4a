"""Redis as a cache in front of something slow.

python examples/redis_cache.py        # starts a Redis of its own, or uses REDIS_URL
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiopool import RedisPool, embedded

KEY = "aiopool-example:report"


async def make_report() -> dict[str, Any]:
    await asyncio.sleep(0.1)
    return {"orders": 42, "total": 1337}


async def report(cache: RedisPool) -> tuple[dict[str, Any], bool]:
    """The report, and whether it came from the cache."""
    if (cached := await cache.get(KEY)) is not None:
        return json.loads(cached), True
    fresh = await make_report()
    await cache.set(KEY, json.dumps(fresh), ttl=60)
    return fresh, False


async def main() -> None:
    async with embedded.redis() as server, RedisPool(server.url, max_connections=20) as cache:
        try:
            for _ in range(2):
                value, was_cached = await report(cache)
                print("from the cache:" if was_cached else "made:", value)

            # `client` is a complete redis-py client on the same connections.
            hits = await asyncio.gather(*(cache.client.exists(KEY) for _ in range(100)))
            print(f"{sum(hits)} hits over {cache.stats()['size']} connections")
        finally:
            await cache.delete(KEY)


if __name__ == "__main__":
    asyncio.run(main())
