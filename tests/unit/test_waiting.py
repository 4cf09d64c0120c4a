"""The line: who waits, how long, and in which order."""

import asyncio

import pytest

from aiopool import PoolFull, PoolTimeout
from tests.fakes import Backend, Step, hold, now, settle, take, timed


async def arrivals(pool, names, served, seconds=0.0, **options):
    """Callers that arrive one after the other and write their name down when they are served."""

    async def caller(name):
        async with pool.acquire(**options):
            served.append(name)
            await asyncio.sleep(seconds)

    tasks = []
    for name in names:
        tasks.append(asyncio.create_task(caller(name)))
        await asyncio.sleep(0)
    return tasks


async def test_callers_are_served_in_the_order_they_came(make_pool):
    pool = make_pool(Backend(), max_size=1)
    lease = await pool.acquire()
    served = []
    tasks = await arrivals(pool, range(20), served, seconds=0.01)
    lease.release()
    await asyncio.gather(*tasks)
    assert served == list(range(20))


async def test_a_newcomer_never_overtakes_someone_who_waits(make_pool):
    pool = make_pool(Backend(), max_size=1)
    lease = await pool.acquire()
    served = []
    tasks = await arrivals(pool, ["waiting"], served)
    lease.release()
    # Same tick: the one who waits has not run yet.
    tasks += await arrivals(pool, ["newcomer"], served)
    await asyncio.gather(*tasks)
    assert served == ["waiting", "newcomer"]


async def test_who_releases_and_comes_back_waits_behind_the_others(make_pool):
    pool = make_pool(Backend(), max_size=1)
    lease = await pool.acquire()
    served = []
    tasks = await arrivals(pool, ["first", "second"], served)
    lease.release()
    async with pool.acquire():
        served.append("again")
    await asyncio.gather(*tasks)
    assert served == ["first", "second", "again"]


async def test_a_returned_connection_goes_straight_to_the_head_of_the_line(make_pool):
    pool = make_pool(Backend(), max_size=1)
    lease = await pool.acquire()
    waiter = take(pool)
    await settle()
    lease.release()
    assert pool.stats()["available"] == 0
    with pytest.raises(PoolTimeout):
        await pool.acquire(timeout=0)
    (await waiter).release()


async def test_looping_callers_get_equal_shares(make_pool):
    pool = make_pool(Backend(), min_size=10, max_size=10)
    await pool.open()
    turns = [0] * 100
    end = now() + 2.5

    async def work(worker):
        while now() < end:
            await hold(pool, 0.002)
            turns[worker] += 1

    await asyncio.gather(*(work(worker) for worker in range(100)))
    assert max(turns) - min(turns) <= 2
    assert min(turns) > 100


async def test_whoever_waits_takes_what_comes_first(make_pool):
    backend = Backend(opens=Step(delay=0.3))
    pool = make_pool(backend, max_size=2)
    lease = await pool.acquire()
    waiter = take(pool)
    await asyncio.sleep(0.05)
    lease.release()
    await settle()
    assert waiter.done()
    assert (await waiter).connection is lease.connection
    await asyncio.sleep(0.5)
    # An opening that was under way is not thrown away.
    assert len(backend.live) == len(backend.attempts)
    (await waiter).release()


async def test_a_caller_who_waits_too_long_is_told_so(make_pool):
    pool = make_pool(Backend(), max_size=1)
    async with pool.acquire():
        elapsed, error = await timed(pool.acquire(timeout=2.5))
    assert isinstance(error, PoolTimeout)
    assert elapsed == pytest.approx(2.5)
    assert error.waited == pytest.approx(2.5)
    assert error.phase == "wait"


async def test_the_default_timeout_comes_from_the_config_and_a_call_may_differ(make_pool):
    pool = make_pool(Backend(), max_size=1, acquire_timeout=7)
    async with pool.acquire():
        callers = [timed(pool.acquire()), timed(pool.acquire(timeout=0.25)), timed(pool.acquire(timeout=70))]
        waits = [round(elapsed, 6) for elapsed, _ in await asyncio.gather(*callers)]
    assert waits == [7, 0.25, 70]


