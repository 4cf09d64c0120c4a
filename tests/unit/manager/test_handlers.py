"""Handlers that are lent a connection: what is hidden, what is given, and what is refused."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import typing
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from aiopool import PoolConfigError, PoolManager, PoolNotFound, PoolTimeout
from tests.fakes import Backend, FakeConnection
from tests.unit.manager.stubs import StubPool

if typing.TYPE_CHECKING:
    from nowhere import Connection  # type: ignore[import-not-found]


@pytest.fixture(autouse=True)
def no_framework_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever other tests have imported."""
    for name in ("mcp.server.mcpserver.exceptions", "fastmcp.exceptions", "mcp.server.fastmcp.exceptions"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
async def manager(make_pool: Callable[..., Any]) -> AsyncIterator[PoolManager]:
    pools = PoolManager()
    pools.register("database", make_pool(Backend(), max_size=2, acquire_timeout=5))
    pools.register("cache", make_pool(Backend(), max_size=2))
    async with pools.lifespan():
        yield pools
        assert [stats["in_use"] for stats in pools.stats().values()] == [0, 0]


def in_use(pools: PoolManager, name: str = "database") -> int:
    return int(pools.stats()[name]["in_use"])


# -- what is given


async def test_each_call_is_lent_a_connection_and_gives_it_back(manager: PoolManager) -> None:
    @manager.leased("database")
    async def handler(number: int, connection: FakeConnection) -> int:
        assert isinstance(connection, FakeConnection)
        return number * 10 + in_use(manager)

    assert await handler(4) == 41
    assert await handler(number=5) == 51
    assert in_use(manager) == 0


async def test_the_parameter_may_have_any_name_and_stand_anywhere(manager: PoolManager) -> None:
    lend = manager.leased("database", param="c")

    @lend
    async def first(c: Any, a: int, b: int = 2) -> Any:
        return c, a, b

    @lend
    async def middle(a: int, c: Any, b: int = 2) -> Any:
        return c, a, b

    @lend
    async def by_name(a: int, b: int = 2, *, c: Any = None) -> Any:
        return c, a, b

    @lend
    async def with_rest(c: Any, a: int, *rest: int, **more: int) -> Any:
        return c, a, rest[0] if rest else more.get("b", 2)

    for handler in (first, middle, by_name, with_rest):
        for answer in (await handler(1), await handler(1, 2), await handler(a=1), await handler(1, b=2)):
            assert isinstance(answer[0], FakeConnection)
            assert answer[1:] == (1, 2)


async def test_methods_are_lent_one_too(manager: PoolManager) -> None:
    class Tools:
        @manager.leased("database")
        async def tool(self, number: int, connection: Any) -> Any:
            return self, number, connection

        @classmethod
        @manager.leased("database")
        async def of_the_class(cls, number: int, connection: Any) -> Any:
            return cls, number, connection

        @staticmethod
        @manager.leased("database")
        async def static(number: int, connection: Any) -> Any:
            return None, number, connection

    tools = Tools()
    for method, owner in ((tools.tool, tools), (tools.of_the_class, Tools), (tools.static, None)):
        assert list(inspect.signature(method).parameters) == ["number"]
        assert (await method(3))[:2] == (owner, 3)  # type: ignore[call-arg]
        assert isinstance((await method(number=3))[2], FakeConnection)  # type: ignore[call-arg]


async def test_several_pools_can_be_stacked(manager: PoolManager) -> None:
    @manager.leased("cache", param="cache")
    @manager.leased("database", param="db")
    async def handler(key: str, db: FakeConnection, cache: FakeConnection) -> tuple[int, int]:
        assert db is not cache
        return in_use(manager), in_use(manager, "cache")

    assert list(inspect.signature(handler).parameters) == ["key"]
    assert await handler("k") == (1, 1)


async def test_a_pool_may_be_registered_after_the_handler_was_written() -> None:
    class Own(StubPool):
        def acquire(self) -> Any:
            return self

        async def __aenter__(self) -> str:
            return "mine"

        async def __aexit__(self, *exc: object) -> None: ...

    pools = PoolManager()

    @pools.leased("late")
    async def handler(connection: str) -> str:
        return connection

    with pytest.raises(PoolNotFound, match="'late' is registered"):
        await handler()
    pools.register("late", Own())
    assert await handler() == "mine"


async def test_of_a_pool_with_a_client_that_is_lent() -> None:
    pool, pools = StubPool(), PoolManager()
    pool.client = SimpleNamespace(name="the client")  # type: ignore[attr-defined]
    pools.register("api", pool)

    @pools.leased("api", param="client")
    async def handler(client: Any) -> Any:
        return client

    assert await handler() is pool.client  # type: ignore[attr-defined]

    @pools.leased("api", param="client", timeout=1)
    async def bounded(client: Any) -> Any:
        return client

    with pytest.raises(PoolConfigError, match=r"'api' lends its client.*set acquire_timeout"):
        await bounded()


async def test_a_pool_that_lends_nothing_says_so() -> None:
    pools = PoolManager()
    pools.register("odd", StubPool())

    @pools.leased("odd")
    async def handler(connection: Any) -> None: ...

    with pytest.raises(PoolConfigError, match="pool 'odd', a StubPool, lends nothing"):
        await handler()


async def test_the_wait_is_bounded_by_the_timeout_that_is_given(manager: PoolManager) -> None:
    @manager.leased("database", timeout=1.5)
    async def patient(connection: Any) -> None: ...

    @manager.leased("database")
    async def usual(connection: Any) -> None: ...

    pool = manager.get("database")
    async with pool.acquire(), pool.acquire():
        for handler, waited in ((patient, 1.5), (usual, 5)):
            with pytest.raises(PoolTimeout) as caught:
                await handler()
            assert caught.value.waited == pytest.approx(waited)


# -- what is hidden


def test_the_signature_and_the_annotations_are_those_of_a_function_without_the_parameter() -> None:
    async def handler(number: int, connection: Connection, text: str | None = None) -> dict[str, int]:
        """What it does."""
        return {}

    lent = PoolManager().leased("database")(handler)
    assert str(inspect.signature(lent)) == "(number: int, text: str | None = None) -> dict[str, int]"
    assert typing.get_type_hints(lent) == {"number": int, "text": str | None, "return": dict[str, int]}
    assert (lent.__name__, lent.__doc__, lent.__module__) == ("handler", "What it does.", __name__)
    assert inspect.iscoroutinefunction(lent)
    assert inspect.unwrap(lent) is lent


def test_annotations_that_cannot_be_evaluated_are_left_to_the_framework() -> None:
    async def handler(number: int, connection: Any, other: Connection) -> None: ...

    hints = PoolManager().leased("database")(handler).__annotations__
    assert hints == {"number": int, "other": "Connection", "return": type(None)}


def test_metadata_of_annotations_stays() -> None:
    async def handler(connection: Any, number: typing.Annotated[int, "at most 10"]) -> None: ...

    lent = PoolManager().leased("database")(handler)
    assert inspect.signature(lent).parameters["number"].annotation == typing.Annotated[int, "at most 10"]


# -- what is refused


class Callables:
    def __call__(self) -> None: ...

    async def nothing_by_name(self, connection: Any, /) -> None: ...

    def plain(self, connection: Any) -> None: ...

    async def generator(self, connection: Any) -> AsyncIterator[int]:
        yield 1


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (Callables.plain, r"Callables\.plain cannot be lent a connection of pool 'database': .* `async def`"),
        (Callables.generator, "Callables.generator cannot be lent"),
        (lambda connection: None, "<lambda> cannot be lent"),
        (staticmethod(Callables.plain), "under any @staticmethod"),
        (Callables(), "Callables cannot be lent"),
        (Callables, "Callables cannot be lent"),
        (None, "NoneType cannot be lent"),
        (Callables.nothing_by_name, "has no ordinary parameter 'connection' for the connection, only: none; add it"),
        (functools.partial(asyncio.sleep, 1), "partial cannot be lent"),
    ],
)
def test_what_cannot_be_lent_a_connection_is_refused_when_it_is_decorated(handler: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        PoolManager().leased("database")(handler)


@pytest.mark.parametrize("timeout", ["5", -1, True])
def test_a_timeout_that_is_none_is_refused_before_any_call(timeout: Any) -> None:
    for lend in (PoolManager().leased, PoolManager().dependency):
        with pytest.raises(PoolConfigError, match=f"timeout={timeout!r} is not allowed: it must be a number of secon"):
            lend("database", timeout=timeout)


@pytest.mark.parametrize("param", ["connection", "rest", "more"])
def test_a_parameter_that_is_missing_is_refused_with_those_that_there_are(param: str) -> None:
    async def handler(number: int, *rest: int, key: str, **more: int) -> None: ...

    with pytest.raises(TypeError, match=f"parameter '{param}' for the connection, only: number, key; add it"):
        PoolManager().leased("database", param=param)(handler)


def test_the_name_is_not_to_be_forgotten() -> None:
    with pytest.raises(TypeError, match=r'not the handler itself: write leased\("database"\)'):

        @PoolManager().leased  # type: ignore[arg-type]
        async def handler(connection: Any) -> None: ...

    with pytest.raises(TypeError, match="the name of a pool, not int"):
        PoolManager().dependency(3)  # type: ignore[arg-type]


async def test_a_connection_cannot_be_given_by_the_caller(manager: PoolManager) -> None:
    @manager.leased("database")
    async def handler(connection: Any) -> None: ...

    with pytest.raises(TypeError, match="multiple values"):
        await handler(connection="mine")
    assert in_use(manager) == 0


# -- the way back


@pytest.mark.parametrize("error", [KeyError("an error"), BaseException("worse"), asyncio.CancelledError()])
async def test_without_a_framework_errors_are_the_handlers_own(manager: PoolManager, error: BaseException) -> None:
    @manager.leased("database")
    async def handler(connection: Any) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await handler()
    assert caught.value is error
    assert in_use(manager) == 0


async def test_a_cancellation_at_every_step_leaves_no_lease(manager: PoolManager) -> None:
    @manager.leased("cache", param="cache")
    @manager.leased("database", param="db")
    async def handler(db: Any, cache: Any) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    step, was_cancelled = 0, True
    while was_cancelled:
        task = asyncio.create_task(handler())
        for _ in range(step):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        was_cancelled = task.cancelled()
        step += 1
        assert in_use(manager) == in_use(manager, "cache") == 0
    assert step > 5


# -- dependencies


async def test_a_dependency_is_a_context_manager(manager: PoolManager) -> None:
    lend = manager.dependency("database")
    async with lend() as one, lend() as other:
        assert one is not other
        assert in_use(manager) == 2
    with pytest.raises(KeyError, match="mine"):
        async with lend():
            raise KeyError("mine")
    assert in_use(manager) == 0


async def test_a_dependency_is_a_generator_for_those_who_take_only_that(manager: PoolManager) -> None:
    lend = manager.dependency("database")
    assert inspect.isasyncgenfunction(inspect.unwrap(lend))
    loan: Any = lend()
    assert isinstance(await anext(loan), FakeConnection)
    assert in_use(manager) == 1
    with pytest.raises(StopAsyncIteration):
        await anext(loan)
    thrown: Any = lend()
    await anext(thrown)
    with pytest.raises(KeyError):
        await thrown.athrow(KeyError())
    closed: Any = lend()
    await anext(closed)
    await closed.aclose()
    assert in_use(manager) == 0


async def test_a_dependency_waits_no_longer_than_it_may(manager: PoolManager) -> None:
    pool = manager.get("database")
    async with pool.acquire(), pool.acquire():
        with pytest.raises(PoolTimeout) as caught:
            async with manager.dependency("database", timeout=2)():
                pytest.fail("there is none")
        assert caught.value.waited == pytest.approx(2)
