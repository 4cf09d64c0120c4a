"""One comparison: a row for each contestant, and whatever columns its figures give."""

from __future__ import annotations

from benchmarks.plots.bars import Bars
from benchmarks.plots.column import ROW, TOP, Column, canvas, text
from benchmarks.plots.fairness import Fairness
from benchmarks.plots.latencies import Latencies
from benchmarks.plots.ratios import Ratios
from benchmarks.results import Comparison, Kind, number

LABELS, GAP = 225, 22


def chart(comparison: Comparison) -> str:
    main: Column = Ratios(comparison) if comparison.references else Bars(comparison)
    others: list[Latencies | Fairness] = [Latencies(comparison), Fairness(comparison)]
    columns = [main, *(column for column in others if column)]
    width = LABELS + sum(column.width for column in columns) + GAP * (len(columns) - 1)
    height = TOP + ROW * len(comparison.series) + 16
    parts = [canvas(width, height, _spoken(comparison))]
    for row, series in enumerate(comparison.series):
        ours = "ours" if series.kind is Kind.OURS else ""
        parts.append(text(LABELS - 8, TOP + row * ROW + 17, series.name, ours, anchor="end"))
    left = LABELS
    for column in columns:
        parts += column.head(left, height)
        for row, series in enumerate(comparison.series):
            parts += column.row(series, left, TOP + row * ROW)
        left += column.width + GAP
    return "".join([*parts, "</svg>"])


def _spoken(comparison: Comparison) -> str:
    unit = comparison.main.unit
    told = (f"{each.name} {number(each.median(comparison.main.key))} {unit}" for each in comparison.series)
    return f"{comparison.group}, {comparison.case}: " + "; ".join(told)
