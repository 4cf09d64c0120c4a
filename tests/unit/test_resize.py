"""Changing the size, the generation and the readiness of a pool that works."""

import asyncio

import pytest

from aiopool import PoolClosed, PoolConfigError, PoolTimeout
from tests.fakes import Backend, Step, hold, now, release_all, settle, take, timed


async def test_growing_wakes_the_line(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend, max_size=1)
    lease = await pool.acquire()
    waiters = [take(pool), take(pool)]
    await asyncio.sleep(1)
    start = now()
    pool.resize(max_size=3)
    await asyncio.gather(*waiters)
    assert now() - start <= 2 * 0.1
    await release_all(waiters)
    lease.release()


async def test_a_block_that_began_before_a_shrink_gives_back_what_is_closed(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=2)
    async with pool.acquire():
        async with pool.acquire():
            pool.resize(min_size=0, max_size=1)
        await settle()
        assert (pool.stats()["size"], pool.stats()["available"]) == (1, 0)
    assert pool.stats()["closed_by"]["shrunk"] == 1


async def test_shrinking_closes_idle_ones_now_and_leased_ones_on_release(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=5)
    leases = [await pool.acquire() for _ in range(5)]
    for lease in leases[:2]:
        lease.release()
    pool.resize(max_size=2)
    await settle()
    assert pool.stats()["size"] == 3
    assert len(backend.ended) == 2
    leases[2].release()
    await settle()
    assert pool.stats()["size"] == 2
    leases[3].release()
    leases[4].release()
    await settle()
    assert (pool.stats()["size"], pool.stats()["available"]) == (2, 2)
    assert pool.stats()["closed_by"]["shrunk"] == 3
    assert pool.stats()["max_size"] == 2


async def test_after_a_shrink_nothing_is_opened_until_there_is_room(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend, max_size=3)
    leases = await asyncio.gather(*(take(pool) for _ in range(3)))
    pool.resize(max_size=1)
    waiter = take(pool)
    await asyncio.sleep(1)
    leases[0].discard()
    leases[1].discard()
    await asyncio.sleep(1)
    assert len(backend.attempts) == 3
    leases[2].discard()
    (await waiter).release()
    assert len(backend.live) == 1


async def test_a_shrink_while_opening_ends_at_the_new_size(make_pool):
    backend = Backend(opens=Step(delay=1))
    pool = make_pool(backend, max_size=5)
    callers = [take(pool) for _ in range(5)]
    await asyncio.sleep(0.5)
    pool.resize(max_size=2)
    for caller in callers:
        (await caller).release()
    await settle()
    assert pool.stats()["size"] <= 2


async def test_shrinking_and_growing_back_keeps_the_counts_exact(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=4)
    leases = [await pool.acquire() for _ in range(4)]
    pool.resize(max_size=1)
    pool.resize(max_size=4)
    pool.resize(max_size=2)
    pool.resize(max_size=4)
    for lease in leases:
        lease.release()
    await settle()
    backend.limit = lambda: 4
    callers = [take(pool, timeout=5) for _ in range(4)]
    await asyncio.gather(*callers)
    assert pool.stats()["in_use"] == pool.stats()["size"] == 4
    await release_all(callers)


async def test_a_greater_min_size_is_filled(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend, min_size=1)
    await pool.open()
    pool.resize(min_size=4)
    await asyncio.sleep(1)
    assert pool.stats()["size"] == pool.stats()["min_size"] == 4


@pytest.mark.parametrize("sizes", [{"min_size": 9}, {"max_size": 1}, {"max_size": 0}, {"min_size": -1}])
async def test_sizes_that_contradict_each_other_change_nothing(make_pool, sizes):
    pool = make_pool(Backend(), min_size=2, max_size=4)
    await pool.open()
    before = pool.stats()
    with pytest.raises(PoolConfigError):
        pool.resize(**sizes)
    assert pool.stats() == before


async def test_draining_replaces_what_is_idle_now(make_pool):
    backend = Backend()
    pool = make_pool(backend, min_size=3)
    await pool.open()
    await pool.drain()
    await asyncio.sleep(1)
    assert {c.id for c in backend.ended} == {0, 1, 2}
    assert {c.id for c in backend.live} == {3, 4, 5}
    assert pool.stats()["closed_by"]["drained"] == 3


