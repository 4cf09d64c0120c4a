"""Leases that don't come back."""

import asyncio
import gc
import logging
import warnings
import weakref
from contextlib import suppress

import pytest

from aiopool import ConnectionPool, Leaked, LeaseExpired, PoolConfig
from tests.fakes import Backend, hold, settle, take


async def forgetful_caller(pool):
    return await pool.acquire()


def forget(things):
    """Drop what is in the list, which must hold the only references."""
    things.clear()
    gc.collect()


async def test_a_lease_held_too_long_is_reported_with_the_stack_that_took_it(make_pool, caplog):
    caplog.set_level(logging.DEBUG, "aiopool")
    pool = make_pool(Backend(), leak_after=5, health_check_interval=50_000, name="ledger")
    seen = []
    pool.subscribe(seen.append)
    lease = await forgetful_caller(pool)
    await asyncio.sleep(4)
    assert pool.stats()["leaks"] == 0
    await asyncio.sleep(2)
    warnings_ = [r for r in caplog.records if r.name.startswith("aiopool") and r.levelno >= logging.WARNING]
    assert len(warnings_) == 1
    assert "forgetful_caller" in caplog.text
    assert "ledger" in warnings_[0].getMessage()
    await asyncio.sleep(100)
    assert pool.stats()["leaks"] == 1
    assert len([event for event in seen if isinstance(event, Leaked)]) == 1
    caplog.clear()
    lease.release()
    assert "ledger" in caplog.text
    assert pool.stats()["available"] == 1


async def test_a_lease_that_is_back_in_time_is_no_leak(make_pool, caplog):
    pool = make_pool(Backend(), leak_after=5)
    for _ in range(5):
        await hold(pool, 4)
    await asyncio.sleep(100)
    assert pool.stats()["leaks"] == 0
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_nothing_is_reported_unless_asked_for(make_pool, caplog):
    pool = make_pool(Backend())
    await hold(pool, 50_000)
    assert pool.stats()["leaks"] == 0
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_a_lease_held_too_long_is_reclaimed_for_the_next(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=1, max_hold=5, health_check_interval=50_000)
    lease = await pool.acquire()
    waiter = take(pool, timeout=60)
    await asyncio.sleep(4)
    assert not waiter.done()
    await asyncio.sleep(2)
    assert lease.connection.closed
    assert waiter.done()
    assert (await waiter).connection is not lease.connection
    assert pool.stats()["closed_by"]["reclaimed"] == 1
    (await waiter).release()
    with suppress(LeaseExpired):
        lease.release()


async def test_releasing_a_reclaimed_lease_disturbs_nobody(make_pool):
    pool = make_pool(Backend(), max_size=1, max_hold=5)
    lease = await pool.acquire()
    await asyncio.sleep(6)
    async with pool.acquire():
        with suppress(LeaseExpired):
            lease.release()
        assert (pool.stats()["in_use"], pool.stats()["size"]) == (1, 1)
    assert pool.stats()["available"] == 1


async def test_an_exception_out_of_a_reclaimed_block_tells_of_the_reclaim(make_pool):
    pool = make_pool(Backend(), max_hold=5)
    error = ConnectionResetError("closed under me")

    async def slow_caller():
        async with pool.acquire():
            await asyncio.sleep(10)
            raise error

    with pytest.raises(LeaseExpired) as caught:
        await slow_caller()
    assert caught.value.__cause__ is error


async def test_a_lease_back_in_time_is_not_reclaimed(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_hold=5)
    for _ in range(5):
        await hold(pool, 4)
    await asyncio.sleep(20)
    assert backend.ended == []


async def test_a_lease_that_is_garbage_collected_warns_and_frees_its_slot(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=1)
    leases = [await pool.acquire()]
    connection = leases[0].connection
    with pytest.warns(ResourceWarning):
        forget(leases)
    await settle()
    assert connection.closed
    assert pool.stats()["in_use"] == 0
    assert await hold(pool) == 0


async def test_a_lease_collected_while_others_wait_serves_them(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=1)
    leases = [await pool.acquire()]
    waiter = take(pool)
    await settle()
    with pytest.warns(ResourceWarning):
        forget(leases)
    await settle()
    assert waiter.done()
    (await waiter).release()


async def test_a_released_lease_is_collected_in_silence(make_pool):
    pool = make_pool(Backend())
    lease = await pool.acquire()
    lease.release()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del lease
        gc.collect()
    assert caught == []


@pytest.mark.leaves_tasks
async def test_a_pool_dropped_without_close_is_collected_and_warns():
    backend = Backend()
    config = PoolConfig(min_size=1, max_size=2)
    pools = [ConnectionPool(backend.open, config, destroyer=backend.close)]
    await pools[0].open()
    await hold(pools[0])
    gone = weakref.ref(pools[0])
    await settle()
    with pytest.warns(ResourceWarning):
        forget(pools)
    assert gone() is None
