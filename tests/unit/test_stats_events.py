"""What a pool tells about itself."""

import asyncio
import json

import pytest

import aiopool
from aiopool import Acquired, Closed, Opened, OpenFailed, PoolFull, PoolTimeout, Released
from tests.fakes import Backend, Step, hold, now, settle, take, timed

GAUGES = "name size available in_use opening waiting min_size max_size"
COUNTERS = "acquired waited timeouts rejected shed cancelled opened open_failures closed close_failures leaks"
REASONS = "idle lifetime uses invalid broken discarded reclaimed lost reset_failed drained shrunk pool_closed"
SECONDS = "wait_time use_time open_time oldest_wait oldest_lease"


async def test_stats_has_every_key_and_is_ready_for_json(make_pool):
    pool = make_pool(Backend(), name="ledger")
    for _ in range(2):
        stats = pool.stats()
        assert type(stats) is dict
        assert set(f"{GAUGES} {COUNTERS} closed_by {SECONDS}".split()) <= set(stats)
        assert set(stats["closed_by"]) <= set(REASONS.split())
        assert json.loads(json.dumps(stats)) == stats
        await hold(pool)
    assert pool.stats()["name"] == "ledger"


async def test_stats_is_a_snapshot(make_pool):
    pool = make_pool(Backend())
    before = pool.stats()
    lease = await pool.acquire()
    assert before["in_use"] == 0
    before["size"] = before["closed_by"]["broken"] = 99
    assert pool.stats()["size"] == 1
    lease.release()


async def test_the_gauges_follow_a_connection_through_its_places(make_pool):
    backend = Backend(opens=Step(delay=1), closes=Step(delay=1), resets=Step(delay=1))
    pool = make_pool(backend, max_size=1, resetter=backend.reset)

    def gauges():
        stats = pool.stats()
        return tuple(stats[key] for key in ("opening", "size", "available", "in_use", "waiting"))

    assert gauges() == (0, 0, 0, 0, 0)
    first, second = take(pool), take(pool)
    await settle()
    assert gauges() == (1, 0, 0, 0, 2)
    lease = await first
    assert gauges() == (0, 1, 0, 1, 1)
    lease.release()
    await settle()
    assert gauges() == (0, 1, 0, 0, 1)
    lease = await second
    assert gauges() == (0, 1, 0, 1, 0)
    lease.discard()
    await settle()
    assert gauges() == (0, 1, 0, 0, 0)
    await asyncio.sleep(1.5)
    assert gauges() == (0, 0, 0, 0, 0)


async def test_the_counters_count_each_kind_of_ending_once(make_pool):
    pool = make_pool(Backend(), max_size=1, max_waiting=3)
    lease = await pool.acquire()
    served, cancelled, late = take(pool), take(pool), take(pool, timeout=1)
    await settle()
    with pytest.raises(PoolFull):
        await pool.acquire()
    cancelled.cancel()
    with pytest.raises(PoolTimeout):
        await late
    lease.release()
    (await served).release()
    await hold(pool)
    stats = pool.stats()
    assert (stats["acquired"], stats["timeouts"], stats["rejected"], stats["cancelled"]) == (3, 1, 1, 1)
    assert (stats["opened"], stats["closed"], stats["shed"], stats["leaks"]) == (1, 0, 0, 0)
    assert stats["in_use"] == stats["waiting"] == 0


async def test_only_who_had_to_wait_counts_as_waited(make_pool):
    pool = make_pool(Backend(), min_size=1, max_size=1)
    await pool.open()
    await hold(pool)
    assert pool.stats()["waited"] == 0
    lease = await pool.acquire()
    waiter = take(pool)
    await asyncio.sleep(2)
    lease.release()
    (await waiter).release()
    assert pool.stats()["waited"] == 1


async def test_the_seconds_add_up(make_pool):
    pool = make_pool(Backend(opens=Step(delay=0.5)), max_size=1)
    await asyncio.gather(hold(pool, 2), hold(pool, 3))
    stats = pool.stats()
    assert stats["open_time"] == pytest.approx(0.5)
    assert stats["wait_time"] == pytest.approx(0.5 + 2.5)
    assert stats["use_time"] == pytest.approx(5)


