"""`engine.dispose()` with `EnginePool`: nobody who works with the engine notices, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import TimeoutError as SQLAlchemyTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from aiopool import embedded
from aiopool.adapters.engine import EnginePool
from aiopool.errors import PoolClosed, PoolTimeout
from aiopool.pool import ConnectionPool

PROCESS = sa.text("select pg_backend_pid()")


@pytest.fixture(params=["asyncpg", "psycopg"])
def address(postgres: embedded.PostgresServer, request: pytest.FixtureRequest) -> str:
    return postgres.dsn.replace("postgresql://", f"postgresql+{request.param}://")


@asynccontextmanager
async def engine_at(address: str, size: int, **keywords: Any) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(address, poolclass=EnginePool, pool_size=size, max_overflow=0, **keywords)
    try:
        async with asyncio.timeout(60):
            yield engine
    finally:
        await engine.dispose()


def core_of(engine: AsyncEngine) -> ConnectionPool[Any]:
    assert isinstance(engine.pool, EnginePool)
    return engine.pool.pool


async def backend(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(PROCESS)).scalar_one())


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 (there is no event for everything)
            await asyncio.sleep(0.001)


async def emptied(core: ConnectionPool[Any]) -> None:
    await until(lambda: core.stats()["size"] == 0)


@contextmanager
def closings_held_up(engine: AsyncEngine) -> Iterator[asyncio.Event]:
    """Connections are closed when the event is set."""
    may_close = asyncio.Event()
    sa.event.listen(engine.sync_engine, "close", lambda _connection, _record: await_only(may_close.wait()))
    yield may_close
    may_close.set()


async def test_an_engine_goes_on_with_new_connections(address: str) -> None:
    async with engine_at(address, 2) as engine:
        core, before = core_of(engine), await backend(engine)
        await engine.dispose()
        assert core.stats()["size"] == 0
        assert core_of(engine) is not core
        assert await backend(engine) != before


async def test_an_engine_that_was_never_used_opens_nothing(address: str) -> None:
    async with engine_at(address, 2) as engine:
        core = core_of(engine)
        await engine.dispose()
        assert core.stats()["opened"] == 0


async def test_a_session_outlives_it_and_its_connection_is_closed_when_it_comes_back(address: str) -> None:
    async with engine_at(address, 3) as engine:
        core = core_of(engine)
        async with engine.connect() as session, engine.connect() as other:
            before = (await session.execute(PROCESS)).scalar_one()
            await other.execute(PROCESS)
            await other.close()
            assert core.stats()["available"] == 1

            await engine.dispose()

            assert (core.stats()["size"], core.stats()["in_use"]) == (1, 1), "what was idle is closed"
            assert await backend(engine) != before
            assert (await session.execute(PROCESS)).scalar_one() == before
        await emptied(core)
        assert core.stats()["closed"] == 2


async def test_nobody_who_comes_or_waits_gets_an_error(address: str) -> None:
    async with engine_at(address, 2) as engine:
        served, is_over = 0, False

        async def work() -> None:
            nonlocal served
            while not is_over:
                async with engine.connect() as connection:
                    await connection.execute(sa.text("select pg_sleep(0.01)"))
                served += 1

        tasks = [asyncio.create_task(work()) for _ in range(8)]
        cores = []
        for _ in range(5):
            enough = served + 10
            await until(lambda enough=enough: served >= enough)
            cores.append(core_of(engine))
            await engine.dispose()
        is_over = True
        await asyncio.gather(*tasks)
        for core in cores:
            await emptied(core)


async def test_who_comes_while_idle_connections_are_being_closed_is_served(address: str) -> None:
    async with engine_at(address, 2) as engine:
        await backend(engine)
        with closings_held_up(engine) as may_close:
            disposing = asyncio.create_task(engine.dispose())
            await asyncio.sleep(0)
            async with engine.connect() as session:
                between, process = core_of(engine), (await session.execute(PROCESS)).scalar_one()
                assert not disposing.done()
                may_close.set()
                await disposing
                assert core_of(engine) is not between
                assert await backend(engine) != process
                assert (await session.execute(PROCESS)).scalar_one() == process
        await emptied(between)


async def test_who_waits_is_served_by_a_new_connection_at_once(address: str) -> None:
    async with engine_at(address, 1) as engine, engine.connect() as session:
        before = (await session.execute(PROCESS)).scalar_one()
        waiting = asyncio.create_task(backend(engine))
        await until(lambda: core_of(engine).stats()["waiting"])
        await engine.dispose()
        assert await waiting != before


async def test_who_waits_waits_no_longer_because_of_it(address: str) -> None:
    async with engine_at(address, 1, pool_timeout=1) as engine, engine.connect() as session:
        await session.execute(PROCESS)

        async def hold() -> None:
            async with engine.connect():
                await asyncio.Event().wait()

        holder, waiting = asyncio.create_task(hold()), asyncio.create_task(backend(engine))
        await asyncio.sleep(0.6)
        await engine.dispose()
        with pytest.raises(SQLAlchemyTimeout) as caught:
            await waiting
        assert isinstance(caught.value, PoolTimeout)
        assert caught.value.waited < 0.9, "in the new line"
        holder.cancel()
        await asyncio.wait([holder])


async def test_two_at_once_leave_no_connection_behind(address: str) -> None:
    async with engine_at(address, 1) as engine:
        await backend(engine)
        with closings_held_up(engine) as may_close:
            slow = asyncio.create_task(engine.dispose())
            await asyncio.sleep(0)
            await engine.dispose()
            await backend(engine)
            between = core_of(engine)
            assert not slow.done()
            may_close.set()
            await slow
        assert core_of(engine) is not between
        await emptied(between)


async def test_one_that_is_cancelled_leaves_an_engine_that_works(address: str) -> None:
    async with engine_at(address, 1) as engine:
        core = core_of(engine)
        await backend(engine)
        disposing = asyncio.create_task(engine.dispose())
        await asyncio.sleep(0)
        assert core_of(engine) is not core
        disposing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await disposing
        await backend(engine)
        await emptied(core)


async def test_a_pool_that_is_disposed_of_without_its_engine_goes_on(address: str) -> None:
    async with engine_at(address, 1) as engine:
        pool, before = engine.pool, await backend(engine)
        engine.sync_engine.pool.dispose()
        assert engine.pool is pool
        assert await backend(engine) != before
        assert core_of(engine).stats()["size"] == 1


async def test_a_core_that_somebody_else_has_closed_stays_closed_until_then(address: str) -> None:
    async with engine_at(address, 1) as engine:
        await core_of(engine).close()
        with pytest.raises(PoolClosed):
            await backend(engine)
        await engine.dispose()
        await backend(engine)


async def test_without_closing_it_leaves_the_old_connections_alone(address: str) -> None:
    async with engine_at(address, 1) as engine:
        core = core_of(engine)
        async with engine.connect() as session:
            before = (await session.execute(PROCESS)).scalar_one()
            await engine.dispose(close=False)
            assert await backend(engine) != before
            assert (await session.execute(PROCESS)).scalar_one() == before
        assert core.stats()["available"] == 1
        await core.close()


async def test_outside_of_a_greenlet_idle_connections_are_closed_in_the_background(address: str) -> None:
    async with engine_at(address, 1) as engine:
        core, before = core_of(engine), await backend(engine)
        engine.sync_engine.dispose()
        assert await backend(engine) != before
        await emptied(core)


async def test_on_another_thread_connections_are_closed_where_they_live(address: str) -> None:
    async with engine_at(address, 1) as engine:
        for dispose in (engine.sync_engine.dispose, lambda: asyncio.run(engine.dispose())):
            core = core_of(engine)
            await backend(engine)
            thread = threading.Thread(target=dispose)
            thread.start()
            await emptied(core)
            await asyncio.to_thread(thread.join)


LOOPS = """
import asyncio, gc, os, sys
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from aiopool.adapters.engine import EnginePool

