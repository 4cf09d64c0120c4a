"""`contended`: many tasks, ten connections, and nothing to wait for but each other.

Each task acquires, holds its connection for one turn of the event loop, releases, and begins again. Nobody sleeps, so
throughput is told in operations per second of CPU time; waits are told as the clock shows them, and are longer where
the machine has other work. Starvation needs no clock: it is how many others were served during the longest wait, as a
multiple of what it takes to serve everybody else once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from time import perf_counter, process_time

from benchmarks.cputime import collector_off
from benchmarks.fairness import jain
from benchmarks.harness import Run, compare, opened
from benchmarks.load import ENOUGH
from benchmarks.pools import floors, ours, peers
from benchmarks.pools.pool import SIZE, Pool
from benchmarks.results import Comparison, Metric, Sample, Target, number, percentile

CONTESTANTS: tuple[type[Pool], ...] = (
    ours.Bare,
    floors.SemaphoreAndLifoQueue,
    floors.Queue,
    peers.AsyncpgPool,
    peers.PsycopgPool,
    peers.SQLAlchemyPool,
    peers.RedisPool,
    peers.HTTPCorePool,
)
#: How many tasks, and whether each lets others run between a release and its next acquire.
CASES = ((20, False), (200, False), (2_000, False), (20_000, False), (200, True))
REFERENCE = floors.SemaphoreAndLifoQueue.name
METRICS = (
    Metric("rate", "throughput", "ops/s", lower_is_better=False),
    Metric("p50", "p50 wait", "ms"),
    Metric("p99", "p99 wait", "ms"),
    Metric("max", "max wait", "ms"),
    Metric("jain", "Jain", "", lower_is_better=False),
    Metric("starvation", "worst / fair", ""),
)
TARGETS = (
    Target(ours.Bare.name, at_least=1.0, times=REFERENCE),
    Target(ours.Bare.name, metric="jain", at_least=0.999),
    Target(ours.Bare.name, metric="starvation", at_most=1.5),
)
#: A cell may take longer than its budget if there are many tasks: so many seconds for each.
BUDGET_PER_TASK = 0.0001
#: Seconds for those that still wait at the end to go home.
GRACE = 10.0


async def run(run: Run) -> None:
    comparisons = []
    for tasks, is_polite in CASES:
        comparison = Comparison(
            suite="contended",
            group=f"{SIZE} connections, many tasks",
            case=f"{tasks:,} tasks" + (", a pause of a turn after each release" if is_polite else ""),
            metrics=METRICS,
            references=(REFERENCE,),
            about="Connections that do nothing, held for one turn of the event loop. Throughput is per second of CPU "
            "time; the longest wait is counted in those served meanwhile, and its fair share is everybody else, once.",
            targets=TARGETS if tasks >= 200 else (),
        )
        pools = await _willing(tasks, comparison.skipped)
        rounds = run.effort.contended_rounds
        run.expect(rounds * len(pools))
        await _compare(run, comparison, pools, tasks, is_polite)
        comparison.finding = _finding(comparison)
        comparisons.append(comparison)
    run.publish(comparisons)


async def _willing(tasks: int, skipped: list[str]) -> list[Pool]:
    async with opened([kind() for kind in CONTESTANTS], skipped) as ready:
        for pool in ready:
            if pool.most_tasks and tasks > pool.most_tasks:
                skipped.append(f"{pool.name}: not tried with more than {pool.most_tasks:,} tasks: {pool.why_no_more}")
        return [pool for pool in ready if not pool.most_tasks or tasks <= pool.most_tasks]


async def _compare(run: Run, comparison: Comparison, pools: Sequence[Pool], tasks: int, is_polite: bool) -> None:
    effort = run.effort

    async def measure(pool: Pool) -> Sample:
        # A pool of its own for each round: whoever lost a connection begins with all of them again.
        await pool.open()
        try:
            with collector_off():
                crowd = Crowd(pool, tasks, is_polite)
                budget = max(effort.contended_budget, BUDGET_PER_TASK * tasks)
                await crowd.contend(max(effort.contended_turns, ENOUGH * tasks), budget)
        finally:
            await pool.close()
        comparison.note(pool.name, {"given up": crowd.stuck} if crowd.stuck else {}, crowd.counts)
        return crowd.sample()

    await compare(run, comparison, pools, measure, rounds=effort.contended_rounds)


class Crowd:
    """So many tasks that all want one of the pool's connections, again and again."""

    def __init__(self, pool: Pool, tasks: int, is_polite: bool) -> None:
        self._lease = pool.lease
        self._is_polite = is_polite
        self.counts = [0] * tasks
        #: Who waits now: since when, and how many had been served by then.
        self._waiting: dict[int, tuple[float, int]] = {}
        #: Of those that were served.
        self._waits: list[float] = []
        self._served = self._most_served = 0
        self._longest = self._rate = 0.0
        self._deadline = inf
        self.stuck = 0

    async def contend(self, turns: int, budget: float) -> None:
        """Until so many were served, or the seconds are over."""
        self._turns = turns
        self._over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        tasks = [asyncio.create_task(self._work(index)) for index in range(len(self.counts))]
        # All of them have asked; the clocks start.
        await asyncio.sleep(0)
        began, before = process_time(), self._served
        self._deadline = perf_counter() + budget
        served = await self._over
        self._rate = (served - before) / (process_time() - began)
        # Those that hold a connection give it back; those that wait are sent home in the order in which they came.
        for index in list(self._waiting):
            tasks[index].cancel()
        _, stuck = await asyncio.wait(tasks, timeout=GRACE)
        for task in stuck:
            task.cancel()
        self.stuck = len(stuck)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, index: int) -> None:
        while not self._over.done():
            began, before = self._waiting[index] = perf_counter(), self._served
            async with self._lease():
                now = perf_counter()
                if self._over.done():
                    break
                del self._waiting[index]
                self._waits.append(now - began)
                if (others := self._served - before) > self._most_served:
                    self._most_served = others
                self._served += 1
                self.counts[index] += 1
                if self._served >= self._turns or now >= self._deadline:
                    self._stop(now)
                await asyncio.sleep(0)
            if self._is_polite:
                await asyncio.sleep(0)

    def _stop(self, now: float) -> None:
        # Whoever still waits has waited for so long at least.
        for began, before in self._waiting.values():
            self._longest = max(self._longest, now - began)
            self._most_served = max(self._most_served, self._served - before)
        self._over.set_result(self._served)

    def sample(self) -> Sample:
        ordered, tasks = sorted(self._waits), len(self.counts)
        sample = {
            "rate": self._rate,
            "p50": percentile(ordered, 0.5) * 1000,
            "p99": percentile(ordered, 0.99) * 1000,
            "max": max(self._longest, ordered[-1]) * 1000,
            "starvation": self._most_served / (tasks - 1),
        }
        # Before everybody could have had some turns, who had none yet says nothing.
        if self._served >= ENOUGH * tasks:
            sample["jain"] = jain(self.counts)
        return sample


def _finding(comparison: Comparison) -> str:
    ratio = comparison.ratio_of(ours.Bare.name, REFERENCE)
    fairness = comparison.median(ours.Bare.name, "jain")
    if ratio is None or fairness is None:
        return ""
    return f"aiopool serves {number(ratio)} times as many as {REFERENCE}, with a fairness of {fairness:.4f}"