async def test_the_oldest_wait_and_the_oldest_lease_are_ages(make_pool):
    pool = make_pool(Backend(), min_size=2, max_size=2)
    await pool.open()
    first = await pool.acquire()
    await asyncio.sleep(3)
    second = await pool.acquire()
    waiters = [take(pool)]
    await asyncio.sleep(2)
    waiters.append(take(pool))
    await asyncio.sleep(1)
    stats = pool.stats()
    assert (stats["oldest_lease"], stats["oldest_wait"]) == (pytest.approx(6), pytest.approx(3))
    first.release()
    assert pool.stats()["oldest_lease"] == pytest.approx(3)
    second.release()
    for waiter in waiters:
        (await waiter).release()
    stats = pool.stats()
    assert not stats["oldest_lease"]
    assert not stats["oldest_wait"]


async def test_every_closed_connection_has_a_reason(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_uses=2)
    await hold(pool)
    await hold(pool)
    lease = await pool.acquire()
    lease.discard()
    await hold(pool)
    await pool.drain()
    await settle()
    await hold(pool)
    await pool.close()
    stats = pool.stats()
    assert sum(stats["closed_by"].values()) == stats["closed"] == stats["opened"] == len(backend.connections)


async def test_pools_without_a_name_get_different_ones(make_pool):
    one, other = make_pool(Backend()), make_pool(Backend())
    assert one.stats()["name"] != other.stats()["name"]
    assert isinstance(one.stats()["name"], str)


async def test_a_listener_hears_the_life_of_a_connection_in_order(make_pool):
    backend = Backend()
    pool = make_pool(backend)
    heard = []
    pool.subscribe(heard.append)
    start = now()
    async with pool.acquire():
        await asyncio.sleep(2)
    await pool.close()
    life = [event for event in heard if isinstance(event, Opened | Acquired | Released | Closed)]
    assert [type(event) for event in life] == [Opened, Acquired, Released, Closed]
    assert [event.at - start for event in life[:3]] == pytest.approx([0, 0, 2])
    assert all(event.pool for event in heard)


async def test_a_failed_opening_is_an_event(make_pool):
    backend = Backend()
    backend.next_opens.append(Step(error=OSError("down")))
    pool = make_pool(backend)
    heard = []
    pool.subscribe(heard.append)
    await hold(pool)
    assert len([event for event in heard if isinstance(event, OpenFailed)]) == 1


async def test_resizing_and_suspending_are_events(make_pool):
    pool = make_pool(Backend(), min_size=1)
    await pool.open()
    heard = []
    pool.subscribe(heard.append)
    pool.resize(max_size=9)
    pool.suspend()
    assert {type(event) for event in heard} >= {aiopool.Resized, aiopool.Suspended}
    pool.resume()


async def test_a_listener_that_raises_disturbs_nobody_and_is_logged(make_pool, caplog):
    heard = []

    def broken(event):
        raise ZeroDivisionError("in the listener")

    pool = make_pool(Backend(), max_size=1)
    pool.subscribe(broken)
    pool.subscribe(heard.append)
    lease = await pool.acquire()
    waiter = take(pool)
    await settle()
    lease.release()
    (await waiter).release()
    await pool.close()
    assert Closed in {type(event) for event in heard}
    assert "aiopool" in {record.name.partition(".")[0] for record in caplog.records}
    assert pool.stats()["size"] == 0


async def test_who_unsubscribes_hears_no_more(make_pool):
    pool = make_pool(Backend())
    heard = []
    unsubscribe = pool.subscribe(heard.append)
    await hold(pool)
    unsubscribe()
    count = len(heard)
    await hold(pool)
    assert len(heard) == count > 0


async def test_the_gauges_return_to_zero_after_any_mixture(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    backend.next_opens.extend([Step(error=OSError()), Step(), Step(hang=True)])
    pool = make_pool(backend, max_size=3, open_timeout=1)
    callers = [asyncio.create_task(timed(hold(pool, 0.05 * (i % 4), timeout=0.3 * (i % 5)))) for i in range(30)]
    await asyncio.sleep(0.12)
    for caller in callers[::4]:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await asyncio.sleep(5)
    stats = pool.stats()
    assert (stats["in_use"], stats["waiting"], stats["opening"]) == (0, 0, 0)
    assert stats["size"] == stats["available"] == len(backend.live)
