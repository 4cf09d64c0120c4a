"""`python -m benchmarks`: what pooling saves, what it costs, and how others do."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import (
    article,
    breakage,
    cancel_storm,
    contended,
    growth,
    html,
    http,
    instructions,
    machine,
    mcp,
    overhead,
    postgres,
    redis,
    report,
)
from benchmarks.harness import FULL, QUICK, Effort, Run, Suite
from benchmarks.postgres import engines
from benchmarks.results import Comparison

#: In the order in which they are run.
SUITES: dict[str, Suite] = {
    "article": article.run,
    "overhead": overhead.run,
    "contended": contended.run,
    "spike": growth.spike,
    "ramp": growth.ramp,
    "instructions": instructions.run,
    "postgres": postgres.run,
    "sqlalchemy": engines.run,
    "redis": redis.run,
    "http1": http.run_http1,
    "http2": http.run_http2,
    "mcp": mcp.run,
    "cancel_storm": cancel_storm.run,
    "breakage": breakage.run,
}
HELP = f"What to run: {', '.join(SUITES)}. Nothing: all of it."
NOTHING: list[str] = []
#: How it was done, where that is not what the others do.
METHODS = {"cancel_storm": cancel_storm.METHOD, "breakage": breakage.METHOD}


class Loop(StrEnum):
    ASYNCIO = "asyncio"
    UVLOOP = "uvloop"


def _known(names: list[str]) -> list[str]:
    for name in names:
        if name not in SUITES:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(SUITES)}")
    return names


def _may_be_written(path: Path | None) -> Path | None:
    """Told now, not after the whole run."""
    if path is not None and not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {path.parent}")
    return path


FILE: dict[str, Any] = {"metavar": "FILE", "dir_okay": False, "callback": _may_be_written}


def main(
    names: Annotated[list[str], typer.Argument(metavar="SUITE", callback=_known, help=HELP)] = NOTHING,
    quick: Annotated[bool, typer.Option("--quick", help="A minute or so instead of some; the spread grows.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything raw.", **FILE)] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a page with plots.", **FILE)] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown instead of tables.")] = False,
    loop: Annotated[Loop, typer.Option("--loop", help="The event loop.")] = Loop.ASYNCIO,
) -> None:
    """Compare aiopool with no pool and with other pools, on real servers that are started here and taken down.

    Set DATABASE_URL or REDIS_URL to measure servers of yours; none but our own is broken.
    """
    out = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    suites = {name: run for name, run in SUITES.items() if name in (names or SUITES)}
    new_loop = _loop_factory(loop)
    facts = {
        "command": _command(),
        "date": datetime.now().astimezone().isoformat(" ", "minutes"),
        **machine.facts(),
        "event loop": loop.value,
    }
    for line in report.machine_lines(facts):
        out.print(f"- {line}" if as_markdown else line, markup=False, soft_wrap=True)
    method = " ".join(dict.fromkeys(METHODS.get(name, report.METHOD) for name in suites))
    out.print(method + "\n", markup=False, soft_wrap=as_markdown)

    results: list[Comparison] = []

    def publish(group: Sequence[Comparison]) -> None:
        results.extend(group)
        if as_markdown:
            print(report.markdown(group), flush=True)
        else:
            report.show(out, group)

    try:
        for name, run in suites.items():
            try:
                _run(name, run, QUICK if quick else FULL, new_loop, publish)
            except ImportError as exc:
                out.print(f"skipped: {name}: {exc}\n", style="yellow", markup=False)
            _judge(out, name, results, as_markdown)
    except KeyboardInterrupt:
        out.print("[yellow]Interrupted: what was finished until then is above.")
        raise typer.Exit(130) from None
    finally:
        _write(results, facts, method, json_file, html_file)


def _loop_factory(loop: Loop) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if loop is Loop.ASYNCIO:
        return None
    try:
        uvloop: Any = import_module("uvloop")
    except ImportError:
        raise typer.BadParameter("uvloop is not installed: pip install uvloop") from None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _judge(out: Console, suite: str, results: Sequence[Comparison], as_markdown: bool) -> None:
    found = [comparison for comparison in results if comparison.suite == suite]
    if not any(comparison.verdicts() for comparison in found):
        return
    if as_markdown:
        print(report.markdown_targets(found), flush=True)
    else:
        report.show_targets(out, found)


def _run(
    name: str,
    suite: Suite,
    effort: Effort,
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None,
    publish: Callable[[Sequence[Comparison]], None],
) -> None:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"{name}: starting", total=0)

        def expect(steps: int) -> None:
            progress.update(bar, total=(progress.tasks[0].total or 0) + steps)

        def step(what: str) -> None:
            progress.update(bar, advance=1, description=what)

        def show(group: Sequence[Comparison]) -> None:
            # The bar is on stderr, the tables are on stdout: they must not draw at once.
            progress.stop()
            publish(group)
            progress.start()

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(suite(Run(effort, expect, step, show)))


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
