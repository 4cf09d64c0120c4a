"""A backend that is down, slow or refuses: how callers learn of it, and how the pool comes back."""

import asyncio

import pytest

from aiopool import PoolTimeout, PoolUnavailable
from aiopool.events import Unavailable
from tests.fakes import Backend, Step, hold, now, release_all, settle, take, timed

DOWN = Step(error=ConnectionRefusedError("nobody there"))


async def test_a_failed_opening_is_tried_again_with_backoff(make_pool):
    backend = Backend()
    backend.next_opens.extend([DOWN] * 3)
    pool = make_pool(backend, backoff_initial=0.1)
    # Full jitter: at most 0.1 + 0.2 + 0.4.
    assert await hold(pool) <= 0.7 + 1e-9
    assert len(backend.attempts) == 4
    assert pool.stats()["open_failures"] == 3


async def test_a_backend_that_is_down_is_not_hammered(make_pool):
    backend = Backend(opens=DOWN)
    pool = make_pool(backend, max_size=20, unavailable_after=None)
    callers = [take(pool, timeout=120) for _ in range(20)]
    await asyncio.sleep(1)
    early = len(backend.attempts)
    await asyncio.sleep(100)
    # One attempt per step of the one backoff, whose steps are five seconds on average.
    assert 5 <= len(backend.attempts) - early <= 60
    backend.opens = Step()
    await release_all(callers)


async def test_after_a_success_the_backoff_starts_anew(make_pool):
    backend = Backend(opens=DOWN)
    pool = make_pool(backend, max_size=1, backoff_initial=0.1, unavailable_after=None)
    caller = take(pool, timeout=None)
    await asyncio.sleep(100)
    backend.opens = Step()
    (await caller).discard()
    for _ in range(10):
        backend.next_opens.append(DOWN)
        lease = await pool.acquire()
        lease.discard()
    start = now()
    backend.next_opens.append(DOWN)
    await hold(pool)
    assert now() - start <= 0.1 + 1e-9


async def test_no_acquire_outlives_its_timeout_and_it_tells_why(make_pool):
    backend = Backend(opens=DOWN)
    pool = make_pool(backend)
    elapsed, error = await timed(pool.acquire(timeout=2))
    assert isinstance(error, PoolTimeout)
    assert elapsed == pytest.approx(2)
    assert error.phase == "open"
    assert isinstance(error.__cause__, ConnectionRefusedError)


async def test_waiting_callers_learn_that_the_backend_is_unavailable(make_pool):
    backend = Backend(opens=DOWN)
    pool = make_pool(backend, unavailable_after=5)
    results = await asyncio.gather(*(timed(pool.acquire(timeout=60)) for _ in range(3)))
    for elapsed, error in results:
        assert isinstance(error, PoolUnavailable)
        assert isinstance(error.__cause__, ConnectionRefusedError)
        assert elapsed == pytest.approx(5)
    assert len({id(error) for _, error in results}) == 3


async def test_newcomers_fail_at_once_while_the_backend_is_unavailable(make_pool):
    backend = Backend(opens=DOWN)
    pool = make_pool(backend, unavailable_after=5)
    await timed(pool.acquire())
    for timeout in (60, None):
        elapsed, error = await timed(pool.acquire(timeout=timeout))
        assert elapsed == 0
        assert isinstance(error, PoolUnavailable)
        assert isinstance(error.__cause__, ConnectionRefusedError)


async def test_open_tells_for_how_long_it_has_tried(make_pool):
    pool = make_pool(Backend(opens=DOWN), min_size=1, unavailable_after=3)
    elapsed, error = await timed(pool.open())
    assert isinstance(error, PoolUnavailable)
    assert f"waited {elapsed:.2f}s" in str(error)
    assert elapsed >= 3


async def test_the_pool_recovers_by_itself_within_a_step_of_the_backoff(make_pool):
    backend = Backend(opens=DOWN)
    pool = make_pool(backend, min_size=1, unavailable_after=5, backoff_max=10)
    await pool.open(wait=False)
    await asyncio.sleep(60)
    backend.opens = Step(delay=0.1)
    await asyncio.sleep(10.2)
    assert await hold(pool) == 0


