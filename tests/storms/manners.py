"""The ways to cancel a query. Each takes the query and a moment, in seconds, and returns when the query has ended."""

from __future__ import annotations

import asyncio
import itertools
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import anyio

R = TypeVar("R")

Query = Callable[[], Coroutine[Any, Any, None]]
Manner = Callable[[Query, float, int], Awaitable[None]]


async def left_alone(query: Query, moment: float, nth: int) -> None:
    await query()


async def timeout(query: Query, moment: float, nth: int) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(moment):
            await query()


async def timeout_of_zero(query: Query, moment: float, nth: int) -> None:
    await timeout(query, 0, nth)


async def cancel_scope(query: Query, moment: float, nth: int) -> None:
    with anyio.move_on_after(moment):
        await query()


async def cancelled_once(query: Query, moment: float, nth: int) -> None:
    task = asyncio.create_task(query())
    await asyncio.sleep(moment)
    task.cancel()
    await asyncio.wait((task,))


async def cancelled_twice(query: Query, moment: float, nth: int) -> None:
    task = asyncio.create_task(query())
    await asyncio.sleep(moment)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))


async def cancelled_before_its_first_step(query: Query, moment: float, nth: int) -> None:
    task = asyncio.create_task(query())
    task.cancel()
    await asyncio.wait((task,))


async def cancelled_in_the_turn_of_an_answer(query: Query, moment: float, nth: int) -> None:
    task = asyncio.create_task(_struck(query(), nth))
    await asyncio.wait((task,))


MANNERS: dict[str, Manner] = {
    manner.__name__: manner
    for manner in (
        left_alone,
        timeout,
        timeout_of_zero,
        cancel_scope,
        cancelled_once,
        cancelled_twice,
        cancelled_before_its_first_step,
        cancelled_in_the_turn_of_an_answer,
    )
}


async def _struck(coroutine: Coroutine[Any, Any, R], nth: int) -> R:
    task = asyncio.current_task()
    assert task is not None
    return await _awaiting(coroutine, nth, task)


@types.coroutine
def _awaiting(
    coroutine: Coroutine[Any, Any, R], nth: int, task: asyncio.Task[Any]
) -> Generator[asyncio.Future[Any] | None, None, R]:
    """Awaits as `coroutine` does. When the nth thing that it waits for is there, its task is cancelled first.

    Callbacks of a future run in the order in which they were added, and the task adds its own, which wakes it, when
    it gets the future from here. So the task holds its answer and the cancellation at once, and must lose neither.
    """
    step = partial(coroutine.send, None)
    for number in itertools.count():
        try:
            future = step()
        except StopIteration as end:
            result: R = end.value
            return result
        if number == nth and future is not None:
            future.add_done_callback(lambda _: task.cancel())
        try:
            yield future
            step = partial(coroutine.send, None)
        except BaseException as exc:
            step = partial(coroutine.throw, exc)
    raise AssertionError("not reached")
