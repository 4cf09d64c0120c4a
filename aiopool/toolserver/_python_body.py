"""What a call of a function does: lend it a connection, and run it here, or in a thread if it can't be awaited."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from functools import partial
from inspect import isawaitable
from typing import Any

from anyio import CapacityLimiter

from aiopool.handlers import lent
from aiopool.manager import PoolManager
from aiopool.pool import CONFIGURED
from aiopool.script import Postgres, Redis
from aiopool.toolserver.output import as_object, as_text
from aiopool.toolserver.python import PythonPlan
from aiopool.toolserver.tool import Result

#: Threads of one tool, those included whose callers have gone: a function that can't be awaited can't be stopped.
MAX_THREADS = 40
#: A driver's task that is cancelled ends at once; this bounds one that does not, in seconds.
_CANCELLED_WITHIN = 1.0


class PythonBody:
    """Calls a function."""

    def __init__(self, plan: PythonPlan, tool: str, pools: PoolManager) -> None:
        self._plan = plan
        self._tool = tool
        self._pools = pools
        self._threads = CapacityLimiter(MAX_THREADS)

    async def run(self, arguments: Mapping[str, Any]) -> Result:
        plan = self._plan
        others = () if plan.connection is None else (plan.connection,)
        call = partial(plan.function, **plan.outline.completed(arguments, others))
        if plan.pool is None or plan.connection is None:
            value = await (call() if plan.outline.is_async else self._in_thread(call))
        else:
            async with lent(self._pools, plan.pool, CONFIGURED) as connection:
                if plan.outline.is_async:
                    value = await call(**{plan.connection: connection})
                else:
                    async with _without_await(connection) as face:
                        value = await self._in_thread(partial(call, **{plan.connection: face}))
        if isawaitable(value):
            value = await value
        if isinstance(value, Result):
            return value
        text = as_text(value)
        return Result(text, structured=as_object(text))

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        """In a thread of its own, which keeps nobody from ending: neither its caller, nor the process."""
        token, loop = object(), asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        await self._threads.acquire_on_behalf_of(token)

        def end(value: Any, error: BaseException | None) -> None:
            self._threads.release_on_behalf_of(token)
            if done.done():
                return
            if error is None:
                done.set_result(value)
            else:
                done.set_exception(error)

        def work() -> None:
            value: Any = None
            error: BaseException | None = None
            try:
                value = context.run(call)
            except StopIteration as exc:  # a future can't hold it
                error = RuntimeError("the function raised StopIteration")
                error.__cause__ = exc
            except BaseException as exc:
                error = exc
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(end, value, error)

        context = contextvars.copy_context()
        threading.Thread(target=work, name=f"aiopool tool {self._tool}", daemon=True).start()
        return await done


@asynccontextmanager
async def _without_await(connection: Any) -> AsyncIterator[Any]:
    """The connection for code in a thread; what still runs when the block is left is cancelled, and nothing begins."""
    bridge = _Bridge(asyncio.get_running_loop())
    face: Any = connection
    if hasattr(connection, "fetchrow"):
        face = Postgres(connection, bridge.run)
    elif hasattr(connection, "execute_command"):
        face = Redis(connection, bridge.run)
    try:
        yield face
    finally:
        await bridge.end()


class _Bridge:
    """From a thread to the loop that a connection lives on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_over = False

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """In the thread."""
        answer: Future[Any] = Future()
        self._loop.call_soon_threadsafe(self._begin, work, answer)
        return answer.result()

    async def end(self) -> None:
        self._is_over = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            # Only then does the connection know that its query was cancelled, and has to be on the server, too.
            await asyncio.wait(self._tasks, timeout=_CANCELLED_WITHIN)

    def _begin(self, work: Coroutine[Any, Any, Any], answer: Future[Any]) -> None:
        if self._is_over:
            work.close()
            answer.set_exception(RuntimeError("the call is over, and its connection was given back"))
            return
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, answer))

    def _ended(self, answer: Future[Any], task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            answer.set_exception(RuntimeError("the call was cancelled"))
        elif error := task.exception():
            answer.set_exception(error)
        else:
            answer.set_result(task.result())
