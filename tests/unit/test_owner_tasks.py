"""Context managers as factories: entered and left by one task, whoever acquires, releases or closes."""

import asyncio
from contextlib import asynccontextmanager

import anyio
import pytest

from tests.fakes import Backend, Step, hold, settle, take


def mortal(backend, doom):
    """A session that keeps a reader running, as protocol clients do, and dies with it."""

    @asynccontextmanager
    async def session():
        async def read():
            await doom.wait()
            raise ConnectionResetError("the peer is gone")

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            async with backend.session() as connection:
                yield connection
            group.cancel_scope.cancel()

    return session


async def test_a_context_manager_is_entered_and_left_in_one_task_of_its_own(make_pool):
    backend = Backend()
    pool = make_pool(backend, factory=backend.session)
    lease = await take(pool)
    await asyncio.create_task(asyncio.sleep(0))
    lease.discard()
    await settle()
    async with pool.acquire():
        pass
    await pool.close()
    assert len(backend.connections) == 2
    for connection in backend.connections:
        assert connection.entered_by is connection.left_by
        assert connection.entered_by is not asyncio.current_task()
    assert backend.connections[0].entered_by is not backend.connections[1].entered_by


async def test_sessions_with_task_groups_inside_come_and_go(make_pool):
    backend = Backend()
    pool = make_pool(backend, factory=mortal(backend, anyio.Event()), min_size=2)
    await pool.open()
    await asyncio.gather(*(hold(pool, 0.1) for _ in range(10)))
    await pool.close()
    backend.assert_nothing_is_left()


async def test_a_session_that_dies_while_idle_is_retired_at_once(make_pool):
    backend = Backend()
    doom = anyio.Event()
    pool = make_pool(backend, factory=mortal(backend, doom))
    await hold(pool)
    doom.set()
    await settle()
    stats = pool.stats()
    assert (stats["size"], stats["available"], stats["closed"]) == (0, 0, 1)


async def test_a_session_that_dies_is_replaced_up_to_min_size(make_pool):
    backend = Backend()
    doom = anyio.Event()
    sessions = iter([mortal(backend, doom)])
    pool = make_pool(backend, factory=lambda: next(sessions, backend.session)(), min_size=1)
    await pool.open()
    doom.set()
    await asyncio.sleep(1)
    async with pool.acquire(timeout=0) as connection:
        assert connection is backend.connections[1]


async def test_a_session_that_dies_while_leased_is_not_lent_again(make_pool):
    backend = Backend()
    doom = anyio.Event()
    sessions = iter([mortal(backend, doom)])
    pool = make_pool(backend, factory=lambda: next(sessions, backend.session)(), max_size=1)
    lease = await pool.acquire()
    waiter = take(pool)
    await settle()
    doom.set()
    await asyncio.sleep(1)
    lease.release()
    await asyncio.sleep(1)
    assert (await waiter).connection is backend.connections[1]
    (await waiter).release()
    assert pool.stats()["closed"] == 1


async def test_a_session_that_fails_to_start_is_a_failed_opening(make_pool):
    backend = Backend()
    backend.next_opens.append(Step(error=ConnectionRefusedError()))
    pool = make_pool(backend, factory=backend.session)
    await hold(pool)
    assert pool.stats()["open_failures"] == 1


async def test_a_session_that_hangs_while_starting_is_given_up(make_pool):
    backend = Backend()
    backend.next_opens.append(Step(hang=True))
    pool = make_pool(backend, factory=backend.session, max_size=1, open_timeout=2)
    assert 2 <= await hold(pool) < 3
    assert backend.peak == 1


@pytest.mark.parametrize("end", [Step(error=ZeroDivisionError()), Step(hang=True)], ids=["raises", "hangs"])
async def test_a_session_that_ends_badly_does_not_stop_the_others(make_pool, end):
    backend = Backend(closes=end)
    pool = make_pool(backend, factory=backend.session, min_size=3, close_timeout=2)
    await pool.open()
    await pool.close(timeout=10)
    assert pool.stats()["size"] == 0
    backend.assert_nothing_is_left()


async def test_a_session_outlives_the_caller_it_was_started_for(make_pool):
    backend = Backend(opens=Step(delay=1))
    pool = make_pool(backend, factory=backend.session)
    caller = take(pool)
    await asyncio.sleep(0.5)
    caller.cancel()
    await asyncio.sleep(1)
    async with pool.acquire(timeout=0):
        assert backend.connections[0].entered_by not in (caller, asyncio.current_task())


@pytest.mark.parametrize("end", [Step(error=OSError("while leaving")), Step(hang=True)], ids=["raises", "hangs"])
async def test_a_session_that_starts_too_late_and_ends_badly_keeps_no_slot(make_pool, end):
    backend = Backend(closes=end)
    backend.next_opens.append(Step(hang=True, ignore_cancel=0.5))
    pool = make_pool(backend, factory=backend.session, max_size=1, open_timeout=1, close_timeout=2)
    # Given up after one second, there after another half, left within two, and then the next attempt.
    assert 1.5 <= await hold(pool) <= 1 + 0.5 + 2 + 0.5
    assert backend.connections[0].closed


async def test_a_session_that_ends_as_soon_as_it_is_open_is_not_opened_in_a_circle(make_pool):
    backend = Backend()

    @asynccontextmanager
    async def stillborn():
        connection = await backend.open()
        try:
            async with anyio.create_task_group() as group:
                group.cancel_scope.cancel()
                yield connection
        finally:
            await backend.close(connection)

    pool = make_pool(backend, factory=stillborn, min_size=1, max_size=1)
    await pool.open(wait=False)
    await asyncio.sleep(10)
    assert len(backend.connections) < 1000
    await pool.close(timeout=0)
