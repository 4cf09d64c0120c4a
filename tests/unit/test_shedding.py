"""Shedding load when a line stands: better a quick no than a late yes."""

import asyncio

from aiopool import PoolOverloaded, Shed
from tests.fakes import Backend, hold, settle, take, timed

TARGET = 0.1


async def overload(pool, seconds, service=0.1, every=0.05):
    """Twice as many callers as one connection can serve. Returns what came of each, in order of arrival."""
    callers = []
    for _ in range(round(seconds / every)):
        callers.append(asyncio.create_task(timed(hold(pool, service, timeout=None))))
        await asyncio.sleep(every)
    return await asyncio.gather(*callers)


async def test_under_a_standing_line_old_callers_are_refused_and_young_ones_served(make_pool):
    pool = make_pool(Backend(), max_size=1, shed_target=TARGET, shed_interval=1.0)
    heard = []
    pool.subscribe(heard.append)
    results = await overload(pool, seconds=30)
    refused = [elapsed for elapsed, result in results if isinstance(result, PoolOverloaded)]
    waits = [result for _, result in results if not isinstance(result, Exception)]
    assert len(refused) + len(waits) == len(results)
    assert len(waits) >= 250
    assert min(refused) > 2 * TARGET - 1e-9
    # Without shedding the last ones would have waited for fifteen seconds.
    assert max(waits[100:]) < 2
    assert pool.stats()["shed"] == len(refused)
    assert len([event for event in heard if isinstance(event, Shed)]) == len(refused)


async def test_a_burst_that_passes_within_the_interval_is_served(make_pool):
    pool = make_pool(Backend(), max_size=1, shed_target=TARGET, shed_interval=2.0)
    await hold(pool)
    waits = await asyncio.gather(*(hold(pool, 0.05) for _ in range(20)))
    assert max(waits) > 2 * TARGET
    assert pool.stats()["shed"] == 0


async def test_nothing_is_shed_unless_asked_for(make_pool):
    pool = make_pool(Backend(), max_size=1)
    results = await overload(pool, seconds=20)
    assert not any(isinstance(result, Exception) for _, result in results)
    assert pool.stats()["shed"] == 0


async def test_a_line_that_nobody_serves_is_shed_too(make_pool):
    pool = make_pool(Backend(), max_size=1, shed_target=TARGET, shed_interval=1.0)
    lease = await pool.acquire()
    callers = [asyncio.create_task(timed(pool.acquire(timeout=None))) for _ in range(5)]
    await asyncio.sleep(10)
    assert all(caller.done() for caller in callers)
    for caller in callers:
        elapsed, error = caller.result()
        assert isinstance(error, PoolOverloaded)
        assert elapsed > 2 * TARGET - 1e-9
    lease.release()


async def test_when_the_load_is_gone_everyone_is_served_again(make_pool):
    pool = make_pool(Backend(), max_size=1, shed_target=TARGET, shed_interval=1.0)
    await overload(pool, seconds=10)
    await asyncio.sleep(5)
    before = pool.stats()["shed"]
    assert before > 0
    results = await overload(pool, seconds=10, service=0.01)
    assert not any(isinstance(result, Exception) for _, result in results)
    assert pool.stats()["shed"] == before


async def test_a_suspended_pool_sheds_nobody(make_pool):
    pool = make_pool(Backend(), max_size=1, shed_target=TARGET, shed_interval=1.0)
    await hold(pool)
    pool.suspend()
    callers = [take(pool, timeout=60) for _ in range(3)]
    await asyncio.sleep(20)
    await settle()
    assert not any(caller.done() for caller in callers)
    pool.resume()
    for caller in callers:
        (await caller).release()


async def test_the_refusal_tells_how_long_the_caller_waited_and_in_which_pool(make_pool):
    pool = make_pool(Backend(), max_size=1, shed_target=TARGET, shed_interval=1.0, name="ledger")
    lease = await pool.acquire()
    _, error = await timed(pool.acquire(timeout=None))
    assert "ledger" in str(error)
    assert "waiting=" in str(error)
    lease.release()
