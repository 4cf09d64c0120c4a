"""What goes wrong only at the edges: hooks that misbehave, checks that hang, pools that open again."""

import asyncio

import pytest

from aiopool import Opened, PoolTimeout, Released
from aiopool.testing.loop import SimulationLoop
from tests.fakes import Backend, Step, hold, settle, take, timed


def test_callers_time_out_in_a_pool_that_was_opened_again_on_another_loop():
    from aiopool import ConnectionPool, PoolConfig

    backend = Backend()
    pool = ConnectionPool(backend.open, PoolConfig(min_size=0, max_size=1, acquire_timeout=3), destroyer=backend.close)

    async def wait_in_line() -> float:
        await pool.open()
        lease = await pool.acquire()
        waited, error = await timed(pool.acquire())
        assert isinstance(error, PoolTimeout)
        lease.release()
        await pool.close()
        return waited

    for _ in range(2):
        loop = SimulationLoop()
        assert loop.run_until_complete(wait_in_line()) == pytest.approx(3)
        loop.close()


async def test_a_caller_whose_candidate_was_evicted_in_check_gets_another_idle_one(make_pool):
    backend = Backend(validates=Step(delay=1))
    pool = make_pool(backend, validator=backend.validate, min_size=2, max_size=2)
    await pool.open()
    await asyncio.sleep(1)
    backend.opens = Step(error=OSError("down"))
    caller = take(pool)
    await settle()
    pool.evict(backend.connections[1])
    assert (await asyncio.wait_for(caller, 5)).connection is backend.connections[0]
    (await caller).release()


async def test_a_check_that_hangs_does_not_keep_callers_from_the_other_idle_ones(make_pool):
    backend = Backend()
    pool = make_pool(backend, validator=backend.validate, min_size=3, max_size=3, validate_after=None)
    await pool.open()
    backend.validates = Step(hang=True)
    checking = asyncio.create_task(pool.check())
    await settle()
    waiting = take(pool)
    await asyncio.sleep(6)  # validate_timeout: all three were in check, and are replaced
    (await waiting).release()
    assert await checking == 3
    pool.suspend()
    caller = take(pool)
    await settle()
    pool.resume()
    await settle()
    assert caller.done()
    (await caller).release()


async def test_a_validator_that_is_always_wrong_does_not_reconnect_for_ever(make_pool):
    async def says_no(connection):
        await asyncio.sleep(0.05)
        return False

    backend = Backend(opens=Step(delay=0.001))
    pool = make_pool(backend, validator=says_no, min_size=10, max_size=10, health_check_interval=60)
    await pool.open()
    await asyncio.sleep(70)
    assert len(backend.connections) <= 30


async def test_a_validator_that_answers_after_its_timeout_is_not_believed(make_pool):
    async def stubborn(connection):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
        return True

    backend = Backend()
    pool = make_pool(backend, validator=stubborn, min_size=1, max_size=1)
    await pool.open()
    assert await pool.check() == 1


@pytest.mark.parametrize("hook", ["resetter", "is_broken", "destroyer"])
async def test_a_plain_hook_that_raises_a_cancellation_costs_no_slot(make_pool, hook):
    def misbehaves(*_):
        raise asyncio.CancelledError

    backend = Backend()
    pool = make_pool(backend, max_size=1, **{hook: misbehaves})
    for _ in range(3):
        assert await hold(pool) == 0
        lease = await pool.acquire()
        lease.discard()
    await pool.close(timeout=0)
    for connection in backend.live:  # nobody closed those whose destroyer refused
        await backend.close(connection)


async def test_a_capacity_that_is_set_as_soon_as_a_connection_is_open_lends_it_once(make_pool):
    pool = make_pool(Backend(), max_size=1)
    pool.subscribe(lambda event: setattr(event.info, "capacity", 1) if isinstance(event, Opened) else None)
    lease = await pool.acquire()
    with pytest.raises(PoolTimeout):
        await pool.acquire(timeout=0)
    lease.release()


async def test_a_capacity_that_changes_while_a_lease_comes_back_does_not_lend_what_is_in_reset(make_pool):
    backend = Backend(resets=Step(delay=1))
    pool = make_pool(backend, max_size=1, resetter=backend.reset)
    pool.subscribe(lambda event: setattr(event.info, "capacity", 1) if isinstance(event, Released) else None)
    await hold(pool)
    with pytest.raises(PoolTimeout):
        await pool.acquire(timeout=0)
    assert await hold(pool) == pytest.approx(1)
    await asyncio.sleep(1)


async def test_shrinking_shared_connections_keeps_as_many_as_it_should(make_pool):
    pool = make_pool(Backend(), max_size=3, max_shares=2)
    leases = await asyncio.gather(*(take(pool) for _ in range(6)))
    pool.resize(max_size=2)
    for lease in leases:
        lease.release()
    await settle()
    assert pool.stats()["size"] == 2


async def test_an_acquire_timeout_of_0_in_the_config_never_waits(make_pool):
    pool = make_pool(Backend(), max_size=1, acquire_timeout=0)
    waited, error = await timed(pool.acquire())
    assert isinstance(error, PoolTimeout)
    assert (waited, pool.stats()["waited"]) == (0, 0)


async def test_lowering_min_size_ends_the_wait_of_those_who_open(make_pool):
    backend = Backend()
    backend.next_opens.extend([Step(), Step(), Step(hang=True)])
    pool = make_pool(backend, min_size=3, max_size=3)
    opening = asyncio.create_task(pool.open())
    await asyncio.sleep(1)
    pool.resize(min_size=2)
    await asyncio.wait_for(opening, 1)
