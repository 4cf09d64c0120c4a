"""What `aiopool demo` has found out, and how it looks: live in a terminal, line by line elsewhere, or as JSON.

The live tables are drawn between two turns only, by nobody's thread: drawing must not slow what is measured.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from aiopool import __version__

WIDTH = 80
METHOD = (
    "Unpooled is what many programs do: asyncpg.connect(), Redis() or AsyncClient() for each call; the last share an "
    "SSL context, or they would be far slower. With the defaults, HTTPS is HTTP/1.1 unpooled and HTTP/2 pooled, where "
    "a connection carries many calls at once. Each answer names its connection (pg_backend_pid(), CLIENT ID, the "
    "caller's port), so the servers count them. The ways take turns, after a warm-up. Client and servers share this "
    "machine: across a network connecting takes longer, and pools save more."
)


@dataclass
class Tally:
    """How one way of calling did."""

    took: list[float] = field(default_factory=list)
    seconds: float = 0.0
    connections: set[Hashable] = field(default_factory=set)

    @property
    def rate(self) -> float:
        return len(self.took) / self.seconds if self.seconds else 0.0

    def percentile(self, fraction: float) -> float:
        """In milliseconds."""
        ranked = sorted(self.took)
        return 1000 * ranked[min(len(ranked) - 1, int(len(ranked) * fraction))] if ranked else 0.0

    def as_dict(self) -> dict[str, float]:
        return {
            "calls": len(self.took),
            "seconds": self.seconds,
            "calls_per_second": self.rate,
            "p50_ms": self.percentile(0.5),
            "p99_ms": self.percentile(0.99),
            "connections": len(self.connections),
        }


@dataclass
class Backend:
    """A server, the two ways to call it, and how they did. A call returns the connection that served it."""

    title: str
    pool: str
    call: str
    unpooled_call: Callable[[], Awaitable[Hashable]]
    pooled_call: Callable[[], Awaitable[Hashable]]
    unpooled: Tally = field(default_factory=Tally)
    pooled: Tally = field(default_factory=Tally)

    @property
    def ratio(self) -> float:
        return self.pooled.rate / self.unpooled.rate if self.unpooled.seconds and self.pooled.seconds else 0.0


class Show:
    """Everything that the demo prints."""

    def __init__(self, calls: int, concurrency: int, as_json: bool) -> None:
        self._began = time.perf_counter()
        self._calls, self._concurrency, self._as_json = calls, concurrency, as_json
        self._out = _Console(stderr=as_json, highlight=False)
        self._is_live = self._out.is_terminal and not self._out.is_dumb_terminal
        if not self._out.is_terminal:
            self._out.width = WIDTH
        self._live: Live | None = None
        self._backends: Sequence[Backend] = ()
        self._manager: Any = None
        #: Each pool's statistics in the middle of its latest turn; between turns nothing is in use.
        self._glances: dict[str, Mapping[str, Any]] = {}
        self._out.print(
            f"[bold]aiopool {__version__}[/bold]: {calls:,} calls each way to each of three real servers, "
            f"{concurrency} at a time\n"
        )

    # --------------------------------------------------------------------------------- servers and pools

    def starting(self) -> AbstractContextManager[object]:
        if not self._is_live:
            return nullcontext()
        return self._out.status("starting the servers")

    def server(self, title: str, what: str, place: str, seconds: float) -> None:
        line = Text.assemble("  ", ("✓ ", "green"), (f"{title:<12}", "bold"), f"{what:<18}{place}")
        line.append(f"  {seconds:.1f} s", "dim")
        self._out.print(line, soft_wrap=True)

    def pools_file(self, file: Path) -> None:
        self._out.print("\nThe pools come from this manager file:")
        self._out.print(Text(f"  {file}", "dim"), soft_wrap=True)
        if self._is_live:
            text = file.read_text("utf-8").strip()
            self._out.print(Padding(Syntax(text, "yaml", theme="ansi_dark", background_color="default"), (1, 2)))
        else:
            self._out.print()

    # --------------------------------------------------------------------------------- while it runs

    @contextmanager
    def comparing(self, backends: Sequence[Backend], manager: Any) -> Iterator[None]:
        """Show the tables until the block ends, and let them stand."""
        self._backends, self._manager = backends, manager
        self._glances = dict(manager.stats())
        if not self._is_live:
            yield
            return
        with Live(self._tables(), console=self._out, auto_refresh=False) as self._live:
            yield

    def glance(self, backend: Backend) -> None:
        """Called in the middle of a pooled turn, while calls are under way."""
        self._glances[backend.pool] = self._manager.get(backend.pool).stats()

    def update(self) -> None:
        if self._live is not None:
            self._live.update(self._tables(), refresh=True)

    def compared(self, backend: Backend) -> None:
        """A backend is done."""
        if self._is_live:
            return
        stats = self._glances[backend.pool]
        figures = ", ".join(f"{stats[key]} {label}" for key, label in _FIGURES.items())
        self._out.print(f"{backend.title}: {_ratio(backend.ratio)}; pool {backend.pool} under load: {figures}")

    # --------------------------------------------------------------------------------- the end

    def end(self) -> None:
        """Everything is closed."""
        seconds = time.perf_counter() - self._began
        if not self._is_live:
            self._out.print()
            self._out.print(self._results())
            self._out.print()
        self._out.print(Text(f"{METHOD}\n", "dim"))
        ratios = sorted(backend.ratio for backend in self._backends)
        self._out.print(f"[bold green]With pools: {_ratio(ratios[0])} to {_ratio(ratios[-1])} the calls per second.[/]")
        self._out.print(f"All that the demo started is gone again. {seconds:.1f} s in all.")
        if self._as_json:
            json.dump(self._report(seconds), sys.stdout, indent=2)
            sys.stdout.write("\n")

    def _report(self, seconds: float) -> dict[str, Any]:
        return {
            "aiopool": __version__,
            "python": platform.python_version(),
            "calls": self._calls,
            "concurrency": self._concurrency,
            "seconds": seconds,
            "backends": [
                {
                    "backend": backend.title,
                    "call": backend.call,
                    "unpooled": backend.unpooled.as_dict(),
                    "pooled": backend.pooled.as_dict(),
                    "ratio": backend.ratio,
                }
                for backend in self._backends
            ],
            "pools": self._glances,
        }

    # --------------------------------------------------------------------------------- tables

    def _tables(self) -> Group:
        return Group(self._results(), Text(), self._pools(), Text())

    def _results(self) -> Table:
        table = _table("", width=27)
        for heading in ("calls/s", "p50, ms", "p99, ms", "connections", "gain"):
            table.add_column(heading, justify="right")
        for backend in self._backends:
            title = Text.assemble((f"{backend.title:<19}", "bold"), ("unpooled", "dim"))
            table.add_row(title, *(Text(cell, "dim") for cell in _cells(backend.unpooled)))
            gain = Text(_ratio(backend.ratio) if backend.ratio else "", "bold green")
            table.add_row(f"{'':<19}pooled", *_cells(backend.pooled), gain)
            table.add_section()
        return table

    def _pools(self) -> Table:
        legend = Text.assemble(("●", "green"), " in use ", ("●", "yellow"), " reset ○ idle")
        table = _table("pool, under load", legend, width=19)
        for label in _FIGURES.values():
            table.add_column(label, justify="right")
        for name, stats in self._glances.items():
            # Many calls may share one connection.
            busy = min(stats["in_use"], stats["size"])
            idle = min(stats["available"], stats["size"] - busy)
            between, room = stats["size"] - busy - idle, stats["max_size"] - stats["size"]
            lights = Text.assemble(("●" * busy, "green"), ("●" * between, "yellow"), "○" * idle, ("·" * room, "dim"))
            table.add_row(Text(name, "bold"), lights, *(str(stats[key]) for key in _FIGURES))
        return table


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # Rich would raise SystemExit here, in whatever task it is: that ends a loop before its tasks.
        raise BrokenPipeError("nobody reads the output")


#: Statistics that every pool has.
_FIGURES = {"size": "open", "in_use": "in use", "available": "idle", "waiting": "waiting"}


def _table(*headings: str | Text, width: int) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for heading in headings:
        table.add_column(heading, min_width=width, no_wrap=True)
    return table


def _cells(tally: Tally) -> list[str]:
    if not tally.took:
        return ["…"] * 4
    figures = (tally.rate, tally.percentile(0.5), tally.percentile(0.99))
    return [*map(_number, figures), f"{len(tally.connections):,}"]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio(value: float) -> str:
    return f"{value:.0f}×" if value >= 10 else f"{value:.1f}×"
