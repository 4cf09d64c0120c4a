"""Many callers and few connections."""

from __future__ import annotations

import asyncio

from aiopool import ConnectionPool, PoolConfig


async def connect() -> object:
    return object()


async def test_two_thousand_tasks_on_ten_connections_share_them_fairly() -> None:
    counts, turns = [0] * 2000, iter(range(30_000))
    served = most = 0
    async with ConnectionPool(connect, PoolConfig(min_size=10, max_size=10)) as pool:

        async def work(n: int) -> None:
            nonlocal served, most
            while next(turns, None) is not None:
                before = served
                async with pool.acquire():
                    most = max(most, served - before)
                    served += 1
                    await asyncio.sleep(0)
                counts[n] += 1

        await asyncio.gather(*(work(n) for n in range(2000)))
        assert pool.stats()["available"] == 10
    jain = sum(counts) ** 2 / (len(counts) * sum(count * count for count in counts))
    assert jain > 0.99
    assert most <= 2000, "somebody was overtaken"
