"""The user's callables: each in the pool's own context, each bounded by its own timeout."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

from aiopool.config import PoolConfig
from aiopool.stats import Counters

T = TypeVar("T")
R = TypeVar("R")
Factory = Callable[[], Awaitable[T] | AbstractAsyncContextManager[T]]

log = logging.getLogger("aiopool")


class Lifecycle(Generic[T]):
    """Opens, checks, resets and closes one connection at a time; knows nothing of pools and lines."""

    def __init__(
        self,
        name: str,
        config: PoolConfig,
        counters: Counters,
        *,
        factory: Factory[T],
        configure: Callable[[T], object] | None,
        validator: Callable[[T], object] | None,
        resetter: Callable[[T], object] | None,
        destroyer: Callable[[T], object] | None,
        aborter: Callable[[T], object] | None,
    ) -> None:
        self._name = name
        self._config = config
        self._counters = counters
        self._factory = factory
        self._configure = configure
        self._validator = validator
        self._resetter = resetter
        self._destroyer = destroyer
        self._aborter = aborter
        #: Whose spans and tenants the callables see: the builder's, never those of the caller who happens to come by.
        self.context = contextvars.copy_context()
        self.tasks: set[asyncio.Task[Any]] = set()
        #: Set when the pool opens; leases may come back, and tasks be started, while it does not run.
        self.loop: asyncio.AbstractEventLoop
        #: The loop is going down: what can't be done at once can't be done any more.
        self.is_ending = False

    @property
    def can_validate(self) -> bool:
        return self._validator is not None

    @property
    def can_reset(self) -> bool:
        return self._resetter is not None

    @property
    def fresh_for(self) -> float | None:
        """How long a connection that was proven good is lent without a check, in seconds; None: as long as it lives."""
        return None if self._validator is None else self._config.validate_after

    def spawn(self, work: Coroutine[Any, Any, R], name: str) -> asyncio.Task[R]:
        """A task of the pool's own, in its own context, kept alive until it ends."""
        # Not by the loop's task factory: an eager one would take the first step before the task is recorded.
        task = asyncio.Task(work, loop=self.loop, name=f"aiopool {self._name} {name}", context=self.context.copy())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def spawn_surely(self, work: Coroutine[Any, Any, R], name: str) -> asyncio.Task[R]:
        """The same for work that has to clean up after itself, whatever happens to its task."""
        return self.spawn(Begun(work), name)

    async def end(self, grace: float) -> None:
        """Waits for the tasks to end, after the pool is empty; says so of those that don't."""
        tasks = self.tasks - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        if stuck := sorted(task.get_name() for task in tasks if not task.done()):
            log.error("pool %r: closed, but these tasks ignore their cancellation: %s", self._name, stuck)

    def _call(self, hook: Callable[[T], object], connection: T) -> object:
        # A copy, because a context can't be entered twice and our own tasks run in copies of it as well.
        return self.context.copy().run(hook, connection)

    # -- open

    async def connect(self) -> tuple[T, Owner[T] | None]:
        """A new connection, and its owner if the factory gave a context manager. Bounded by the caller."""
        made = self._factory()
        if inspect.isawaitable(made):
            return await made, None
        if isinstance(made, AbstractAsyncContextManager):
            owner = Owner(made, self.spawn)
            return await owner.enter(), owner
        raise TypeError(
            f"the factory of pool {self._name!r} returned {type(made).__name__}, which is neither awaitable nor an "
            "async context manager: make it an async function"
        )

    async def configure(self, connection: T) -> None:
        if self._configure is not None and inspect.isawaitable(result := self._configure(connection)):
            await result

    # -- check and reset

    async def validate(self, connection: T) -> bool:
        """False, an exception and a timeout all mean that the connection is not to be lent."""
        if self._validator is None:
            return True
        try:
            async with asyncio.timeout(self._config.validate_timeout) as limit:
                verdict = self._validator(connection)
                is_valid = bool(await verdict if inspect.isawaitable(verdict) else verdict)
            return is_valid and not limit.expired()
        except Exception as exc:
            log.debug("pool %r: a connection is invalid: %s", self._name, type(exc).__name__)
            return False

    def begin_reset(self, connection: T) -> Awaitable[object] | None:
        """Resets; what takes time is returned, to be passed to `finish_reset`. Raises what a plain resetter raises."""
        if self._resetter is None:
            return None
        result = self._call(self._resetter, connection)
        if result is None or isinstance(result, asyncio.Future):  # asking for it is cheap
            return result
        return result if inspect.isawaitable(result) else None

    async def finish_reset(self, rest: Awaitable[object]) -> None:
        async with asyncio.timeout(self._config.reset_timeout):
            await rest

    # -- close

    async def close(self, connection: T, owner: Owner[T] | None) -> None:
        """Politely."""
        if (rest := self.begin_close(connection, owner, politely=True)) is not None:
            await rest

    def begin_close(self, connection: T, owner: Owner[T] | None, *, politely: bool) -> Coroutine[Any, Any, None] | None:
        """Closes, or tears down; what takes time is returned, to be awaited. Never raises: failures are counted."""
        rest: object = None
        if self.is_ending or self.loop.is_closed():
            self._close_at_once(connection)
            return None
        has_politeness = self._destroyer is not None or owner is not None
        is_aborted = self._aborter is not None and not (politely and has_politeness)
        if is_aborted:
            self._abort(connection)
        elif self._destroyer is not None:
            try:
                rest = self._call(self._destroyer, connection)
            except (Exception, asyncio.CancelledError) as exc:
                self._failed_to_close(connection, exc)
        if owner is not None and owner.task.done():
            owner = None  # it ended by itself: there is nothing left to leave
        if inspect.isawaitable(rest):
            return self._finish_close(connection, owner, rest)
        return None if owner is None else self._finish_close(connection, owner, None, is_aborted=is_aborted)

    async def _finish_close(
        self, connection: T, owner: Owner[T] | None, rest: Awaitable[object] | None, *, is_aborted: bool = False
    ) -> None:
        try:
            if rest is not None:
                await self._close_step(connection, rest)
            if owner is not None:
                await self._close_step(connection, owner.leave(), is_aborted=is_aborted)
        except BaseException:
            self._abort(connection)
            if owner is not None:
                owner.task.cancel()
            raise

    async def _close_step(self, connection: T, step: Awaitable[object], *, is_aborted: bool = False) -> None:
        try:
            async with asyncio.timeout(self._config.close_timeout):
                await step
        except Exception as exc:
            # A context manager may complain of the abort; that it does not end is a failure all the same.
            if not is_aborted or isinstance(exc, TimeoutError):
                self._failed_to_close(connection, exc)

    def _failed_to_close(self, connection: T, exc: BaseException) -> None:
        self._counters.close_failures += 1
        log.warning("pool %r: closing a connection failed: %s", self._name, type(exc).__name__)
        self._abort(connection)

    def _close_at_once(self, connection: T) -> None:
        """Without an aborter a plain destroyer serves; for one that takes time it is too late."""
        if self._aborter is not None or self._destroyer is None:
            self._abort(connection)
            return
        try:
            rest = self._call(self._destroyer, connection)
        except (Exception, asyncio.CancelledError) as exc:
            if not self.loop.is_closed():  # then its transport can't say so to anybody
                self._failed_to_close(connection, exc)
            return
        if inspect.iscoroutine(rest):
            rest.close()
            self._failed_to_close(connection, TimeoutError())

    def _abort(self, connection: T) -> None:
        if self._aborter is None:
            return
        try:
            self._call(self._aborter, connection)
        except (Exception, asyncio.CancelledError) as exc:
            if self.loop.is_closed():  # then its transport can't say so to anybody
                return
            self._counters.close_failures += 1
            log.warning("pool %r: aborting a connection failed: %s", self._name, type(exc).__name__)


