"""`overhead`: what it costs to acquire and release a connection that is idle, with nobody else around.

Short slices take turns, so that what slows the machine for a while slows all of them, and the ratio to the floor is
taken within each round. It is CPU time that counts, without the garbage collector; what a slice left behind is
collected before the next.
"""

from __future__ import annotations

import asyncio
import gc
from statistics import quantiles
from time import process_time

from benchmarks.cputime import collector_off
from benchmarks.harness import Run, compare, opened
from benchmarks.pools import floors, ours, peers
from benchmarks.pools.pool import Pool
from benchmarks.results import Comparison, Metric, Sample, Target, number

CONTESTANTS: tuple[type[Pool], ...] = (
    floors.Deque,
    ours.Bare,
    ours.WithHooks,
    ours.Shared,
    floors.Queue,
    floors.SemaphoreAndLifoQueue,
    peers.PsycopgPool,
    peers.PsycopgPoolDirect,
    peers.AsyncpgPool,
    peers.RedisPool,
    peers.SQLAlchemyPool,
)
TIME = Metric("us", "acquire + release", "µs")
TARGETS = (
    Target(ours.Bare.name, at_most=2.5, times=floors.Deque.name),
    Target(peers.PsycopgPool.name, at_least=5, times=ours.Bare.name),
    Target(peers.AsyncpgPool.name, at_least=12, times=ours.Bare.name),
    Target(peers.SQLAlchemyPool.name, at_least=15, times=ours.Bare.name),
)


async def run(run: Run) -> None:
    comparison = Comparison(
        suite="overhead",
        group="Uncontended acquire + release",
        case=f"{_loop_name()} event loop",
        metrics=(TIME,),
        references=(floors.Deque.name,),
        about="A pool of idle connections that do nothing, one task: the CPU time of the pool itself, garbage "
        "collector off. The floor is a deque in a context manager.",
        targets=TARGETS,
    )
    async with opened([kind() for kind in CONTESTANTS], comparison.skipped) as contestants:
        rounds = run.effort.overhead_rounds
        run.expect((rounds + 1) * len(contestants))
        times = {}
        for contestant in contestants:
            run.step(f"warm-up · {contestant.name}")
            times[contestant.name] = await _warm_up(contestant, run.effort.overhead_slice)
        with collector_off():
            await compare(run, comparison, contestants, lambda c: _slice(c, times[c.name]), rounds=rounds)
    comparison.finding = _finding(comparison)
    run.publish([comparison])


async def _warm_up(contestant: Pool, seconds: float) -> int:
    """How many turns fill a slice."""
    times, took = 16, 0.0
    while took < seconds:
        times *= 2
        began = process_time()
        await contestant.spin(times)
        took = process_time() - began
    return max(1, round(times * seconds / took))


async def _slice(contestant: Pool, times: int) -> Sample:
    gc.collect()
    await contestant.spin(times // 16 + 1)
    began = process_time()
    await contestant.spin(times)
    return {TIME.key: (process_time() - began) / times * 1e6}


def _finding(comparison: Comparison) -> str:
    series = comparison.find(ours.Bare.name)
    ratios = comparison.ratios(series, floors.Deque.name) if series else []
    if series is None or len(ratios) < 2:
        return ""
    low, middle, high = (number(ratio) for ratio in quantiles(ratios, n=4))
    time = number(series.median(TIME.key))
    half = f"half of the rounds: {low} to {high}"
    return f"aiopool takes {time} µs to acquire and release, {middle} times the floor ({half})"


def _loop_name() -> str:
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]
