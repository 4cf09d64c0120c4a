"""What could go wrong without a sound: nobody would wait for longer, and no figure would be wrong at once."""

import asyncio
import gc
import weakref
from contextlib import asynccontextmanager

import anyio
import pytest

from aiopool import ConnectionPool, PoolConfig, PoolTimeout, PoolUnavailable
from aiopool.policies.codel import CoDel
from aiopool.testing.loop import run
from tests.fakes import Backend, Step, hold, release_all, settle, take, timed


@pytest.mark.parametrize("leaves", ["by timeout", "by cancellation"])
async def test_the_fast_path_is_open_again_when_the_last_who_waited_has_left(make_pool, leaves):
    pool = make_pool(Backend(), max_size=1)
    lease = await pool.acquire()
    caller = take(pool, timeout=1)
    await settle()
    if leaves == "by cancellation":
        caller.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled() or isinstance(caller.exception(), PoolTimeout)
    lease.release()
    assert pool._line.get_nowait() is lease.info
    pool._line.put_back(lease.info)


async def test_nothing_remembers_a_caller_who_was_served_in_time(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=1)
    lease = await pool.acquire()
    caller = take(pool, timeout=3600)
    await settle()
    lease.discard()
    served = await caller
    served.discard()
    await settle()
    gone = weakref.ref(served.info)
    del served, caller
    gc.collect()
    assert gone() is None


def test_under_a_standing_queue_whoever_waited_over_twice_the_target_is_refused():
    codel = CoDel(target=0.1, interval=1.0)
    assert not codel.is_to_shed(0.0, 0.3)
    assert not codel.is_to_shed(0.5, 0.3)
    assert not codel.is_to_shed(1.0, 0.3)
    assert not codel.is_to_shed(1.1, 0.19)
    assert codel.is_to_shed(1.1, 0.21)


async def test_what_cannot_be_closed_politely_is_torn_down(make_pool):
    backend = Backend(closes=Step(error=ConnectionResetError("no farewell")))
    pool = make_pool(backend, aborter=backend.abort)
    lease = await pool.acquire()
    lease.discard()
    await settle()
    assert backend.calls("abort") == [0]
    assert pool.stats()["close_failures"] == 1


async def test_tasks_that_are_all_cancelled_are_no_failure_to_open(make_pool):
    pool = make_pool(Backend(opens=Step(hang=True)), max_size=1)
    caller = take(pool)
    await settle()
    # The opener hears of it first, for those who cancel all tasks do so in no order.
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in sorted(tasks, key=lambda task: not task.get_name().endswith(" opener")):
        task.cancel()
    await asyncio.wait([caller])
    await settle()
    assert pool.stats()["open_failures"] == 0


async def test_whoever_waits_is_told_of_a_failed_opening_that_goes_on(make_pool):
    backend = Backend(opens=Step(hang=True, ignore_cancel=20))
    pool = make_pool(backend, max_size=1, open_timeout=1, unavailable_after=0)
    waited, error = await timed(pool.acquire(timeout=10))
    assert isinstance(error, PoolUnavailable)
    assert waited == pytest.approx(1)
    await asyncio.sleep(30)


async def test_after_a_fatal_error_opening_is_tried_again_for_the_next_who_comes(make_pool):
    backend = Backend()
    backend.next_opens.append(Step(error=ValueError("the wrong password")))
    pool = make_pool(backend, unavailable_after=None, backoff_initial=0.1)
    with pytest.raises(PoolUnavailable):
        await pool.acquire()
    await asyncio.sleep(0.1)
    (await pool.acquire(timeout=1)).release()


async def test_whoever_opens_a_pool_is_told_of_a_fatal_error_although_one_connection_stands(make_pool):
    backend = Backend()
    backend.next_opens += [Step(), Step(delay=1, error=ValueError("too many connections for this role"))]
    pool = make_pool(backend, min_size=2)
    waited, error = await timed(pool.open(timeout=10))
    assert isinstance(error, PoolUnavailable)
    assert waited == pytest.approx(1)


async def test_each_who_waits_has_one_opening_under_way_whenever_one_looks_again(make_pool):
    backend = Backend(opens=Step(delay=1))
    pool = make_pool(backend, max_size=10)
    callers = []
    for count in (1, 2, 3):
        callers.append(take(pool))
        await settle()
        assert backend.opening == count
    await release_all(callers)
    assert len(backend.attempts) == 3


async def test_a_check_that_swallows_its_timeout_has_failed(make_pool):
    backend = Backend(validates=Step(hang=True, ignore_cancel=0.5))
    pool = make_pool(backend, max_size=1, validator=backend.validate, validate_timeout=1, validate_after=0)
    await hold(pool)
    await hold(pool)
    assert pool.stats()["closed_by"]["invalid"] == 1


async def test_the_background_check_comes_round_again_and_again(make_pool):
    backend = Backend()
    pool = make_pool(backend, validator=backend.validate, health_check_interval=10, validate_after=None)
    await hold(pool)
    await asyncio.sleep(35)
    assert backend.calls("validate") == [0, 0, 0]


