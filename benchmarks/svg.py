"""A comparison as an inline SVG: a bar for each contestant, and its latencies beside it if there are any."""

from __future__ import annotations

from html import escape
from math import log10

from benchmarks.results import Comparison, Kind, Series, number

ROW, TOP, LABELS, BARS, VALUES, GAP, DOTS = 26, 20, 260, 270, 180, 20, 230


def chart(comparison: Comparison) -> str:
    latencies = _Latencies(comparison)
    width = LABELS + BARS + VALUES + (GAP + DOTS if latencies else 150)
    bars = BARS if latencies else BARS + 150
    height = TOP + ROW * len(comparison.series) + 4
    longest = max((high for series in comparison.series for _, high in [_reach(comparison, series)]), default=0) or 1
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(_spoken(comparison))}">',
        f'<line class="axis" x1="{LABELS}" x2="{LABELS}" y1="{TOP}" y2="{height}"/>',
    ]
    heading = "".join(f" · × {reference}" for reference in comparison.references)
    parts.append(_text(LABELS, 12, f"{comparison.main.unit}{heading}", "soft"))
    for row, series in enumerate(comparison.series):
        y = TOP + row * ROW
        parts += _bar(comparison, series, y, bars / longest)
        if latencies:
            parts += latencies.row(series, LABELS + BARS + VALUES + GAP, y)
    if latencies:
        parts += latencies.axis(LABELS + BARS + VALUES + GAP, height)
    return "".join([*parts, "</svg>"])


def _bar(comparison: Comparison, series: Series, y: int, scale: float) -> list[str]:
    middle, ours = series.median(comparison.main.key), "ours" if series.kind is Kind.OURS else ""
    parts = [_text(LABELS - 8, y + 17, series.name, ours, anchor="end")]
    if middle is None:
        return [*parts, _text(LABELS + 6, y + 17, "failed", "soft")]
    low, high = _reach(comparison, series)
    ratios = (number(comparison.ratio(series, reference)) for reference in comparison.references)
    value = " · ".join([number(middle), *(f"{ratio}×" for ratio in ratios)])
    return [
        *parts,
        f'<rect class="fill-{series.kind.value}" x="{LABELS}" y="{y + 4}" width="{max(1, middle * scale):.1f}" '
        f'height="{ROW - 8}" rx="2"><title>{escape(series.name)}: {value}</title></rect>',
        f'<line class="whisker" x1="{LABELS + low * scale:.1f}" x2="{LABELS + high * scale:.1f}" '
        f'y1="{y + ROW / 2}" y2="{y + ROW / 2}"/>',
        _text(LABELS + high * scale + 6, y + 17, value, ours),
    ]


class _Latencies:
    """From the median to the 99th percentile, on a logarithmic scale that all contestants share."""

    def __init__(self, comparison: Comparison) -> None:
        keys = {metric.key: metric for metric in comparison.metrics[1:]}
        self._found: dict[str, tuple[float, float]] = {}
        self._unit = keys["p99"].unit if keys.keys() >= {"p50", "p99"} else ""
        for series in comparison.series if self._unit else ():
            p50, p99 = series.median("p50"), series.median("p99")
            if p50 and p99:
                self._found[series.name] = p50, p99
        values = [value for pair in self._found.values() for value in pair]
        self._low, self._high = (log10(min(values) * 0.8), log10(max(values) * 1.25)) if values else (0.0, 1.0)

    def __bool__(self) -> bool:
        return bool(self._found)

    def _at(self, left: int, value: float) -> float:
        return left + DOTS * (log10(value) - self._low) / (self._high - self._low)

    def row(self, series: Series, left: int, y: int) -> list[str]:
        if series.name not in self._found:
            return []
        p50, p99 = self._found[series.name]
        begin, end, middle = self._at(left, p50), self._at(left, p99), y + ROW / 2
        told = f"{escape(series.name)}: p50 {number(p50)} {self._unit}, p99 {number(p99)} {self._unit}"
        kind = series.kind.value
        return [
            f'<g><title>{told}</title><line class="stroke-{kind}" stroke-width="3" '
            f'x1="{begin:.1f}" x2="{end:.1f}" y1="{middle}" y2="{middle}"/>'
            f'<circle class="fill-{kind}" cx="{begin:.1f}" cy="{middle}" r="5"/>'
            f'<rect class="fill-{kind}" x="{end - 1.5:.1f}" y="{middle - 6}" width="3" height="12"/></g>'
        ]

    def axis(self, left: int, height: int) -> list[str]:
        """A line at every power of ten."""
        parts = [_text(left + DOTS, 12, f"latency, {self._unit}: p50 ●━┃ p99", "soft", anchor="end")]
        for power in range(-6, 7):
            if self._low <= power <= self._high:
                x = self._at(left, 10.0**power)
                parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height}"/>')
                parts.append(_text(x + 3, height - 2, f"{10.0**power:g}", "soft"))
        return parts


def _reach(comparison: Comparison, series: Series) -> tuple[float, float]:
    middle = series.median(comparison.main.key) or 0.0
    low, high = series.range(comparison.main.key) or (middle, middle)
    return min(low, middle), max(high, middle)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _spoken(comparison: Comparison) -> str:
    unit = comparison.main.unit
    told = (f"{each.name} {number(each.median(comparison.main.key))} {unit}" for each in comparison.series)
    return f"{comparison.group}, {comparison.case}: " + "; ".join(told)
