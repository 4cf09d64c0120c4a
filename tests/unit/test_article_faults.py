"""The faults of the pool this project started from, one test each."""

import asyncio

import pytest

from aiopool import PoolUnavailable
from tests.fakes import Backend, Step, hold, now, release_all, settle, take, timed


async def test_it_grows_at_once_while_there_is_room(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend, max_size=2)
    async with pool.acquire():
        assert await hold(pool) <= 0.2


async def test_it_opens_outside_of_every_lock(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend, max_size=10)
    start = now()
    callers = [take(pool) for _ in range(10)]
    await asyncio.gather(*callers)
    assert now() - start == pytest.approx(0.1)
    await release_all(callers)


async def test_its_maintenance_keeps_healthy_connections_at_min_size(make_pool):
    backend = Backend()
    pool = make_pool(
        backend,
        min_size=3,
        max_size=3,
        validator=backend.validate,
        health_check_interval=30,
        max_lifetime=None,
    )
    await pool.open()
    await asyncio.sleep(3600)
    assert len(backend.connections) == 3
    assert backend.ended == []
    assert pool.stats()["available"] == 3


async def test_it_tells_the_error_of_an_opening_when_it_happens(make_pool):
    backend = Backend(opens=Step(error=ValueError("password authentication failed")))
    pool = make_pool(backend, acquire_timeout=30)
    elapsed, error = await timed(pool.acquire())
    assert elapsed == 0
    assert isinstance(error, PoolUnavailable)
    assert str(error.__cause__) == "password authentication failed"


async def test_it_keeps_a_connection_whose_query_ran_longer_than_the_idle_time(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_idle_time=10)
    await hold(pool, 60)
    await settle()
    assert pool.stats()["available"] == 1
    assert backend.ended == []


async def test_what_a_check_leaves_behind_never_reaches_a_caller(make_pool):
    """A `SELECT 1` opens a transaction on some drivers: the check is the pool's own, and it may clean up."""

    async def validate(connection):
        connection.transaction = True
        await asyncio.sleep(0.1)
        connection.transaction = False
        return True

    backend = Backend()
    pool = make_pool(backend, validator=validate, validate_after=0, max_size=1)
    await hold(pool)
    impatient = take(pool, timeout=0.05)
    await asyncio.sleep(0.06)
    assert isinstance(impatient.exception(), TimeoutError)
    async with pool.acquire() as connection:
        assert not connection.transaction


async def test_closing_does_not_forget_the_leased_ones(make_pool):
    backend = Backend()
    pool = make_pool(backend)
    returned, kept = await pool.acquire(), await pool.acquire()
    closing = asyncio.create_task(pool.close(timeout=5))
    await asyncio.sleep(1)
    returned.release()
    await closing
    assert all(connection.closed for connection in backend.connections)
    kept.release()
    assert pool.stats()["size"] == 0


async def test_every_pool_has_what_a_manager_calls(make_pool):
    backend = Backend()
    pool = make_pool(backend, min_size=2)
    await pool.open()
    stats = pool.stats()
    assert {"size", "available", "in_use", "max_size", "min_size"} <= set(stats)
    await pool.close()
    assert backend.live == []


async def test_pooled_requests_cost_the_work_and_one_opening(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend)
    start = now()
    for _ in range(3):
        await hold(pool, 0.05)
    # Unpooled: three times 0.1 + 0.05.
    assert now() - start == pytest.approx(0.1 + 3 * 0.05)
