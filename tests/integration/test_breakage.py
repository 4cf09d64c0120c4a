"""`DatabasePool` when the network or the server breaks: every call comes back, and the pool heals by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from aiopool import embedded
from aiopool.adapters.postgres import DatabasePool
from aiopool.config import PoolConfig
from aiopool.testing import FaultProxy
from tests.stopwatch import Stopwatch

SIZE = 4
TIMEOUT = 0.3
#: For what a busy machine takes from the server.
TOLERANCE = 0.2
#: One step of the backoff, and an opening that hung and has to end first.
CONFIG = PoolConfig(
    min_size=SIZE,
    max_size=SIZE,
    open_timeout=0.5,
    validate_timeout=0.3,
    reset_timeout=0.3,
    backoff_initial=0.05,
    backoff_max=0.2,
)
HEALING = CONFIG.backoff_max + CONFIG.open_timeout + CONFIG.reset_timeout
MODES = ["black_hole", "refuse", "reset", "silence", "trickle"]


@pytest_asyncio.fixture
async def proxy(postgres: embedded.PostgresServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy.before(postgres.dsn) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def watch() -> AsyncIterator[Stopwatch]:
    with Stopwatch() as watch:
        yield watch


@dataclass
class Call:
    began: float
    took: float
    error: Exception | None


class Callers:
    """As many as connections; `timeout` bounds each call, or the settings of the pool if that is None."""

    def __init__(self, db: DatabasePool, watch: Stopwatch, timeout: float | None = TIMEOUT) -> None:
        self.watch = watch
        self.calls: list[Call] = []
        self._stop = asyncio.Event()
        self._tasks = [asyncio.create_task(self._run(db, timeout)) for _ in range(SIZE)]

    async def _run(self, db: DatabasePool, timeout: float | None) -> None:
        while not self._stop.is_set():
            began, error = self.watch.seconds, None
            try:
                assert await db.fetchval("select 42", timeout=timeout) == 42
            except Exception as exc:
                error = exc
            self.calls.append(Call(began, self.watch.seconds - began, error))
            await asyncio.sleep(0.01)

    async def are_served(self, since: float, within: float) -> bool:
        """Whether five calls for each of them succeed that began since then: whatever is to fail then has failed."""
        deadline = self.watch.seconds + within
        while len([call for call in self.calls if call.error is None and call.began > since]) < 5 * SIZE:
            if self.watch.seconds > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    async def end(self) -> None:
        self._stop.set()
        await asyncio.wait_for(asyncio.gather(*self._tasks), 10)


async def is_whole(db: DatabasePool, within: float) -> bool:
    with Stopwatch() as watch:
        while db.stats()["available"] < SIZE:
            if watch.seconds > within:
                return False
            await asyncio.sleep(0.01)
    return True


@pytest.mark.parametrize("mode", MODES)
async def test_no_call_outlasts_its_timeout_and_none_fails_for_long(
    proxy: FaultProxy, watch: Stopwatch, mode: str
) -> None:
    async with DatabasePool(proxy.url, CONFIG) as db:
        callers = Callers(db, watch)
        await asyncio.sleep(0.05)
        getattr(proxy, mode)()
        await asyncio.sleep(0.65)
        proxy.pass_through()
        mended = watch.seconds
        assert await callers.are_served(since=mended, within=HEALING + TOLERANCE)
        await callers.end()
    assert max(call.took for call in callers.calls) <= TIMEOUT + TOLERANCE
    assert [call.error for call in callers.calls if call.error is not None and call.began > mended + HEALING] == []


@pytest.mark.parametrize("mode", MODES)
async def test_who_can_wait_a_step_sees_one_error_for_each_connection_at_most(
    proxy: FaultProxy, watch: Stopwatch, mode: str
) -> None:
    async with DatabasePool(proxy.url, CONFIG, command_timeout=TIMEOUT) as db:
        callers = Callers(db, watch, timeout=None)
        await asyncio.sleep(0.05)
        getattr(proxy, mode)()
        await asyncio.sleep(0.5)
        proxy.pass_through()
        mended = watch.seconds
        assert await callers.are_served(since=mended, within=HEALING + TOLERANCE)
        await callers.end()
    late = [call.error for call in callers.calls if call.error is not None and call.began + call.took > mended]
    assert len(late) <= SIZE, late


@pytest.mark.parametrize("mode", MODES)
async def test_it_is_whole_again_after_one_step_with_no_call(proxy: FaultProxy, watch: Stopwatch, mode: str) -> None:
    async with DatabasePool(proxy.url, CONFIG, command_timeout=TIMEOUT) as db:
        callers = Callers(db, watch)
        await asyncio.sleep(0.05)
        getattr(proxy, mode)()
        await asyncio.sleep(0.6)
        await callers.end()
        proxy.pass_through()
        assert await is_whole(db, within=HEALING + TOLERANCE)
        assert await asyncio.gather(*(db.fetchval("select 42", timeout=1) for _ in range(SIZE))) == [42] * SIZE


async def test_it_is_whole_again_after_a_crash_of_the_server(watch: Stopwatch) -> None:
    async with embedded.postgres(private=True) as server, DatabasePool(server.dsn, CONFIG) as db:
        callers = Callers(db, watch)
        await asyncio.sleep(0.1)
        await server.kill()
        await asyncio.sleep(0.3)
        await callers.end()
        assert max(call.took for call in callers.calls) <= TIMEOUT + TOLERANCE
        await server.start()
        assert await is_whole(db, within=HEALING + TOLERANCE)
        assert await db.fetchval("select 42") == 42
