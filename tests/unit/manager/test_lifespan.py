"""A manager's lifespan is entered by many, opened for the first and closed after the last."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from aiopool import ConnectionPool, PoolConfig, PoolManager, PoolUnavailable, WrongLoop
from tests.fakes import Backend, Step, settle
from tests.unit.manager.stubs import StubPool


class SlowPool(StubPool):
    """Takes a second to open and one to close."""

    async def open(self) -> None:
        await asyncio.sleep(1)
        await super().open()

    async def close(self) -> None:
        await asyncio.sleep(1)
        await super().close()


def managed(*some: StubPool) -> PoolManager:
    manager = PoolManager()
    for pool in some:
        manager.register(pool.name, pool)
    return manager


async def stay(manager: PoolManager, seconds: float = 0.0) -> None:
    async with manager.lifespan():
        await asyncio.sleep(seconds)


async def test_it_is_open_from_the_first_enter_to_the_last_exit() -> None:
    log: list[str] = []
    manager = managed(StubPool("a", log), StubPool("b", log))
    async with manager.lifespan("the application"), manager.lifespan():
        assert log == ["open a", "open b"]
        async with manager.lifespan():
            pass
        assert log == ["open a", "open b"]
    assert log == ["open a", "open b", "close b", "close a"]


async def test_exits_may_come_in_any_order() -> None:
    log: list[str] = []
    manager = managed(StubPool("a", log))
    await asyncio.gather(*(stay(manager, seconds) for seconds in (5, 1, 3)))
    assert log == ["open a", "close a"]


async def test_after_the_last_exit_it_may_be_entered_again() -> None:
    log: list[str] = []
    manager = managed(StubPool("a", log))
    for _ in range(3):
        await stay(manager)
    assert log == ["open a", "close a"] * 3


async def test_it_yields_the_pools_by_name_as_a_mapping() -> None:
    manager = managed(StubPool("a"), StubPool("b"))
    async with manager.lifespan() as state:
        assert isinstance(state, Mapping)
        assert dict(state) == {"a": manager.get("a"), "b": manager.get("b")}


async def test_who_comes_while_it_opens_waits_for_that() -> None:
    log: list[str] = []
    manager = managed(SlowPool("a", log))
    first = asyncio.create_task(stay(manager, 5))
    await asyncio.sleep(0.5)
    async with manager.lifespan():
        assert log == ["open a"]
    assert not first.done()
    await first
    assert log == ["open a", "close a"]


async def test_who_comes_while_it_closes_opens_it_again() -> None:
    log: list[str] = []
    manager = managed(SlowPool("a", log))
    first = asyncio.create_task(stay(manager))
    await asyncio.sleep(1.5)
    assert log == ["open a"]
    async with manager.lifespan():
        assert first.done()
        assert log == ["open a", "close a", "open a"]
    assert log == ["open a", "close a"] * 2


async def test_an_open_that_failed_is_tried_again_by_the_next() -> None:
    log: list[str] = []
    pool = StubPool("a", log, open_error=ConnectionError("refused"))
    manager = managed(pool)
    for _ in range(2):
        with pytest.raises(ConnectionError, match="refused"):
            await stay(manager)
    pool.open_error = None
    await stay(manager)
    assert log == ["open a", "open a", "open a", "close a"]


async def test_of_those_who_come_together_one_finds_out_that_it_cannot_be_opened() -> None:
    log: list[str] = []
    manager = managed(SlowPool("a", log, open_error=ConnectionError("refused")))
    ends = await asyncio.gather(*(stay(manager) for _ in range(100)), return_exceptions=True)
    assert log == ["open a"]
    assert type(ends[0]) is ConnectionError
    for end in ends[1:]:
        assert isinstance(end, PoolUnavailable)
        assert end.__cause__ is ends[0]
        assert "refused" not in str(end)
    assert len(set(map(id, ends))) == 100


async def test_if_who_opens_it_is_cancelled_another_one_opens_it() -> None:
    log: list[str] = []
    manager = managed(StubPool("a", log), SlowPool("b", log))
    first = asyncio.create_task(stay(manager))
    second = asyncio.create_task(stay(manager))
    await asyncio.sleep(0.5)
    first.cancel()
    await asyncio.wait((first, second))
    assert first.cancelled()
    assert second.exception() is None
    assert log[:2] == ["open a", "close a"]
    assert log[-4:] == ["open a", "open b", "close b", "close a"]


async def test_who_is_cancelled_after_all_others_have_left_closes_it() -> None:
    log: list[str] = []
    manager = managed(StubPool("a", log))

    async def leave_the_other_alone() -> None:
        async with manager.lifespan():
            other = asyncio.create_task(stay(manager))
            await settle(1)  # it has come
        other.cancel()
        await asyncio.wait((other,))

    await leave_the_other_alone()
    assert log == ["open a", "close a"]


async def test_who_is_cancelled_in_the_turn_in_which_it_would_have_come_in_closes_what_the_others_left() -> None:
    log: list[str] = []
    manager = managed(SlowPool("a", log))

    async def open_and_leave_at_once() -> None:
        async with manager.lifespan():
            second.cancel()

    first = asyncio.create_task(open_and_leave_at_once())
    second = asyncio.create_task(stay(manager))
    await asyncio.wait((first, second))
    assert second.cancelled()
    assert log == ["open a", "close a"]


async def test_what_failed_to_open_is_forgotten_when_nobody_is_left() -> None:
    class Failure(Exception):
        pass

    pool = StubPool("a", open_error=Failure())
    manager = managed(pool)
    assert pool.open_error is not None
    gone = weakref.ref(pool.open_error)
    with pytest.raises(Failure):
        await stay(manager)
    pool.open_error = None
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("error", [KeyError("an error"), BaseException("worse"), asyncio.CancelledError()])
async def test_what_leaves_the_block_closes_it_and_goes_on(error: BaseException) -> None:
    log: list[str] = []
    manager = managed(StubPool("a", log))
    with pytest.raises(type(error)) as caught:
        async with manager.lifespan():
            raise error
    assert caught.value is error
    assert log == ["open a", "close a"]


async def test_a_failing_close_is_raised_and_the_next_enter_is_a_fresh_one() -> None:
    log: list[str] = []
    pool = StubPool("a", log, close_error=OSError("stuck"))
    manager = managed(pool)
    with pytest.raises(ExceptionGroup):
        await stay(manager)
    pool.close_error = None
    await stay(manager)
    assert log == ["open a", "close a"] * 2


async def test_a_close_that_was_cut_short_is_finished_before_the_next_open() -> None:
    log: list[str] = []
    manager = managed(SlowPool("a", log))
    first = asyncio.create_task(stay(manager))
    await asyncio.sleep(1.5)
    first.cancel()
    await asyncio.wait((first,))
    assert log == ["open a"]
    await stay(manager)
    assert log == ["open a", "close a", "open a", "close a"]


async def test_an_open_that_was_cut_short_while_it_was_undone_is_undone_before_the_next() -> None:
    log: list[str] = []
    hanging = SlowPool("b", log)
    manager = managed(SlowPool("a", log), hanging)
    first = asyncio.create_task(stay(manager))
    await asyncio.sleep(1.5)
    first.cancel()  # while b opens, and again while a closes for that
    await asyncio.sleep(0.5)
    first.cancel()
    await asyncio.wait((first,))
    assert log == ["open a"]
    await stay(manager)
    assert log[1:] == ["close b", "close a", "open a", "open b", "close b", "close a"]


# -- attacks, on real pools


@pytest.fixture
def backends() -> Iterator[list[Backend]]:
    made = [Backend(), Backend(opens=Step(delay=0.01), closes=Step(delay=0.01))]
    yield made
    for backend in made:
        backend.assert_nothing_is_left()


def real(backends: list[Backend], **config: Any) -> PoolManager:
    manager = PoolManager()
    for number, backend in enumerate(backends):
        settings = PoolConfig(min_size=2, max_size=4, **config)
        manager.register(f"p{number}", ConnectionPool(backend.open, settings, destroyer=backend.close))
    return manager


async def ask(manager: PoolManager) -> None:
    for pool in manager.pools.values():
        async with pool.acquire() as connection:
            assert not connection.closed


async def test_a_thousand_enters_open_it_once(backends: list[Backend]) -> None:
    manager = real(backends)

    async def visit(number: int) -> None:
        async with manager.lifespan():
            await asyncio.sleep(number * 0.001)
            await ask(manager)

    await asyncio.gather(*(visit(number) for number in range(1000)))
    assert [len(backend.connections) for backend in backends] == [2, 2]


@pytest.mark.parametrize("seed", range(10))
async def test_a_storm_of_enters_exits_and_cancellations_leaves_nothing(backends: list[Backend], seed: int) -> None:
    rnd, manager = random.Random(seed), real(backends)
    backends[0].opens = Step(delay=0.005)
    asked = 0

    async def visit() -> None:
        nonlocal asked
        await asyncio.sleep(rnd.random() * 0.3)
        async with manager.lifespan():
            await asyncio.sleep(rnd.random() * 0.02)
            await ask(manager)
            asked += 1

    tasks = [asyncio.create_task(visit()) for _ in range(100)]
    for _ in range(60):
        await asyncio.sleep(rnd.random() * 0.01)
        rnd.choice(tasks).cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(end) for end in ends} <= {type(None), asyncio.CancelledError}
    assert asked >= ends.count(None) > 40  # some are cancelled on their way out
    await stay(manager)


async def test_a_cancellation_at_every_step_leaves_nothing_and_the_next_enter_works(backends: list[Backend]) -> None:
    manager = real(backends)

    async def visit() -> None:
        async with manager.lifespan():
            await ask(manager)

    step, was_cancelled = 0, True
    while was_cancelled:
        task = asyncio.create_task(visit())
        await settle_or_wait(step)
        task.cancel()
        await asyncio.wait((task,))
        was_cancelled = task.cancelled()
        await visit()
        for backend in backends:
            assert backend.live == []
        step += 1
    assert step > 10


async def settle_or_wait(step: int) -> None:
    """So many turns of the loop, and so many milliseconds for all that takes time."""
    await asyncio.sleep(step // 5 * 0.001)
    await settle(step % 5)


# -- loops


def test_a_second_loop_is_refused_while_the_first_one_is_in() -> None:
    log: list[str] = []
    manager = managed(StubPool("a", log))
    refused: list[BaseException] = []

    def run_elsewhere() -> None:
        try:
            asyncio.run(stay(manager))
        except Exception as exc:
            refused.append(exc)

    async def main() -> None:
        async with manager.lifespan():
            thread = threading.Thread(target=run_elsewhere)
            thread.start()
            await asyncio.to_thread(thread.join, 10)
            assert log == ["open a"]

    asyncio.run(main())
    assert log == ["open a", "close a"]
    assert [type(exc) for exc in refused] == [WrongLoop]
    assert "another event loop" in str(refused[0])


def test_loops_may_take_turns(backends: list[Backend]) -> None:
    manager = real(backends)
    for _ in range(3):
        asyncio.run(stay(manager))
    assert [len(backend.connections) for backend in backends] == [6, 6]


def test_a_loop_need_not_be_closed_for_another_to_have_its_turn(backends: list[Backend]) -> None:
    manager = real(backends)
    with asyncio.Runner() as one, asyncio.Runner() as other:
        for runner in (one, other, one):
            runner.run(stay(manager))


def in_a_loop_that_dies(enter: Callable[[], Any]) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(enter())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()


def test_a_loop_that_ended_without_an_exit_leaves_the_pools_to_the_next() -> None:
    backend, kept = Backend(), []
    manager = PoolManager()
    manager.register(
        "pool",
        ConnectionPool(backend.open, PoolConfig(min_size=2), destroyer=backend.close, aborter=backend.abort),
    )

    async def enter() -> None:
        kept.append(manager.lifespan())
        await kept[-1].__aenter__()

    in_a_loop_that_dies(enter)
    asyncio.run(stay(manager))
    assert len(backend.connections) == 4
    backend.assert_nothing_is_left()


def test_an_exit_that_comes_after_its_loop_has_ended_counts_for_nobody_else() -> None:
    log: list[str] = []
    manager, kept = managed(StubPool("a", log)), []

    async def enter() -> None:
        kept.append(manager.lifespan())
        await kept[-1].__aenter__()

    async def main() -> None:
        async with manager.lifespan():
            log.clear()
            await kept[0].__aexit__(None, None, None)
            assert log == []

    in_a_loop_that_dies(enter)
    asyncio.run(main())
    assert log == ["close a"]


def test_an_enter_without_an_exit_is_made_up_for_when_its_loop_ends_in_good_order() -> None:
    log: list[str] = []
    manager, kept = managed(StubPool("a", log)), []

    async def enter() -> None:
        kept.append(manager.lifespan())
        await kept[-1].__aenter__()

    asyncio.run(enter())
    assert log == ["open a", "close a"]


async def test_a_manager_whose_lifespan_was_used_is_freed_at_once() -> None:
    manager = managed(StubPool("a"))
    await stay(manager)
    gone = weakref.ref(manager)
    gc.disable()
    try:
        del manager
        assert gone() is None
    finally:
        gc.enable()
