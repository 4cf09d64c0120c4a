"""`python -m benchmarks`: what pooling saves, what it costs, and how others do."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import article, backends, breakage, html, machine, overhead, report
from benchmarks.harness import FULL, QUICK, Effort, Run
from benchmarks.results import Comparison


class Choice(StrEnum):
    ARTICLE = "article"
    OVERHEAD = "overhead"
    BACKENDS = "backends"
    BREAKAGE = "breakage"
    ALL = "all"


#: How it was done, where that is not what the others do.
METHODS = {Choice.BREAKAGE: breakage.METHOD, Choice.ALL: f"{report.METHOD} Breakage: {breakage.METHOD}"}


@dataclass(frozen=True)
class Part:
    """A suite, to be run on a loop of its own."""

    suite: str
    run: Callable[[Run], Coroutine[Any, Any, None]]
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None


def _may_be_written(path: Path | None) -> Path | None:
    """Told now, not after the whole run."""
    if path is not None and not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {path.parent}")
    return path


FILE: dict[str, Any] = {"metavar": "FILE", "dir_okay": False, "callback": _may_be_written}


def main(
    suite: Annotated[Choice, typer.Argument(help="What to run.")] = Choice.ALL,
    quick: Annotated[bool, typer.Option("--quick", help="A minute or so instead of some; the spread grows.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything raw.", **FILE)] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a page with plots.", **FILE)] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown instead of tables.")] = False,
) -> None:
    """Compare aiopool with no pool and with other pools, on real servers that are started here and taken down.

    `article`: three requests to a server 100 ms away. `overhead`: the price of the pool itself. `backends`:
    PostgreSQL, Redis and HTTPS under load. `breakage`: PostgreSQL goes away and comes back. Set DATABASE_URL or
    REDIS_URL to measure servers of yours; none but our own is broken.
    """
    out = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    facts = {
        "command": _command(),
        "date": datetime.now().astimezone().isoformat(" ", "minutes"),
        **machine.facts(),
    }
    for line in report.machine_lines(facts):
        out.print(f"- {line}" if as_markdown else line, markup=False, soft_wrap=True)
    method = METHODS.get(suite, report.METHOD)
    out.print(method + "\n", markup=False, soft_wrap=as_markdown)

    results: list[Comparison] = []

    def publish(group: Sequence[Comparison]) -> None:
        results.extend(group)
        if as_markdown:
            print(report.markdown(group), flush=True)
        else:
            report.show(out, group)

    try:
        for part in _parts(suite, out):
            try:
                _run(part, QUICK if quick else FULL, publish)
            except ImportError as exc:
                out.print(f"skipped: {part.suite}: {exc}\n", style="yellow", markup=False)
    except KeyboardInterrupt:
        out.print("[yellow]Interrupted: what was finished until then is above.")
        raise typer.Exit(130) from None
    finally:
        _write(results, facts, method, json_file, html_file)


def _parts(choice: Choice, out: Console) -> list[Part]:
    parts = [Part("article", article.run), Part("overhead", overhead.run)]
    try:
        uvloop: Any = import_module("uvloop")
        parts.append(Part("overhead", overhead.run, uvloop.new_event_loop))
    except ImportError:
        if choice in (Choice.OVERHEAD, Choice.ALL):
            out.print("[yellow]skipped: uvloop is not installed: pip install uvloop\n")
    parts += [Part("backends", backends.run), Part("breakage", breakage.run)]
    return [part for part in parts if choice in (part.suite, Choice.ALL)]


def _run(part: Part, effort: Effort, publish: Callable[[Sequence[Comparison]], None]) -> None:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"{part.suite}: starting", total=0)

        def expect(steps: int) -> None:
            progress.update(bar, total=(progress.tasks[0].total or 0) + steps)

        def step(what: str) -> None:
            progress.update(bar, advance=1, description=what)

        def show(group: Sequence[Comparison]) -> None:
            # The bar is on stderr, the tables are on stdout: they must not draw at once.
            progress.stop()
            publish(group)
            progress.start()

        with asyncio.Runner(loop_factory=part.new_loop) as runner:
            runner.run(part.run(Run(effort, expect, step, show)))


def _write(
    results: list[Comparison], facts: dict[str, str], method: str, json_file: Path | None, html_file: Path | None
) -> None:
    if not results:
        return
    if json_file is not None:
        everything = {"facts": facts, "method": method, "comparisons": [each.as_json() for each in results]}
        json_file.write_text(json.dumps(everything, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if html_file is not None:
        html_file.write_text(html.page(results, facts, method), encoding="utf-8")


def _command() -> str:
    """Without the folders of the files to write: they are nobody's business."""
    return shlex.join(["python", "-m", "benchmarks", *(re.sub("[^=]*/", "", word) for word in sys.argv[1:])])


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
