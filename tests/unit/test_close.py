"""Closing: nobody is forgotten, nothing is left, and it ends."""

import asyncio

import pytest

from aiopool import PoolClosed
from tests.fakes import Backend, Step, hold, now, settle, take, timed


async def test_closing_closes_each_idle_connection_once_and_leaves_no_task(make_pool):
    backend = Backend()
    pool = make_pool(backend, min_size=4)
    await pool.open()
    await pool.close()
    assert sorted(backend.calls("close")) == [0, 1, 2, 3]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    stats = pool.stats()
    assert (stats["size"], stats["available"], stats["in_use"]) == (0, 0, 0)
    assert stats["closed_by"]["pool_closed"] == stats["opened"] == stats["closed"] == 4


async def test_closing_waits_for_the_leases(make_pool):
    backend = Backend()
    pool = make_pool(backend)
    holder = asyncio.create_task(hold(pool, 3))
    await settle()
    elapsed, _ = await timed(pool.close(timeout=10))
    assert elapsed == pytest.approx(3)
    assert holder.done()
    await holder
    assert [c.closed for c in backend.connections] == [True]


@pytest.mark.parametrize("timeout", [0, 2])
async def test_at_the_deadline_leases_are_closed_under_their_holders(make_pool, timeout):
    backend = Backend()
    pool = make_pool(backend)
    lease = await pool.acquire()
    elapsed, error = await timed(pool.close(timeout=timeout))
    assert error is None
    assert elapsed == pytest.approx(timeout, abs=0.01)
    assert lease.connection.closed
    assert asyncio.all_tasks() == {asyncio.current_task()}
    lease.release()
    lease.discard()
    await settle()
    assert pool.stats()["size"] == pool.stats()["in_use"] == 0
    assert lease.connection.destroyed == 1


async def test_closing_without_a_timeout_waits_as_long_as_it_takes(make_pool):
    pool = make_pool(Backend())
    holder = asyncio.create_task(hold(pool, 50_000))
    await settle()
    elapsed, _ = await timed(pool.close(timeout=None))
    assert elapsed == pytest.approx(50_000)
    await holder


async def test_waiting_callers_are_told_at_once(make_pool):
    pool = make_pool(Backend(), max_size=1)
    holder = asyncio.create_task(hold(pool, 5))
    await settle()
    waiters = [asyncio.create_task(timed(pool.acquire())) for _ in range(3)]
    await settle()
    closing = asyncio.create_task(pool.close())
    results = await asyncio.gather(*waiters)
    for elapsed, error in results:
        assert isinstance(error, PoolClosed)
        assert elapsed == 0
    assert len({id(error) for _, error in results}) == 3
    await closing
    await holder


async def test_a_closing_and_a_closed_pool_refuse_newcomers(make_pool):
    pool = make_pool(Backend(), name="ledger")
    holder = asyncio.create_task(hold(pool, 5))
    await settle()
    closing = asyncio.create_task(pool.close())
    await settle()
    with pytest.raises(PoolClosed):
        await pool.acquire()
    await closing
    await holder
    for options in ({}, {"timeout": 0}):
        with pytest.raises(PoolClosed, match="ledger"):
            await pool.acquire(**options)


async def test_closing_again_changes_nothing(make_pool):
    backend = Backend(closes=Step(delay=1))
    pool = make_pool(backend, min_size=2)
    await pool.open()
    await asyncio.gather(pool.close(), pool.close())
    await pool.close()
    assert sorted(backend.calls("close")) == [0, 1]


async def test_a_pool_that_was_never_opened_can_be_closed(make_pool):
    pool = make_pool(Backend(), min_size=2)
    await pool.close()
    with pytest.raises(PoolClosed):
        await pool.acquire()


async def test_a_close_that_hangs_is_bounded_and_the_others_are_closed(make_pool):
    backend = Backend(closes=Step(hang=True))
    pool = make_pool(backend, min_size=3, close_timeout=2)
    await pool.open()
    elapsed, _ = await timed(pool.close(timeout=30))
    assert elapsed <= 3 * 2 + 0.1
    assert sorted(backend.calls("close")) == [0, 1, 2]
    assert pool.stats()["size"] == 0


async def test_a_close_that_raises_is_counted_and_the_others_are_closed(make_pool):
    backend = Backend(closes=Step(error=OSError("already gone")))
    pool = make_pool(backend, min_size=3)
    await pool.open()
    await pool.close()
    assert pool.stats()["close_failures"] == 3
    assert sorted(backend.calls("close")) == [0, 1, 2]


@pytest.mark.parametrize("error", [OSError("already gone"), asyncio.CancelledError()], ids=repr)
async def test_a_failing_close_frees_the_slot(make_pool, error):
    backend = Backend(closes=Step(error=error))
    pool = make_pool(backend, max_size=1)
    lease = await pool.acquire()
    lease.discard()
    assert await hold(pool, timeout=1) == 0
    assert pool.stats()["size"] == 1


async def test_a_destroyer_need_not_be_async(make_pool):
    closed = []

    def destroy(connection):
        closed.append(connection.id)
        connection.closed_at = 1

    pool = make_pool(Backend(), destroyer=destroy, min_size=2)
    await pool.open()
    await pool.close()
    assert sorted(closed) == [0, 1]


