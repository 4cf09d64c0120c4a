"""A cancelled caller loses nothing, leaks nothing and delays nobody, wherever it stands."""

import asyncio

import anyio
import pytest

from aiopool import PoolTimeout
from tests.fakes import Backend, Step, hold, now, release_all, settle, take


async def test_a_cancelled_waiter_leaves_the_line(make_pool):
    pool = make_pool(Backend(), max_size=1)
    lease = await pool.acquire()
    cancelled, patient = take(pool), take(pool)
    await settle()
    cancelled.cancel()
    await settle()
    stats = pool.stats()
    assert cancelled.cancelled()
    assert (stats["waiting"], stats["cancelled"]) == (1, 1)
    lease.release()
    await settle()
    assert patient.done()
    (await patient).release()


@pytest.mark.parametrize("ticks", range(8))
@pytest.mark.parametrize("resetting", [False, True])
async def test_a_connection_on_its_way_to_a_cancelled_caller_serves_the_next(make_pool, ticks, resetting):
    backend = Backend()
    pool = make_pool(backend, max_size=1, resetter=backend.reset if resetting else None)
    lease = await pool.acquire()
    cancelled, patient = take(pool), take(pool)
    await settle()
    lease.release()
    for _ in range(ticks):
        await asyncio.sleep(0)
    start = now()
    cancelled.cancel()
    await settle()
    if not cancelled.cancelled():
        cancelled.result().release()
        await settle()
    assert patient.done()
    assert now() == start
    (await patient).release()
    await settle()
    assert (pool.stats()["size"], pool.stats()["available"]) == (1, 1)
    assert len(backend.attempts) == 1


@pytest.mark.parametrize("ticks", range(8))
async def test_a_connection_just_opened_for_a_cancelled_caller_stays(make_pool, ticks):
    backend = Backend(opens=Step(delay=1))
    pool = make_pool(backend, max_size=1)
    caller = take(pool)
    await settle()
    opened = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(1, opened.set_result, None)
    await opened
    for _ in range(ticks):
        await asyncio.sleep(0)
    caller.cancel()
    await settle()
    if not caller.cancelled():
        caller.result().release()
    assert (pool.stats()["size"], pool.stats()["available"]) == (1, 1)


@pytest.mark.parametrize("early", [True, False])
async def test_a_connection_that_returns_at_the_deadline_is_not_lost(make_pool, early):
    pool = make_pool(Backend(), max_size=1)
    lease = await pool.acquire()
    loop = asyncio.get_running_loop()
    if early:
        loop.call_later(1, lease.release)
    impatient = take(pool, timeout=1)
    await settle()
    if not early:
        loop.call_later(1, lease.release)
    patient = take(pool)
    await asyncio.sleep(1)
    await settle()
    if impatient.exception() is None:
        impatient.result().release()
    else:
        assert isinstance(impatient.exception(), PoolTimeout)
    await settle()
    assert patient.done()
    (await patient).release()
    assert pool.stats()["available"] == 1


async def test_an_opening_outlives_the_caller_it_was_started_for(make_pool):
    backend = Backend(opens=Step(delay=1))
    pool = make_pool(backend)
    caller = take(pool)
    await asyncio.sleep(0.5)
    caller.cancel()
    await asyncio.sleep(1)
    assert pool.stats()["available"] == 1
    async with pool.acquire(timeout=0) as connection:
        assert connection is backend.connections[0]


async def test_an_opening_serves_the_next_when_its_caller_is_cancelled(make_pool):
    backend = Backend(opens=Step(delay=1))
    pool = make_pool(backend, max_size=1)
    first = take(pool)
    await asyncio.sleep(0.5)
    second = take(pool)
    await settle()
    first.cancel()
    await asyncio.sleep(0.5)
    await settle()
    assert second.done()
    assert len(backend.attempts) == 1
    (await second).release()


