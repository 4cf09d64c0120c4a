"""From the median to the 99th percentile, on a logarithmic scale that all contestants share."""

from __future__ import annotations

from html import escape

from benchmarks.plots.column import ROW, TOP, LogScale, line, text
from benchmarks.results import Comparison, Series, number

DOTS = 170


class Latencies:
    width = DOTS

    def __init__(self, comparison: Comparison) -> None:
        keys = {metric.key: metric for metric in comparison.metrics[1:]}
        metric = keys["p50"] if keys.keys() >= {"p50", "p99"} else None
        self._unit = metric.unit if metric else ""
        self._what = "wait" if metric and "wait" in metric.label else "latency"
        self._found: dict[str, tuple[float, float]] = {}
        for series in comparison.series if metric else ():
            p50, p99 = series.median("p50"), series.median("p99")
            if p50 and p99:
                self._found[series.name] = p50, p99
        self._scale = LogScale([value for pair in self._found.values() for value in pair], DOTS)

    def __bool__(self) -> bool:
        return bool(self._found)

    def head(self, left: float, height: float) -> list[str]:
        parts = [text(left + DOTS, 12, f"{self._what}, {self._unit}: p50 ●━┃ p99", "soft", anchor="end")]
        for power in self._scale.powers():
            x = left + self._scale.at(power)
            parts.append(line("axis", x, x, TOP, height - 14))
            parts.append(text(x, height - 3, f"{power:g}", "soft", anchor="middle"))
        return parts

    def row(self, series: Series, left: float, y: float) -> list[str]:
        if series.name not in self._found:
            return []
        p50, p99 = self._found[series.name]
        begin, end, middle = left + self._scale.at(p50), left + self._scale.at(p99), y + ROW / 2
        told = f"{escape(series.name)}: p50 {number(p50)} {self._unit}, p99 {number(p99)} {self._unit}"
        kind = series.kind.value
        return [
            f'<g><title>{told}</title><line class="stroke-{kind}" stroke-width="3" '
            f'x1="{begin:.1f}" x2="{end:.1f}" y1="{middle}" y2="{middle}"/>'
            f'<circle class="fill-{kind}" cx="{begin:.1f}" cy="{middle}" r="5"/>'
            f'<rect class="fill-{kind}" x="{end - 1.5:.1f}" y="{middle - 6}" width="3" height="12"/></g>'
        ]
