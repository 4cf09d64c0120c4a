"""The benchmarks on servers: everybody takes part, and a storm sees what it is there to see."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections import Counter
from dataclasses import replace

import httpx
import pytest

import benchmarks.load
from benchmarks import cancel_storm, http, postgres, redis, servers
from benchmarks.cancel_storm import storm
from benchmarks.cancel_storm.pool import SIZE, Census, Pool
from benchmarks.http.server import granian
from benchmarks.load import Load
from benchmarks.postgres import engines
from benchmarks.redis.limits import RedisBenchmark
from benchmarks.results import Comparison, Kind
from tests.integration.test_benchmarks import TINY, Watched, descendants


def names(comparison: Comparison) -> list[str]:
    return [series.name for series in comparison.series]


def is_judged(comparison: Comparison) -> bool:
    """Whether each target was, and by figures of those that it names."""
    verdicts = comparison.verdicts()
    return len(verdicts) == len(comparison.targets) > 0 and all(verdict.value is not None for verdict in verdicts)


async def test_postgres_compares_its_pools_at_every_number_of_tasks() -> None:
    run = Watched()
    await postgres.run(run)
    run.check()
    assert [comparison.case for comparison in run.results] == ["1 task", "10 tasks", "100 tasks"]
    for comparison in run.results:
        assert names(comparison) == [kind.name for kind in postgres.CONTESTANTS]
        assert is_judged(comparison)


async def test_sqlalchemy_compares_the_pools_of_its_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "TASKS", (1, 100))
    run = Watched()
    await engines.run(run)
    run.check()
    for comparison in run.results:
        assert names(comparison) == [kind.name for kind in engines.CONTESTANTS]
        assert is_judged(comparison)


async def test_redis_compares_its_pools_and_says_if_its_own_program_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "TASKS", (100,))
    # A busy machine answers too few of them to look at who got how many, and the target asks for that.
    monkeypatch.setattr(benchmarks.load, "ENOUGH", 1)
    run = Watched()
    run.effort = replace(run.effort, backend_cell=0.3)
    await redis.run(run)
    (comparison,) = run.results
    everybody = [kind.name for kind in redis.CONTESTANTS]
    if shutil.which("redis-benchmark") or shutil.which("valkey-benchmark"):
        run.check()
        assert names(comparison) == everybody
        assert comparison.median(RedisBenchmark.name, "p99")
    else:
        assert names(comparison) == [name for name in everybody if name != RedisBenchmark.name]
        assert any("redis-tools" in line for line in comparison.skipped)
    assert is_judged(comparison)


@pytest.mark.parametrize("suite", [http.run_http1, http.run_http2])
async def test_http_compares_its_clients(suite: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HTTP1_TASKS", (10,))
    run = Watched()
    await suite(run)  # type: ignore[operator]
    run.check()
    (comparison,) = run.results
    assert names(comparison) == [kind.name for kind in (http.HTTP1 if suite is http.run_http1 else http.HTTP2)]
    assert is_judged(comparison)


async def test_the_https_server_counts_and_leaves_no_process_behind() -> None:
    before = descendants(os.getpid())
    async with granian() as server:
        began = descendants(os.getpid()).keys() - before.keys()
        assert began
        async with httpx.AsyncClient(verify=server.ssl_context, http2=True) as client:
            assert len((await client.get(server.url)).content) == 200
            assert (await client.get(f"{server.url}/number/7/0")).text == "7"
            assert (await client.get(f"{server.url}/asked")).text == "1"
    assert not began & descendants(1).keys()


async def test_pools_meet_a_storm_and_ours_survive_it(monkeypatch: pytest.MonkeyPatch) -> None:
    short = {"CALM": 0.1, "HOLD": 1.5, "AFTERWARDS": 50, "AFTERWARDS_TIMEOUT": 2.0, "PATIENCE": 2.0, "LONGEST": 5.0}
    for name, value in short.items():
        monkeypatch.setattr(storm, name, value)
    modules = (cancel_storm.postgres, cancel_storm.redis, cancel_storm.http)
    for module, some in zip(modules, (slice(0, 4, 2), slice(0, 3, 2), slice(2)), strict=True):
        monkeypatch.setattr(module, "CONTESTANTS", module.CONTESTANTS[some])
    run = Watched()
    run.effort = replace(run.effort, storm_cancellations=60)
    await cancel_storm.run(run)
    assert [comparison.group for comparison in run.results] == ["PostgreSQL", "Redis", "HTTPS, HTTP/1.1"]
    for comparison in run.results:
        assert comparison.skipped == []
        assert is_judged(comparison)
        for series in comparison.series:
            assert (series.median("cancelled") or 0) >= 60, series
            assert series.median("wrong") == 0
            if series.kind is Kind.OURS:
                assert series.errors == {}
                assert series.median("answered")
                assert series.median("afterwards") == storm.AFTERWARDS
        assert all(verdict.reached for verdict in comparison.verdicts())


class Pretended(Pool):
    """Ten slots and no server, to see whether a storm sees what is wrong with them."""

    name = "pretended"

    def __init__(self) -> None:
        self.server = self
        self.slots = asyncio.Semaphore(SIZE)
        self.counted = Census(0, 0)

    async def open(self) -> None: ...

    async def census(self) -> Census:
        return self.counted

    def count(self, *, connections: int = 0, questions: int = 0) -> None:
        counted = self.counted
        self.counted = Census(counted.connections + connections, counted.questions + questions)

    async def ask(self, number: int, seconds: float = 0.0) -> int:
        async with self.slots:
            self.count(questions=1)
            await asyncio.sleep(seconds or 0.001)
            return number


class Leaking(Pretended):
    """So slow that most cancellations come in the midst of a use, however busy the machine is."""

    async def ask(self, number: int, seconds: float = 0.0) -> int:
        await self.slots.acquire()
        await asyncio.sleep(seconds or 0.03)
        self.slots.release()
        return number


class Confused(Pretended):
    """An answer that nobody has read is the next one's."""

    def __init__(self) -> None:
        super().__init__()
        self.unread: list[int] = []

    async def ask(self, number: int, seconds: float = 0.0) -> int:
        async with self.slots:
            self.unread.append(number)
            await asyncio.sleep(seconds or 0.001)
            return self.unread.pop(0)


