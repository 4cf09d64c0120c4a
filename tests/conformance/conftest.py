"""Runs each behaviour against each kind of pool, and checks after every test that nothing is left."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import itertools
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from aiopool import PoolConfig
from aiopool.testing.proxy import FaultProxy
from tests.conformance.callers import eventually
from tests.conformance.kinds import KINDS, Kind
from tests.storms import census

#: No behaviour takes longer, in seconds, unless something hangs; and no proof that a kind cannot have it.
LIMIT, LIMIT_OF_THE_EXEMPT = 20.0, 1.0

_names = itertools.count(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What a kind declares that it cannot do is tried as well, and has to fail: no declaration outlives its reason."""
    if "kind" in metafunc.fixturenames:
        name = metafunc.function.__name__
        kinds = []
        for kind in KINDS:
            exempt = [pytest.mark.xfail(reason=kind.cannot[name], strict=True)] if name in kind.cannot else []
            kinds.append(pytest.param(kind, marks=exempt, id=kind.label))
        metafunc.parametrize("kind", kinds, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        function = getattr(item, "obj", None)
        if item.path.parent == Path(__file__).parent and inspect.iscoroutinefunction(function):
            is_exempt = item.get_closest_marker("xfail") is not None
            limit = LIMIT_OF_THE_EXEMPT if is_exempt else LIMIT
            item.obj = _bounded(function, limit)  # type: ignore[attr-defined]


def _bounded(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(seconds):
            await function(*args, **kwargs)

    return run


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server_of() -> AsyncIterator[Callable[[type[Kind]], Any]]:
    """One server for all kinds that live on it. Whoever breaks it mends it."""
    async with AsyncExitStack() as stack:
        servers: dict[Any, Any] = {}
        for start in dict.fromkeys(kind.server for kind in KINDS):
            servers[start] = await stack.enter_async_context(start())
        yield lambda kind: servers[kind.server]


@pytest.fixture
def server(request: pytest.FixtureRequest, server_of: Callable[[type[Kind]], Any]) -> Any:
    """The server of this kind, to be killed and started."""
    return server_of(request.node.callspec.params["kind"])


@pytest.fixture
def kind(request: pytest.FixtureRequest, server_of: Callable[[type[Kind]], Any]) -> Kind:
    kind: type[Kind] = request.param
    return kind.at(server_of(kind))


@pytest.fixture
async def proxy(kind: Kind, nothing_is_left: None) -> AsyncIterator[FaultProxy]:
    """Before the server of this kind, for whoever builds with `make(via=proxy)`."""
    async with FaultProxy(kind.host, kind.port) as proxy:
        yield proxy


@pytest.fixture
async def make(
    request: pytest.FixtureRequest, kind: Kind, nothing_is_left: None, has_passed: Callable[[], bool]
) -> AsyncIterator[Callable[..., Any]]:
    """Builds pools. Afterwards they are closed, all that was opened is closed, and the server has none of it left."""
    made: list[Any] = []

    def make(*, via: FaultProxy | None = None, is_hopeless: bool = False, **settings: Any) -> Any:
        config = PoolConfig(**{"min_size": 0, "max_size": 4, "max_shares": kind.shares, **settings})
        place = kind.behind(via) if via is not None else kind
        build = place.hopeless if is_hopeless else place.build
        made.append(build(config, f"conformance-{os.getpid()}-{next(_names)}"))
        return made[-1]

    yield make
    for pool in made:
        await pool.close(timeout=0)
    if has_passed():
        for pool in made:
            stats = pool.stats()
            assert stats["opened"] - stats["closed"] == stats["size"] == stats["in_use"] == 0
            assert sum(stats["closed_by"].values()) == stats["closed"]

        async def server_has_none() -> bool:
            return not any([await kind.connections(pool.name) for pool in made])

        await eventually(server_has_none)


@pytest.fixture(autouse=True)
async def nothing_is_left(request: pytest.FixtureRequest, has_passed: Callable[[], bool]) -> AsyncIterator[None]:
    """No task, no descriptor, and nothing that only the garbage collector would notice."""
    random.seed(request.node.name)
    tasks, descriptors = asyncio.all_tasks(), census.descriptors()
    yield
    if has_passed():
        await eventually(lambda: asyncio.all_tasks() <= tasks | {asyncio.current_task()})
        await eventually(lambda: census.descriptors() <= descriptors)


@pytest.fixture(autouse=True)
def nothing_is_unclosed() -> Iterator[None]:
    """Unraisable errors and unclosed resources belong to the test that made them; pytest makes them errors."""
    yield
    gc.collect()
    gc.freeze()  # what is left belongs to the session; without this, each collection would look through all of it
