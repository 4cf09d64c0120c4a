"""What each task got, from the least to the most: an even band if all got the same, a spike if a few got all."""

from __future__ import annotations

from html import escape

from benchmarks.fairness import jain, strip
from benchmarks.plots.column import ROW, line, text
from benchmarks.results import Comparison, Series, number

STRIP, WORDS = 120, 110
#: Shares are drawn up to so many times the fair one.
MOST = 2.0


class Fairness:
    width = STRIP + WORDS

    def __init__(self, comparison: Comparison) -> None:
        self._shown = {each.name for each in comparison.series if len(each.served) > 1 and each.median("jain")}

    def __bool__(self) -> bool:
        return bool(self._shown)

    def head(self, left: float, height: float) -> list[str]:
        return [text(left, 12, "what each task got; dashed: its fair share", "soft")]

    def row(self, series: Series, left: float, y: float) -> list[str]:
        if series.name not in self._shown:
            return [text(left, y + 17, "too slow to tell", "soft")] if series.rounds and series.served else []
        shares, bottom, tall = strip(series.served), y + ROW - 3, ROW - 6
        wide = STRIP / len(shares)
        outline = "".join(
            f"V{bottom - min(share, MOST) / MOST * tall:.1f}H{left + (place + 1) * wide:.1f}"
            for place, share in enumerate(shares)
        )
        fair = bottom - tall / MOST
        index, starved = series.median("jain") or jain(series.served), series.served.count(0)
        told = f"Jain {number(index)}; {starved:,} of {len(series.served):,} tasks got nothing"
        words = f"{starved:,} got none" if starved else f"Jain {number(index)}"
        return [
            f'<path class="fill-{series.kind.value}" d="M{left:.1f} {bottom}{outline}V{bottom}Z">'
            f"<title>{escape(series.name)}: {told}</title></path>",
            line("fair", left, left + STRIP, fair, fair),
            line("axis", left, left + STRIP, bottom, bottom),
            text(left + STRIP + 6, y + 17, words, "starved" if starved else "soft"),
        ]
