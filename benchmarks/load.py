"""A number of tasks that call as fast as they are answered, for some time: how fast, how long, and how evenly."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

from benchmarks.fairness import jain
from benchmarks.harness import Contestant, Run, compare
from benchmarks.results import Comparison, Metric, Sample, percentile

METRICS = (
    Metric("rate", "throughput", "ops/s", lower_is_better=False),
    Metric("p50", "p50", "ms"),
    Metric("p99", "p99", "ms"),
    Metric("max", "max", "ms"),
    Metric("tail", "p99 / p50", ""),
    Metric("jain", "Jain", "", lower_is_better=False),
    Metric("starvation", "worst / fair", ""),
)
#: With fewer calls per task than this, a look at who got how many says more of the moment than of the pool.
ENOUGH = 3


class Caller(Contestant):
    """A client of some server."""

    @abstractmethod
    async def call(self) -> None:
        """One small request and its answer."""


@dataclass
class Load:
    """What the tasks saw."""

    #: In seconds, of each task: how long its calls took.
    took: list[list[float]]
    #: From the first call to the last answer, in seconds.
    seconds: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def served(self) -> list[int]:
        """How many answers each task got."""
        return [len(calls) for calls in self.took]

    def sample(self) -> Sample | None:
        """The figures of `METRICS`; None if there was no answer at all."""
        ordered = sorted(seconds for calls in self.took for seconds in calls)
        if not ordered:
            return None
        p50, p99, rate = percentile(ordered, 0.5), percentile(ordered, 0.99), len(ordered) / self.seconds
        sample = {
            "rate": rate,
            "p50": p50 * 1000,
            "p99": p99 * 1000,
            "max": ordered[-1] * 1000,
            "tail": p99 / p50,
            # Little's law: of so many who call all the time, each waits so long if all wait the same.
            "starvation": ordered[-1] * rate / len(self.took),
        }
        if len(ordered) >= ENOUGH * len(self.took):
            sample["jain"] = jain(self.served)
        return sample


async def load(caller: Caller, tasks: int, seconds: float, *, grace: float = 10.0) -> Load:
    """Calls under way at the end are waited for, up to `grace` seconds, and count; then they are given up.

    Each task calls once at least: on a busy machine a short time may be over before the first of them runs.
    """
    found = Load([[] for _ in range(tasks)])
    began = ended = perf_counter()
    deadline = began + seconds

    async def work(took: list[float]) -> None:
        nonlocal ended
        start = perf_counter()
        while True:
            try:
                await caller.call()
            except Exception as exc:
                found.errors[type(exc).__name__] += 1
                # Whoever is refused at once would otherwise leave no time to the rest.
                await asyncio.sleep(0.001)
            else:
                ended = perf_counter()
                took.append(ended - start)
            if (start := perf_counter()) >= deadline:
                return

    workers = [asyncio.create_task(work(took)) for took in found.took]
    try:
        _, stuck = await asyncio.wait(workers, timeout=seconds + grace)
        if stuck:
            found.errors["given up"] += len(stuck)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    found.seconds = ended - began
    return found


async def compare_loads(
    run: Run, comparison: Comparison, callers: Sequence[Caller], *, tasks: int, seconds: float, rounds: int
) -> None:
    """Fills `comparison`, whose metrics are `METRICS` or some of them, with what so many tasks see of each caller."""

    async def measure(caller: Caller) -> Sample | None:
        found = await load(caller, tasks, seconds)
        comparison.note(caller.name, found.errors, found.served)
        return found.sample()

    await compare(run, comparison, callers, measure, rounds=rounds)
