"""`instructions`: how many machine instructions an acquire and release takes, counted by valgrind.

Counts repeat where times do not: each case is run with few operations and with many, in processes of their own with the
same hash seed, and the difference is divided by the operations between them. What it does not show is how long the
processor takes for an instruction, and what the kernel does: hands that pass a connection round ask it for events.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from itertools import product
from pathlib import Path

from benchmarks.harness import Run
from benchmarks.instructions.probe import CASES, HANDS
from benchmarks.pools import floors, ours
from benchmarks.results import Comparison, Metric, Sample, Series, Target, number

COUNT = Metric("instructions", "instructions", "")
#: Operations of the two runs of each case.
FEW, MANY = 100, 2_100
#: Seconds for one of them.
TIMEOUT = 120.0
#: Cachegrind counts without simulating a cache; callgrind would keep a graph that nobody reads.
VALGRIND = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
NOT_THERE = "valgrind, which counts the instructions, is not installed: apt install valgrind, or its like"


async def run(run: Run) -> None:
    comparison = Comparison(
        suite="instructions",
        group="Instructions for an acquire and release",
        case="asyncio event loop",
        metrics=(COUNT,),
        references=(floors.Deque.name,),
        about=f"Counted by valgrind over {MANY - FEW:,} operations. Handed on: from one task to the next, while "
        f"{HANDS - 1} wait; a turn of the event loop is included.",
        targets=(Target(ours.Bare.name, at_most=2.5, times=floors.Deque.name),),
    )
    if shutil.which(VALGRIND[0]) is None:
        comparison.skipped.append(NOT_THERE)
        run.publish([comparison])
        return
    rounds = run.effort.instructions_rounds
    run.expect(2 * rounds * len(CASES))
    limit = asyncio.Semaphore(os.cpu_count() or 1)

    async def count(case: str, times: int) -> int:
        async with limit:
            run.step(f"{comparison.group} · {case} · {times:,} times")
            return await _count(case, times)

    cases = list(CASES)
    found = await asyncio.gather(*(count(case, times) for _, case, times in product(range(rounds), cases, (FEW, MANY))))
    per_round = [found[start : start + 2 * len(cases)] for start in range(0, len(found), 2 * len(cases))]
    kinds = {name: build().kind for name, build in CASES.items()}
    for index, case in enumerate(cases):
        samples: list[Sample | None] = [
            {COUNT.key: (counts[2 * index + 1] - counts[2 * index]) / (MANY - FEW)} for counts in per_round
        ]
        comparison.series.append(Series(case, kinds[case], samples))
    comparison.finding = _finding(comparison)
    run.publish([comparison])


async def _count(case: str, times: int) -> int:
    """Of a whole process."""
    process = await asyncio.create_subprocess_exec(
        *VALGRIND,
        *(sys.executable, "-m", "benchmarks.instructions.probe", case, str(times)),
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TIMEOUT):
            _, told = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return counted(told.decode(errors="replace"))


def counted(told: str) -> int:
    """What cachegrind prints at the end, with commas in it."""
    found = re.search(r"I\s+refs:\s+([\d,]+)", told)
    if found is None:
        raise RuntimeError(f"valgrind counted nothing; the end of what it said: {told[-500:]}")
    return int(found[1].replace(",", ""))


def _finding(comparison: Comparison) -> str:
    count, ratio = comparison.median(ours.Bare.name), comparison.ratio_of(ours.Bare.name, floors.Deque.name)
    spreads = [series.spread(COUNT.key) or 0.0 for series in comparison.series]
    if count is None or ratio is None:
        return ""
    repeats = f"; rounds differ by {max(spreads):.2%} at most" if len(comparison.series[0].rounds) > 1 else ""
    return f"aiopool takes {count:,.0f} instructions, {number(ratio)} times the floor{repeats}"
