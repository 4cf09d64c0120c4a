"""The benchmarks run, compare whom they should, and say who is missing. How fast anything is, is not tested."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import asyncpg
import pytest

from aiopool import embedded
from benchmarks import article, breakage, contended, growth, html, instructions, overhead, report
from benchmarks.breakage import faults, pools
from benchmarks.delay_proxy import DelayProxy
from benchmarks.harness import QUICK, Contestant, Run, compare, opened
from benchmarks.load import METRICS, Caller, load
from benchmarks.results import Comparison, Kind, Metric, Sample, Series, grouped
from tests.stopwatch import Stopwatch

TINY = replace(
    QUICK,
    article_rounds=1,
    overhead_rounds=2,
    overhead_slice=0.0005,
    contended_rounds=1,
    contended_turns=600,
    contended_budget=2.0,
    growth_rounds=1,
    instructions_rounds=1,
    backend_rounds=1,
    backend_cell=0.02,
    breakage_fault=0.5,
    breakage_watch=3.0,
)
MACHINE = {"command": "python -m benchmarks", "date": "today"}


class Watched(Run):
    """A run that keeps what it is told."""

    def __init__(self) -> None:
        self.results: list[Comparison] = []
        self.expected = self.steps = 0
        super().__init__(TINY, self._expect, self._step, self._publish, random.Random(1))

    def _expect(self, steps: int) -> None:
        self.expected += steps

    def _step(self, what: str) -> None:
        self.steps += 1

    def _publish(self, group: Sequence[Comparison]) -> None:
        self.results += group

    def check(self) -> None:
        """Everybody took part without an error, and every figure can be shown and written."""
        assert self.steps == self.expected > 0
        for comparison in self.results:
            assert comparison.skipped == []
            assert comparison.finding
            for series in comparison.series:
                assert series.errors == {}, series.name
                assert None not in series.rounds
                assert all(comparison.ratio(series, name) for name in comparison.references)
        json.dumps([comparison.as_json() for comparison in self.results])
        for group in grouped(self.results):
            assert f"### {group[0].group}" in report.markdown(group)


async def test_the_article_is_reproduced() -> None:
    run = Watched()
    await article.run(run)
    run.check()
    requests, acquire = run.results
    assert [series.kind for series in requests.series[:2]] == [Kind.CLAIM, Kind.CLAIM]
    pooled, unpooled = requests.median(article.Pooled.name), requests.median(article.UNPOOLED)
    assert pooled is not None
    assert unpooled is not None
    # Sleeps make the most of it, so this holds on any machine.
    assert 3 * article.WORK * 900 < pooled < unpooled
    assert acquire.median(article.Acquire.name)


async def test_overhead_compares_all_pools_with_the_floor() -> None:
    run = Watched()
    await overhead.run(run)
    run.check()
    (comparison,) = run.results
    assert {series.name for series in comparison.series} == {kind.name for kind in overhead.CONTESTANTS}


async def test_breakage_shows_what_each_pool_makes_of_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breakage, "FAULTS", (faults.Refuses, faults.Stopped))
    monkeypatch.setattr(breakage, "CALM", 0.2)
    monkeypatch.setattr(breakage, "SETTLING", 0.2)
    run = Watched()
    await breakage.run(run)
    assert run.steps == run.expected == 4
    names = {kind.name for kind in pools.CONTESTANTS}
    for comparison in run.results:
        assert comparison.skipped == []
        assert comparison.finding
        assert {series.name for series in comparison.series} == names
        assert "spread" not in report.markdown([comparison])
    refused, stopped = run.results
    assert any(series.errors for series in refused.series)
    for series in stopped.series:
        assert series.errors == {}, "nothing was shorter than the bounds"
        assert 0.4 < (series.median("longest") or 0) < 5
        assert series.median("all") is not None


async def test_contention_shows_who_serves_everybody_and_who_starves_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contended, "CASES", ((20, False), (200, False)))
    run = Watched()
    await contended.run(run)
    run.check()
    for comparison in run.results:
        ours, queue = comparison.find("aiopool"), comparison.find("asyncio.Queue")
        assert ours is not None
        assert queue is not None
        assert (ours.median("jain") or 0) > 0.95
        assert (queue.median("jain") or 1) < 0.6
        assert max(ours.served) <= min(ours.served) + 2
        assert min(queue.served) == 0
        assert 0 < (ours.median("p50") or 0) <= (ours.median("p99") or 0) <= (ours.median("max") or 0)


async def test_a_spike_and_a_ramp_show_who_opens_how_many_for_it() -> None:
    run = Watched()
    await growth.spike(run)
    await growth.ramp(run)
    run.check()
    spike, ramp = run.results
    for comparison in run.results:
        assert {each.name for each in comparison.series} == {kind.name for kind in growth.CONTESTANTS} | {growth.IDEAL}
    # Who opens a connection for each caller makes it wait for it, even if one of the five is back long before.
    assert (spike.median("asyncpg.Pool", "begun") or 0) == 45
    assert (spike.median("asyncpg.Pool") or 0) >= 150
    assert (spike.median("aiopool") or 0) >= 20
    assert (ramp.median("aiopool") or 0) >= 150
    assert (ramp.median("aiopool", "begun") or 0) == 45


async def test_instructions_are_counted_without_those_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """By something in valgrind's place that counts a million for the start and seven for each operation."""
    script = "import sys; print('I   refs:', f'{1_000_000 + 7 * int(sys.argv[-1]):,}', file=sys.stderr)"
    monkeypatch.setattr(instructions, "VALGRIND", (sys.executable, "-c", script))
    run = Watched()
    await instructions.run(run)
    run.check()
    (comparison,) = run.results
    assert [series.rounds for series in comparison.series] == [[{"instructions": 7.0}]] * len(instructions.CASES)


