"""For scripts that are tools: `connection()`, which is a pooled one wherever the script runs in a pool's worker.

    from aiopool.script import connection

    def main(query: str) -> list[dict]:
        with connection() as db:
            return db.fetch(query)

Run by hand, or by a tool with `mode: exec`, the script opens a connection of its own to `DATABASE_URL` or `REDIS_URL`.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import get_ident
from types import TracebackType
from typing import Any, Self, TypeVar

from aiopool.config import PoolConfig
from aiopool.lease import Lease

__all__ = ["Postgres", "Redis", "connection"]

R = TypeVar("R")
#: Waits for what is awaitable, in code that cannot.
Run = Callable[[Coroutine[Any, Any, Any]], Any]

#: For a query that has been cancelled to be over on the server too, in seconds.
_CANCELLED_WITHIN = 1.0


def connection() -> Borrowing:
    """`with connection() as db:` for a `Postgres` or a `Redis`, whichever the pool of the tool is.

    In an async `main`, `async with connection() as db:` for the driver's own: an `asyncpg.Connection` or a
    `redis.asyncio.Redis`. Blocks inside of blocks share the one connection that there is. Raises `RuntimeError` if the
    tool has no pool and neither `DATABASE_URL` nor `REDIS_URL` is set, and `PoolUnavailable` if nobody answers there.
    """
    return Borrowing()


class Borrowing:
    """What `connection()` returns."""

    _session: Session

    def __enter__(self) -> Any:
        self._session = _session()
        return self._session.lend()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._session.take_back()

    async def __aenter__(self) -> Any:
        self._session = session = await _session_here()
        try:
            return await session.borrow()
        except BaseException:
            if session.is_for_one_block:
                await session.pool.close(timeout=0)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._session.take_back()
        if self._session.is_for_one_block:
            await self._session.pool.close()


class Postgres:
    """An asyncpg connection without `await`: the same methods, and rows as dicts. `timeout` is in seconds."""

    def __init__(self, connection: Any, run: Run) -> None:
        self._connection = connection
        self._run = run

    def fetch(self, query: str, *params: object, timeout: float | None = None) -> list[dict[str, Any]]:
        """All rows. Parameters stand in the query as `$1`, `$2`."""
        return [dict(row) for row in self._do("fetch", query, *params, timeout=timeout)]

    def fetchrow(self, query: str, *params: object, timeout: float | None = None) -> dict[str, Any] | None:
        """The first row, or None."""
        row = self._do("fetchrow", query, *params, timeout=timeout)
        return None if row is None else dict(row)

    def fetchval(self, query: str, *params: object, column: int = 0, timeout: float | None = None) -> Any:
        """One value of the first row, or None."""
        return self._do("fetchval", query, *params, column=column, timeout=timeout)

    def execute(self, query: str, *params: object, timeout: float | None = None) -> str:
        """The server's word for what was done, such as `INSERT 0 1`. Without `params`, several statements will do."""
        return str(self._do("execute", query, *params, timeout=timeout))

    def executemany(self, query: str, args: Iterable[Sequence[object]], *, timeout: float | None = None) -> None:
        """Run a statement once for each of `args`, all or nothing."""
        self._do("executemany", query, args, timeout=timeout)

    @contextmanager
    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> Iterator[Self]:
        """Commits when the block ends, rolls back if an exception leaves it; one inside of another is a savepoint."""
        transaction = _held(self._connection).transaction(isolation=isolation, readonly=readonly, deferrable=deferrable)
        self._run(transaction.start())
        try:
            yield self
        except BaseException:
            with suppress(Exception):  # why the block was left matters more, and giving back rolls back, too
                self._run(transaction.rollback())
            raise
        self._run(transaction.commit())

    def _do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._run(getattr(_held(self._connection), method)(*args, **kwargs))
        except Exception as exc:
            # What the driver did on the way is of no use to whoever reads a script's traceback.
            raise exc.with_traceback(None) from exc.__cause__

    def _end(self) -> None:
        self._connection = None


