"""What was measured: `Comparison` ◄ `Series` ◄ one `Sample` per round, and what follows from them.

Nothing here knows what was measured or how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from statistics import median
from typing import Any

#: One round of one contestant: figures by the key of their `Metric`.
Sample = dict[str, float]


class Kind(StrEnum):
    OURS = "aiopool"
    PEER = "peer"
    FLOOR = "floor"
    UNPOOLED = "unpooled"
    CLAIM = "claim"


@dataclass(frozen=True)
class Metric:
    key: str
    label: str
    unit: str
    lower_is_better: bool = True
    is_count: bool = False

    def text(self, value: float | None) -> str:
        return f"{value:,.0f}" if value == 0 or (self.is_count and value is not None) else number(value)


@dataclass
class Series:
    """One contestant over all rounds; None stands for a round that it failed."""

    name: str
    kind: Kind
    rounds: list[Sample | None] = field(default_factory=list)
    #: How often which error came up.
    errors: dict[str, int] = field(default_factory=dict)
    #: What its ratios are taken against, if not what the comparison says.
    against: str | None = None
    #: How much each task got in the last round, in ascending order.
    served: list[int] = field(default_factory=list)

    def values(self, key: str) -> list[float]:
        return [sample[key] for sample in self.rounds if sample is not None and key in sample]

    def median(self, key: str) -> float | None:
        values = self.values(key)
        return median(values) if values else None

    def range(self, key: str) -> tuple[float, float] | None:
        """The 10th and the 90th percentile over the rounds: least and most, if they are few."""
        values = sorted(self.values(key))
        return (percentile(values, 0.1), percentile(values, 0.9)) if values else None

    def spread(self, key: str) -> float | None:
        """Their distance, as a share of the median."""
        between, middle = self.range(key), self.median(key)
        return (between[1] - between[0]) / middle if between and middle else None

    def count_error(self, error: str, times: int = 1) -> None:
        self.errors[error] = self.errors.get(error, 0) + times


@dataclass(frozen=True)
class Target:
    """What is hoped for: a figure of a contestant, at least or at most so much, or so many times another's."""

    contestant: str
    at_least: float | None = None
    at_most: float | None = None
    #: Whose figure it is a multiple of; of several, the one that makes it hardest.
    times: str | tuple[str, ...] = ()
    #: The key of a metric; empty: the one that the comparison is about.
    metric: str = ""


@dataclass(frozen=True)
class Verdict:
    """A target and what became of it; None: it was not measured."""

    target: Target
    text: str
    value: float | None
    reached: bool | None


@dataclass
class Comparison:
    """Contestants side by side. The first of `metrics` is what it is about; ratios are of that one."""

    suite: str
    group: str
    case: str
    metrics: tuple[Metric, ...]
    references: tuple[str, ...]
    series: list[Series] = field(default_factory=list)
    #: Who did not take part, and what to do about it.
    skipped: list[str] = field(default_factory=list)
    about: str = ""
    #: The result in one sentence, made of the figures.
    finding: str = ""
    targets: tuple[Target, ...] = ()

    @property
    def main(self) -> Metric:
        return self.metrics[0]

    def find(self, name: str) -> Series | None:
        return next((series for series in self.series if series.name == name), None)

    def ratios(self, series: Series, reference: str, metric: str = "") -> list[float]:
        """Taken within the same round: what slows a round slows both."""
        other, key = self.find(series.against or reference), metric or self.main.key
        if other is None:
            return []
        return [
            mine[key] / theirs[key]
            for mine, theirs in zip(series.rounds, other.rounds, strict=True)
            if mine is not None and theirs is not None and key in mine and theirs.get(key)
        ]

    def ratio(self, series: Series, reference: str, metric: str = "") -> float | None:
        ratios = self.ratios(series, reference, metric)
        return median(ratios) if ratios else None

    def median(self, name: str, key: str | None = None) -> float | None:
        series = self.find(name)
        return None if series is None else series.median(key or self.main.key)

    def ratio_of(self, name: str, reference: str) -> float | None:
        series = self.find(name)
        return None if series is None else self.ratio(series, reference)

    def note(self, name: str, errors: Mapping[str, int], served: Sequence[int]) -> None:
        """What a round showed besides its figures."""
        series = self.find(name)
        assert series is not None
        for error, times in errors.items():
            series.count_error(error, times)
        series.served = sorted(served)

    def verdicts(self) -> list[Verdict]:
        """One for each target that somebody who took part was to reach."""
        return [self._judge(target) for target in self.targets if self.find(target.contestant)]

    def _judge(self, target: Target) -> Verdict:
        series = self.find(target.contestant)
        assert series is not None
        metric = next(each for each in self.metrics if each.key == (target.metric or self.main.key))
        others = (target.times,) if isinstance(target.times, str) else target.times
        values = [self.ratio(series, other, metric.key) for other in others] or [series.median(metric.key)]
        sign, bound = ("≥", target.at_least) if target.at_least is not None else ("≤", target.at_most)
        assert bound is not None, "a target has a bound"
        unit = f" × {' and '.join(others)}" if others else f" {metric.unit}".rstrip()
        text = f"{target.contestant}: {metric.label} {sign} {bound:g}{unit}"
        measured = [value for value in values if value is not None]
        if not measured:
            return Verdict(target, text, None, None)
        value = min(measured) if sign == "≥" else max(measured)
        return Verdict(target, text, value, value >= bound if sign == "≥" else value <= bound)

    def as_json(self) -> dict[str, Any]:
        """Everything raw, and the medians for those who want nothing else."""
        answer = asdict(self)
        answer["verdicts"] = [asdict(verdict) for verdict in self.verdicts()]
        for raw, series in zip(answer["series"], self.series, strict=True):
            raw["medians"] = {metric.key: series.median(metric.key) for metric in self.metrics}
            raw["ratios"] = {name: self.ratio(series, name) for name in self.references}
        return answer


def percentile(ordered: list[float], share: float) -> float:
    """Of values in ascending order: the nearest rank."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def number(value: float | None) -> str:
    """Three significant digits, for people."""
    if value is None:
        return "–"
    size = abs(value)
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{decimals}f}"


def grouped(comparisons: Iterable[Comparison]) -> list[list[Comparison]]:
    """Those that belong into one table: neighbours of one suite and group."""
    groups: list[list[Comparison]] = []
    for comparison in comparisons:
        if groups and (groups[-1][0].suite, groups[-1][0].group) == (comparison.suite, comparison.group):
            groups[-1].append(comparison)
        else:
            groups.append([comparison])
    return groups
