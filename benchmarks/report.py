"""Results as text: tables for a terminal, or Markdown to paste."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from benchmarks.results import Comparison, Kind, Series, number

METHOD = (
    "Contestants take turns in shuffled order. Figures are medians over the rounds; spread is the distance of the 10th "
    "from the 90th percentile as a share of the median; a ratio (×) is the median of the ratios within the same round."
)


def headings(comparison: Comparison) -> list[str]:
    """The first metric, its ratios, its spread if there are rounds; then the others."""
    main = comparison.main
    ratios = [f"× {reference}" for reference in comparison.references]
    spread = ["spread"] if has_rounds(comparison) else []
    return [_titled(main.label, main.unit), *ratios, *spread] + [
        _titled(metric.label, metric.unit) for metric in comparison.metrics[1:]
    ]


def has_rounds(comparison: Comparison) -> bool:
    return any(len(series.rounds) > 1 for series in comparison.series)


def cells(comparison: Comparison, series: Series) -> list[str]:
    main = comparison.main.key
    ratios = [number(comparison.ratio(series, reference)) for reference in comparison.references]
    spread = series.spread(main) if len(series.rounds) > 1 else None
    spreads = ["–" if spread is None else f"{spread:.0%}"] if has_rounds(comparison) else []
    figures = [metric.text(series.median(metric.key)) for metric in comparison.metrics]
    return [figures[0], *ratios, *spreads, *figures[1:]]


def remarks(group: Sequence[Comparison]) -> Iterator[str]:
    """What must not be overlooked: who failed, and who is missing."""
    for comparison in group:
        for series in comparison.series:
            if series.errors:
                errors = ", ".join(f"{count:,} × {name}" for name, count in series.errors.items())
                yield f"errors: {series.name}, {comparison.case}: {errors}"
    yield from (f"note: {line}" for line in dict.fromkeys(line for c in group for line in c.skipped))


def findings(comparisons: Sequence[Comparison]) -> list[str]:
    """Each with its case, where one is not enough to know what it is about."""
    return [f"{c.group}, {c.case}: {c.finding}." for c in comparisons if c.finding]


TARGET_HEADINGS = ("", "target", "measured", "reached")


def target_rows(comparisons: Sequence[Comparison]) -> Iterator[tuple[bool | None, list[str]]]:
    """What was hoped for in which case, what came of it, and whether that is enough."""
    groups = {comparison.group for comparison in comparisons}
    for comparison in comparisons:
        case = f"{comparison.group}, {comparison.case}" if len(groups) > 1 else comparison.case
        for verdict in comparison.verdicts():
            answer = {True: "yes", False: "no", None: "not measured"}[verdict.reached]
            yield verdict.reached, [case, verdict.text, number(verdict.value), answer]


def show_targets(console: Console, comparisons: Sequence[Comparison]) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading in TARGET_HEADINGS:
        table.add_column(heading, justify="right" if heading == "measured" else "left")
    for reached, texts in target_rows(comparisons):
        style = {True: "green", False: "red", None: "yellow"}[reached]
        table.add_row(*(escape(text) for text in texts[:-1]), Text(texts[-1], style=style))
    console.print(Group(Text(f"{comparisons[0].suite}: targets", style="bold cyan"), table))


def markdown_targets(comparisons: Sequence[Comparison]) -> str:
    rows = [_row(TARGET_HEADINGS), _row(("---", "---", "---:", "---"))]
    rows += [_row(texts) for _, texts in target_rows(comparisons)]
    return f"### Targets: {comparisons[0].suite}\n\n" + "\n".join(rows) + "\n"


def machine_lines(facts: Mapping[str, str]) -> Iterator[str]:
    yield from (f"{name}: {value}" for name, value in facts.items())


def show(console: Console, group: Sequence[Comparison]) -> None:
    first = group[0]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for heading in headings(first):
        table.add_column(escape(heading), justify="right")
    shown = [comparison for comparison in group if comparison.series]
    for comparison in shown:
        table.add_row(Text(comparison.case, style="bold"))
        for series in comparison.series:
            style = {Kind.OURS: "green", Kind.CLAIM: "dim"}.get(series.kind, "")
            row = [escape(text) for text in (f"  {series.name}", *cells(comparison, series))]
            table.add_row(*row, style=style)
        table.add_section()
    parts: list[RenderableType] = [
        Text(f"{first.suite}: {first.group}", style="bold cyan"),
        Text(first.about, style="dim"),
    ]
    parts += [table] if shown else []
    parts += [Text(line, style="bold") for line in findings(group)]
    parts += [Text(line, style="yellow") for line in remarks(group)]
    console.print(Group(*parts))
    console.print()


def markdown(group: Sequence[Comparison]) -> str:
    first = group[0]
    titles = ["", *headings(first)]
    rows = [_row(titles), _row(["---"] + ["---:"] * (len(titles) - 1))]
    for comparison in group:
        if len(group) > 1:
            rows.append(_row([f"**{comparison.case}**"] + [""] * (len(titles) - 1)))
        rows += [_row([series.name, *cells(comparison, series)]) for series in comparison.series]
    notes = [f"- {line}" for line in (*findings(group), *remarks(group))]
    table = "\n".join(rows) if any(comparison.series for comparison in group) else ""
    blocks = [f"### {first.group}", first.about, table, "\n".join(notes)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def _titled(label: str, unit: str) -> str:
    return f"{label}, {unit}" if unit else label