engine = create_async_engine(sys.argv[1], poolclass=EnginePool, pool_size=2)

async def use(dispose):
    asyncio.get_running_loop().slow_callback_duration = 60
    async with engine.connect() as session:
        await session.execute(sa.text("select 1"))
    async with engine.connect() as session, engine.connect() as other:
        await session.execute(sa.text("select 1"))
        await other.execute(sa.text("select 1"))
        if dispose == "within":
            await engine.dispose()
            await session.execute(sa.text("select 1"))
    if dispose == "at the end":
        await engine.dispose()
        assert asyncio.all_tasks() == {asyncio.current_task()}
    if dispose == "outside of a greenlet":
        engine.sync_engine.dispose()

for _ in range(2):
    for dispose in ("within", "at the end", "outside of a greenlet"):
        asyncio.run(use(dispose))
        engine.sync_engine.dispose()
gc.collect()  # to it psycopg leaves what was being opened when it was cancelled
kinds = [os.path.realpath("/proc/self/fd/" + each) for each in os.listdir("/proc/self/fd")]
assert not any("socket:" in kind for kind in kinds), kinds
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="it counts sockets, as Linux tells them")
def test_each_loop_may_dispose_of_it_and_leaves_nothing_behind(address: str) -> None:
    told = subprocess.run(
        [sys.executable, "-X", "dev", "-c", LOOPS, address], capture_output=True, text=True, timeout=60, check=False
    )
    assert (told.returncode, told.stdout + told.stderr) == (0, "")
