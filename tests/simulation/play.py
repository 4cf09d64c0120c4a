"""Many histories, over the cores; and the one line that plays a bad one again."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing.connection import wait

from tests.simulation.history import draw
from tests.simulation.run import run
from tests.simulation.shrink import shrink

LENGTH = 200
#: A shorter history is tried with so many dice.
VARIANTS = 4
#: Histories that a process plays at a time.
CHUNK = 16


def play(seeds: range, length: int, jobs: int) -> Generator[tuple[int, str, int], None, None]:
    """Seed, broken rule (empty: none) and steps of each history."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _end_with_the_parent) as processes:
        chunks = (seeds[n : n + CHUNK] for n in range(0, len(seeds), CHUNK))
        # Never more than a few ahead, so that stopping early is quick.
        running = [processes.submit(_play_some, chunk, length) for chunk in islice(chunks, 2 * jobs)]
        try:
            while running:
                yield from running.pop(0).result()
                running += [processes.submit(_play_some, chunk, length) for chunk in islice(chunks, 1)]
        finally:
            for each in running:
                each.cancel()


def _end_with_the_parent() -> None:
    """Or else workers wait for ever when the command is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _play_some(seeds: range, length: int) -> list[tuple[int, str, int]]:
    outcomes = ((seed, run(draw(seed, length))) for seed in seeds)
    return [(seed, outcome.violation, outcome.steps) for seed, outcome in outcomes]


def command(seed: int, length: int = LENGTH, only: list[int] | None = None, variant: int = 0) -> str:
    """The line that replays a history."""
    line = f"python -m tests.simulation --first {seed} --seeds 1"
    if length != LENGTH:
        line += f" --length {length}"
    if only is not None:
        line += f" --only {','.join(map(str, only))}"
    return f"{line} --variant {variant}" if variant else line


def shorter(seed: int, length: int) -> tuple[list[int], int]:
    """The operations of that history that suffice to break a rule, and with which dice."""
    history, variant = draw(seed, length), 0

    def fails(numbers: list[int]) -> bool:
        nonlocal variant
        for other in (variant, *range(VARIANTS)):
            if run(history.only(numbers, other)).violation:
                variant = other
                return True
        return False

    return shrink(range(length), fails), variant