async def test_newcomers_see_the_recovery_also_when_nobody_waits_meanwhile(make_pool):
    backend = Backend(opens=DOWN)
    pool = make_pool(backend, unavailable_after=5, backoff_max=10)
    await timed(pool.acquire())
    backend.opens = Step(delay=0.1)
    results = []
    for _ in range(30):
        results.append((await timed(hold(pool)))[1])
        await asyncio.sleep(1)
    assert not any(isinstance(result, Exception) for result in results[12:])


async def test_without_the_rule_callers_wait_for_their_own_timeout(make_pool):
    pool = make_pool(Backend(opens=DOWN), unavailable_after=None)
    elapsed, error = await timed(pool.acquire(timeout=50))
    assert isinstance(error, PoolTimeout)
    assert elapsed == pytest.approx(50)


async def test_a_pool_that_has_a_connection_is_not_unavailable(make_pool):
    backend = Backend(opens=DOWN)
    backend.next_opens.append(Step())
    pool = make_pool(backend, unavailable_after=5)
    lease = await pool.acquire()
    waiter = take(pool, timeout=60)
    await asyncio.sleep(30)
    assert not waiter.done()
    lease.release()
    (await waiter).release()


async def test_the_clock_of_unavailability_starts_at_the_first_failed_opening(make_pool):
    pool = make_pool(Backend(opens=Step(hang=True)), open_timeout=3, unavailable_after=5)
    elapsed, error = await timed(pool.acquire(timeout=60))
    assert isinstance(error, PoolUnavailable)
    assert elapsed == pytest.approx(8)


@pytest.mark.parametrize("error", [ValueError("bad port"), TypeError("no such argument")])
async def test_a_fatal_error_is_told_at_once(make_pool, error):
    backend = Backend(opens=Step(delay=0.1, error=error))
    pool = make_pool(backend)
    results = await asyncio.gather(*(timed(pool.acquire()) for _ in range(3)))
    for elapsed, raised in results:
        assert elapsed == pytest.approx(0.1)
        assert isinstance(raised, PoolUnavailable)
        assert isinstance(raised.__cause__, type(error))
    assert len({id(raised) for _, raised in results}) == 3


async def test_the_user_says_what_is_fatal(make_pool):
    backend = Backend(opens=Step(error=PermissionError("wrong password")))
    pool = make_pool(backend, is_fatal=lambda error: isinstance(error, PermissionError))
    elapsed, error = await timed(pool.acquire())
    assert elapsed == 0
    assert isinstance(error.__cause__, PermissionError)
    backend.opens = Step(error=ValueError("not fatal here"))
    pool = make_pool(backend, is_fatal=lambda error: False)
    elapsed, error = await timed(pool.acquire(timeout=2))
    assert elapsed == pytest.approx(2)


@pytest.mark.parametrize("raised", [ZeroDivisionError, asyncio.CancelledError])
async def test_an_is_fatal_that_raises_does_not_stop_the_pool_nor_its_backoff(make_pool, raised):
    def is_fatal(error):
        raise raised

    backend = Backend(opens=DOWN)
    pool = make_pool(backend, is_fatal=is_fatal, backoff_max=1)
    elapsed, error = await timed(pool.acquire(timeout=2))
    assert isinstance(error, PoolTimeout | PoolUnavailable)
    assert isinstance(error.__cause__, ConnectionError)
    assert elapsed <= 2 + 1e-9
    assert len(backend.attempts) < 20
    backend.opens = Step()
    await asyncio.sleep(2)
    await hold(pool)


async def test_newcomers_after_a_fatal_error_do_not_try_again_each(make_pool):
    backend = Backend(opens=Step(error=ValueError("wrong password")))
    pool = make_pool(backend, backoff_initial=10, backoff_max=10)
    await timed(pool.acquire())
    tried = len(backend.attempts)
    results = [await timed(pool.acquire()) for _ in range(50)]
    assert len(backend.attempts) <= tried + 1
    for elapsed, error in results:
        assert elapsed == 0
        assert isinstance(error, PoolUnavailable)
        assert isinstance(error.__cause__, ValueError)


