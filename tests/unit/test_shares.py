"""Connections that carry several leases at once."""

import asyncio

import pytest

from tests.fakes import Backend, Step, hold, release_all, settle, take


async def test_a_shared_connection_carries_several_leases_before_another_is_opened(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_shares=3)
    leases = [await pool.acquire() for _ in range(3)]
    assert {lease.connection for lease in leases} == {backend.connections[0]}
    assert pool.stats()["in_use"] == 3
    assert pool.stats()["size"] == 1
    leases.append(await pool.acquire())
    assert len(backend.connections) == 2
    for lease in leases:
        lease.release()


async def test_available_counts_the_leases_that_could_be_granted_now(make_pool):
    pool = make_pool(Backend(), min_size=2, max_shares=3)
    await pool.open()
    assert pool.stats()["available"] == 6
    lease = await pool.acquire()
    assert (pool.stats()["available"], pool.stats()["in_use"]) == (5, 1)
    lease.release()
    assert pool.stats()["available"] == 6


async def test_the_fullest_connection_is_filled_first(make_pool):
    pool = make_pool(Backend(), min_size=2, max_size=2, max_shares=3)
    await pool.open()
    leases = [await pool.acquire() for _ in range(6)]
    groups = {}
    for lease in leases:
        groups.setdefault(lease.connection, []).append(lease)
    full, other = groups.values()
    full.pop().release()
    other.pop().release()
    other.pop().release()
    # Two of three and one of three.
    async with pool.acquire() as connection:
        assert connection is full[0].connection
    for lease in full + other:
        lease.release()


async def test_a_return_serves_the_head_of_the_line(make_pool):
    pool = make_pool(Backend(), max_size=1, max_shares=2)
    leases = [await pool.acquire(), await pool.acquire()]
    first, second = take(pool), take(pool)
    await settle()
    leases[0].release()
    await settle()
    assert first.done()
    assert not second.done()
    leases[1].release()
    await release_all([first, second])


async def test_one_opening_can_serve_many(make_pool):
    backend = Backend(opens=Step(delay=1))
    pool = make_pool(backend, max_size=1, max_shares=10)
    waits = await asyncio.gather(*(hold(pool, 1) for _ in range(10)))
    assert waits == pytest.approx([1] * 10)
    assert pool.stats()["in_use"] == 0


async def test_a_cancelled_caller_does_not_break_the_connection_of_the_others(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=1, max_shares=2)
    other = await pool.acquire()
    holder = asyncio.create_task(hold(pool, 60))
    await settle()
    holder.cancel()
    await settle()
    assert not other.connection.closed
    assert pool.stats()["available"] == 1
    other.release()
    assert backend.ended == []


@pytest.mark.parametrize("end", ["error", "discard", "drain", "uses"])
async def test_a_shared_connection_is_closed_when_the_last_lease_is_back(make_pool, end):
    backend = Backend()
    pool = make_pool(backend, max_size=2, max_shares=3, max_uses=1 if end == "uses" else None)
    first, second = await pool.acquire(), take(pool)
    second = await second
    if end == "uses" and second.connection is not first.connection:
        pytest.skip("a connection for one use is not shared")
    if end == "error":
        with pytest.raises(ConnectionError):
            async with first:
                raise ConnectionError
    elif end == "discard":
        first.discard()
    elif end == "drain":
        await pool.drain()
        first.release()
    else:
        first.release()
    await settle()
    assert not second.connection.closed
    async with pool.acquire() as connection:
        assert connection is not second.connection
    second.release()
    await settle()
    assert second.connection.closed


async def test_an_expired_shared_connection_gets_no_new_lease(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=2, max_shares=2, max_lifetime=10, lifetime_jitter=0)
    lease = await pool.acquire()
    await asyncio.sleep(11)
    async with pool.acquire() as connection:
        assert connection is not lease.connection
    assert not lease.connection.closed
    lease.release()
    await settle()
    assert lease.connection.closed


async def test_the_reset_runs_at_the_last_release(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=1, max_shares=2, resetter=backend.reset)
    first, second = await pool.acquire(), await pool.acquire()
    first.release()
    await settle()
    assert backend.calls("reset") == []
    second.release()
    await settle()
    assert backend.calls("reset") == [0]


async def test_a_shared_connection_in_reset_is_not_lent(make_pool):
    backend = Backend(resets=Step(delay=1))
    pool = make_pool(backend, max_size=1, max_shares=2, resetter=backend.reset)
    await hold(pool)
    assert (pool.stats()["size"], pool.stats()["available"]) == (1, 0)
    assert await hold(pool) == pytest.approx(1)
    await asyncio.sleep(2)
    assert pool.stats()["available"] == 2


async def test_the_capacity_of_a_connection_may_change_while_it_lives(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=2, max_shares=3)
    first = await pool.acquire()
    first.info.capacity = 1
    second = await pool.acquire()
    assert second.connection is not first.connection
    first.release()
    second.release()


async def test_a_shared_connection_is_idle_only_when_all_leases_are_back(make_pool):
    pool = make_pool(Backend(), max_shares=2, max_idle_time=30)
    long, short = await pool.acquire(), await pool.acquire()
    short.release()
    await asyncio.sleep(100)
    assert pool.stats()["size"] == 1
    long.release()
    await asyncio.sleep(29)
    assert pool.stats()["size"] == 1
    await asyncio.sleep(5)
    assert pool.stats()["size"] == 0