async def test_draining_does_not_wait_for_leases_and_closes_them_on_release(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=1)
    lease = await pool.acquire()
    start = now()
    await pool.drain()
    assert now() == start
    assert not lease.connection.closed
    waiter = take(pool)
    await settle()
    lease.release()
    assert (await waiter).connection is not lease.connection
    (await waiter).release()
    assert pool.stats()["closed_by"]["drained"] == 1


async def test_draining_includes_what_is_being_opened(make_pool):
    backend = Backend(opens=Step(delay=1))
    pool = make_pool(backend)
    waiter = take(pool)
    await asyncio.sleep(0.5)
    await pool.drain()
    lease = await waiter
    lease.release()
    await settle()
    # Whether it was lent once or not at all: what was opened with the old credentials does not stay.
    assert backend.connections[0].closed
    async with pool.acquire() as connection:
        assert connection is not backend.connections[0]


async def test_draining_over_a_time_does_not_close_all_at_once(make_pool):
    backend = Backend(opens=Step(delay=0.01))
    pool = make_pool(backend, min_size=10, max_size=10)
    await pool.open()
    start = now()
    draining = asyncio.create_task(pool.drain(over=10))
    await asyncio.sleep(12)
    await draining
    ends = [c.closed_at - start for c in backend.connections[:10]]
    assert max(ends) <= 10 + 0.1
    assert max(ends) - min(ends) > 3
    assert len(set(ends)) > 3
    assert pool.stats()["closed_by"]["drained"] == 10


async def test_a_suspended_pool_lends_nothing_until_it_resumes(make_pool):
    pool = make_pool(Backend(), min_size=2, max_size=2)
    await pool.open()
    pool.suspend()
    served = []

    async def caller(name):
        async with pool.acquire():
            served.append(name)

    callers = [asyncio.create_task(caller(name)) for name in range(4)]
    await asyncio.sleep(10)
    assert served == []
    pool.resume()
    await asyncio.gather(*callers)
    assert served == [0, 1, 2, 3]


async def test_deadlines_go_on_while_suspended(make_pool):
    pool = make_pool(Backend(), min_size=1)
    await pool.open()
    pool.suspend()
    for timeout in (0, 3):
        elapsed, error = await timed(pool.acquire(timeout=timeout))
        assert isinstance(error, PoolTimeout)
        assert elapsed == pytest.approx(timeout)
    pool.resume()
    assert await hold(pool) == 0


async def test_a_connection_returned_while_suspended_waits_for_the_resume(make_pool):
    pool = make_pool(Backend(), max_size=1)
    lease = await pool.acquire()
    waiter = take(pool)
    await settle()
    pool.suspend()
    lease.release()
    await asyncio.sleep(5)
    assert not waiter.done()
    pool.resume()
    (await waiter).release()


async def test_a_suspended_pool_is_not_unavailable(make_pool):
    pool = make_pool(Backend(opens=Step(error=OSError("switching over"))), min_size=1, unavailable_after=5)
    await pool.open(wait=False)
    pool.suspend()
    elapsed, error = await timed(pool.acquire(timeout=20))
    assert isinstance(error, PoolTimeout)
    assert elapsed == pytest.approx(20)


async def test_closing_a_suspended_pool_releases_the_line(make_pool):
    pool = make_pool(Backend(), min_size=1)
    await pool.open()
    pool.suspend()
    waiter = take(pool)
    await settle()
    await pool.close()
    assert isinstance(waiter.exception(), PoolClosed)


async def test_a_spread_drain_replaces_the_leased_when_they_come_back(make_pool):
    pool = make_pool(Backend(), min_size=2, max_size=2)
    await pool.open()
    lease = await pool.acquire()
    await pool.drain(over=100)
    lease.release()
    await settle()
    assert pool.stats()["closed_by"]["drained"] == 1


async def test_a_smaller_min_size_lets_go_what_is_beyond_max_idle(make_pool):
    pool = make_pool(Backend(), min_size=4, max_size=6, max_idle=4)
    await pool.open()
    pool.resize(min_size=3)
    assert pool.stats()["size"] == 4
    pool = make_pool(Backend(), min_size=0, max_size=6, max_idle=1)
    pool.resize(min_size=4)
    await pool.open()
    assert pool.stats()["size"] == 4
    pool.resize(min_size=0)
    await settle()
    assert pool.stats()["size"] == 1
    assert pool.stats()["closed_by"]["idle"] == 3