async def test_timeout_none_waits_for_ever(make_pool):
    pool = make_pool(Backend(), max_size=1, acquire_timeout=1)
    lease = await pool.acquire()
    waiter = take(pool, timeout=None)
    await asyncio.sleep(50_000)
    assert not waiter.done()
    lease.release()
    (await waiter).release()


async def test_a_caller_who_gave_up_leaves_the_line_and_the_others_keep_their_places(make_pool):
    pool = make_pool(Backend(), max_size=1)
    lease = await pool.acquire()
    served = []
    tasks = await arrivals(pool, ["a", "b"], served)
    impatient = await arrivals(pool, ["impatient"], served, timeout=1)
    tasks += await arrivals(pool, ["c", "d"], served)
    await asyncio.sleep(2)
    assert pool.stats()["waiting"] == 4
    with pytest.raises(PoolTimeout):
        await impatient[0]
    lease.release()
    await asyncio.gather(*tasks)
    assert served == ["a", "b", "c", "d"]
    assert pool.stats()["available"] == 1


async def test_one_deadline_covers_waiting_and_opening(make_pool):
    pool = make_pool(Backend(opens=Step(delay=3), closes=Step(delay=3)), max_size=1)
    lease = await pool.acquire()
    waiter = asyncio.create_task(timed(pool.acquire(timeout=5)))
    await settle()
    # Closing takes the first three seconds, opening the next three.
    lease.discard()
    elapsed, error = await waiter
    assert isinstance(error, PoolTimeout)
    assert elapsed == pytest.approx(5)


async def test_a_timeout_while_no_connection_existed_says_open(make_pool):
    pool = make_pool(Backend(opens=Step(delay=5)))
    _, error = await timed(pool.acquire(timeout=1))
    assert isinstance(error, PoolTimeout)
    assert error.phase == "open"
    assert error.stats["size"] == 0


async def test_a_longer_line_is_refused_at_once(make_pool):
    pool = make_pool(Backend(), max_size=1, max_waiting=1)
    lease = await pool.acquire()
    waiter = take(pool)
    await settle()
    for _ in range(3):
        elapsed, error = await timed(pool.acquire())
        assert isinstance(error, PoolFull)
        assert elapsed == 0
    assert pool.stats()["rejected"] == 3
    lease.release()
    (await waiter).release()


async def test_max_waiting_zero_means_no_line_behind_a_full_pool(make_pool):
    pool = make_pool(Backend(opens=Step(delay=0.1)), max_size=2, max_waiting=0)
    first, second = take(pool), take(pool)
    await settle()
    _, error = await timed(pool.acquire())
    assert isinstance(error, PoolFull)
    leases = [await first, await second]
    _, error = await timed(pool.acquire())
    assert isinstance(error, PoolFull)
    for lease in leases:
        lease.release()
    await hold(pool)


async def test_who_is_refused_and_tries_again_at_once_leaves_a_turn_to_others(make_pool):
    pool = make_pool(Backend(), max_size=1, max_waiting=0)
    holder, refusals = asyncio.create_task(hold(pool)), 0
    await asyncio.sleep(0)
    while True:
        try:
            lease = await pool.acquire()
        except PoolFull:
            refusals += 1
            assert refusals < 10
        else:
            break
    lease.release()
    await holder


async def test_who_left_the_line_does_not_count_against_max_waiting(make_pool):
    pool = make_pool(Backend(), max_size=1, max_waiting=2)
    lease = await pool.acquire()
    cancelled, impatient = take(pool), take(pool, timeout=1)
    await settle()
    cancelled.cancel()
    await asyncio.sleep(2)
    assert impatient.done()
    assert isinstance(impatient.exception(), PoolTimeout)
    waiters = [take(pool), take(pool)]
    await settle()
    assert pool.stats()["waiting"] == 2
    lease.release()
    for waiter in waiters:
        (await waiter).release()