class Begun(Coroutine[Any, Any, R]):
    """Work that takes its first step even if its task is cancelled before: then it is cancelled where it first waits.

    A plain coroutine would do nothing at all, not even its `finally`.
    """

    def __init__(self, work: Coroutine[Any, Any, R]) -> None:
        self._work = work
        self._has_begun = False

    def send(self, value: Any, /) -> Any:
        self._has_begun = True
        return self._work.send(value)

    def throw(self, *exc: Any) -> Any:
        if not self._has_begun and (awaited := self.send(None)) is not None:
            awaited._asyncio_future_blocking = False  # the task will not see it, so it is cancelled here
            awaited.cancel()
        return self._work.throw(*exc)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, R]:
        return self._work.__await__()


class Owner(Generic[T]):
    """The one task that enters and leaves a context manager.

    anyio's cancel scopes must be left in the task that entered them, and connections are acquired, released and closed
    by whichever task comes by. If `task` ends by itself, the connection is dead.
    """

    def __init__(
        self,
        manager: AbstractAsyncContextManager[T],
        spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
    ) -> None:
        self._manager = manager
        self._entered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._leaves = asyncio.Event()
        self.task = spawn(self._live(), "owner")
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())  # whoever wants it asks again

    # A cancellation is passed on to the manager, and one that ignores it is waited for: until it has really ended, its
    # connection may exist.

    async def enter(self) -> T:
        """May still succeed after a cancellation."""
        await self._first_of(self.task, self._entered)
        if not self._entered.done():
            await self.task
            raise ConnectionError("the factory's context manager ended without giving a connection")
        return self._entered.result()

    async def leave(self) -> None:
        self._leaves.set()
        if (cancellation := await self._first_of(self.task)) is not None:
            raise cancellation
        if not self.task.cancelled() and (exc := self.task.exception()) is not None:
            raise exc

    async def _first_of(self, *awaited: asyncio.Future[Any]) -> asyncio.CancelledError | None:
        cancellation = None
        while not any(each.done() for each in awaited):
            try:
                await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError as exc:
                cancellation = exc
                self.task.cancel()
        return cancellation

    async def _live(self) -> None:
        async with self._manager as connection:
            self._entered.set_result(connection)
            await self._leaves.wait()
