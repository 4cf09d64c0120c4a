"""Unit tests run on a virtual clock, close their pools, and leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import random
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest

from aiopool.testing.loop import SimulationLoop
from tests.fakes import Backend, settle


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": SimulationLoop}


def forget_failed_predecessors() -> None:
    """What a failed test held is freed here, in silence, or else the next test would be blamed for it."""
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        if hasattr(sys, name):
            delattr(sys, name)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                gc.collect()


@pytest.fixture(autouse=True)
def nothing_is_left_behind(
    request: pytest.FixtureRequest, has_passed: Callable[[], bool], caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    forget_failed_predecessors()
    random.seed(request.node.name)
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("no_task_is_left")
    yield
    # Unraisable errors and unclosed resources belong to the test that made them; pytest makes them errors.
    gc.collect()
    if has_passed():
        complaints = [
            record.getMessage()
            for when in ("call", "teardown")
            for record in caplog.get_records(when)
            if record.name == "asyncio" and record.levelno >= logging.ERROR
        ]
        assert complaints == []


@pytest.fixture
async def no_task_is_left(request: pytest.FixtureRequest, has_passed: Callable[[], bool]) -> AsyncIterator[None]:
    yield
    await settle(5)
    if has_passed() and request.node.get_closest_marker("leaves_tasks") is None:
        assert asyncio.all_tasks() - {asyncio.current_task()} == set()


@pytest.fixture
async def make_pool(has_passed: Callable[[], bool]) -> AsyncIterator[Callable[..., Any]]:
    """Build pools that are closed after the test, and check that each has given back all it opened."""
    from aiopool import ConnectionPool, PoolConfig

    hooks = ("configure", "validator", "resetter", "destroyer", "aborter", "is_broken", "is_fatal")
    made: list[tuple[Any, Backend]] = []

    def make(backend: Backend, *, factory: Any = None, min_size: int = 0, max_size: int = 5, **rest: Any) -> Any:
        name = rest.pop("name", None)
        callables = {hook: rest.pop(hook) for hook in hooks if hook in rest}
        callables.setdefault("destroyer", None if factory else backend.close)
        config = PoolConfig(min_size=min_size, max_size=max_size, **rest)
        pool = ConnectionPool(factory or backend.open, config, name=name, **callables)
        made.append((pool, backend))
        return pool

    yield make
    for pool, backend in made:
        await pool.close(timeout=0)
        if has_passed():
            assert pool.stats()["size"] == 0
            backend.assert_nothing_is_left()
