"""Pools from a file under one manager, a dispatcher over them, and their metrics.

python examples/manager.py        # starts servers of its own, or uses DATABASE_URL and REDIS_URL
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest

from aiopool import PoolManager, embedded


async def pooled_query(pools: PoolManager, pool_name: str, **kwargs: Any) -> Any:
    """One operation on the pool of that name; the name of the pool says which one."""
    pool = pools.get(pool_name)  # PoolNotFound, a KeyError, names the pools that there are
    match pool_name:
        case "database":
            return [dict(row) for row in await pool.execute(kwargs["query"])]
        case "redis":
            return await pool.get(kwargs["key"])
        case "api":
            return (await pool.get(kwargs["url"])).raise_for_status().json()
        case _:
            raise ValueError(f"nothing is known to ask of pool {pool_name!r}")


async def main() -> None:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(embedded.postgres())
        redis = await stack.enter_async_context(embedded.redis())
        api = await stack.enter_async_context(embedded.https())
        # The HTTPS server's authority; an API on the internet needs none of this.
        os.environ["SSL_CERT_FILE"] = str(api.ca_file)

        addresses = {"DATABASE_URL": database.dsn, "REDIS_URL": redis.url, "API_URL": api.url}
        pools = PoolManager.from_config(Path(__file__).with_name("manager.yaml"), env=addresses)
        async with pools:  # opens them in the order of the file, closes them in reverse
            print("database:", await pooled_query(pools, "database", query="select 42 as answer"))
            print("redis:", await pooled_query(pools, "redis", key="aiopool-example:nothing"))
            print("api:", (await pooled_query(pools, "api", url="/echo"))["path"])

            for name, stats in pools.stats().items():
                print(f"{name}: size={stats['size']} available={stats['available']} max_size={stats['max_size']}")

            # Scrapes read the pools by themselves. This only makes sure that they will show every one.
            pools.update_metrics()
            metrics = generate_latest().decode()
            print(*(line for line in metrics.splitlines() if line.startswith("connection_pool_size{")), sep="\n")


if __name__ == "__main__":
    asyncio.run(main())