@pytest.mark.parametrize("step", [Step(delay=1), Step(hang=True), Step(hang=True, ignore_cancel=1)])
async def test_what_is_being_opened_at_close_does_not_stay(make_pool, step):
    backend = Backend(opens=step)
    pool = make_pool(backend, min_size=2)
    opening = asyncio.create_task(pool.open())
    caller = take(pool)
    await asyncio.sleep(0.5)
    await pool.close(timeout=5)
    assert isinstance(caller.exception(), PoolClosed)
    await asyncio.gather(opening, return_exceptions=True)
    assert opening.done()
    backend.assert_nothing_is_left()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("ticks", range(4))
@pytest.mark.parametrize("what", ["open", "acquire", "reset", "check", "discard"])
async def test_closing_just_after_something_began_leaves_nothing(make_pool, what, ticks):
    backend = Backend(opens=Step(delay=1), closes=Step(delay=1), validates=Step(delay=1), resets=Step(delay=1))
    pool = make_pool(backend, min_size=1, max_size=1, validator=backend.validate, resetter=backend.reset)
    task = None
    if what == "open":
        await pool.open(wait=False)
    elif what == "acquire":
        task = take(pool)
    else:
        await pool.open()
        lease = await pool.acquire() if what != "check" else None
        if lease is None:
            task = asyncio.create_task(pool.check())
        elif what == "reset":
            lease.release()
        else:
            lease.discard()
    for _ in range(ticks):
        await asyncio.sleep(0)
    elapsed, error = await timed(pool.close(timeout=5))
    assert error is None
    assert elapsed <= 3
    if task is not None:
        await asyncio.gather(task, return_exceptions=True)
    backend.assert_nothing_is_left()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert pool.stats()["closed"] == pool.stats()["opened"] == len(backend.connections)


async def test_closing_during_a_check_and_a_reset_leaves_nothing(make_pool):
    backend = Backend(validates=Step(hang=True), resets=Step(hang=True))
    pool = make_pool(
        backend, min_size=2, max_size=2, validator=backend.validate, resetter=backend.reset, validate_after=0
    )
    await pool.open()
    checking = asyncio.create_task(pool.check())
    caller = take(pool)
    await asyncio.sleep(1)
    await pool.close(timeout=0)
    await asyncio.gather(checking, caller, return_exceptions=True)
    backend.assert_nothing_is_left()


@pytest.mark.parametrize("is_plain", [False, True], ids=["a task", "an answer"])
async def test_what_is_in_reset_is_closed_when_that_has_ended(make_pool, is_plain):
    backend = Backend()
    ended = []

    def answer(connection):
        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda future: ended.append(future.cancelled()))
        asyncio.get_running_loop().call_later(0.5, lambda: future.done() or future.set_result(None))
        return future

    async def task(connection):
        await answer(connection)

    pool = make_pool(backend, max_size=1, resetter=answer if is_plain else task)
    async with pool.acquire():
        pass
    elapsed, _ = await timed(pool.close())
    assert elapsed == pytest.approx(0.5, abs=0.01)
    assert ended == [False]
    assert pool.stats()["closed_by"]["pool_closed"] == 1
    backend.assert_nothing_is_left()


@pytest.mark.parametrize(("timeout", "expected"), [(0, 0), (0.1, 0.1), (10, 5), (None, 5)])
async def test_a_reset_that_hangs_holds_the_close_up_for_no_longer_than_it_may_take(make_pool, timeout, expected):
    backend = Backend(resets=Step(hang=True))
    pool = make_pool(backend, max_size=1, resetter=backend.reset)
    async with pool.acquire():
        pass
    elapsed, _ = await timed(pool.close(timeout))
    assert elapsed == pytest.approx(expected, abs=0.01)
    assert pool.stats()["closed"] == 1
    backend.assert_nothing_is_left()


async def test_a_holder_may_close_the_pool(make_pool):
    backend = Backend()
    pool = make_pool(backend)
    lease = await pool.acquire()
    elapsed, _ = await timed(pool.close(timeout=1))
    assert elapsed == pytest.approx(1, abs=0.01)
    lease.release()


async def test_an_exception_leaves_the_pool_closed(make_pool):
    backend = Backend()
    pool = make_pool(backend, min_size=2)
    with pytest.raises(LookupError):
        async with pool:
            raise LookupError
    assert backend.live == []


async def test_a_closed_pool_may_be_opened_again_and_goes_on_counting(make_pool):
    backend = Backend()
    pool = make_pool(backend, min_size=2)
    for round_ in (1, 2, 3):
        async with pool:
            await hold(pool)
            assert pool.stats()["acquired"] == round_
            assert pool.stats()["opened"] == 2 * round_
        with pytest.raises(PoolClosed):
            await pool.acquire()
    assert pool.stats()["closed"] == 6


async def test_a_lease_of_an_earlier_opening_does_not_disturb_the_next(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=1)
    old = await pool.acquire()
    await pool.close(timeout=0)
    await pool.open()
    async with pool.acquire() as connection:
        old.release()
        assert connection is not old.connection
        assert pool.stats()["in_use"] == 1
    assert pool.stats()["available"] == 1


async def test_closing_ends_at_the_deadline_although_someone_keeps_waiting_for_an_opening(make_pool):
    backend = Backend(opens=Step(error=OSError("down")))
    pool = make_pool(backend, unavailable_after=None)
    caller = take(pool, timeout=None)
    await asyncio.sleep(3)
    start = now()
    await pool.close(timeout=10)
    assert now() == start
    assert isinstance(caller.exception(), PoolClosed)
    tried = len(backend.attempts)
    await asyncio.sleep(100)
    assert len(backend.attempts) == tried