class Redis:
    """A redis-py client without `await`: every command of `redis.asyncio.Redis`, and its pipelines."""

    def __init__(self, client: Any, run: Run) -> None:
        self._client = client
        self._run = run

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(_held(self._client), name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            result = attribute(*args, **kwargs)
            if hasattr(result, "command_stack"):  # a pipeline, which can be awaited too
                return Redis(result, self._run)
            return self._run(_waiting(result)) if inspect.isawaitable(result) else result

        return call

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.reset()  # what redis-py's pipelines do when their block ends

    def _end(self) -> None:
        self._client = None


def _held(connection: Any) -> Any:
    if connection is None:
        raise RuntimeError("this connection was given back: use it inside of its `with connection()` block")
    return connection


async def _waiting(result: Awaitable[R]) -> R:
    return await result


class Session:
    """One connection and the loop that it lives on, which runs while somebody waits for it and at no other time.

    The connection is in a pool of one, so that it is checked, reset and replaced like any other.
    """

    def __init__(self, kind: str, url: str | None, options: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        # One for which somebody has had to open a process is opened at once or not at all.
        config = PoolConfig(
            min_size=1,
            max_size=1,
            max_idle_time=None,
            max_lifetime=None,
            unavailable_after=0,
            health_check_interval=3600,
        )
        self.kind = kind
        self.loop = loop
        self.is_for_one_block = False
        self._thread = get_ident()
        self._depth = 0
        self._lease: Lease[Any] | None = None
        self._face: Postgres | Redis | None = None
        if kind == "postgres":
            from aiopool.adapters.postgres import DatabasePool

            self.pool: Any = DatabasePool(url, config, **options)
        else:
            from aiopool.adapters.redis import RedisPool

            self.pool = RedisPool(url, config=config, **options)

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Waits for it, in the thread that the connection belongs to, and outside of other loops."""
        if problem := self._problem():
            work.close()
            raise RuntimeError(problem)
        return drive(self.loop, work)

    def _problem(self) -> str | None:
        if get_ident() != self._thread:
            return "this connection belongs to the script's main thread: use it there"
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return None
        return (
            "this is async code: write `async def main(…)` and `async with connection() as db`, and await its methods"
        )

    def lend(self) -> Postgres | Redis:
        if self._face is None:
            driver = self.run(self.borrow())
            self._face = Postgres(driver, self.run) if self.kind == "postgres" else Redis(driver, self.run)
        else:
            self._depth += 1
        return self._face

    async def borrow(self) -> Any:
        if self.kind == "redis":  # its client takes connections by itself, one for each command
            self._depth += 1
            return self.pool.client
        lease = self._lease
        if lease is None:
            lease = self._lease = await self.pool.pool.acquire()
            if not is_worker and lease.connection.get_server_version() >= (14,):
                # This process may be killed at any time, and a server that computes does not see that it is gone.
                await lease.connection.execute("set client_connection_check_interval = '1s'")
        self._depth += 1
        return lease.connection

    def take_back(self, *, from_all: bool = False) -> None:
        """From one block; the last one's connection is reset. `from_all`: the call is over, whoever still holds it."""
        self._depth = 0 if from_all else max(0, self._depth - 1)
        if self._depth:
            return
        if self._face is not None:
            self._face._end()
            self._face = None
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    async def ping(self) -> None:
        """Raises unless the server answers, on a new connection if the one that was there is gone."""
        if self.kind == "redis":
            await self.pool.client.ping()
        else:
            await self.pool.fetchval("SELECT 1")
        await self.settle()

    async def settle(self) -> None:
        """Until the connection is reset, or gone; the pool bounds both."""
        while (stats := self.pool.stats())["size"] > stats["available"]:  # noqa: ASYNC110
            await asyncio.sleep(0.0002)  # it takes no longer, mostly, and no event tells

    def close(self) -> None:
        if self.loop.is_closed():
            return
        self.take_back(from_all=True)
        with suppress(Exception):
            self.run(self.pool.close(timeout=1))
        self.loop.close()


def drive(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, R]) -> R:
    """Run the loop until it is done. What interrupts that, such as a signal, cancels it, on the server too."""
    task = loop.create_task(work)
    try:
        return loop.run_until_complete(task)
    except BaseException:
        if not task.done():
            task.cancel()
            with suppress(BaseException):
                loop.run_until_complete(asyncio.wait((task,), timeout=_CANCELLED_WITHIN))
        raise


#: That of this process: a worker puts its own here, and a script that is run by itself gets one when it asks.
current: Session | None = None
#: A worker's scripts never open connections of their own.
is_worker = False


def _session() -> Session:
    global current
    if current is None:
        if is_worker:
            raise RuntimeError(_NO_POOL)
        session = Session(*_address(), {}, asyncio.new_event_loop())
        session.run(session.pool.open())
        atexit.register(session.close)
        current = session
    return current


async def _session_here() -> Session:
    """That of the running loop."""
    loop = asyncio.get_running_loop()
    if current is not None and current.loop is loop:
        return current
    if is_worker:
        raise RuntimeError(
            "a pooled connection lives on the worker's own loop: leave out `asyncio.run`, write `async def main(…)` "
            "with the tool's parameters, and the worker runs it there"
            if current
            else _NO_POOL
        )
    session = Session(*_address(), {}, loop)
    session.is_for_one_block = True
    await session.pool.open()
    return session


_NO_POOL = "there is no connection: give the tool a `pool:`, or set DATABASE_URL or REDIS_URL where you run it by hand"


def _address() -> tuple[str, str]:
    for variable, kind in (("DATABASE_URL", "postgres"), ("REDIS_URL", "redis")):
        if url := os.environ.get(variable):
            return kind, url
    raise RuntimeError(_NO_POOL)
