"""How many times the baseline: a bar from the line at 1, on a logarithmic scale, and a flag where the target is."""

from __future__ import annotations

from html import escape

from benchmarks.plots.column import ROW, TOP, LogScale, line, marker, text
from benchmarks.results import Comparison, Kind, Series, Verdict, number, percentile

BARS, VALUES = 250, 165


class Ratios:
    width = BARS + VALUES

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._baseline = comparison.references[0]
        self._ratios = {each.name: comparison.ratio(each, self._baseline) for each in comparison.series}
        self._marks = {
            verdict.target.contestant: (verdict, place)
            for verdict in comparison.verdicts()
            if (place := self._place(verdict)) is not None
        }
        known = [ratio for ratio in self._ratios.values() if ratio]
        self._scale = LogScale([1.0, *known, *(place for _, place in self._marks.values())], BARS)

    def _place(self, verdict: Verdict) -> float | None:
        """Of a target in multiples of the baseline, even if it is a multiple of somebody else."""
        target = verdict.target
        if (target.metric or self._comparison.main.key) != self._comparison.main.key:
            return None
        others = (target.times,) if isinstance(target.times, str) else target.times
        ratios = [ratio for other in others if (ratio := self._comparison.ratio_of(other, self._baseline))]
        if not ratios:
            return None
        return target.at_least * max(ratios) if target.at_least is not None else (target.at_most or 0) * min(ratios)

    def head(self, left: float, height: float) -> list[str]:
        main, one = self._comparison.main, left + self._scale.at(1.0)
        better = "◄ better" if main.lower_is_better else "better ►"
        parts = [text(left, 12, f"{main.label}, × {self._baseline} · {better}", "soft")]
        for power in self._scale.powers():
            x = left + self._scale.at(power)
            parts.append(line("axis", x, x, TOP, height - 14))
            parts.append(text(x, height - 3, f"{power:g}×", "soft", anchor="middle"))
        return [*parts, line("one", one, one, TOP - 4, height - 14)]

    def row(self, series: Series, left: float, y: float) -> list[str]:
        value, ratio = series.median(self._comparison.main.key), self._ratios[series.name]
        if value is None:
            return [text(left + BARS + 8, y + 17, "failed", "soft")]
        told = f"{number(value)} {self._comparison.main.unit}".rstrip()
        parts = []
        if ratio:
            told = f"{number(ratio)}× · {told}"
            one, end = left + self._scale.at(1.0), left + self._scale.at(ratio)
            parts.append(
                f'<rect class="fill-{series.kind.value}" x="{min(one, end):.1f}" y="{y + 4}" '
                f'width="{max(2.0, abs(end - one)):.1f}" height="{ROW - 8}" rx="2">'
                f"<title>{escape(series.name)}: {told}</title></rect>"
            )
            parts.append(self._whisker(series, left, y))
        if series.name in self._marks:
            verdict, place = self._marks[series.name]
            kind = {True: "reached", False: "missed", None: "open"}[verdict.reached]
            parts.append(marker(left + self._scale.at(place), y, 1 if verdict.target.at_least else -1, kind))
        return [*parts, text(left + BARS + 8, y + 17, told, "ours" if series.kind is Kind.OURS else "")]

    def _whisker(self, series: Series, left: float, y: float) -> str:
        """Most of the rounds, as far as they are on the scale."""
        ordered = sorted(self._comparison.ratios(series, self._baseline))
        low, high = (min(BARS, max(0.0, self._scale.at(percentile(ordered, share)))) for share in (0.1, 0.9))
        return line("whisker", left + low, left + high, y + ROW / 2, y + ROW / 2)