async def test_without_valgrind_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "VALGRIND", ("no-such-valgrind",))
    run = Watched()
    await instructions.run(run)
    assert "valgrind" in report.markdown(run.results)
    assert "is not installed" in report.markdown(run.results)


class Missing(Contestant):
    name = "missing"
    package = "to-be-had"

    async def open(self) -> None:
        raise ModuleNotFoundError(name="absent")


class Broken(Contestant):
    name = "broken"

    async def open(self) -> None:
        raise RuntimeError("no")


class Flaky(Contestant):
    name = "flaky"
    turns = 0

    async def open(self) -> None: ...

    async def measure(self) -> Sample:
        self.turns += 1
        if self.turns % 2:
            raise ConnectionResetError
        return {"x": 2.0}


class Steady(Flaky):
    name = "steady"

    async def measure(self) -> Sample:
        return {"x": 1.0}


async def test_who_is_missing_is_told_and_who_fails_is_counted() -> None:
    comparison = Comparison("s", "<group>", "case", (Metric("x", "x", "s"),), ("steady",))
    run = Watched()
    async with opened([Missing(), Broken(), Flaky(), Steady()], comparison.skipped) as ready:
        await compare(run, comparison, ready, lambda each: each.measure(), rounds=4)  # type: ignore[attr-defined]
    assert comparison.skipped == [
        "missing: absent is not installed: pip install 'to-be-had'",
        "broken: did not start: RuntimeError: no",
    ]
    flaky = comparison.find("flaky")
    assert flaky is not None
    assert flaky.errors == {"ConnectionResetError": 2}
    assert comparison.ratio(flaky, "steady") == 2.0
    for text in (report.markdown([comparison]), html.page([comparison], MACHINE)):
        assert "2 × ConnectionResetError" in text
        assert "absent is not installed" in text


def test_ratios_are_taken_within_a_round() -> None:
    slow_then_fast = Series("a", Kind.OURS, [{"x": 20.0}, {"x": 2.0}, {"x": 10.0}, None])
    same_machine = Series("b", Kind.PEER, [{"x": 10.0}, {"x": 1.0}, {"x": 5.0}, {"x": 7.0}])
    comparison = Comparison("s", "g", "c", (Metric("x", "x", "s"),), ("b",), [slow_then_fast, same_machine])
    assert comparison.ratios(slow_then_fast, "b") == [2.0, 2.0, 2.0]
    assert comparison.median("a") == 10.0


def test_the_page_loads_nothing_and_escapes_names() -> None:
    series = Series("<b>&", Kind.OURS, [{"rate": 1.0, "p50": 0.1, "p99": 1.0}, None], {"Error": 1})
    comparison = Comparison("s", "g", "c", METRICS, ("<b>&",), [series])
    page = html.page([comparison], MACHINE)
    assert "&lt;b&gt;&amp;" in page
    assert "<b>" not in page
    for word in ("http:", "https:", "src=", "href=", "@import", "url("):
        assert word not in page


class Prompt(Caller):
    name = "prompt"

    async def open(self) -> None: ...

    async def call(self) -> None: ...


async def test_a_time_that_is_over_before_it_begins_still_measures_a_call_of_each() -> None:
    found = await load(Prompt(), tasks=3, seconds=0.0)
    assert found.served == [1, 1, 1]
    assert found.sample()


class Stuck(Caller):
    name = "stuck"

    async def open(self) -> None: ...

    async def call(self) -> None:
        await asyncio.sleep(3600)


async def test_a_call_that_hangs_ends_the_cell_and_is_counted() -> None:
    found = await load(Stuck(), tasks=3, seconds=0.01, grace=0.05)
    assert found.sample() is None
    assert found.errors == {"given up": 3}
    assert found.served == [0, 0, 0]


async def test_the_proxy_delays_round_trips_not_throughput(postgres: embedded.PostgresServer) -> None:
    async with DelayProxy(postgres.dsn, default_port=5432) as proxy:
        connection = await asyncpg.connect(proxy.url)
        proxy.round_trip = 0.05
        began = perf_counter()
        with Stopwatch() as watch:
            await connection.execute("select 1")
        assert perf_counter() - began >= 0.05
        assert watch.seconds < 0.2
        with Stopwatch() as watch:
            # A megabyte is many pieces; they travel together.
            assert len(await connection.fetchval("select repeat('x', 1000000)")) == 1_000_000
        assert watch.seconds < 0.5
        await connection.close()


def descendants(pid: int) -> dict[int, str]:
    """The processes below that one, and their names."""
    parents: dict[int, tuple[int, str]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            before, _, after = status.read_text().rpartition(") ")
            if after[0] != "Z":
                parents[int(status.parent.name)] = int(after.split()[1]), before.partition("(")[2]
    found: dict[int, str] = {}
    below = {pid}
    while below:
        below = {child for child, (parent, _) in parents.items() if parent in below}
        found |= {child: parents[child][1] for child in below}
    return found


def test_interrupting_leaves_no_server_behind() -> None:
    command = [sys.executable, "-m", "benchmarks", "postgres", "--quick"]
    root = Path(__file__).parents[2]
    environment = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    process = subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + 60
        while "postgres" not in (children := descendants(process.pid)).values():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=15)
    finally:
        process.kill()
    assert process.returncode == 130
    assert b"Interrupted" in output
    while left := children.keys() & descendants(1).keys():
        assert time.monotonic() < deadline + 20, left
        time.sleep(0.1)