async def test_a_fatal_error_fails_nobody_while_a_connection_exists(make_pool):
    backend = Backend(opens=Step(error=ValueError("wrong password")))
    backend.next_opens.append(Step())
    pool = make_pool(backend)
    lease = await pool.acquire()
    waiter = take(pool, timeout=60)
    await asyncio.sleep(20)
    assert not waiter.done()
    lease.release()
    (await waiter).release()


async def test_an_opening_that_takes_too_long_is_given_up_and_tried_again(make_pool):
    backend = Backend()
    backend.next_opens.append(Step(hang=True))
    pool = make_pool(backend, max_size=1, open_timeout=2)
    assert 2 <= await hold(pool) <= 2.2
    assert pool.stats()["open_failures"] == 1


async def test_a_factory_that_ignores_its_cancellation_keeps_its_slot(make_pool):
    backend = Backend(limit=lambda: 1)
    backend.next_opens.append(Step(hang=True, ignore_cancel=5))
    pool = make_pool(backend, max_size=1, open_timeout=2, unavailable_after=None)
    assert 7 <= await hold(pool) <= 8
    assert backend.peak == 1


async def test_a_factory_that_raises_cancelled_error_does_not_stop_the_pool(make_pool):
    backend = Backend()
    backend.next_opens.append(Step(error=asyncio.CancelledError()))
    pool = make_pool(backend)
    assert await hold(pool) <= 1


async def test_a_stored_error_keeps_no_frames(make_pool):
    pool = make_pool(Backend(opens=DOWN), unavailable_after=1)
    for _ in range(2):
        _, error = await timed(pool.acquire())
        assert error.__cause__.__traceback__ is None


async def test_a_returned_connection_serves_whoever_waits_while_openings_fail(make_pool):
    backend = Backend(opens=DOWN)
    backend.next_opens.append(Step())
    pool = make_pool(backend)
    lease = await pool.acquire()
    waiters = [take(pool), take(pool)]
    await asyncio.sleep(0.25)
    start = now()
    lease.release()
    (await waiters[0]).release()
    (await waiters[1]).release()
    assert now() == start
    await settle()


async def test_callers_who_ask_during_a_long_outage_see_its_end_at_once(make_pool):
    backend = Backend(opens=DOWN)
    pool = make_pool(backend, backoff_initial=0.1, backoff_max=10, unavailable_after=1)
    await asyncio.sleep(60)
    await timed(pool.acquire())
    await asyncio.sleep(60)
    backend.opens = Step()
    errors = 0
    for _ in range(100):
        _, outcome = await timed(hold(pool))
        errors += isinstance(outcome, PoolUnavailable)
        await asyncio.sleep(0.05)
    assert errors <= 3


async def test_a_backend_that_is_down_is_not_hammered_by_those_who_ask(make_pool):
    backend = Backend(opens=DOWN)
    pool = make_pool(backend, backoff_initial=0.1, backoff_max=10, unavailable_after=1)
    await timed(pool.acquire())
    before = len(backend.attempts)
    for _ in range(1000):
        elapsed, error = await timed(pool.acquire())
        assert isinstance(error, PoolUnavailable)
        assert elapsed == 0
        await asyncio.sleep(0.01)
    assert len(backend.attempts) - before <= 110  # ten a second


async def test_attempts_that_hang_leave_slots_to_those_who_ask(make_pool):
    backend = Backend(opens=Step(hang=True))
    pool = make_pool(backend, max_size=5, open_timeout=10, unavailable_after=1, backoff_max=10)
    for _ in range(500):
        await timed(pool.acquire(timeout=0.01))
        await asyncio.sleep(0.1)
    assert len(backend.attempts) < 100


async def test_a_failure_of_long_ago_refuses_nobody(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=2, unavailable_after=5, backoff_max=10)
    lease = await pool.acquire()
    backend.opens = DOWN
    await timed(pool.acquire(timeout=0.05))  # one attempt fails, then nobody needs another
    backend.opens = Step()
    await asyncio.sleep(100)
    lease.discard()
    await settle()
    assert await hold(pool) == 0