async def test_what_comes_back_from_a_cancelled_caller_is_reset_if_it_was_shared_meanwhile(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=1, max_shares=2, resetter=backend.reset)
    one, other = await pool.acquire(), await pool.acquire()
    caller = take(pool)
    await settle()
    one.release()  # handed to the caller
    other.release()  # not the last
    caller.cancel()
    await settle()
    assert caller.cancelled()
    assert backend.calls("reset") == [0]


@pytest.mark.parametrize("is_used", [False, True])
async def test_a_connection_whose_time_ended_while_the_loop_was_blocked_is_not_lent(make_pool, is_used):
    backend = Backend()
    pool = make_pool(
        backend, min_size=1, max_lifetime=10, lifetime_jitter=0, validator=backend.validate, validate_after=1000
    )
    await pool.open()
    if is_used:
        await hold(pool)
    asyncio.get_running_loop()._now += 11
    async with pool.acquire() as connection:
        assert connection.id == 1


async def test_a_timeout_of_another_pool_says_nothing_of_this_pools_connection(make_pool):
    pool, other = make_pool(Backend(), max_size=1), make_pool(Backend(), max_size=1)
    async with other.acquire():
        with pytest.raises(PoolTimeout):
            async with pool.acquire():
                await other.acquire(timeout=1)
    await settle()
    assert pool.stats()["closed"] == 0


async def test_a_lease_that_is_taken_back_is_not_reported_as_leaked_as_well(make_pool):
    pool = make_pool(Backend(), max_hold=5, leak_after=5)
    lease = await pool.acquire()
    await asyncio.sleep(10)
    lease.release()
    stats = pool.stats()
    assert (stats["closed_by"]["reclaimed"], stats["leaks"]) == (1, 0)


async def test_a_shrink_counts_on_those_that_are_on_their_way_out(make_pool):
    pool = make_pool(Backend(closes=Step(delay=1)), max_size=4)
    leases = [await pool.acquire() for _ in range(4)]
    for lease in leases[:2]:
        lease.discard()
    for lease in leases[2:]:
        lease.release()
    pool.resize(max_size=2)
    await asyncio.sleep(5)
    stats = pool.stats()
    assert (stats["size"], stats["closed_by"]["shrunk"]) == (2, 0)


async def test_a_cancelled_close_closes_what_is_leased_at_once(make_pool):
    backend = Backend()
    pool = make_pool(backend)
    lease = await pool.acquire()
    closing = asyncio.create_task(pool.close())
    await settle()
    assert len(backend.live) == 1
    closing.cancel()
    await settle()
    assert backend.live == []
    lease.release()


async def test_a_pool_that_is_opened_again_is_not_suspended(make_pool):
    pool = make_pool(Backend())
    await pool.open()
    pool.suspend()
    await pool.close()
    await pool.open()
    (await pool.acquire(timeout=1)).release()


def test_timeouts_of_a_pool_that_is_opened_again_do_not_depend_on_its_last_loop():
    pool = ConnectionPool(Backend().open, PoolConfig(min_size=0, max_size=1, acquire_timeout=5))

    async def live() -> float:
        async with pool, pool.acquire():
            async with asyncio.timeout(100):
                waited, error = await timed(pool.acquire())
            assert isinstance(error, PoolTimeout)
            leaver = take(pool)  # starts the alarm of the line, and leaves before it rings
            await settle()
            leaver.cancel()
            await settle()
            return waited

    assert [run(live()), run(live())] == [pytest.approx(5)] * 2


async def test_a_dropped_lease_is_counted(make_pool):
    pool = make_pool(Backend())
    lease = await pool.acquire()
    with pytest.warns(ResourceWarning, match="dropped without being released"):
        del lease
    await settle()
    stats = pool.stats()
    assert (stats["leaks"], stats["closed_by"]["lost"]) == (1, 1)


async def test_the_first_reason_to_close_a_connection_is_the_one_that_counts(make_pool):
    pool = make_pool(Backend())
    lease = await pool.acquire()
    await pool.drain()
    pool.evict(lease.connection)
    lease.release()
    await settle()
    closed_by = pool.stats()["closed_by"]
    assert (closed_by["drained"], closed_by["broken"]) == (1, 0)


async def test_a_suspended_pool_opens_nothing_for_those_for_whom_connections_are_idle(make_pool):
    backend = Backend()
    pool = make_pool(backend)
    await hold(pool)
    pool.suspend()
    caller = take(pool)
    await asyncio.sleep(2)
    assert len(backend.attempts) == 1
    pool.resume()
    (await caller).release()


async def test_a_session_that_takes_a_moment_to_open_and_ends_at_once_is_opened_with_pauses(make_pool):
    backend = Backend(opens=Step(delay=0.01))

    @asynccontextmanager
    async def stillborn():
        connection = await backend.open()
        try:
            async with anyio.create_task_group() as group:
                group.cancel_scope.cancel()
                yield connection
        finally:
            await backend.close(connection)

    pool = make_pool(backend, factory=stillborn, min_size=1, max_size=1, backoff_initial=1, backoff_max=1)
    await pool.open(wait=False)
    await asyncio.sleep(100)
    assert 100 < len(backend.attempts) < 500
    await pool.close(timeout=0)
