"""`redis`: SET and GET through redis-py's pools and ours, over connections without a pool, and by a program in C."""

from __future__ import annotations

from aiopool import embedded
from benchmarks.harness import Run
from benchmarks.redis import limits, ours, peers
from benchmarks.redis.client import VALUE, Client
from benchmarks.results import Target
from benchmarks.servers import compare_clients

TASKS = (100, 1000)
CONTESTANTS: tuple[type[Client], ...] = (
    ours.Exclusive,
    ours.Batching,
    peers.Blocking,
    peers.OnePerTask,
    limits.Dedicated,
    limits.RedisBenchmark,
)
BATCHING_OVER_BEST = {100: 12.0, 1000: 18.0}


def targets(tasks: int) -> tuple[Target, ...]:
    best = (peers.Blocking.name, peers.OnePerTask.name)
    return (
        Target(ours.Exclusive.name, at_least=1.2, times=best),
        Target(ours.Exclusive.name, at_least=0.99, metric="jain"),
        Target(ours.Exclusive.name, at_most=2.0, metric="tail"),
        Target(ours.Batching.name, at_least=BATCHING_OVER_BEST[tasks], times=best),
    )


async def run(run: Run) -> None:
    async with embedded.redis() as server:
        await compare_clients(
            run,
            "redis",
            "Redis",
            f"SET and GET of {len(VALUE)} bytes, one after the other, count as one call.",
            [kind(server) for kind in CONTESTANTS],
            TASKS,
            references=(peers.Blocking.name, peers.OnePerTask.name),
            targets=targets,
            unit="pairs/s",
        )
