"""What the benchmarks make of their figures: fairness, and whether a target was reached."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from benchmarks import report
from benchmarks.fairness import jain, strip
from benchmarks.plots.chart import chart
from benchmarks.plots.column import LogScale
from benchmarks.plots.targets import board
from benchmarks.results import Comparison, Kind, Metric, Series, Target


@pytest.mark.parametrize(
    ("counts", "index"), [([5, 5, 5, 5], 1.0), ([8, 0, 0, 0], 0.25), ([1, 3], 0.8), ([0, 0], 1.0), ([], 1.0)]
)
def test_the_index_is_one_if_all_got_the_same_and_one_of_n_if_one_got_all(counts: list[int], index: float) -> None:
    assert jain(counts) == pytest.approx(index)


def test_a_strip_shows_shares_in_ascending_order_and_keeps_their_mean() -> None:
    assert strip([4, 0, 4]) == [0.0, 1.5, 1.5]
    assert strip([0, 0]) == [0.0, 0.0]
    assert strip([]) == []
    shares = strip([10] * 10 + [0] * 190, places=100)
    assert shares == [0.0] * 95 + [20.0] * 5
    uneven = strip(list(range(250)), places=100)
    assert len(uneven) == 100
    assert uneven == sorted(uneven)


def compared(*targets: Target) -> Comparison:
    """Ours takes half of what the first takes, and three quarters of the second."""
    metrics = (Metric("us", "time", "µs"), Metric("wait", "wait", "ms"))
    series = [
        Series("ours", Kind.OURS, [{"us": 3.0, "wait": 7.0}, {"us": 6.0, "wait": 7.0}]),
        Series("first", Kind.PEER, [{"us": 6.0}, {"us": 12.0}]),
        Series("second", Kind.PEER, [{"us": 4.0}, {"us": 8.0}]),
        Series("failed", Kind.PEER, [None, None]),
    ]
    return Comparison("suite", "group", "case", metrics, ("first",), series, targets=targets)


@pytest.mark.parametrize(
    ("target", "value", "is_reached", "text"),
    [
        (Target("ours", at_most=0.5, times="first"), 0.5, True, "ours: time ≤ 0.5 × first"),
        (Target("ours", at_most=0.49, times="first"), 0.5, False, "ours: time ≤ 0.49 × first"),
        (Target("first", at_least=2, times="ours"), 2.0, True, "first: time ≥ 2 × ours"),
        (Target("first", at_least=2.5, times="ours"), 2.0, False, "first: time ≥ 2.5 × ours"),
        (Target("ours", metric="wait", at_most=8), 7.0, True, "ours: wait ≤ 8 ms"),
        (Target("ours", at_least=0.6, times=("first", "second")), 0.5, False, "ours: time ≥ 0.6 × first and second"),
        (Target("ours", at_most=0.6, times=("first", "second")), 0.75, False, "ours: time ≤ 0.6 × first and second"),
        (Target("ours", at_least=1, times="failed"), None, None, "ours: time ≥ 1 × failed"),
        (Target("failed", at_least=1), None, None, "failed: time ≥ 1 µs"),
    ],
)
def test_a_target_is_judged_by_the_figure_that_makes_it_hardest(
    target: Target, value: float | None, is_reached: bool | None, text: str
) -> None:
    (verdict,) = compared(target).verdicts()
    assert verdict.value == (None if value is None else pytest.approx(value))
    assert verdict.reached is is_reached
    assert verdict.text == text


def test_who_did_not_take_part_has_nothing_to_reach() -> None:
    assert compared(Target("absent", at_least=1, times="first")).verdicts() == []


def test_the_table_of_targets_says_yes_no_and_not_measured() -> None:
    comparison = compared(
        Target("ours", at_most=0.6, times="first"), Target("ours", at_most=1), Target("failed", at_least=1)
    )
    assert report.markdown_targets([comparison]).splitlines()[4:] == [
        "| case | ours: time ≤ 0.6 × first | 0.500 | yes |",
        "| case | ours: time ≤ 1 µs | 4.50 | no |",
        "| case | failed: time ≥ 1 µs | – | not measured |",
    ]


def test_equal_ratios_are_equally_far_apart_on_a_logarithmic_scale() -> None:
    scale = LogScale([0.01, 100.0], 100)
    assert scale.at(1.0) - scale.at(0.1) == pytest.approx(scale.at(10.0) - scale.at(1.0))
    assert 0 < scale.at(0.01) < scale.at(100.0) < 100
    assert scale.powers() == [0.01, 0.1, 1.0, 10.0, 100.0]
    assert LogScale([], 100).powers() == [1.0]


def test_a_chart_has_a_line_at_one_and_flags_where_the_targets_are() -> None:
    comparison = compared(Target("ours", at_most=0.6, times="first"), Target("second", at_least=1.5, times="ours"))
    picture = ElementTree.fromstring(chart(comparison))
    kinds = [each.get("class") for each in picture.iter()]
    assert kinds.count("one") == 1
    assert kinds.count("flag-reached") == 1
    assert kinds.count("flag-missed") == 1
    words = "".join(picture.itertext())
    assert "0.500× · 4.50 µs" in words
    assert "failed" in words
    (one,) = (float(each.get("x1", 0)) for each in picture.iter() if each.get("class") == "one")
    bars = [each for each in picture.iter("rect") if each.get("rx")]
    ours = bars[0]
    assert float(ours.get("x", 0)) + float(ours.get("width", 0)) == pytest.approx(one, abs=0.2), "half: left of it"


def test_a_chart_shows_what_each_task_got() -> None:
    metrics = (Metric("rate", "throughput", "ops/s", lower_is_better=False), Metric("jain", "Jain", ""))
    even = Series("even", Kind.OURS, [{"rate": 1.0, "jain": 1.0}], served=[7] * 20)
    greedy = Series("greedy", Kind.PEER, [{"rate": 2.0, "jain": 0.5}], served=[0] * 10 + [14] * 10)
    picture = chart(Comparison("s", "g", "c", metrics, ("even",), [even, greedy]))
    words = list(ElementTree.fromstring(picture).itertext())
    assert "Jain 1.00" in words
    assert "10 got none" in words
    assert "greedy: Jain 0.500; 10 of 20 tasks got nothing" in words


def test_the_board_shows_all_targets_and_nothing_where_there_are_none() -> None:
    assert board([compared()]) == ""
    comparison = compared(
        Target("ours", at_most=0.6, times="first"), Target("ours", at_most=1), Target("failed", at_least=1)
    )
    words = list(ElementTree.fromstring(board([comparison])).itertext())
    assert [word for word in words if word[0] in "✓✗?"] == ["✓ 0.500", "✗ 4.50", "? –"]