@pytest.mark.parametrize("valid", [True, False])
async def test_a_check_outlives_the_caller_it_was_started_for(make_pool, valid):
    backend = Backend(validates=Step(delay=1))
    pool = make_pool(backend, max_size=1, validator=backend.validate, validate_after=0)
    await hold(pool)
    caller = take(pool)
    await asyncio.sleep(0.5)
    backend.connections[0].healthy = valid
    caller.cancel()
    await asyncio.sleep(1)
    assert caller.cancelled()
    assert pool.stats()["in_use"] == 0
    assert await hold(pool) <= 1.001
    assert (len(backend.ended) == 0) is valid


async def test_a_cancelled_holder_frees_its_slot_for_the_next(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=1)
    holder = asyncio.create_task(hold(pool, 60))
    await settle()
    waiter = take(pool)
    await settle()
    holder.cancel()
    await settle()
    assert holder.cancelled()
    # The protocol may be out of step with whom was talked to: nobody gets that connection any more.
    assert (await waiter).connection is not backend.connections[0]
    (await waiter).release()


async def test_all_waiters_may_be_cancelled_at_once(make_pool):
    pool = make_pool(Backend(), max_size=2)
    leases = [await pool.acquire(), await pool.acquire()]
    waiters = [take(pool) for _ in range(100)]
    await settle()
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    assert pool.stats()["waiting"] == 0
    assert pool.stats()["cancelled"] == 100
    for lease in leases:
        lease.release()
    assert await asyncio.gather(hold(pool), hold(pool)) == [0, 0]


async def test_a_timeout_around_acquire_fires_on_time(make_pool):
    pool = make_pool(Backend(), max_size=1)
    async with pool.acquire():
        start = now()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await pool.acquire(timeout=60)
        assert now() - start == pytest.approx(1.5)
    assert pool.stats()["waiting"] == 0


async def test_a_cancel_scope_that_cancels_again_and_again_leaks_nothing(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=1)
    with anyio.move_on_after(1):
        async with pool.acquire():
            try:
                await anyio.sleep(60)
            finally:
                await anyio.sleep(60)
    lease = await pool.acquire()
    with anyio.move_on_after(1):
        async with pool.acquire():
            raise AssertionError("there was none to give")
    lease.release()
    assert await hold(pool) == 0


@pytest.mark.parametrize("wait", [0.05, 0.15, 0.25])
async def test_a_cancelled_open_leaks_nothing_and_can_be_repeated(make_pool, wait):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend, min_size=3, max_opening=1)
    opening = asyncio.create_task(pool.open())
    await asyncio.sleep(wait)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    assert opening.cancelled()
    await pool.open()
    assert pool.stats()["size"] == 3
    await pool.close()
    backend.assert_nothing_is_left()


async def test_a_cancelled_close_leaks_nothing_and_can_be_repeated(make_pool):
    backend = Backend(closes=Step(delay=1))
    pool = make_pool(backend, min_size=3)
    await pool.open()
    lease = await pool.acquire()
    closing = asyncio.create_task(pool.close(timeout=60))
    await asyncio.sleep(0.5)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    assert closing.cancelled()
    lease.release()
    await pool.close(timeout=5)
    backend.assert_nothing_is_left()
    assert pool.stats()["size"] == 0


@pytest.mark.parametrize("wait", [0, 0.5, 1.5])
async def test_a_cancelled_check_loses_no_connection(make_pool, wait):
    backend = Backend(validates=Step(delay=1))
    pool = make_pool(backend, min_size=3, max_size=3, validator=backend.validate)
    await pool.open()
    checking = asyncio.create_task(pool.check())
    await asyncio.sleep(wait)
    checking.cancel()
    await asyncio.gather(checking, return_exceptions=True)
    await asyncio.sleep(5)
    leases = [take(pool, timeout=5) for _ in range(3)]
    await release_all(leases)
    assert len(backend.connections) == 3


async def test_a_cancelled_drain_loses_no_connection(make_pool):
    backend = Backend(opens=Step(delay=0.1), closes=Step(delay=1))
    pool = make_pool(backend, min_size=3, max_size=3)
    await pool.open()
    draining = asyncio.create_task(pool.drain(over=10))
    await asyncio.sleep(0.5)
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)
    leases = [take(pool, timeout=20) for _ in range(3)]
    await release_all(leases)
    assert pool.stats()["in_use"] == 0
