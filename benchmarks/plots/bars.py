"""The figure itself, from zero: where there is nothing to compare it with."""

from __future__ import annotations

from html import escape

from benchmarks.plots.column import ROW, TOP, line, text
from benchmarks.results import Comparison, Kind, Series, number

BARS, VALUES = 380, 160


class Bars:
    width = BARS + VALUES

    def __init__(self, comparison: Comparison) -> None:
        self._metric = comparison.main
        values = [value for series in comparison.series if (value := series.median(self._metric.key))]
        self._scale = BARS / (max(values, default=0) or 1)

    def head(self, left: float, height: float) -> list[str]:
        return [text(left, 12, self._metric.unit, "soft"), line("axis", left, left, TOP, height - 12)]

    def row(self, series: Series, left: float, y: float) -> list[str]:
        value = series.median(self._metric.key)
        if value is None:
            return [text(left + 6, y + 17, "failed", "soft")]
        end = max(1.0, value * self._scale)
        told = f"{escape(series.name)}: {number(value)} {self._metric.unit}"
        return [
            f'<rect class="fill-{series.kind.value}" x="{left}" y="{y + 4}" width="{end:.1f}" height="{ROW - 8}" '
            f'rx="2"><title>{told}</title></rect>',
            text(left + end + 6, y + 17, number(value), "ours" if series.kind is Kind.OURS else ""),
        ]
