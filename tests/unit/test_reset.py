"""Cleaning a connection between two callers, behind their backs."""

import asyncio

import pytest

from tests.fakes import Backend, Step, hold, now, settle, take


async def test_a_reset_in_the_background_does_not_hold_up_the_releaser(make_pool):
    backend = Backend(resets=Step(delay=1))
    pool = make_pool(backend, resetter=backend.reset)
    lease = await pool.acquire()
    start = now()
    lease.release()
    async with pool.acquire() as connection:
        assert connection is not lease.connection
    assert now() - start < 1


async def test_a_connection_in_reset_is_not_lent(make_pool):
    backend = Backend(resets=Step(delay=1))
    pool = make_pool(backend, max_size=1, resetter=backend.reset)
    lease = await pool.acquire()
    lease.release()
    stats = pool.stats()
    assert (stats["size"], stats["in_use"], stats["available"]) == (1, 0, 0)
    assert await hold(pool) == pytest.approx(1)
    await settle()
    assert backend.calls("reset") == [0, 0]
    assert len(backend.connections) == 1


async def test_a_resetter_that_is_not_async_delays_nothing(make_pool):
    cleaned = []
    pool = make_pool(Backend(), resetter=lambda connection: cleaned.append(connection.id))
    lease = await pool.acquire()
    lease.release()
    assert pool.stats()["available"] == 1
    assert cleaned == [0]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_failing_reset_closes_the_connection_and_harms_nobody(make_pool, is_async):
    def raise_now(connection):
        raise OSError("gone")

    backend = Backend(resets=Step(error=OSError("gone")))
    pool = make_pool(backend, max_size=1, resetter=backend.reset if is_async else raise_now)
    async with pool.acquire():
        waiter = take(pool)
        await settle()
    assert (await waiter).connection is backend.connections[1]
    (await waiter).release()
    await settle()
    assert pool.stats()["closed_by"]["reset_failed"] == 2


async def test_a_reset_that_raises_cancelled_error_closes_the_connection_too(make_pool):
    backend = Backend(resets=Step(error=asyncio.CancelledError()))
    pool = make_pool(backend, max_size=1, resetter=backend.reset)
    await hold(pool)
    assert await hold(pool) == 0
    assert len(backend.connections) == 2


async def test_a_hanging_reset_is_bounded(make_pool):
    backend = Backend(resets=Step(hang=True))
    pool = make_pool(backend, max_size=1, resetter=backend.reset, reset_timeout=3)
    await hold(pool)
    assert await hold(pool) == pytest.approx(3)
    assert pool.stats()["closed_by"]["reset_failed"] == 1


async def test_the_reset_of_one_connection_does_not_delay_the_others(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=2, resetter=backend.reset)
    slow, quick = await pool.acquire(), await pool.acquire()
    backend.resets = Step(delay=60)
    slow.release()
    await settle()
    backend.resets = Step()
    quick.release()
    assert await hold(pool) == 0
    assert await hold(pool) == 0


async def test_after_its_reset_a_connection_goes_to_whoever_waits(make_pool):
    backend = Backend(resets=Step(delay=1))
    pool = make_pool(backend, max_size=1, resetter=backend.reset)
    lease = await pool.acquire()
    first, second = take(pool), take(pool)
    await settle()
    lease.release()
    await asyncio.sleep(1)
    await settle()
    assert first.done()
    assert not second.done()
    first.result().release()
    (await second).release()


async def test_what_is_closed_anyway_is_not_reset(make_pool):
    backend = Backend()
    pool = make_pool(backend, resetter=backend.reset)
    lease = await pool.acquire()
    lease.discard()
    with pytest.raises(ConnectionError):
        async with pool.acquire():
            raise ConnectionError
    await settle()
    assert backend.calls("reset") == []
    assert len(backend.ended) == 2


async def test_a_releaser_cancelled_right_after_does_not_stop_the_reset(make_pool):
    backend = Backend(resets=Step(delay=1))
    pool = make_pool(backend, max_size=1, resetter=backend.reset)

    async def caller():
        async with pool.acquire():
            pass
        await asyncio.sleep(60)

    task = asyncio.create_task(caller())
    await settle()
    task.cancel()
    await asyncio.sleep(2)
    assert pool.stats()["available"] == 1


async def test_the_end_of_one_reset_does_not_end_the_next(make_pool):
    backend = Backend(resets=Step(delay=0.01))
    pool = make_pool(backend, min_size=1, max_size=1, resetter=backend.reset)
    await pool.open()
    for _ in range(5):  # each waits for the reset of the one before, and releases in the turn in which it ended
        async with pool.acquire():
            pass
    await asyncio.sleep(1)
    assert pool.stats()["opened"] == 1
