"""A number of tasks that call as fast as they are answered, for some time."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import Counter
from time import perf_counter

from benchmarks.harness import Contestant
from benchmarks.results import Metric, Sample, percentile

METRICS = (
    Metric("rate", "throughput", "ops/s", lower_is_better=False),
    Metric("p50", "p50", "ms"),
    Metric("p95", "p95", "ms"),
    Metric("p99", "p99", "ms"),
    Metric("max", "max", "ms"),
)


class Caller(Contestant):
    """A client of some server."""

    @abstractmethod
    async def call(self) -> None:
        """One small request and its answer."""


async def load(
    caller: Caller, tasks: int, seconds: float, *, grace: float = 10.0
) -> tuple[Sample | None, Counter[str]]:
    """The figures, None if not a single call came back, and how often which error came up.

    Calls under way at the end are waited for, up to `grace` seconds, and count.
    """
    took: list[float] = []
    errors: Counter[str] = Counter()
    began = ended = perf_counter()
    deadline = began + seconds

    async def work() -> None:
        nonlocal ended
        while (start := perf_counter()) < deadline:
            try:
                await caller.call()
            except Exception as exc:
                errors[type(exc).__name__] += 1
                # Whoever is refused at once would otherwise leave no time to the rest.
                await asyncio.sleep(0.001)
            else:
                ended = perf_counter()
                took.append(ended - start)

    workers = [asyncio.create_task(work()) for _ in range(tasks)]
    try:
        _, stuck = await asyncio.wait(workers, timeout=seconds + grace)
        errors["given up"] += len(stuck)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    if not took:
        return None, +errors
    took.sort()
    return {
        "rate": len(took) / (ended - began),
        "p50": percentile(took, 0.5) * 1000,
        "p95": percentile(took, 0.95) * 1000,
        "p99": percentile(took, 0.99) * 1000,
        "max": took[-1] * 1000,
    }, +errors
