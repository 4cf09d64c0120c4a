"""`python -m tests.simulation --seeds 1000 --first 0`: histories of a pool, each drawn from its seed."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from typing import Annotated

import typer

from tests.simulation.history import draw
from tests.simulation.play import LENGTH, command, play, shorter
from tests.simulation.run import run


def main(
    seeds: Annotated[int, typer.Option(help="How many histories to play.", min=1)] = 2000,
    first: Annotated[int, typer.Option(help="The seed of the first.")] = 0,
    length: Annotated[int, typer.Option(help="Operations in each.", min=1)] = LENGTH,
    only: Annotated[str, typer.Option(help="Of the first history, only these operations: 3,17,44")] = "",
    variant: Annotated[int, typer.Option(help="With other dice for the scheduler and the server.")] = 0,
    jobs: Annotated[int, typer.Option(help="Processes to play them in; 0: one for each core.", min=0)] = 0,
    stop_after: Annotated[int, typer.Option(help="End after so many failures.", min=1)] = 5,
) -> None:
    """Plays histories and checks every rule after every step. Status 0 only if none is broken."""
    if only or variant:
        _replay(first, length, [int(number) for number in only.split(",")] if only else list(range(length)), variant)
    began, failed, played, steps = time.perf_counter(), 0, 0, 0
    with closing(play(range(first, first + seeds), length, jobs or os.cpu_count() or 1)) as outcomes:
        for seed, violation, count in outcomes:
            played, steps = played + 1, steps + count
            if played % 5000 == 0:
                print(
                    f"{played} played, {failed} failed, {time.perf_counter() - began:.0f}s", file=sys.stderr, flush=True
                )
            if violation:
                failed += 1
                print(f"seed {seed}: {violation}\n  replay: {command(seed, length)}", flush=True)
                if failed == 1:
                    _tell_shorter(seed, length)
                if failed == stop_after:
                    break
    seconds = time.perf_counter() - began
    print(
        f"{played} histories of {length} operations, {steps:,} steps, in {seconds:.1f}s "
        f"({1000 * seconds / played:.0f} ms each): {failed or 'none'} failed"
    )
    sys.exit(bool(failed))


def _tell_shorter(seed: int, length: int) -> None:
    numbers, variant = shorter(seed, length)
    history = draw(seed, length).only(numbers, variant)
    print(f"  shorter: {command(seed, length, numbers, variant)}\n  {run(history).violation}")
    for number, op in list(zip(numbers, history.ops, strict=True))[:20]:
        print(f"    {number}: {op}")
    if len(numbers) > 20:
        print(f"    and {len(numbers) - 20} more")


def _replay(seed: int, length: int, numbers: list[int], variant: int) -> None:
    history = draw(seed, length).only(numbers, variant)
    outcome = run(history)
    print(history)
    for number, op in zip(numbers, history.ops, strict=True):
        print(f"{number}: {op}")
    print("\n".join(outcome.trace))
    print(outcome.violation or "nothing is broken")
    sys.exit(bool(outcome.violation))


if __name__ == "__main__":
    typer.run(main)
