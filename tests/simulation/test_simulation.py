"""Two thousand histories; that each goes the same way again; that a broken rule is told with the line to replay it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from aiopool.stock import Stock
from tests.simulation.__main__ import main
from tests.simulation.history import draw
from tests.simulation.play import command, shorter
from tests.simulation.run import run
from tests.simulation.shrink import shrink

#: `python -m tests.simulation` plays as many as you like.
SEEDS = int(os.environ.get("SIMULATION_SEEDS", "2000"))

DETERMINISM = """
from tests.simulation.history import draw
from tests.simulation.play import command, shorter
from tests.simulation.run import run
for seed in range(12):
    outcome = run(draw(seed))
    print(seed, outcome.steps, outcome.digest, outcome.violation)
"""


def test_two_thousand_histories_break_no_rule(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(seeds=SEEDS, first=0)
    assert end.value.code == 0, capsys.readouterr().out


def test_a_history_goes_the_same_way_each_time_in_each_process() -> None:
    traces = [
        subprocess.run(
            [sys.executable, "-c", DETERMINISM],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert traces[0] == traces[1]
    assert len(traces[0].splitlines()) == 12


def test_different_seeds_tell_different_stories() -> None:
    assert len({run(draw(seed)).digest for seed in range(20)}) == 20


@pytest.fixture
def a_lifo_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from aiopool.handoff import HandoffQueue

    original = HandoffQueue._next_waiter

    def last_comes_first(self: HandoffQueue[object], now: float) -> object:
        self.waiters.move_to_end(next(reversed(self.waiters)), last=False)
        return original(self, now)

    monkeypatch.setattr(HandoffQueue, "_next_waiter", last_comes_first)


@pytest.mark.usefixtures("a_lifo_line")
def test_a_broken_rule_is_found_told_with_its_replay_and_shrunk() -> None:
    seed = next(seed for seed in range(50) if "before one who came earlier" in run(draw(seed)).violation)
    assert command(seed) == f"python -m tests.simulation --first {seed} --seeds 1"
    numbers, variant = shorter(seed, 200)
    assert len(numbers) <= 20
    assert run(draw(seed).only(numbers, variant)).violation


def test_a_pool_that_loses_a_connection_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    gone, count = Stock._gone, iter(range(1_000_000))

    def forgetful(self: Stock[object], info: object) -> None:
        gone(self, info)  # type: ignore[arg-type]
        if next(count) % 10 == 9:
            self.opener.slots.acquire_nowait()

    monkeypatch.setattr(Stock, "_gone", forgetful)
    assert any("slots are free" in run(draw(seed)).violation for seed in range(10))


def test_shrinking_finds_the_few_that_matter() -> None:
    assert shrink(range(200), lambda some: {17, 99, 150} <= set(some)) == [17, 99, 150]
    assert shrink([5], lambda _: True) == [5]
