"""How to compare: contestants take turns in shuffled order, round by round, and each round is one sample of each."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from benchmarks.results import Comparison, Kind, Sample, Series


class Contestant(ABC):
    """One way of doing the work. What it needs is imported in `open`, so that it may be missing."""

    name: ClassVar[str]
    kind: ClassVar[Kind] = Kind.PEER
    #: What to install to have it.
    package: ClassVar[str] = "aiopool-core[all]"

    @abstractmethod
    async def open(self) -> None: ...

    async def close(self) -> None:  # noqa: B027
        """Gives back what `open` took; called only if that succeeded."""


C = TypeVar("C", bound=Contestant)


@dataclass(frozen=True)
class Effort:
    """How long to look."""

    article_rounds: int
    overhead_rounds: int
    overhead_slice: float
    #: How many are served in a cell, and for how many seconds at most.
    contended_rounds: int
    contended_turns: int
    contended_budget: float
    growth_rounds: int
    instructions_rounds: int
    backend_rounds: int
    backend_cell: float
    storm_cancellations: int
    #: How long the database is away, and how long it may take until all is well again.
    breakage_fault: float
    breakage_watch: float
    #: How long it is away for those who count on their defaults; 0: they are not tried.
    breakage_long: float = 0.0


FULL = Effort(
    article_rounds=10,
    overhead_rounds=600,
    overhead_slice=0.003,
    contended_rounds=5,
    contended_turns=100_000,
    contended_budget=1.5,
    growth_rounds=7,
    instructions_rounds=2,
    backend_rounds=5,
    backend_cell=2.0,
    storm_cancellations=3000,
    breakage_fault=20.0,
    breakage_watch=40.0,
    breakage_long=75.0,
)
QUICK = Effort(
    article_rounds=3,
    overhead_rounds=100,
    overhead_slice=0.003,
    contended_rounds=3,
    contended_turns=20_000,
    contended_budget=0.5,
    growth_rounds=3,
    instructions_rounds=1,
    backend_rounds=3,
    backend_cell=0.3,
    storm_cancellations=600,
    breakage_fault=8.0,
    breakage_watch=9.0,
)


@dataclass
class Run:
    """What a suite is given: how hard to try, and whom to tell."""

    effort: Effort
    #: Called with the number of steps that are to come.
    expect: Callable[[int], None]
    #: Called before each step with what is measured now.
    step: Callable[[str], None]
    #: Called with the comparisons that make one table, as soon as they are complete.
    publish: Callable[[Sequence[Comparison]], None]
    dice: random.Random = field(default_factory=random.Random)


#: Measures, and publishes as it goes.
Suite = Callable[[Run], Coroutine[Any, Any, None]]


@asynccontextmanager
async def opened(contestants: Sequence[C], skipped: list[str]) -> AsyncIterator[list[C]]:
    """Those that could be opened; the others leave a line in `skipped`."""
    async with AsyncExitStack() as stack:
        ready = []
        for contestant in contestants:
            try:
                await contestant.open()
            except ImportError as exc:
                skipped.append(f"{contestant.name}: {exc.name} is not installed: pip install '{contestant.package}'")
            except Exception as exc:
                skipped.append(f"{contestant.name}: did not start: {type(exc).__name__}: {exc}")
            else:
                stack.push_async_callback(_close, contestant, skipped)
                ready.append(contestant)
        yield ready


async def _close(contestant: Contestant, skipped: list[str]) -> None:
    try:
        await contestant.close()
    except Exception as exc:
        skipped.append(f"{contestant.name}: did not close: {type(exc).__name__}: {exc}")


async def compare(
    run: Run,
    comparison: Comparison,
    contestants: Sequence[C],
    measure: Callable[[C], Awaitable[Sample | None]],
    *,
    rounds: int,
) -> Comparison:
    """Fills `comparison` with a series for each contestant; an error costs a contestant its round, and is counted."""
    entries = [(contestant, Series(contestant.name, contestant.kind)) for contestant in contestants]
    comparison.series += [series for _, series in entries]
    for _ in range(rounds):
        for contestant, series in run.dice.sample(entries, len(entries)):
            run.step(f"{comparison.group} · {comparison.case} · {contestant.name}")
            try:
                series.rounds.append(await measure(contestant))
            except Exception as exc:
                series.rounds.append(None)
                series.count_error(type(exc).__name__)
    return comparison
