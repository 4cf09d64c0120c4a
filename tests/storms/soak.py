"""A soak: mixed load with cancellations now and then, and what this process holds after each stretch of it.

Everything is counted in pauses, when every query has ended: what is there then will not go away by itself.
Descriptors, besides the connections, and tasks must be as many in each pause. Memory is counted twice:

- blocks that Python has allocated (`sys.getallocatedblocks`), after a collection. They are exact, and cost nothing
  meanwhile. One object that each query leaves behind shows as one block for each query, so the bound is one for every
  20, and beside it `SLACK`, which is what caches and the loop's heap of cancelled timers may hold or not.
- resident bytes, for what the libraries in C allocate. The allocator gives little back, so they grow until the load
  has been through its worst moment, and growth is measured from a third of the time on: 100 bytes a query are allowed,
  which is less than the smallest reply or buffer that could be forgotten, and beside them 8 MiB, for arenas that
  the worst moment of six pools at once still adds.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

from tests.storms import census
from tests.storms.attack import Tally, plans
from tests.storms.storm import CALM, Backend

STRETCHES = 12
#: Of each backend: a few more than it has connections.
CALLERS = 15
SPARED = 0.9
#: Blocks.
SLACK = 2000


@dataclass(frozen=True)
class Pause:
    """What this process holds between two stretches."""

    queries: int
    #: Besides those of the pools' connections, some of which a cancellation costs.
    descriptors: int
    tasks: int
    blocks: int
    resident: int
    #: The figures of pools that did not come to rest.
    restless: tuple[str, ...] = ()


@dataclass
class Soak:
    tally: Tally
    pauses: list[Pause]

    def complaints(self) -> list[str]:
        told = self.tally.complaints()
        told += [f"no rest after a stretch: {figures}" for pause in self.pauses for figures in pause.restless]
        # What comes before is warm-up: connections are opened, and caches fill.
        first, last = self.pauses[len(self.pauses) // 3], self.pauses[-1]
        queries = last.queries - first.queries
        bounds = {"descriptors": 0, "tasks": 0, "blocks": queries // 20 + SLACK, "resident": 100 * queries + 2**23}
        for what, bound in bounds.items():
            grown = getattr(last, what) - getattr(first, what)
            if grown > bound:
                told.append(f"{what} grew by {grown} in {queries} queries; {bound} are allowed")
        return told


async def soak(backends: Sequence[Backend], *, seconds: float, seed: int) -> Soak:
    """Load all the backends at once for so long."""
    found = Soak(Tally(), [])
    async with AsyncExitStack() as stack:
        for backend in backends:
            await stack.enter_async_context(backend.pool)
        for stretch in range(STRETCHES):
            deadline = time.monotonic() + seconds / STRETCHES
            async with asyncio.timeout(seconds / STRETCHES + 60), asyncio.TaskGroup() as group:
                for number, backend in enumerate(backends):
                    # No nonce comes twice, as keys and channels are made of it.
                    endless = plans(backend.ways, seed + number, spared=SPARED, first=stretch * 10_000_000)
                    planned = takewhile(partial(_is_before, deadline), endless)
                    for _ in range(CALLERS):
                        group.create_task(found.tally.attack(planned))
            found.pauses.append(await _pause(backends, found.tally.queries))
    return found


def _is_before(deadline: float, _: object) -> bool:
    return time.monotonic() < deadline


async def _pause(backends: Sequence[Backend], queries: int) -> Pause:
    await census.eventually(lambda: all(backend.is_calm() for backend in backends), CALM)
    gc.collect()
    return Pause(
        queries=queries,
        descriptors=census.descriptors() - sum(backend.pool.stats()["size"] for backend in backends),
        tasks=census.tasks(),
        blocks=sys.getallocatedblocks(),
        resident=census.resident_bytes(),
        restless=tuple(f"{backend.title}: {backend.figures()}" for backend in backends if not backend.is_calm()),
    )
