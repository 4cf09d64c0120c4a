"""Opening the pool, and opening its connections."""

import asyncio

import pytest

from aiopool import PoolUnavailable
from tests.fakes import Backend, FakeConnection, Step, hold, now, settle, take, timed


async def test_open_returns_when_min_size_stands_and_opens_in_parallel(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend, min_size=3)
    elapsed, _ = await timed(pool.open())
    assert elapsed == pytest.approx(0.1)
    assert pool.stats()["available"] == 3


async def test_the_pool_is_a_context_manager(make_pool):
    backend = Backend()
    async with make_pool(backend, min_size=2) as pool:
        assert pool.stats()["size"] == 2
    assert len(backend.ended) == 2


async def test_opening_without_waiting_fills_in_the_background(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend, min_size=3)
    elapsed, _ = await timed(pool.open(wait=False))
    assert elapsed == 0
    await asyncio.sleep(0.2)
    assert pool.stats()["available"] == 3


async def test_the_first_acquire_opens_the_pool_and_does_not_wait_for_min_size(make_pool):
    backend = Backend(opens=Step(delay=5))
    backend.next_opens.append(Step(delay=1))
    pool = make_pool(backend, min_size=3)
    assert await hold(pool) == pytest.approx(1)
    await asyncio.sleep(10)
    assert pool.stats()["size"] == 3


async def test_a_pool_without_min_size_opens_nothing_before_it_is_asked(make_pool):
    backend = Backend()
    pool = make_pool(backend, min_size=0)
    await pool.open()
    await asyncio.sleep(100)
    assert backend.attempts == []


async def test_opening_twice_is_opening_once(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend, min_size=3)
    await asyncio.gather(pool.open(), pool.open())
    await pool.open()
    assert len(backend.attempts) == 3


async def test_an_acquire_while_the_pool_warms_up_gets_the_first_connection(make_pool):
    backend = Backend(opens=Step(delay=1))
    pool = make_pool(backend, min_size=3, max_size=3, max_opening=1)
    opening = asyncio.create_task(pool.open())
    await settle()
    assert await hold(pool) == pytest.approx(1)
    await opening


async def test_max_opening_bounds_the_warm_up(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend, min_size=5, max_opening=2)
    elapsed, _ = await timed(pool.open())
    assert elapsed == pytest.approx(0.3)
    assert backend.peak_opening == 2


async def test_open_fails_with_the_cause_and_leaves_nothing_behind(make_pool):
    backend = Backend(opens=Step(error=ConnectionRefusedError("nobody there")))
    backend.next_opens.append(Step())
    pool = make_pool(backend, min_size=2)
    elapsed, error = await timed(pool.open(timeout=3))
    assert isinstance(error, PoolUnavailable)
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert elapsed <= 3 + 1e-9
    assert asyncio.all_tasks() == {asyncio.current_task()}
    backend.assert_nothing_is_left()


async def test_open_gives_up_on_a_backend_that_hangs(make_pool):
    backend = Backend(opens=Step(hang=True))
    pool = make_pool(backend, min_size=2)
    elapsed, error = await timed(pool.open(timeout=3))
    assert isinstance(error, PoolUnavailable)
    assert elapsed == pytest.approx(3)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    backend.assert_nothing_is_left()


async def test_a_pool_that_failed_to_open_may_be_opened_later(make_pool):
    backend = Backend(opens=Step(error=ValueError("no such host")))
    pool = make_pool(backend, min_size=2)
    with pytest.raises(PoolUnavailable):
        await pool.open()
    backend.opens = Step()
    await pool.open()
    assert pool.stats()["size"] == 2


@pytest.mark.parametrize("is_async", [True, False])
async def test_configure_runs_once_before_a_connection_is_lent(make_pool, is_async):
    configured = []

    async def configure(connection):
        await asyncio.sleep(0.5)
        configured.append(connection.id)

    backend = Backend()
    pool = make_pool(backend, configure=configure if is_async else lambda c: configured.append(c.id))
    assert await hold(pool) == pytest.approx(0.5 if is_async else 0)
    await hold(pool)
    assert configured == [0]


async def test_a_failing_configure_is_a_failed_opening(make_pool):
    def configure(connection):
        if connection.id == 0:
            raise ConnectionError("refused the settings")

    backend = Backend()
    pool = make_pool(backend, configure=configure)
    async with pool.acquire() as connection:
        assert connection.id == 1
    assert pool.stats()["open_failures"] == 1
    await settle()
    assert [c.id for c in backend.ended] == [0]


async def test_configure_counts_towards_the_open_timeout(make_pool):
    async def configure(connection):
        await asyncio.sleep(0 if connection.id else 60)

    backend = Backend()
    pool = make_pool(backend, configure=configure, open_timeout=2, max_size=1)
    assert 2 <= await hold(pool) < 3
    assert [c.id for c in backend.ended] == [0]


async def test_a_factory_that_returns_a_plain_object_is_told_what_to_do(make_pool):
    pool = make_pool(Backend(), factory=lambda: FakeConnection(0, 0.0))
    _, error = await timed(pool.acquire(timeout=5))
    complaint = error if isinstance(error, TypeError) else error.__cause__
    assert isinstance(complaint, TypeError)
    assert "async" in str(complaint) or "await" in str(complaint)


async def test_a_result_both_awaitable_and_context_manager_is_awaited(make_pool):
    backend = Backend()

    class Client:
        connected = False

        async def connect(self):
            self.connected = True
            return self

        def __await__(self):
            return self.connect().__await__()

        async def __aenter__(self):
            raise AssertionError("entered")

        async def __aexit__(self, *error):
            raise AssertionError("left")

    pool = make_pool(backend, factory=Client)
    async with pool.acquire() as client:
        assert client.connected


async def test_a_returned_awaitable_need_not_come_from_a_coroutine_function(make_pool):
    backend = Backend()
    pool = make_pool(backend, factory=lambda: asyncio.ensure_future(backend.open()), destroyer=backend.close)
    await hold(pool)
    assert len(backend.attempts) == 1


async def test_other_callers_are_served_while_a_connection_is_being_opened(make_pool):
    backend = Backend(opens=Step(delay=10))
    backend.next_opens.append(Step())
    pool = make_pool(backend, max_size=2)
    lease = await pool.acquire()
    waiting = take(pool)
    await asyncio.sleep(1)
    lease.release()
    (await waiting).release()
    start = now()
    for _ in range(5):
        await hold(pool)
    assert now() == start