class Wasteful(Pretended):
    """Connects anew for whoever is cancelled, even in the line."""

    async def ask(self, number: int, seconds: float = 0.0) -> int:
        try:
            return await super().ask(number, seconds)
        except asyncio.CancelledError:
            self.count(connections=1)
            raise


class Unkind(Pretended):
    """Now and then one that nobody cancelled is told otherwise."""

    async def ask(self, number: int, seconds: float = 0.0) -> int:
        if number % 50 == 49:
            raise asyncio.CancelledError
        return await super().ask(number, seconds)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PATIENCE": 0.5, "LONGEST": 2.0, "CALM": 0.1, "HOLD": 0.2, "AFTERWARDS_TIMEOUT": 2.0}.items():
        monkeypatch.setattr(storm, name, value)


@pytest.fixture
def dice() -> random.Random:
    return random.Random(1)


@pytest.mark.usefixtures("short")
async def test_a_storm_finds_nothing_where_nothing_is_wrong(dice: random.Random) -> None:
    sample = (await storm.unleash(Pretended(), 300, dice)).sample()
    assert sample["afterwards"] == storm.AFTERWARDS
    assert sample["cancelled"] >= 300
    assert sample["cut"] > 0
    assert [sample[key] for key in ("lost", "wrong", "errors", "opened", "needless")] == [0] * 5


@pytest.mark.usefixtures("short")
async def test_a_storm_sees_connections_that_are_lost(dice: random.Random) -> None:
    found = await storm.unleash(Leaking(), 300, dice)
    sample = found.sample()
    assert sample["lost"] == SIZE
    assert sample["afterwards"] < storm.AFTERWARDS
    assert found.errors["TimeoutError"] == sample["errors"] > 0


@pytest.mark.usefixtures("short")
async def test_a_storm_sees_answers_that_are_not_the_askers(dice: random.Random) -> None:
    assert (await storm.unleash(Confused(), 300, dice)).sample()["wrong"] > 0


@pytest.mark.usefixtures("short")
async def test_a_storm_sees_connections_that_need_not_have_been_opened(dice: random.Random) -> None:
    sample = (await storm.unleash(Wasteful(), 300, dice)).sample()
    assert sample["opened"] > sample["cut"]
    assert sample["needless"] == sample["opened"] - sample["cut"]


@pytest.mark.usefixtures("short")
async def test_a_storm_sees_cancellations_that_nobody_asked_for(dice: random.Random) -> None:
    assert (await storm.unleash(Unkind(), 300, dice)).errors["CancelledError"] > 0


class GivenUp(servers.Client):
    name = "given up"
    opened = closed = 0

    async def open(self) -> None:
        self.opened += 1

    async def close(self) -> None:
        self.closed += 1

    async def call(self) -> None: ...

    async def load(self, tasks: int, seconds: float) -> Load:
        return Load([[0.001]], 1.0, Counter({"given up": 1}))


async def test_a_client_that_was_given_up_begins_the_next_round_anew() -> None:
    client = GivenUp()
    await servers.compare_clients(
        Watched(), "suite", "group", "about", [client], [1], references=(), targets=lambda tasks: ()
    )
    assert client.opened == client.closed == 1 + TINY.backend_rounds
