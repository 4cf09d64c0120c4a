"""`python -m tests.mutations`: plants faults in copies of the core and shows which test finds each of them."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.mutations.fault import ROOT, Fault, OutOfDate, copy_tree
from tests.mutations.faults import FAULTS
from tests.mutations.trial import SEEDS, Verdict, try_out

COLORS = {"simulation": "green", "unit tests": "cyan", "nobody": "bold red"}


def main(
    only: Annotated[str, typer.Option(metavar="WORDS", help="Only faults whose name or file has these words.")] = "",
    seeds: Annotated[int, typer.Option(help="Histories to play against each fault.", min=1)] = SEEDS,
    jobs: Annotated[int, typer.Option(help="Faults to try at a time; 0: one for each core.", min=0)] = 0,
    show: Annotated[bool, typer.Option("--list", help="Tell what would be planted, and why, and end.")] = False,
) -> None:
    """Each fault alone, in a copy of the tree: first against the simulation, then against the unit tests.

    Where nothing is planted nothing may be found: that is the control. Status 0 only if every fault is caught.
    """
    out = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    faults = [fault for fault in FAULTS if only.lower() in f"{fault.file} {fault.name}".lower()]
    if not faults:
        raise typer.BadParameter(f"no fault is called {only!r}: see --list", param_hint="--only")
    if outdated := [misfit for fault in faults if (misfit := _misfit(fault))]:
        for misfit in outdated:
            out.print(f"out of date: {misfit}", style="red", markup=False)
        raise typer.Exit(2)
    if show:
        for fault in faults:
            out.print(f"[bold]{fault.name}[/] ({fault.file})\n  {fault.why}")
        out.print(f"{len(faults)} faults")
        return
    began = time.perf_counter()
    verdicts = list(_try_all([*faults] if only else [None, *faults], seeds, jobs or os.cpu_count() or 1))
    _report(out, verdicts, time.perf_counter() - began)
    raise typer.Exit(not all(verdict.is_right for verdict in verdicts))


def _misfit(fault: Fault) -> str:
    try:
        fault.mutated(ROOT)
    except OutOfDate as exc:
        return str(exc)
    return ""


def _try_all(faults: list[Fault | None], seeds: int, jobs: int) -> Iterator[Verdict]:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with (
        tempfile.TemporaryDirectory(prefix="mutations-") as folder,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        ThreadPoolExecutor(jobs) as pool,
    ):
        # All see the tree as it is now, whoever edits it meanwhile.
        copy_tree(ROOT, root := Path(folder))
        bar = progress.add_task("", total=len(faults))
        trials = [pool.submit(try_out, fault, root, seeds) for fault in faults]
        try:
            for trial in as_completed(trials):
                verdict = trial.result()
                line = f"{verdict.seconds:6.1f}s  {verdict.caught_by:10}  {_name(verdict)}"
                progress.console.print(line, markup=False, soft_wrap=True)
                progress.update(bar, advance=1)
            yield from (trial.result() for trial in trials)
        finally:
            pool.shutdown(cancel_futures=True)


def _report(out: Console, verdicts: list[Verdict], seconds: float) -> None:
    table = Table("fault", "file", "caught by", "how", "seconds")
    table.columns[4].justify = "right"
    for verdict in verdicts:
        color = COLORS[verdict.caught_by] if verdict.fault else "dim"
        caught_by = f"[{color}]{verdict.caught_by.upper() if verdict.caught_by == 'nobody' else verdict.caught_by}[/]"
        file = verdict.fault.file if verdict.fault else ""
        table.add_row(_name(verdict), file, caught_by, _escaped(verdict.how), f"{verdict.seconds:.1f}")
    out.print(table)
    faults = [verdict for verdict in verdicts if verdict.fault is not None]
    count = Counter(verdict.caught_by for verdict in faults)
    out.print(
        f"{len(faults)} faults in {seconds:.0f}s: {count['simulation']} caught by the simulation "
        f"({count['simulation'] / len(faults):.0%}), {count['unit tests']} by unit tests alone, "
        f"{count['nobody'] or 'none'} by nobody"
    )
    if any(verdict.fault is None and not verdict.is_right for verdict in verdicts):
        out.print("[bold red]The tests fail without any fault: what they found in the others proves nothing.")


def _name(verdict: Verdict) -> str:
    return verdict.fault.name if verdict.fault else "(control: no fault at all)"


def _escaped(text: str) -> str:
    shown = text if len(text) <= 160 else f"{text[:160]}…"
    return shown.replace("[", "\\[")


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
