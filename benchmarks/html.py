"""Results as one self-contained page: it loads nothing, and follows the reader's light or dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from benchmarks.plots.chart import chart
from benchmarks.plots.targets import board
from benchmarks.report import METHOD, cells, headings, remarks
from benchmarks.results import Comparison, Kind, grouped

LEGEND = {
    Kind.OURS: "aiopool",
    Kind.PEER: "other pools",
    Kind.UNPOOLED: "no pool",
    Kind.FLOOR: "the limit, or written by hand",
    Kind.CLAIM: "what the article says",
}


def page(results: Sequence[Comparison], facts: Mapping[str, str], method: str = METHOD) -> str:
    kinds = {series.kind for comparison in results for series in comparison.series}
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        date=escape(facts.get("date", "")),
        command=escape(facts.get("command", "")),
        legend="".join(
            f'<li><i class="back-{kind.value}"></i>{text}</li>' for kind, text in LEGEND.items() if kind in kinds
        ),
        targets=_targets(results),
        sections="\n".join(_section(group) for group in grouped(results)),
        method=escape(method),
        facts="".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items()),
    )


def _targets(results: Sequence[Comparison]) -> str:
    plot = board(results)
    if not plot:
        return ""
    about = "A bar to the right of the line: reached, and by how much; to the left: missed. The scale is logarithmic."
    return f'<section><h2>Targets</h2><p class="soft">{about}</p><div class="plot">{plot}</div></section>'


def _section(group: Sequence[Comparison]) -> str:
    first, shown = group[0], [each for each in group if each.series]
    better = "less is better" if first.main.lower_is_better else "more is better"
    findings = "".join(
        f"<li>{escape(each.finding)} <small>({escape(each.case)})</small></li>" for each in group if each.finding
    )
    notes = "".join(f"<li>{escape(line)}</li>" for line in remarks(group))
    parts = [
        f"<section><h2>{escape(first.group)}</h2>",
        f'<p class="soft">{escape(first.about)}</p>' if first.about else "",
        f'<ul class="findings">{findings}</ul>' if findings else "",
    ]
    if shown:
        what = f"{escape(first.main.label)} in {escape(first.main.unit)}: {better}"
        how = (
            f"Bars are multiples of <em>{escape(first.references[0])}</em>, which is the line at 1; the scale is "
            "logarithmic, the thin line spans most rounds. A flag stands where a target is, green if it is reached."
            if first.references
            else ""
        )
        parts.append(f'<p class="soft">{what}. {how}</p>')
    parts += [f'<h3>{escape(each.case)}</h3><div class="plot">{chart(each)}</div>' for each in shown]
    parts += [f'<ul class="notes">{notes}</ul>' if notes else "", _details(shown) if shown else "", "</section>"]
    return "\n".join(part for part in parts if part)


def _details(group: Sequence[Comparison]) -> str:
    titles = ["", *headings(group[0])]
    rows = ["<tr>" + "".join(f"<th>{escape(title)}</th>" for title in titles) + "</tr>"]
    for comparison in group:
        rows.append(f'<tr><th colspan="{len(titles)}">{escape(comparison.case)}</th></tr>')
        for series in comparison.series:
            texts = [series.name, *cells(comparison, series)]
            columns = "".join(f"<td>{escape(text)}</td>" for text in texts)
            rows.append(f'<tr class="{series.kind.value}">{columns}</tr>')
    return f'<details><summary>All figures</summary><div class="scroll"><table>{"".join(rows)}</table></div></details>'
