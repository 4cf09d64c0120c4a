"""What the benchmarks make of their figures: fairness, and whether a target was reached."""

from __future__ import annotations

import pytest

from benchmarks import report
from benchmarks.fairness import jain, strip
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
