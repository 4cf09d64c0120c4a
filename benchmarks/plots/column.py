"""What the columns of a chart have in common."""

from __future__ import annotations

from html import escape
from math import log10
from typing import Protocol

from benchmarks.results import Series

ROW, TOP = 26, 22


class Column(Protocol):
    width: int

    def head(self, left: float, height: float) -> list[str]:
        """Its title and the lines behind the rows."""

    def row(self, series: Series, left: float, y: float) -> list[str]: ...


class LogScale:
    """Places of positive values on so many pixels."""

    def __init__(self, values: list[float], width: float) -> None:
        self._low = log10(min(values, default=1.0) * 0.8)
        self._high = log10(max(values, default=1.0) * 1.25)
        self._width = width

    def at(self, value: float) -> float:
        return self._width * (log10(value) - self._low) / (self._high - self._low)

    def powers(self) -> list[float]:
        """At most five powers of ten, for more would not be legible."""
        powers = [power for power in range(-9, 10) if self._low <= power <= self._high]
        return [10.0**power for power in powers[:: 1 + len(powers) // 6]]


def canvas(width: float, height: float, spoken: str) -> str:
    """The opening tag; letters are about as large in one picture as in another."""
    return (
        f'<svg viewBox="0 0 {width} {height}" style="max-width: {width * 1.1:.0f}px" role="img" '
        f'aria-label="{escape(spoken)}">'
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def line(kind: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def marker(x: float, y: float, direction: int, kind: str) -> str:
    """A flag at `x` that points to where it is better: 1 to the right, -1 to the left."""
    tip = x + 6 * direction
    return (
        line(f"mark-{kind}", x, x, y + 2, y + ROW - 2)
        + f'<path class="flag-{kind}" d="M{x:.1f} {y + 2:.1f}L{tip:.1f} {y + 6:.1f}L{x:.1f} {y + 10:.1f}Z"/>'
    )
