"""Checking connections: before they are lent, on demand, and in the background."""

import asyncio

import pytest

from aiopool import PoolTimeout
from tests.fakes import Backend, Step, hold, now, release_all, settle, take, timed


async def idle_pool(make_pool, backend, count=1, **options):
    options = {"validator": backend.validate, "max_size": count} | options
    pool = make_pool(backend, min_size=count, **options)
    await pool.open()
    return pool


async def test_a_connection_used_a_moment_ago_is_not_checked(make_pool):
    backend = Backend()
    pool = await idle_pool(make_pool, backend, validate_after=0.5)
    for _ in range(5):
        await hold(pool, 3)
        await asyncio.sleep(0.4)
    assert backend.calls("validate") == []


async def test_a_connection_idle_for_longer_is_checked_first(make_pool):
    backend = Backend(validates=Step(delay=0.1))
    pool = await idle_pool(make_pool, backend, validate_after=0.5)
    await asyncio.sleep(0.6)
    assert await hold(pool) == pytest.approx(0.1)
    assert backend.calls("validate") == [0]
    assert backend.ended == []


async def test_validate_after_zero_checks_every_time_but_not_what_was_just_opened(make_pool):
    backend = Backend()
    pool = make_pool(backend, validator=backend.validate, validate_after=0)
    await hold(pool)
    assert backend.calls("validate") == []
    for _ in range(3):
        await hold(pool)
    assert backend.calls("validate") == [0, 0, 0]


async def test_validate_after_none_never_checks_at_acquire(make_pool):
    backend = Backend()
    pool = await idle_pool(make_pool, backend, validate_after=None, health_check_interval=100_000)
    await asyncio.sleep(200)
    await hold(pool)
    assert backend.calls("validate") == []


async def test_a_direct_hand_off_is_not_checked(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=1, validator=backend.validate, validate_after=0)
    lease = await pool.acquire()
    waiter = take(pool)
    await asyncio.sleep(5)
    lease.release()
    (await waiter).release()
    assert backend.calls("validate") == []


@pytest.mark.parametrize("flaw", ["says no", "raises", "cancels", "hangs"])
@pytest.mark.parametrize("aborting", [True, False])
async def test_an_invalid_connection_is_replaced_and_never_shown(make_pool, flaw, aborting):
    backend = Backend()
    pool = await idle_pool(make_pool, backend, validate_timeout=2, aborter=backend.abort if aborting else None)
    await asyncio.sleep(1)
    bad = backend.connections[0]
    bad.healthy = flaw != "says no"
    if flaw == "raises":
        backend.validates = Step(error=OSError("gone"))
    if flaw == "cancels":
        backend.validates = Step(error=asyncio.CancelledError())
    if flaw == "hangs":
        backend.validates = Step(hang=True)
    start = now()
    async with pool.acquire() as connection:
        assert connection is not bad
        assert now() - start == pytest.approx(2 if flaw == "hangs" else 0, abs=0.2)
    assert bad.closed
    assert backend.calls("abort" if aborting else "close") == [0]
    assert pool.stats()["closed_by"]["invalid"] == 1


async def test_a_validator_need_not_be_async(make_pool):
    backend = Backend()
    pool = await idle_pool(make_pool, backend, validator=lambda connection: connection.healthy)
    await asyncio.sleep(1)
    backend.connections[0].healthy = False
    async with pool.acquire() as connection:
        assert connection is backend.connections[1]


async def test_one_dead_idle_connection_has_the_others_checked_at_once(make_pool):
    backend = Backend(opens=Step(delay=0.1), validates=Step(delay=0.05))
    pool = await idle_pool(make_pool, backend, count=5)
    await asyncio.sleep(1)
    for connection in backend.connections:
        connection.healthy = False
    await hold(pool)
    await asyncio.sleep(2)
    assert {c.id for c in backend.ended} == {0, 1, 2, 3, 4}
    assert pool.stats()["size"] == 5


async def test_a_timeout_during_the_check_says_so_and_loses_nothing(make_pool):
    backend = Backend(validates=Step(delay=3))
    pool = await idle_pool(make_pool, backend)
    await asyncio.sleep(1)
    elapsed, error = await timed(pool.acquire(timeout=1))
    assert isinstance(error, PoolTimeout)
    assert (elapsed, error.phase) == (pytest.approx(1), "validate")
    await asyncio.sleep(2.1)
    assert pool.stats()["available"] == 1


