"""A race found by simulation: a cache before a database, its invalidation, and the seed that shows what goes wrong.

python examples/simulation.py         # tries seeds until one of them fails
python examples/simulation.py 17      # replays that one
"""

from __future__ import annotations

import asyncio
import sys

from aiopool import ConnectionPool, PoolConfig
from aiopool.testing import Faults, SimulatedConnection, SimulatedServer, run


class Prices:
    """The code under test: it forgets a price when that changes, and still may keep an old one for good."""

    def __init__(self, pool: ConnectionPool[SimulatedConnection], table: dict[str, int]) -> None:
        self.pool = pool
        self.table = table  # what the database holds: a simulated one stores nothing
        self.cache: dict[str, int] = {}

    async def get(self, item: str) -> int:
        if item not in self.cache:
            async with self.pool.acquire() as connection:
                price = self.table[item]
                await connection.query()  # the answer is on its way
            self.cache[item] = price
        return self.cache[item]

    async def change(self, item: str, price: int) -> None:
        async with self.pool.acquire() as connection:
            await connection.query()
            self.table[item] = price
        self.cache.pop(item, None)


async def story(seed: int, trace: list[str]) -> None:
    """Somebody reads a price while somebody else changes it. Whoever reads it later must see the new one."""
    server = SimulatedServer(seed, opens=Faults(slow=0.1), queries=Faults(slow=0.1))
    config = PoolConfig(min_size=1, max_size=2)
    async with ConnectionPool(server.connect, config, validator=server.validate, destroyer=server.close) as pool:
        prices = Prices(pool, {"tea": 3})
        loop = asyncio.get_running_loop()
        start = loop.time()

        async def read() -> None:
            price = await prices.get("tea")
            trace.append(f"{loop.time() - start:.3f}s read {price}")

        async def change() -> None:
            await prices.change("tea", 4)
            trace.append(f"{loop.time() - start:.3f}s changed to 4")

        await asyncio.gather(read(), change())
        await read()
        assert await prices.get("tea") == 4, "an old price stays in the cache"


def fails(seed: int) -> list[str]:
    """What happened, if that seed breaks the rule."""
    trace: list[str] = []
    try:
        run(story(seed, trace), seed=seed)
    except AssertionError as exc:
        return [*trace, str(exc)]
    return []


def main() -> None:
    seeds = [int(sys.argv[1])] if len(sys.argv) > 1 else range(100)
    for seed in seeds:
        if trace := fails(seed):
            print(f"seed {seed}:", *trace, sep="\n  ")
            print(f"replay: python examples/simulation.py {seed}")
            assert fails(seed) == trace  # the same seed tells the same story
            return
    print("nothing was found")


if __name__ == "__main__":
    main()
