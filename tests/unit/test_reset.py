"""Cleaning a connection between two callers, behind their backs."""

import asyncio

import pytest

from tests.fakes import Backend, Step, hold, now, settle, take


async def test_a_reset_in_the_background_does_not_hold_up_the_releaser(make_pool):
    backend = Backend(resets=Step(delay=1))
    pool = make_pool(backend, resetter=backend.reset)
    lease = await pool.acquire()
    start = now()
    lease.release()
    async with pool.acquire() as connection:
        assert connection is not lease.connection
    assert now() - start < 1


async def test_a_connection_in_reset_is_not_lent(make_pool):
    backend = Backend(resets=Step(delay=1))
    pool = make_pool(backend, max_size=1, resetter=backend.reset)
    lease = await pool.acquire()
    lease.release()
    stats = pool.stats()
    assert (stats["size"], stats["in_use"], stats["available"]) == (1, 0, 0)
    assert await hold(pool) == pytest.approx(1)
    await settle()
    assert backend.calls("reset") == [0, 0]
    assert len(backend.connections) == 1


async def test_a_resetter_that_is_not_async_delays_nothing(make_pool):
    cleaned = []
    pool = make_pool(Backend(), resetter=lambda connection: cleaned.append(connection.id))
    lease = await pool.acquire()
    lease.release()
    assert pool.stats()["available"] == 1
    assert cleaned == [0]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_failing_reset_closes_the_connection_and_harms_nobody(make_pool, is_async):
    def raise_now(connection):
        raise OSError("gone")

    backend = Backend(resets=Step(error=OSError("gone")))
    pool = make_pool(backend, max_size=1, resetter=backend.reset if is_async else raise_now)
    async with pool.acquire():
        waiter = take(pool)
        await settle()
    assert (await waiter).connection is backend.connections[1]
    (await waiter).release()
    await settle()
    assert pool.stats()["closed_by"]["reset_failed"] == 2


async def test_a_reset_that_raises_cancelled_error_closes_the_connection_too(make_pool):
    backend = Backend(resets=Step(error=asyncio.CancelledError()))
    pool = make_pool(backend, max_size=1, resetter=backend.reset)
    await hold(pool)
    assert await hold(pool) == 0
    assert len(backend.connections) == 2


async def test_a_hanging_reset_is_bounded(make_pool):
    backend = Backend(resets=Step(hang=True))
    pool = make_pool(backend, max_size=1, resetter=backend.reset, reset_timeout=3)
    await hold(pool)
    assert await hold(pool) == pytest.approx(3)
    assert pool.stats()["closed_by"]["reset_failed"] == 1


async def test_the_reset_of_one_connection_does_not_delay_the_others(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=2, resetter=backend.reset)
    slow, quick = await pool.acquire(), await pool.acquire()
    backend.resets = Step(delay=60)
    slow.release()
    await settle()
    backend.resets = Step()
    quick.release()
    assert await hold(pool) == 0
    assert await hold(pool) == 0


async def test_after_its_reset_a_connection_goes_to_whoever_waits(make_pool):
    backend = Backend(resets=Step(delay=1))
    pool = make_pool(backend, max_size=1, resetter=backend.reset)
    lease = await pool.acquire()
    first, second = take(pool), take(pool)
    await settle()
    lease.release()
    await asyncio.sleep(1)
    await settle()
    assert first.done()
    assert not second.done()
    first.result().release()
    (await second).release()


async def test_what_is_closed_anyway_is_not_reset(make_pool):
    backend = Backend()
    pool = make_pool(backend, resetter=backend.reset)
    lease = await pool.acquire()
    lease.discard()
    with pytest.raises(ConnectionError):
        async with pool.acquire():
            raise ConnectionError
    await settle()
    assert backend.calls("reset") == []
    assert len(backend.ended) == 2


async def test_a_releaser_cancelled_right_after_does_not_stop_the_reset(make_pool):
    backend = Backend(resets=Step(delay=1))
    pool = make_pool(backend, max_size=1, resetter=backend.reset)

    async def caller():
        async with pool.acquire():
            pass
        await asyncio.sleep(60)

    task = asyncio.create_task(caller())
    await settle()
    task.cancel()
    await asyncio.sleep(2)
    assert pool.stats()["available"] == 1


