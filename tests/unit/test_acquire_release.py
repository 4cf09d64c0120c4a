"""Lending a connection and getting it back."""

import asyncio
from contextlib import suppress

import pytest

from aiopool import PooledConnection, PoolTimeout
from tests.fakes import Backend, Step, hold, settle, take


async def test_a_connection_is_lent_as_it_is_and_comes_back(make_pool):
    backend = Backend()
    pool = make_pool(backend)
    async with pool.acquire() as connection:
        assert connection is backend.connections[0]
        stats = pool.stats()
        assert (stats["size"], stats["in_use"], stats["available"]) == (1, 1, 0)
    stats = pool.stats()
    assert (stats["size"], stats["in_use"], stats["available"]) == (1, 0, 1)


async def test_the_same_connection_serves_one_caller_after_the_other(make_pool):
    backend = Backend()
    pool = make_pool(backend)
    for _ in range(10):
        await hold(pool)
    assert len(backend.attempts) == 1


async def test_the_connection_that_was_used_last_is_lent_first(make_pool):
    pool = make_pool(Backend())
    older, newer = await pool.acquire(), await pool.acquire()
    older.release()
    newer.release()
    async with pool.acquire() as connection:
        assert connection is newer.connection


async def test_nested_callers_get_different_connections(make_pool):
    pool = make_pool(Backend(), max_size=2)
    async with pool.acquire() as outer, pool.acquire() as inner:
        assert outer is not inner


async def test_an_exception_passes_unchanged_and_the_connection_is_kept(make_pool):
    backend = Backend()
    pool = make_pool(backend)
    error = LookupError("of the caller")
    with pytest.raises(LookupError) as caught:
        async with pool.acquire():
            raise error
    assert caught.value is error
    assert pool.stats()["available"] == 1
    assert backend.live == backend.connections


async def test_awaiting_gives_a_lease(make_pool):
    backend = Backend()
    pool = make_pool(backend)
    lease = await pool.acquire()
    assert lease.connection is backend.connections[0]
    assert isinstance(lease.info, PooledConnection)
    lease.release()
    assert pool.stats()["available"] == 1
    assert lease.connection is backend.connections[0]


async def test_a_second_release_changes_nothing(make_pool):
    pool = make_pool(Backend(), max_size=1)
    lease = await pool.acquire()
    lease.release()
    async with pool.acquire():
        before = pool.stats()
        lease.release()
        lease.discard()
        assert pool.stats()["in_use"] == before["in_use"] == 1
        assert pool.stats()["available"] == 0
    assert pool.stats()["size"] == 1


async def test_a_discarded_connection_is_closed_and_never_lent_again(make_pool):
    backend = Backend()
    pool = make_pool(backend)
    lease = await pool.acquire()
    lease.discard()
    lease.discard()
    lease.release()
    await settle()
    assert backend.ended == [lease.connection]
    assert pool.stats()["closed_by"]["discarded"] == 1
    async with pool.acquire() as connection:
        assert connection is not lease.connection


async def test_a_lease_is_a_context_manager_of_its_own(make_pool):
    pool = make_pool(Backend())
    lease = await pool.acquire()
    async with lease:
        assert pool.stats()["in_use"] == 1
    assert pool.stats()["in_use"] == 0


async def test_an_idle_connection_is_lent_without_a_turn_of_the_loop(make_pool):
    pool = make_pool(Backend(), min_size=1)
    await pool.open()
    for options in ({}, {"timeout": 0}, {"timeout": None}):
        with pytest.raises(StopIteration) as done:
            next(pool.acquire(**options).__await__())
        done.value.value.release()
        assert pool.stats()["available"] == 1


async def test_timeout_zero_fails_at_once_and_starts_growth(make_pool):
    backend = Backend(opens=Step(delay=1))
    pool = make_pool(backend)
    with pytest.raises(PoolTimeout):
        next(pool.acquire(timeout=0).__await__())
    await asyncio.sleep(1.1)
    lease = await pool.acquire(timeout=0)
    lease.release()
    assert len(backend.attempts) == 1


async def test_timeout_zero_does_not_wait_for_a_leased_connection(make_pool):
    pool = make_pool(Backend(), max_size=1)
    async with pool.acquire():
        with pytest.raises(PoolTimeout) as caught:
            next(pool.acquire(timeout=0).__await__())
    assert caught.value.phase == "wait"


async def test_a_pool_of_one_opens_one_connection_for_any_number_of_callers(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend, max_size=1)

    async def work():
        for _ in range(20):
            await hold(pool)

    await asyncio.gather(*(work() for _ in range(100)))
    assert len(backend.attempts) == 1
    assert pool.stats()["acquired"] == 2000


async def test_two_callers_never_hold_the_same_connection(make_pool):
    pool = make_pool(Backend(opens=Step(delay=0.01)), max_size=4)

    async def work(worker):
        for _ in range(20):
            with suppress(LookupError):
                async with pool.acquire() as connection:
                    assert connection.holders == set()
                    connection.holders.add(worker)
                    await asyncio.sleep(0.001 * (worker % 3))
                    connection.holders.remove(worker)
                    if worker % 5 == 0:
                        raise LookupError

    await asyncio.gather(*(work(worker) for worker in range(30)))


async def test_a_caller_may_release_in_another_task(make_pool):
    pool = make_pool(Backend(), max_size=1)
    lease = await take(pool)

    async def elsewhere():
        lease.release()

    await asyncio.create_task(elsewhere())
    assert pool.stats()["available"] == 1


async def test_an_acquisition_can_be_made_a_task(make_pool):
    pool = make_pool(Backend(), max_size=1)
    lease = await asyncio.create_task(pool.acquire())
    waiter = asyncio.create_task(pool.acquire())
    await settle()
    assert pool.stats()["waiting"] == 1
    waiter.cancel()
    await settle()
    assert (waiter.cancelled(), pool.stats()["waiting"]) == (True, 0)
    lease.release()