async def test_timeout_zero_starts_the_check_of_a_stale_connection(make_pool):
    backend = Backend(validates=Step(delay=0.1))
    pool = await idle_pool(make_pool, backend)
    await asyncio.sleep(1)
    elapsed, error = await timed(pool.acquire(timeout=0))
    assert (elapsed, error.phase) == (0, "validate")
    await asyncio.sleep(0.2)
    lease = await pool.acquire(timeout=0)
    lease.release()
    assert len(backend.connections) == 1


async def test_a_checked_connection_goes_to_the_head_of_the_line(make_pool):
    backend = Backend(validates=Step(delay=1))
    pool = await idle_pool(make_pool, backend)
    await asyncio.sleep(1)
    first = take(pool, timeout=0.5)
    await settle()
    second = take(pool)
    await settle()
    third = take(pool)
    await asyncio.sleep(1)
    await settle()
    assert isinstance(first.exception(), PoolTimeout)
    assert second.done()
    assert not third.done()
    (await second).release()
    (await third).release()


async def test_check_validates_all_idle_ones_and_counts_the_replaced(make_pool):
    backend = Backend(validates=Step(delay=0.1))
    pool = await idle_pool(make_pool, backend, count=5)
    lease = await pool.acquire()
    for connection in backend.connections:
        connection.healthy = connection.id in (1, 2)
    leased = lease.connection.id
    dead = {0, 3, 4} - {leased}
    assert await pool.check() == len(dead)
    assert set(backend.calls("validate")) == {0, 1, 2, 3, 4} - {leased}
    assert {c.id for c in backend.ended} == dead
    await asyncio.sleep(1)
    assert pool.stats()["size"] == 5
    lease.release()


async def test_check_counts_nothing_when_all_is_well(make_pool):
    backend = Backend()
    pool = await idle_pool(make_pool, backend, count=3)
    assert await pool.check() == 0
    assert sorted(backend.calls("validate")) == [0, 1, 2]
    assert pool.stats()["available"] == 3


async def test_a_dead_idle_connection_is_replaced_before_anyone_meets_it(make_pool):
    backend = Backend()
    pool = await idle_pool(make_pool, backend, count=2, health_check_interval=10, validate_after=None)
    backend.connections[0].healthy = False
    await asyncio.sleep(21)
    assert [c.id for c in backend.ended] == [0]
    assert pool.stats()["available"] == 2


async def test_the_background_check_takes_one_idle_connection_at_a_time(make_pool):
    backend = Backend(validates=Step(delay=0.5))
    pool = await idle_pool(make_pool, backend, count=4, health_check_interval=10, validate_after=None)
    await asyncio.sleep(30)
    assert set(backend.calls("validate")) == {0, 1, 2, 3}
    assert backend.peak_validating == 1
    assert pool.stats()["size"] == 4


async def test_a_background_check_makes_nobody_open_another_connection(make_pool):
    checking = asyncio.Event()

    async def validate(connection):
        checking.set()
        return await backend.validate(connection)

    backend = Backend(opens=Step(delay=0.1), validates=Step(delay=0.02))
    pool = await idle_pool(
        make_pool, backend, validator=validate, max_size=5, health_check_interval=10, validate_after=None
    )
    await checking.wait()
    assert await hold(pool) <= 0.02 + 1e-9
    await asyncio.sleep(1)
    assert len(backend.attempts) == 1


async def test_the_background_check_leaves_leased_connections_alone(make_pool):
    backend = Backend()
    pool = await idle_pool(make_pool, backend, count=2, health_check_interval=10)
    async with pool.acquire() as connection:
        await asyncio.sleep(100)
        assert connection.id not in backend.calls("validate")


async def test_if_every_connection_is_dead_all_callers_are_served_by_new_ones(make_pool):
    backend = Backend(opens=Step(delay=0.1), validates=Step(delay=0.01))
    pool = await idle_pool(make_pool, backend, count=4, max_size=4)
    await asyncio.sleep(1)
    for connection in backend.connections:
        connection.healthy = False
    start = now()
    callers = [take(pool) for _ in range(4)]
    leases = await asyncio.gather(*callers)
    assert now() - start < 1
    assert all(lease.connection.id > 3 for lease in leases)
    await release_all(callers)


async def test_a_connection_in_reset_keeps_no_caller_from_one_that_only_needs_a_check(make_pool):
    backend = Backend(resets=Step(delay=0.5))
    pool = make_pool(
        backend, min_size=3, max_size=3, validator=backend.validate, resetter=backend.reset, validate_after=0.5
    )
    await pool.open()
    await asyncio.sleep(1)
    for _ in range(3):
        assert await hold(pool) < 0.1