async def test_the_end_of_one_reset_does_not_end_the_next(make_pool):
    backend = Backend(resets=Step(delay=0.01))
    pool = make_pool(backend, min_size=1, max_size=1, resetter=backend.reset)
    await pool.open()
    for _ in range(5):  # each waits for the reset of the one before, and releases in the turn in which it ended
        async with pool.acquire():
            pass
    await asyncio.sleep(1)
    assert pool.stats()["opened"] == 1


def answers(backend, seconds=1.0, **outcome):
    """A resetter that has sent all there is to send, and gives the future of the answer; and those it gave."""
    given = []

    def reset(connection):
        backend.log.append(("reset", connection.id))
        answer = asyncio.get_running_loop().create_future()
        given.append(answer)
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, come, answer)
        return answer

    def come(answer):
        if answer.done():
            return
        if "error" in outcome:
            answer.set_exception(outcome["error"])
        else:
            answer.set_result(None)

    return reset, given


async def test_an_answer_to_come_is_waited_for_without_a_task(make_pool):
    backend = Backend()
    reset, _ = answers(backend)
    pool = make_pool(backend, max_size=1, resetter=reset)
    lease = await pool.acquire()
    before = len(asyncio.all_tasks())
    lease.release()
    assert len(asyncio.all_tasks()) == before
    assert (pool.stats()["size"], pool.stats()["available"]) == (1, 0)
    assert await hold(pool) == pytest.approx(1)
    assert len(backend.connections) == 1


async def test_an_answer_that_is_there_already_keeps_the_connection(make_pool):
    def reset(connection):
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(None)
        return answer

    pool = make_pool(Backend(), max_size=1, resetter=reset)
    assert await hold(pool) == 0
    assert await hold(pool) == 0
    await settle()
    assert pool.stats()["opened"] == 1


@pytest.mark.parametrize("error", [OSError("gone"), asyncio.CancelledError()])
async def test_an_answer_that_is_an_error_closes_the_connection(make_pool, error):
    backend = Backend()
    reset, given = answers(backend, error=error)
    pool = make_pool(backend, max_size=1, resetter=reset)
    await hold(pool)
    if isinstance(error, asyncio.CancelledError):
        given[0].cancel()
    assert await hold(pool) <= 1
    assert len(backend.connections) == 2


async def test_answers_that_never_come_are_given_up_each_at_its_time(make_pool):
    backend = Backend()
    reset, given = answers(backend, seconds=None)
    pool = make_pool(backend, max_size=2, reset_timeout=2, resetter=reset)
    one, other = await pool.acquire(), await pool.acquire()
    one.release()
    await asyncio.sleep(0.5)
    other.release()
    await asyncio.sleep(1.6)
    assert [answer.cancelled() for answer in given] == [True, False]
    await asyncio.sleep(0.5)
    assert [answer.cancelled() for answer in given] == [True, True]
    await settle()
    assert pool.stats()["closed_by"]["reset_failed"] == 2
    assert backend.live == []


async def test_an_answer_is_bounded_also_after_others_came_in_time(make_pool):
    backend = Backend()
    prompt, _ = answers(backend, seconds=0.1)
    hanging, given = answers(backend, seconds=None)
    pool = make_pool(
        backend, max_size=1, reset_timeout=2, resetter=lambda c: (prompt if now() < start + 5 else hanging)(c)
    )
    start = now()
    await hold(pool)
    await asyncio.sleep(6)  # by now no alarm is set any more
    await hold(pool)
    await asyncio.sleep(2.1)
    assert given[0].cancelled()
    await settle()
    assert backend.live == []


async def test_a_close_does_not_wait_for_an_answer(make_pool):
    backend = Backend()
    reset, given = answers(backend, seconds=None)
    pool = make_pool(backend, max_size=1, reset_timeout=60, resetter=reset)
    await hold(pool)
    start = now()
    await pool.close(timeout=1)
    assert now() - start <= 1
    assert given[0].cancelled()
    assert backend.live == []
