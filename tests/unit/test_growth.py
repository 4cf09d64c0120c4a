"""How many connections are opened, and when."""

import asyncio

import pytest

from tests.fakes import Backend, Step, hold, now, settle, take


async def test_a_spike_of_short_work_is_served_by_few_connections(make_pool):
    backend = Backend(opens=Step(delay=0.15))
    pool = make_pool(backend, min_size=5, max_size=50)
    await pool.open()
    start = now()
    await asyncio.gather(*(hold(pool, 0.002) for _ in range(50)))
    assert now() - start <= 0.030 + 1e-9
    await asyncio.sleep(1)
    assert len(backend.connections) <= 8


@pytest.mark.parametrize("idle", [0, 5])
async def test_long_work_makes_nobody_wait_for_much_longer_than_an_opening(make_pool, idle):
    backend = Backend(opens=Step(delay=0.15))
    pool = make_pool(backend, min_size=idle, max_size=20)
    await pool.open()
    waits = await asyncio.gather(*(hold(pool, 5) for _ in range(20)))
    assert max(waits) <= 2 * 0.15 + 1e-9


async def test_a_ramp_of_long_work_is_not_served_one_by_one(make_pool):
    pool = make_pool(Backend(opens=Step(delay=0.1)), max_size=30)
    tasks = []
    for _ in range(30):
        tasks.append(asyncio.create_task(hold(pool, 5)))
        await asyncio.sleep(0.01)
    waits = await asyncio.gather(*tasks)
    assert max(waits) <= 2 * 0.1 + 1e-9


async def test_with_none_leased_everyone_who_waits_gets_an_opening_at_once(make_pool):
    backend = Backend(opens=Step(delay=0.05))
    pool = make_pool(backend, max_size=20)
    start = now()
    tasks = [take(pool) for _ in range(20)]
    leases = await asyncio.gather(*tasks)
    assert now() - start == pytest.approx(0.05)
    for lease in leases:
        lease.release()


async def test_never_more_than_max_size_exist(make_pool):
    backend = Backend(opens=Step(delay=0.05), closes=Step(delay=0.05), limit=lambda: 3)
    pool = make_pool(backend, max_size=3)

    async def work(number):
        lease = await pool.acquire()
        await asyncio.sleep(0.01)
        if number % 2:
            lease.discard()
        else:
            lease.release()

    await asyncio.gather(*(work(number) for number in range(40)))
    assert backend.violations == []
    assert backend.peak == 3


async def test_max_opening_bounds_how_many_are_opened_at_once(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend, max_size=10, max_opening=2)
    start = now()
    leases = await asyncio.gather(*(take(pool) for _ in range(6)))
    assert backend.peak_opening == 2
    assert 0.3 - 1e-9 <= now() - start <= 0.4
    for lease in leases:
        lease.release()


async def test_a_slot_is_free_only_when_the_connection_is_closed(make_pool):
    backend = Backend(closes=Step(delay=2))
    pool = make_pool(backend, max_size=1)
    start = now()
    lease = await pool.acquire()
    waiter = take(pool)
    await settle()
    lease.discard()
    await settle()
    assert pool.stats()["size"] == 1
    (await waiter).release()
    assert now() - start == pytest.approx(2)
    assert backend.peak == 1


async def test_a_hanging_opening_does_not_stop_the_others(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend, max_size=5)
    leases = [await pool.acquire(), await pool.acquire()]
    backend.next_opens.append(Step(hang=True))
    waits = await asyncio.gather(hold(pool, 5), hold(pool, 5))
    assert max(waits) <= 1
    for lease in leases:
        lease.release()


async def test_a_hanging_opening_covers_nobody_for_long(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend, max_size=3)
    lease = await pool.acquire()
    backend.next_opens.append(Step(hang=True))
    assert await hold(pool) <= 1
    lease.release()


async def test_no_opening_starts_when_nobody_waits_any_more(make_pool):
    backend = Backend(opens=Step(delay=0.25))
    pool = make_pool(backend, max_size=50)
    await asyncio.gather(*(hold(pool, 0.001) for _ in range(200)))
    started = len(backend.attempts)
    await asyncio.sleep(5)
    assert len(backend.attempts) == started
    assert backend.peak <= 50


async def test_a_connection_in_reset_is_no_prospective_return(make_pool):
    backend = Backend(opens=Step(delay=0.1), resets=Step(hang=True))
    pool = make_pool(backend, max_size=2, resetter=backend.reset, reset_timeout=60)
    lease = await pool.acquire()
    lease.release()
    start = now()
    second = await pool.acquire()
    assert now() - start <= 0.1 + 0.03
    second.release()


async def test_a_caller_may_take_the_connection_that_was_opened_for_another(make_pool):
    backend = Backend(opens=Step(delay=1))
    pool = make_pool(backend, max_size=1)
    first = take(pool, timeout=0.5)
    await asyncio.sleep(0.2)
    start = now()
    second = take(pool)
    (await second).release()
    assert now() - start == pytest.approx(0.8)
    assert first.exception() is not None
    assert len(backend.attempts) == 1


async def test_an_open_that_hangs_is_seen_through_as_soon_as_another_has_worked(make_pool):
    backend = Backend(opens=Step(delay=0.01))
    backend.next_opens.append(Step(hang=True))
    pool = make_pool(backend, max_size=5, open_timeout=60)
    first = take(pool)
    await asyncio.sleep(0.001)
    start = now()
    second = take(pool)
    leases = await asyncio.gather(first, second)
    assert now() - start < 0.1
    for lease in leases:
        lease.release()


async def test_a_wrong_idea_of_how_long_opening_takes_does_not_open_for_everybody(make_pool):
    backend = Backend(opens=Step(delay=0.15))
    backend.next_opens.extend(Step() for _ in range(5))
    pool = make_pool(backend, min_size=5, max_size=50)
    await pool.open()
    await asyncio.gather(*(hold(pool, 0.002) for _ in range(50)))
    await asyncio.sleep(1)
    assert pool.stats()["size"] <= 10
