"""What the simulation has found in the core, each in its shortest form."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from aiopool import PoolClosed, PoolOverloaded, PoolUnavailable
from tests.fakes import Backend, Step, hold, now, settle, take, timed


async def test_an_aborter_serves_where_no_destroyer_is(make_pool):
    backend = Backend()
    pool = make_pool(backend, destroyer=None, aborter=backend.abort)
    await hold(pool)
    await pool.drain()
    assert backend.live == []
    await hold(pool)
    await pool.close()
    assert backend.live == []


async def test_a_slot_is_free_only_when_the_context_manager_has_ended(make_pool):
    backend = Backend(closes=Step(hang=True, ignore_cancel=3), limit=lambda: 1)
    pool = make_pool(backend, factory=backend.session, max_size=1, close_timeout=1)
    async with pool.acquire():
        await pool.drain()
    await settle()
    backend.closes = Step()
    assert await hold(pool) == pytest.approx(4)  # it is told to go after 1 s, and goes 3 s later
    assert backend.peak == 1


async def test_a_late_connection_is_closed_and_not_configured(make_pool):
    async def configure(connection):
        await asyncio.Event().wait()

    backend = Backend(opens=Step(hang=True, ignore_cancel=1))
    pool = make_pool(backend, configure=configure, max_size=1, open_timeout=1)
    await timed(pool.acquire(timeout=1.5))
    backend.opens = Step(hang=True)
    await asyncio.sleep(1)
    assert len(backend.ended) == 1
    await pool.close()


async def test_a_cancellation_while_open_undoes_itself_is_not_swallowed(make_pool):
    backend = Backend(opens=Step(error=ValueError("wrong password")), closes=Step(delay=0.5))
    backend.next_opens.append(Step())
    pool = make_pool(backend, min_size=2, max_opening=1)
    opening = asyncio.create_task(pool.open())
    await asyncio.sleep(0.1)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert backend.live == []


async def test_a_capacity_that_changes_lends_no_stale_connection(make_pool):
    backend = Backend(validates=Step(delay=0.1))
    pool = make_pool(backend, validator=backend.validate, validate_after=0.5, max_size=2)
    first, second = await pool.acquire(), await pool.acquire()
    first.release()
    second.release()
    await asyncio.sleep(1)
    caller = take(pool)
    await settle()
    for lease in (first, second):
        lease.info.capacity = 3
    await settle()
    assert not caller.done()
    (await caller).release()


async def test_what_nobody_used_is_not_proven_good_by_it(make_pool):
    backend = Backend()
    pool = make_pool(backend, validator=backend.validate, validate_after=0.5, max_size=1)
    lease = await pool.acquire()
    waiter = take(pool)
    await settle()
    lease.release()
    proven = now()
    await asyncio.sleep(0.4)
    (await waiter).release()
    lease = await pool.acquire()
    info = lease.info
    lease.release()
    proven = now()
    await asyncio.sleep(0.4)
    pool.suspend()
    waiter = take(pool)
    await settle()
    pool.resume()  # hands over
    waiter.cancel()  # in the same turn
    await asyncio.gather(waiter, return_exceptions=True)
    assert info.fresh_until == pytest.approx(proven + 0.5)


async def test_the_last_lease_of_a_shared_connection_given_back_unused_does_not_skip_the_reset(make_pool):
    backend = Backend()
    pool = make_pool(backend, resetter=backend.reset, max_shares=2, max_size=1)
    used = await pool.acquire()
    other = await pool.acquire()
    waiter = take(pool)
    await settle()
    other.release()  # handed to the waiter
    waiter.cancel()
    used.release()
    await asyncio.gather(waiter, return_exceptions=True)
    await settle()
    assert backend.calls("reset") == [0]


async def test_what_is_suspended_after_a_close_stays_suspended(make_pool):
    backend = Backend(closes=Step(delay=1))
    pool = make_pool(backend, min_size=1)
    await pool.open()
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(1)
    for _ in range(20):
        if "closed" in repr(pool):
            break
        await asyncio.sleep(0)
    pool.suspend()
    await closing
    await pool.open(wait=False)
    elapsed, _ = await timed(pool.acquire(timeout=2))
    assert elapsed == 2
    pool.resume()
    await hold(pool)


async def test_a_caller_cancelled_in_the_turn_it_was_shed_counts_once(make_pool):
    pool = make_pool(Backend(), max_size=1, shed_target=0.1, shed_interval=0.2)
    lease = await pool.acquire()
    callers = [take(pool, timeout=None) for _ in range(4)]

    def cancel_who_is_refused():
        if callers[0]._fut_waiter is not None and callers[0]._fut_waiter.done():
            callers[0].cancel()

    asyncio.get_running_loop().after_step = cancel_who_is_refused
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    asyncio.get_running_loop().after_step = None
    lease.release()
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert all(isinstance(outcome, PoolOverloaded) for outcome in outcomes[1:])
    assert (pool.stats()["shed"], pool.stats()["cancelled"]) == (3, 1)


async def test_a_hand_off_into_a_pool_that_closes_is_no_lease(make_pool):
    pool = make_pool(Backend(), max_size=1)
    lease = await pool.acquire()
    waiter = take(pool)
    await settle()
    lease.release()
    await pool.close(timeout=0)
    with pytest.raises(PoolClosed):
        await waiter
    assert pool.stats()["acquired"] == 1


async def test_what_a_closing_pool_gave_up_counts_as_closed(make_pool, caplog):
    backend = Backend(closes=Step(hang=True, ignore_cancel=60))
    pool = make_pool(backend, max_size=1, close_timeout=1)
    await hold(pool)
    await pool.close()
    stats = pool.stats()
    assert (stats["acquired"], stats["opened"], stats["closed"], stats["size"]) == (1, 1, 1, 0)
    assert "ignore their cancellation" in caplog.text
    await asyncio.sleep(100)
    assert pool.stats() == stats


async def test_a_context_manager_that_complains_of_the_pools_own_abort_is_no_failure(make_pool):
    @asynccontextmanager
    async def session():
        connection = await backend.open()
        try:
            yield connection
        finally:
            if connection.closed:
                raise ExceptionGroup("a task group", [ConnectionResetError("torn down")])

    backend = Backend()
    pool = make_pool(backend, factory=session, aborter=backend.abort, destroyer=None)
    with pytest.raises(ConnectionError):
        async with pool.acquire():
            raise ConnectionError
    await settle()
    assert pool.stats()["closed_by"]["broken"] == 1
    assert pool.stats()["close_failures"] == 0
    assert backend.calls("abort") == [0]


async def test_an_unavailable_pool_is_not_asked_to_open_beyond_its_size(make_pool):
    backend = Backend(opens=Step(hang=True), limit=lambda: 2)
    pool = make_pool(backend, max_size=2, unavailable_after=1, open_timeout=2)
    for _ in range(200):
        _, error = await timed(pool.acquire(timeout=0.05))
        await asyncio.sleep(0.05)
    assert isinstance(error, PoolUnavailable)
    assert backend.violations == []


async def test_a_failing_configure_is_told_before_its_connection_is_closed(make_pool):
    async def configure(connection):
        raise ValueError("wrong role")

    pool = make_pool(Backend(closes=Step(delay=1)), configure=configure)
    elapsed, error = await timed(pool.acquire())
    assert elapsed == 0
    assert isinstance(error.__cause__, ValueError)


async def test_a_closing_that_is_cancelled_before_it_begins_tears_down_and_frees_its_slot(make_pool):
    backend = Backend(closes=Step(delay=1))
    pool = make_pool(backend, max_size=1, aborter=backend.abort)
    lease = await pool.acquire()
    lease.discard()
    (closing,) = (task for task in asyncio.all_tasks() if task.get_name().endswith(" close"))
    closing.cancel()
    await settle()
    assert backend.calls("abort") == [0]
    assert await hold(pool) == 0


@pytest.mark.parametrize("what", ["check", "reset"])
async def test_a_check_or_reset_that_is_cancelled_before_it_begins_costs_its_connection_and_nothing_else(
    make_pool, what
):
    backend = Backend(validates=Step(delay=1), resets=Step(delay=1))
    hooks = {"resetter": backend.reset} if what == "reset" else {"validator": backend.validate}
    pool = make_pool(backend, max_size=1, validate_after=0, **hooks)
    await hold(pool)
    waiter = take(pool)
    if what == "check":
        await asyncio.sleep(0)
    (task,) = (task for task in asyncio.all_tasks() if task.get_name().endswith(f" {what}"))
    task.cancel()
    lease = await waiter
    assert lease.connection.id == 1
    lease.release()


async def test_what_such_a_first_step_awaits_is_cancelled_with_it(make_pool):
    answers = []

    async def close(connection):
        answers.append(asyncio.get_running_loop().create_future())
        await answers[0]

    backend = Backend()
    pool = make_pool(backend, destroyer=close, aborter=backend.abort)
    lease = await pool.acquire()
    lease.discard()
    (closing,) = (task for task in asyncio.all_tasks() if task.get_name().endswith(" close"))
    closing.cancel()
    await settle()
    assert answers[0].cancelled()


async def test_a_good_shared_connection_is_found_beneath_stale_ones(make_pool):
    backend = Backend(validates=Step(delay=1))
    pool = make_pool(backend, validator=backend.validate, validate_after=0.5, max_size=3)
    first, second, third = [await pool.acquire() for _ in range(3)]
    first.release()
    second.release()
    await asyncio.sleep(0.4)
    third.release()
    for lease in (first, second):
        lease.info.capacity = 2  # it goes on top
    await asyncio.sleep(0.2)
    elapsed, lease = await timed(pool.acquire())
    assert elapsed == 0
    assert lease.connection is third.connection
    lease.release()
