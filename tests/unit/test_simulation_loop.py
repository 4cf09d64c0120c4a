"""The tools the other tests stand on."""

import asyncio

import pytest

from aiopool.testing.loop import SimulationLoop, Stuck
from tests.fakes import Backend, Step, now, settle, timed


def run(coroutine):
    with asyncio.Runner(loop_factory=SimulationLoop) as runner:
        return runner.run(coroutine)


async def test_unit_tests_run_on_a_virtual_clock():
    assert isinstance(asyncio.get_running_loop(), SimulationLoop)
    start = now()
    await asyncio.sleep(3600)
    assert now() == start + 3600


async def test_timers_fire_in_the_order_of_their_time():
    fired = []
    loop = asyncio.get_running_loop()
    for delay in (3, 1, 2):
        loop.call_later(delay, fired.append, delay)
    await asyncio.sleep(10)
    assert fired == [1, 2, 3]


async def test_the_clock_stands_still_while_something_is_ready():
    start = now()
    asyncio.get_running_loop().call_later(0.001, lambda: None)
    await settle()
    assert now() == start


def test_waiting_for_what_never_comes_is_an_error():
    async def wait_for_ever():
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match="no timer"):
        run(wait_for_ever())


def test_waiting_beside_a_ticking_background_task_is_an_error_too():
    async def wait_for_ever():
        loop = asyncio.get_running_loop()

        def tick():
            loop.call_later(3600, tick)

        tick()
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match="horizon"):
        run(wait_for_ever())


async def test_a_scripted_step_takes_its_time_and_ends_as_told():
    backend = Backend(opens=Step(delay=1))
    backend.next_opens.extend([Step(error=OSError("down")), Step(hang=True)])
    elapsed, error = await timed(backend.open())
    assert (elapsed, str(error)) == (0, "down")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await backend.open()
    elapsed, connection = await timed(backend.open())
    assert (elapsed, connection.id, backend.opening) == (1, 0, 0)
    await backend.close(connection)
    backend.assert_nothing_is_left()


async def test_a_step_may_ignore_its_cancellation_for_a_while():
    backend = Backend(opens=Step(hang=True, ignore_cancel=7))
    opening = asyncio.create_task(backend.open())
    await settle()
    opening.cancel()
    elapsed, connection = await timed(opening)
    assert (elapsed, connection.id) == (7, 0)


def order_of_ten(seed):
    async def main():
        order = []
        for n in range(10):
            asyncio.get_running_loop().call_soon(order.append, n)
        await settle()
        return order

    with asyncio.Runner(loop_factory=lambda: SimulationLoop(seed)) as runner:
        return runner.run(main())


def test_without_a_seed_callbacks_run_in_their_order():
    assert order_of_ten(None) == list(range(10))


def test_a_seed_decides_the_order_and_decides_alike_each_time():
    orders = [order_of_ten(seed) for seed in range(20)]
    assert orders == [order_of_ten(seed) for seed in range(20)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len({tuple(order) for order in orders}) > 15


def test_what_is_asked_after_each_step_may_end_the_run():
    def ask():
        assert loop.time() < 2000, "a rule is broken"

    loop = SimulationLoop()
    loop.after_step = ask
    sleeper = loop.create_task(asyncio.sleep(3600))
    with pytest.raises(AssertionError, match="a rule is broken"):
        loop.run_until_complete(sleeper)
    loop.after_step = None
    loop.run_until_complete(sleeper)
    loop.close()
