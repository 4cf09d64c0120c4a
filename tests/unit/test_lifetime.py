"""How connections grow old: by age, by idleness, by use, by number."""

import asyncio

import pytest

from aiopool import PoolConfigError
from tests.fakes import Backend, Step, hold, now, release_all, settle, take


async def test_an_expired_connection_is_never_lent(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_lifetime=100, lifetime_jitter=0, max_idle_time=None)
    await hold(pool)
    await asyncio.sleep(99)
    await hold(pool)
    assert len(backend.connections) == 1
    await asyncio.sleep(1.5)
    async with pool.acquire() as connection:
        assert connection is backend.connections[1]
    assert pool.stats()["closed_by"]["lifetime"] == 1


async def test_a_connection_that_expires_while_leased_is_closed_on_return(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_lifetime=10, lifetime_jitter=0)
    async with pool.acquire() as connection:
        await asyncio.sleep(1000)
        assert not connection.closed
    await settle()
    assert connection.closed
    assert pool.stats()["closed_by"]["lifetime"] == 1


async def test_a_waiter_gets_a_fresh_connection_when_an_expired_one_comes_back(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=1, max_lifetime=10, lifetime_jitter=0)
    lease = await pool.acquire()
    await asyncio.sleep(11)
    waiter = take(pool)
    await settle()
    lease.release()
    assert (await waiter).connection is backend.connections[1]
    (await waiter).release()


async def test_expiry_is_spread_by_the_jitter_and_needs_no_traffic(make_pool):
    backend = Backend()
    pool = make_pool(
        backend,
        min_size=50,
        max_size=50,
        max_lifetime=1000,
        lifetime_jitter=0.2,
        health_check_interval=50_000,
    )
    await pool.open()
    opened = now()
    await asyncio.sleep(1500)
    ages = [c.closed_at - opened for c in backend.connections[:50]]
    # The pool may retire in small batches, so a little later than due is on time.
    assert min(ages) >= 800
    assert max(ages) <= 1000 + 5
    assert max(ages) - min(ages) > 100
    assert pool.stats()["size"] == 50


async def test_lifetime_none_means_never(make_pool):
    backend = Backend()
    pool = make_pool(backend, min_size=2, max_lifetime=None, max_idle_time=None)
    await pool.open()
    await asyncio.sleep(100_000)
    assert backend.ended == []


async def test_idle_connections_above_min_size_are_closed_in_time(make_pool):
    backend = Backend()
    pool = make_pool(backend, min_size=2, max_idle_time=30, health_check_interval=50_000, max_lifetime=None)
    await release_all([take(pool) for _ in range(5)])
    await asyncio.sleep(29)
    assert pool.stats()["size"] == 5
    await asyncio.sleep(5)
    assert pool.stats()["size"] == 2
    assert pool.stats()["closed_by"]["idle"] == 3


async def test_idle_connections_at_min_size_stay_without_churn(make_pool):
    backend = Backend()
    pool = make_pool(backend, min_size=3, max_idle_time=10, health_check_interval=5, max_lifetime=None)
    await pool.open()
    await asyncio.sleep(1000)
    assert len(backend.connections) == 3
    assert backend.ended == []


async def test_a_long_use_does_not_count_as_idleness(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_idle_time=30)
    await hold(pool, 100)
    await asyncio.sleep(29)
    assert pool.stats()["available"] == 1
    await asyncio.sleep(5)
    assert pool.stats()["size"] == 0


async def test_idle_time_none_means_never(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_idle_time=None, max_lifetime=None)
    await hold(pool)
    await asyncio.sleep(100_000)
    assert pool.stats()["available"] == 1


async def test_a_connection_is_closed_after_its_last_use(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_uses=3)
    for _ in range(7):
        await hold(pool)
        await settle()
    assert len(backend.connections) == 3
    assert pool.stats()["closed_by"]["uses"] == 2


async def test_single_use_connections_do_not_starve_the_line(make_pool):
    backend = Backend(opens=Step(delay=0.1), limit=lambda: 2)
    pool = make_pool(backend, max_size=2, max_uses=1)
    await asyncio.gather(*(hold(pool, 0.01) for _ in range(10)))
    await settle()
    assert pool.stats()["closed_by"]["uses"] == 10
    assert pool.stats()["size"] == 0


async def test_no_more_than_max_idle_are_kept(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_idle=2)
    await release_all([take(pool) for _ in range(5)])
    await settle()
    assert pool.stats()["available"] == pool.stats()["size"] == 2
    assert len(backend.ended) == 3


async def test_max_idle_does_not_keep_a_return_from_whoever_waits(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=1, max_idle=0)
    lease = await pool.acquire()
    waiter = take(pool)
    await settle()
    lease.release()
    assert (await waiter).connection is lease.connection
    (await waiter).release()
    await settle()
    assert pool.stats()["size"] == 0


async def test_an_expired_idle_connection_is_replaced_up_to_min_size(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend, min_size=2, max_lifetime=100, lifetime_jitter=0, health_check_interval=50_000)
    await pool.open()
    await asyncio.sleep(110)
    assert pool.stats()["available"] == 2
    assert len(backend.ended) == 2
    assert await hold(pool) == pytest.approx(0)


async def test_a_max_idle_below_min_size_does_not_churn(make_pool):
    """Refused or reconciled, as long as it doesn't open and close for ever."""
    backend = Backend(opens=Step(delay=0.1))
    try:
        pool = make_pool(backend, min_size=3, max_idle=1)
    except PoolConfigError:
        return
    await pool.open(wait=False)
    await asyncio.sleep(200)
    assert len(backend.connections) <= 10


async def test_a_connection_whose_idle_time_ends_during_its_check_is_closed_right_after(make_pool):
    backend = Backend(validates=Step(delay=0.5))
    pool = make_pool(backend, max_idle_time=10, health_check_interval=9.8, validator=backend.validate)
    await hold(pool)
    await asyncio.sleep(10.2)
    assert pool.stats()["size"] == 1  # in check, since 9.8
    await asyncio.sleep(0.2)
    assert backend.live == []
    assert pool.stats()["closed_by"]["idle"] == 1


async def test_max_idle_holds_also_when_the_last_waiter_goes_in_the_turn_of_the_hand_off(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=1, max_idle=0)
    lease = await pool.acquire()
    waiter = take(pool)
    await settle()
    waiter.cancel()
    lease.release()
    await settle()
    assert backend.live == []
