"""`spike` and `ramp`: fifty callers at once, five connections there, and opening one takes 150 ms.

In the spike (after HikariCP's "Welcome to the jungle") each holds its connection for 2 ms, so that the five serve all
of them before the first new one could be there. In the ramp they hold for long, and only new connections help.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter

from benchmarks.harness import Run, compare, opened
from benchmarks.pools import floors, ours, peers
from benchmarks.pools.pool import Pool
from benchmarks.results import Comparison, Kind, Metric, Sample, Series, Target, number, percentile

CALLERS, IDLE, MOST, OPENING = 50, 5, 50, 0.150
CONTESTANTS: tuple[type[Pool], ...] = (
    ours.Bare,
    floors.SemaphoreAndLifoQueue,
    peers.AsyncpgPool,
    peers.PsycopgPool,
    peers.SQLAlchemyPool,
    peers.RedisPool,
    peers.HTTPCorePool,
)
IDEAL = "the ideal"
WAITS = (Metric("p50", "p50 wait", "ms"), Metric("p99", "p99 wait", "ms"))
BEGUN = Metric("begun", "opened besides", "", is_count=True)
#: Seconds until a pool that does not serve everybody is given up.
LIMIT = 20.0


@dataclass(frozen=True)
class Crowd:
    """Callers that come all at once, and hold for so many seconds."""

    suite: str
    hold: float
    case: str
    metrics: tuple[Metric, ...]
    #: What the first metric can be at best, and how many connections that takes.
    ideal: float
    surplus: int
    targets: tuple[Target, ...]


SPIKE = Crowd(
    "spike",
    0.002,
    "holds of 2 ms",
    (Metric("all", "all are done", "ms"), *WAITS, BEGUN),
    ideal=CALLERS / IDLE * 2.0,
    surplus=0,
    targets=(
        Target(ours.Bare.name, at_most=1.3, times=IDEAL),
        Target(ours.Bare.name, metric="begun", at_most=2),
    ),
)
RAMP = Crowd(
    "ramp",
    0.5,
    "holds of 500 ms",
    (Metric("last", "the last is served", "ms"), *WAITS, BEGUN),
    ideal=OPENING * 1000,
    surplus=CALLERS - IDLE,
    targets=(Target(ours.Bare.name, at_most=2.0, times=IDEAL),),
)


async def spike(run: Run) -> None:
    await _run(run, SPIKE)


async def ramp(run: Run) -> None:
    await _run(run, RAMP)


async def _run(run: Run, crowd: Crowd) -> None:
    comparison = Comparison(
        suite=crowd.suite,
        group=f"{crowd.suite.capitalize()}: {CALLERS} callers at once",
        case=crowd.case,
        metrics=crowd.metrics,
        references=(IDEAL,),
        about=f"{IDLE} idle connections, {MOST} at most; opening one takes {OPENING * 1000:.0f} ms. "
        "Opened besides: those whose opening was begun, needed or not.",
        targets=crowd.targets,
    )
    async with opened([kind(MOST, IDLE) for kind in CONTESTANTS], comparison.skipped) as ready:
        pools = list(ready)
    rounds = run.effort.growth_rounds
    run.expect(rounds * len(pools))
    ideal: Sample = {crowd.metrics[0].key: crowd.ideal, BEGUN.key: crowd.surplus}
    comparison.series.append(Series(IDEAL, Kind.FLOOR, [ideal] * rounds))
    await compare(run, comparison, pools, lambda pool: _meet(crowd, type(pool)), rounds=rounds)
    comparison.finding = _finding(comparison)
    run.publish([comparison])


async def _meet(crowd: Crowd, kind: type[Pool]) -> Sample:
    # Those that are idle took as long to open: whoever learns from that has learned it.
    pool = kind(MOST, IDLE, OPENING)
    await pool.open()
    had = pool.begun
    waits: list[float] = []
    began = perf_counter()

    async def call() -> None:
        async with pool.lease():
            waits.append(perf_counter() - began)
            await asyncio.sleep(crowd.hold)

    try:
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*(call() for _ in range(CALLERS)))
        took = perf_counter() - began
        # Connections that nobody waits for any more are closed in peace: some pools begin more of them meanwhile.
        await asyncio.sleep(OPENING)
    finally:
        await pool.close()
    waits.sort()
    return {
        "all": took * 1000,
        "last": waits[-1] * 1000,
        "p50": percentile(waits, 0.5) * 1000,
        "p99": percentile(waits, 0.99) * 1000,
        "begun": pool.begun - had,
    }


def _finding(comparison: Comparison) -> str:
    name, main = ours.Bare.name, comparison.main
    took, ratio, begun = comparison.median(name), comparison.ratio_of(name, IDEAL), comparison.median(name, BEGUN.key)
    if took is None or ratio is None or begun is None:
        return ""
    return f"aiopool: {main.label} after {number(took)} ms, {number(ratio)} times the ideal, and {begun:.0f} are opened"
