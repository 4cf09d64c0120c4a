"""A real server under load: contestants side by side, with few tasks and with many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import ClassVar

from benchmarks.harness import Run, compare, opened
from benchmarks.load import METRICS, Caller, Load, load
from benchmarks.results import Comparison, Metric, Sample, Target, number

#: Of every pool that can be told.
CONNECTIONS = 10
SIZE = f"Pools of {CONNECTIONS} connections; every task calls again as soon as it is answered."
#: Seconds for all that happens before the clock runs.
WARM_UP_TIMEOUT = 10.0


class Client(Caller):
    """A client of a server, put under load."""

    #: Where nobody waits there is nothing to do for more; None: there is.
    most_tasks: ClassVar[int | None] = None
    #: How many connections it may have; so many calls are made at once before the clock runs.
    most_connections: ClassVar[int] = CONNECTIONS

    async def load(self, tasks: int, seconds: float) -> Load:
        tasks = min(tasks, self.most_tasks or tasks)
        await self._warm_up(min(tasks, self.most_connections))
        return await load(self, tasks, seconds)

    async def _warm_up(self, calls: int) -> None:
        """What was closed while others had their turn is opened, and what is prepared once is prepared."""
        running = [asyncio.create_task(self.call()) for _ in range(calls)]
        try:
            await asyncio.wait(running, timeout=WARM_UP_TIMEOUT)
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)


async def compare_clients(
    run: Run,
    suite: str,
    group: str,
    about: str,
    clients: Sequence[Client],
    cases: Sequence[int],
    *,
    references: tuple[str, ...],
    targets: Callable[[int], tuple[Target, ...]],
    unit: str = "calls/s",
) -> None:
    """`cases` are numbers of tasks, `targets` says what is to be reached with so many."""
    skipped: list[str] = []
    comparisons: list[Comparison] = []
    rate = Metric("rate", "throughput", unit, lower_is_better=False)
    async with opened(clients, skipped) as ready:
        run.expect(run.effort.backend_rounds * len(ready) * len(cases))
        for tasks in cases:
            comparison = Comparison(
                suite=suite,
                group=group,
                case=f"{tasks:,} task{'s' * (tasks > 1)}",
                metrics=(rate, *METRICS[1:]),
                references=references,
                skipped=skipped,
                about=f"{about} {SIZE}",
                targets=targets(tasks),
            )
            await _compare(run, comparison, ready, tasks)
            comparison.finding = _finding(comparison)
            comparisons.append(comparison)
    run.publish(comparisons)


async def _compare(run: Run, comparison: Comparison, clients: Sequence[Client], tasks: int) -> None:
    async def measure(client: Client) -> Sample | None:
        found = await client.load(tasks, run.effort.backend_cell)
        comparison.note(client.name, found.errors, found.served)
        if found.errors["given up"]:
            # Many cancellations at once are no fair start into the next round.
            await client.close()
            await client.open()
        return found.sample()

    await compare(run, comparison, clients, measure, rounds=run.effort.backend_rounds)


def _finding(comparison: Comparison) -> str:
    """The first contestant against each reference."""
    ours = comparison.series[0] if comparison.series else None
    if ours is None:
        return ""
    ratios = [(comparison.ratio(ours, name), name) for name in comparison.references]
    told = ", ".join(f"{number(ratio)}× as many as {name}" for ratio, name in ratios if ratio is not None)
    return f"{ours.name} answers {told}" if told else ""