async def test_a_failure_of_long_ago_opens_nothing_for_nobody(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=2, unavailable_after=5, backoff_max=10, max_idle_time=60)
    lease = await pool.acquire()
    backend.opens = DOWN
    await timed(pool.acquire(timeout=0.05))
    backend.opens = Step()
    lease.release()
    await asyncio.sleep(300)
    assert pool.stats()["size"] == 0
    assert len(backend.connections) == 1


async def in_an_attempt(make_pool, attempt):
    """A pool whose openings took 0.2 s before it became unavailable, 0.1 s after this attempt began."""
    backend = Backend(opens=Step(delay=0.2))
    pool = make_pool(backend, max_size=4, unavailable_after=1, backoff_initial=1)
    lease = await pool.acquire()
    backend.opens = DOWN
    lease.discard()
    await timed(pool.acquire())
    await asyncio.sleep(60)
    backend.next_opens.append(attempt)
    while not pool.stats()["opening"]:
        asking = asyncio.create_task(timed(hold(pool)))
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.09)
    return backend, pool, asking


async def test_who_comes_while_an_attempt_is_under_way_is_served_by_it(make_pool):
    backend, pool, _ = await in_an_attempt(make_pool, Step(delay=0.2))
    backend.opens = Step(delay=0.2)
    start = now()
    await release_all([take(pool), take(pool)])
    assert now() - start < 0.35  # what is left of this opening, and then that of the others


async def test_who_comes_while_an_attempt_is_under_way_is_told_how_it_failed(make_pool):
    _, pool, asking = await in_an_attempt(make_pool, Step(delay=0.15, error=OSError("out of files")))
    elapsed, error = await timed(pool.acquire())
    assert isinstance(error, PoolUnavailable)
    assert isinstance(error.__cause__, OSError)
    assert elapsed <= 0.06
    await asking


async def test_an_attempt_that_hangs_is_not_waited_for_longer_than_openings_take(make_pool):
    _, pool, asking = await in_an_attempt(make_pool, Step(hang=True))
    elapsed, error = await timed(pool.acquire())
    assert isinstance(error, PoolUnavailable)
    assert elapsed <= 0.15
    assert (await timed(pool.acquire()))[0] == 0
    await asking


async def test_who_cannot_wait_for_the_attempt_under_way_is_refused_at_once(make_pool):
    _, pool, asking = await in_an_attempt(make_pool, Step(delay=0.2))
    elapsed, error = await timed(pool.acquire(timeout=0.05))
    assert isinstance(error, PoolUnavailable)
    assert elapsed == 0
    await asking


async def test_those_who_waited_first_do_not_wait_for_another_attempt(make_pool):
    backend = Backend(opens=Step(hang=True))
    backend.next_opens.append(DOWN)
    pool = make_pool(backend, unavailable_after=1, backoff_initial=0.9)
    elapsed, error = await timed(pool.acquire())
    assert isinstance(error, PoolUnavailable)
    assert elapsed == pytest.approx(1)


async def test_each_outage_is_told_once(make_pool):
    backend = Backend(opens=DOWN)
    pool = make_pool(backend, unavailable_after=1, backoff_max=2)
    told = []
    pool.subscribe(lambda event: told.append(event) if isinstance(event, Unavailable) else None)
    for _ in range(2):
        for _ in range(5):
            assert isinstance((await timed(pool.acquire()))[1], PoolUnavailable)
        backend.next_opens.append(Step())
        await asyncio.sleep(3)
        (await pool.acquire()).discard()
    assert len(told) == 2


@pytest.mark.parametrize(("unavailable_after", "levels"), [(0, ["DEBUG", "DEBUG"]), (1, ["WARNING", "ERROR"])])
async def test_the_log_does_not_repeat_what_each_caller_is_told_at_once(make_pool, caplog, unavailable_after, levels):
    caplog.set_level("DEBUG", "aiopool")
    pool = make_pool(Backend(opens=DOWN), unavailable_after=unavailable_after)
    assert isinstance((await timed(pool.acquire()))[1], PoolUnavailable)
    told = ("opening a connection failed", "is unavailable")
    assert [r.levelname for r in caplog.records if any(words in r.getMessage() for words in told)] == levels
