"""All targets at a glance: how far each is exceeded or missed, on a logarithmic scale."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.plots.column import ROW, TOP, LogScale, canvas, line, text
from benchmarks.results import Comparison, Verdict, number

LABELS, BARS, VALUES = 690, 190, 100


def board(comparisons: Sequence[Comparison]) -> str:
    """Empty if nothing was hoped for."""
    rows = [(comparison, verdict) for comparison in comparisons for verdict in comparison.verdicts()]
    if not rows:
        return ""
    known = [excess for _, verdict in rows if (excess := _excess(verdict))]
    # Beyond ten times it does not matter by how much.
    scale = LogScale([1.0, *(min(10.0, max(0.1, excess)) for excess in known)], BARS)
    height, one = TOP + ROW * len(rows) + 4, LABELS + scale.at(1.0)
    reached = sum(verdict.reached is True for _, verdict in rows)
    parts = [
        canvas(LABELS + BARS + VALUES, height, f"{reached} of {len(rows)} targets are reached"),
        text(one - 6, 12, "◄ missed", "soft", anchor="end"),
        text(one + 6, 12, "reached ►", "soft"),
    ]
    for row, (comparison, verdict) in enumerate(rows):
        y = TOP + row * ROW
        kind = {True: "reached", False: "missed", None: "open"}[verdict.reached]
        parts.append(text(8, y + 17, f"{comparison.suite} · {comparison.case}", "soft"))
        parts.append(text(LABELS - 8, y + 17, verdict.text, anchor="end"))
        if excess := _excess(verdict):
            end = LABELS + scale.at(min(10.0, max(0.1, excess)))
            parts.append(
                f'<rect class="flag-{kind}" x="{min(one, end):.1f}" y="{y + 5}" '
                f'width="{max(3.0, abs(end - one)):.1f}" height="{ROW - 10}" rx="2"/>'
            )
        sign = {True: "✓", False: "✗", None: "?"}[verdict.reached]
        parts.append(text(LABELS + BARS + 8, y + 17, f"{sign} {number(verdict.value)}", kind))
    return "".join([*parts, line("one", one, one, TOP - 4, height), "</svg>"])


def _excess(verdict: Verdict) -> float | None:
    """More than 1 if it is more than reached."""
    target = verdict.target
    if verdict.value is None:
        return None
    if target.at_least is not None:
        return verdict.value / target.at_least if target.at_least else None
    return (target.at_most or 0) / verdict.value if verdict.value else 10.0
