"""Opening, closing, opening again: on this loop, on another one, in another process, or not at all."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

import pytest

from aiopool import PoolClosed, PoolConfig, WrongLoop
from tests.conformance.callers import SLACK, eventually, fill, line_up, outcome, release, rest, server_sees
from tests.conformance.kinds import KINDS
from tests.stopwatch import Stopwatch


async def test_the_first_acquire_opens_a_pool(kind, make):
    pool = make()
    async with kind.acquire(pool) as connection:
        assert await kind.ask(connection, "opened") == "opened"
    await pool.close()


async def test_opening_an_open_pool_changes_nothing(kind, make):
    async with make(min_size=1) as pool:
        await pool.open()
        await pool.open(wait=False)
        assert pool.stats()["opened"] == 1


async def test_closing_waits_for_what_is_leased(kind, make):
    pool = make()
    lease = await kind.acquire(pool)
    closing = asyncio.create_task(pool.close(timeout=5))
    await asyncio.sleep(0.03)
    assert not closing.done()
    assert await kind.ask(lease.connection, "not yet") == "not yet"
    lease.release()
    await closing
    assert pool.stats()["size"] == pool.stats()["in_use"] == 0


async def test_closing_fails_those_who_wait_and_those_who_come(kind, make):
    pool = make(max_size=1)
    leases = await fill(kind, pool)
    waiters = await line_up(kind, pool, 3)
    closing = asyncio.create_task(pool.close(timeout=5))
    errors = await asyncio.gather(*waiters, return_exceptions=True)
    assert {type(error) for error in errors} == {PoolClosed}
    assert len({id(error) for error in errors}) == 3
    for refused in (kind.acquire(pool), kind.acquire(pool, timeout=0), kind.call(pool, "too late")):
        with pytest.raises(PoolClosed):
            await refused
    release(leases)
    await closing


async def test_closing_ends_what_outlasts_the_deadline_and_leaves_nothing_on_the_server(kind, make):
    pool = make(max_size=2)
    leases = await fill(kind, pool)
    question = asyncio.create_task(outcome(kind.ask(leases[0].connection, "too long", 0.5)))
    await asyncio.sleep(0.01)
    with Stopwatch() as watch:
        await pool.close(timeout=0.05)
    assert watch.seconds < 0.05 + 2 * SLACK
    assert isinstance(await question, Exception)
    assert pool.stats()["closed_by"]["pool_closed"] == pool.stats()["opened"] == 2
    release(leases)
    assert pool.stats()["in_use"] == 0
    await server_sees(kind, pool.name, 0)


async def test_closing_with_timeout_0_ends_all_at_once(kind, make):
    pool = make(max_size=2)
    leases = await fill(kind, pool)
    with Stopwatch() as watch:
        await pool.close(timeout=0)
    assert watch.seconds < 2 * SLACK
    assert pool.stats()["size"] == 0
    release(leases)


async def test_closing_while_a_connection_is_being_opened_waits_for_no_server(kind, make, proxy):
    proxy.silence()
    pool = make(via=proxy)
    waiters = await line_up(kind, pool, 2)
    await eventually(lambda: pool.stats()["opening"] > 0)
    with Stopwatch() as watch:
        await pool.close()
    assert watch.seconds < 2 * SLACK
    assert {type(error) for error in await asyncio.gather(*waiters, return_exceptions=True)} == {PoolClosed}


async def test_closing_again_changes_nothing(kind, make):
    pool = make(min_size=1)
    await pool.close()
    pool = make(min_size=1)
    await pool.open()
    await asyncio.gather(pool.close(), pool.close())
    await pool.close()
    assert pool.stats()["closed"] == pool.stats()["opened"] == 1


async def test_a_closed_pool_refuses_and_says_so(kind, make):
    pool = make()
    await kind.call(pool, "open")
    await pool.close()
    for refused in (kind.acquire(pool), kind.call(pool, "closed"), pool.drain(), pool.check()):
        with pytest.raises(PoolClosed, match=pool.name):
            await refused


async def test_a_closed_pool_can_be_opened_again_and_its_counters_go_on(kind, make):
    pool = make(min_size=1)
    for turn in (1, 2, 3):
        async with pool:
            assert await kind.call(pool, f"turn {turn}") == f"turn {turn}"
        assert pool.stats()["opened"] == pool.stats()["closed"] == turn
        assert pool.stats()["acquired"] == turn


async def test_a_closed_pool_can_be_opened_on_another_loop(kind, make):
    pool = make(min_size=1)
    async with pool:
        await kind.call(pool, "here")

    async def elsewhere():
        async with pool:
            return await asyncio.gather(*(kind.call(pool, f"there{n}") for n in range(5)))

    assert await asyncio.to_thread(asyncio.run, elsewhere()) == [f"there{n}" for n in range(5)]
    async with pool:
        assert await kind.call(pool, "here again") == "here again"


async def test_an_open_pool_refuses_another_loop_and_goes_on(kind, make):
    async with make(min_size=1) as pool:

        async def elsewhere():
            errors = [await outcome(kind.acquire(pool)), await outcome(kind.call(pool, "astray"))]
            return [*errors, await outcome(pool.drain()), await outcome(pool.close())]

        errors = await asyncio.to_thread(asyncio.run, elsewhere())
        assert [type(error) for error in errors] == [WrongLoop] * 4
        assert await kind.call(pool, "at home") == "at home"


async def test_a_pool_that_is_dropped_warns_and_leaves_nothing_on_the_server(kind):
    name = f"dropped-{os.getpid()}-{kind.label}"
    pool = kind.build(PoolConfig(min_size=2, max_size=2, max_shares=kind.shares), name)
    await pool.open()
    await kind.call(pool, "soon to be dropped")
    await rest(pool)  # a reset under way would hold it
    await server_sees(kind, name, 2)
    with warnings.catch_warnings(record=True) as caught:  # drivers may warn of their connections, too
        warnings.simplefilter("always")
        del pool
        gc.collect()
    assert len([warning for warning in caught if name in str(warning.message)]) == 1
    await server_sees(kind, name, 0)


@pytest.fixture(scope="session")
def forked(server_of):
    """What became of a pool of each kind in a child process, and in its parent afterwards."""
    kinds = {kind.label: asdict(kind.at(server_of(kind))) for kind in KINDS}
    run = subprocess.run(
        # From Python 3.12 on it is told that another thread might hold a lock, which is so in any program with drivers.
        [sys.executable, "-W", "ignore:This process", "-m", "tests.conformance.child", json.dumps(kinds)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    return json.loads(run.stdout)


def test_a_child_process_is_refused_and_its_parent_goes_on(kind, forked):
    told = forked[kind.label]
    assert {told.pop(call) for call in ("acquire", "call", "open")} == {"ForkedPool"}
    assert told == {"parent": "goes on", "closed": 0}
