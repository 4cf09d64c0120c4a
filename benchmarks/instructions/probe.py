"""Does one thing so many times, and nothing else: to be run under valgrind.

python -m benchmarks.instructions.probe CASE TIMES
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable

from benchmarks.pools import floors, ours
from benchmarks.pools.pool import Pool

#: Enough for the interpreter to have specialized the code.
WARM_UP = 100
#: Tasks that pass one connection round.
HANDS = 10

CASES: dict[str, Callable[[], Pool]] = {
    floors.Deque.name: floors.Deque,
    ours.Bare.name: ours.Bare,
    ours.WithHooks.name: ours.WithHooks,
    ours.Shared.name: ours.Shared,
    "aiopool, handed on": lambda: ours.Bare(size=1),
    "Semaphore + LifoQueue, handed on": lambda: floors.SemaphoreAndLifoQueue(size=1),
}


async def pass_round(pool: Pool, times: int) -> None:
    """Somebody always waits, so that every release hands the connection to another task."""
    turns = iter(range(times))

    async def take() -> None:
        for _ in turns:
            async with pool.lease():
                await asyncio.sleep(0)

    await asyncio.gather(*(take() for _ in range(HANDS)))


async def main(case: str, times: int) -> None:
    pool = CASES[case]()
    await pool.open()
    work = pool.spin if pool.size > 1 else lambda times: pass_round(pool, times)
    await work(WARM_UP)
    await work(times)
    await pool.close()


if __name__ == "__main__":
    gc.disable()
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
