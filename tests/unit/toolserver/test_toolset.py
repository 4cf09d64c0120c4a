"""What becomes of a call: whatever happens, a result in words for the model."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aiopool.errors import PoolConfigError
from aiopool.telling import ToolFailure
from aiopool.toolserver import reading
from aiopool.toolserver.tool import MAX_BYTES, Result
from aiopool.toolserver.toolset import Toolset
from tests.unit.toolserver.standin import StandIn, Work

TOOLS: dict[str, Any] = {
    "tools": [
        {
            "name": "query",
            "script": "x",
            "timeout": 5,
            "parameters": [{"name": "text", "required": True}, {"name": "limit", "type": "integer", "default": 10}],
        },
        {"name": "other", "script": "x"},
    ]
}


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    standin = StandIn()
    monkeypatch.setattr(reading, "body_module", standin.module)
    return standin


@pytest.fixture
async def toolset(standin: StandIn) -> AsyncIterator[Toolset]:
    async with Toolset.from_file(TOOLS, env={}) as toolset:
        yield toolset


async def failed(toolset: Toolset, name: str = "query", arguments: Any = None) -> str:
    result = await toolset.call(name, {"text": "x"} if arguments is None else arguments)
    assert result.is_error
    assert result.structured is None
    return result.text


def raising(exc: BaseException) -> Work:
    async def work(arguments: Mapping[str, Any]) -> Result:
        raise exc

    return work


async def test_a_tool_gets_complete_arguments(toolset: Toolset) -> None:
    assert await toolset.call("query", {"text": "x"}) == Result("{'text': 'x', 'limit': 10}")
    assert list(toolset.tools) == ["query", "other"]


async def test_nothing_runs_before_the_arguments_fit(toolset: Toolset, standin: StandIn) -> None:
    standin.work = raising(AssertionError("ran"))
    assert await failed(toolset, arguments={"limit": 5}) == "argument text is missing"
    assert "must be of type integer" in await failed(toolset, arguments={"text": "x", "limit": "5"})
    assert "must be an object" in await failed(toolset, arguments=[1])


async def test_an_unknown_tool_is_told_with_what_may_be_meant(toolset: Toolset) -> None:
    assert await failed(toolset, "qery") == "there is no tool 'qery'; did you mean 'query'?"
    assert len(await failed(toolset, "q" * 1_000_000)) < 200


async def test_what_the_body_says_itself_is_told(toolset: Toolset, standin: StandIn) -> None:
    standin.work = raising(ToolFailure("the table is being copied; retry in a minute"))
    assert await failed(toolset) == "the table is being copied; retry in a minute"


async def test_all_else_is_masked_and_logged(
    toolset: Toolset, standin: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    standin.work = raising(RuntimeError("password=hunter2"))
    text = await failed(toolset)
    assert text.startswith("internal error ")
    assert text.split()[2].rstrip(":") in caplog.text
    assert "hunter2" not in text + caplog.text


async def test_a_call_ends_at_its_timeout_and_says_which(toolset: Toolset, standin: StandIn) -> None:
    ended = []

    async def work(arguments: Mapping[str, Any]) -> Result:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(asyncio.get_running_loop().time())
        return Result("")

    standin.work = work
    began = asyncio.get_running_loop().time()
    text = await failed(toolset)
    assert ended == [pytest.approx(began + 5)]
    assert text.startswith("tool 'query' did not end within its timeout of 5 s")
    assert text.endswith("; ask it for less, or raise its `timeout`")


async def test_a_timeout_of_the_body_itself_is_not_taken_for_that_of_the_call(
    toolset: Toolset, standin: StandIn
) -> None:
    standin.work = raising(TimeoutError())
    assert "did not end within its timeout" not in await failed(toolset)


async def test_what_a_body_says_when_it_is_stopped_at_the_timeout_is_told(toolset: Toolset, standin: StandIn) -> None:
    async def work(arguments: Mapping[str, Any]) -> Result:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise ToolFailure("stopped after 3 of 7 tables") from None
        return Result("")

    standin.work = work
    assert await failed(toolset) == "stopped after 3 of 7 tables"


async def test_a_cancellation_passes_through(toolset: Toolset, standin: StandIn) -> None:
    began = asyncio.Event()

    async def work(arguments: Mapping[str, Any]) -> Result:
        began.set()
        await asyncio.sleep(3600)
        return Result("")

    standin.work = work
    call = asyncio.create_task(toolset.call("query", {"text": "x"}))
    await began.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


@pytest.mark.parametrize("is_grouped", [False, True])
async def test_a_cancellation_that_nobody_asked_for_is_a_failure(
    toolset: Toolset, standin: StandIn, is_grouped: bool
) -> None:
    stray: BaseException = asyncio.CancelledError()
    standin.work = raising(BaseExceptionGroup("", [stray, ValueError()]) if is_grouped else stray)
    assert "internal error" in await failed(toolset)


async def test_code_that_exits_ends_its_call_and_not_the_server(toolset: Toolset, standin: StandIn) -> None:
    async def work(arguments: Mapping[str, Any]) -> Result:
        sys.exit(3)

    standin.work = work
    assert "asked the whole process to exit" in await failed(toolset)


class NoException(BaseException):
    """Somebody's own way out of everything."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit, NoException])
async def test_whatever_code_raises_ends_its_call_and_not_the_server(
    toolset: Toolset, standin: StandIn, kind: type[BaseException]
) -> None:
    standin.work = raising(kind("hunter2"))
    text = await failed(toolset)
    assert text.startswith("internal error")
    assert "hunter2" not in text


async def test_a_body_that_returns_no_result_is_a_failure(toolset: Toolset, standin: StandIn) -> None:
    async def work(arguments: Mapping[str, Any]) -> Any:
        return None

    standin.work = work
    assert "internal error" in await failed(toolset)


@pytest.mark.parametrize("is_error", [False, True])
async def test_a_result_beyond_all_bounds_is_cut_and_says_so(
    toolset: Toolset, standin: StandIn, is_error: bool
) -> None:
    async def work(arguments: Mapping[str, Any]) -> Result:
        return Result("ü" * MAX_BYTES, {"rows": []}, is_error)

    standin.work = work
    result = await toolset.call("query", {"text": "x"})
    assert result.is_error is is_error
    assert result.structured is None
    text, notice = result.text.split("\n")
    assert text == "ü" * (MAX_BYTES // 2)
    assert notice == f"[truncated: these are the first {MAX_BYTES} of {2 * MAX_BYTES} bytes; ask for less]"


async def test_a_result_that_no_client_could_decode_is_mended(toolset: Toolset, standin: StandIn) -> None:
    async def work(arguments: Mapping[str, Any]) -> Result:
        return Result("a\udcffb", {"a": "\udcff"})

    standin.work = work
    assert await toolset.call("query", {"text": "x"}) == Result("a?b")


async def test_a_thousand_calls_at_once_each_get_their_own(toolset: Toolset) -> None:
    results = await asyncio.gather(*(toolset.call("query", {"text": str(n)}) for n in range(1000)))
    assert [result.text for result in results] == [f"{{'text': '{n}', 'limit': 10}}" for n in range(1000)]


async def test_before_and_after_its_time_a_toolset_calls_nothing(standin: StandIn) -> None:
    toolset = Toolset.from_file(TOOLS, env={})
    assert "not open" in await failed(toolset)
    async with toolset:
        assert not (await toolset.call("query", {"text": "x"})).is_error
    assert "not open" in await failed(toolset)


# -- its pools


class Pool:
    """Notes what happens to it."""

    def __init__(self, happened: list[str], fails: bool = False) -> None:
        self._happened = happened
        self._fails = fails

    async def open(self) -> None:
        self._happened.append("opened")
        if self._fails:
            raise ConnectionError

    async def close(self) -> None:
        self._happened.append("closed")

    def stats(self) -> dict[str, Any]:
        return {"name": "mine"}


@asynccontextmanager
async def with_pool(standin: StandIn, pool: Pool, **options: Any) -> AsyncIterator[Toolset]:
    toolset = Toolset.from_file(TOOLS, env={}, **options)
    bind = standin.bind

    def register(tool: str, pools: Any) -> StandIn:
        if "mine" not in pools:
            pools.register("mine", pool)
        return bind(tool, pools)

    standin.bind = register  # type: ignore[method-assign]
    async with toolset:
        yield toolset


async def test_pools_are_open_from_the_first_call_to_the_last(standin: StandIn) -> None:
    happened: list[str] = []

    async def work(arguments: Mapping[str, Any]) -> Result:
        happened.append("called")
        return Result("")

    standin.work = work
    async with with_pool(standin, Pool(happened)) as toolset:
        await toolset.call("other")
    assert happened == ["opened", "called", "closed"]


async def test_lazy_pools_open_by_themselves_and_are_closed_all_the_same(standin: StandIn) -> None:
    happened: list[str] = []
    async with with_pool(standin, Pool(happened), eager=False):
        assert happened == []
    assert happened == ["closed"]


async def test_a_pool_that_does_not_open_fails_the_toolset_and_leaves_nothing(standin: StandIn) -> None:
    happened: list[str] = []
    with pytest.raises(ConnectionError):
        async with with_pool(standin, Pool(happened, fails=True)):
            pass
    assert happened == ["opened"]


async def test_every_tool_that_cannot_be_bound_is_told_with_its_place(standin: StandIn) -> None:
    def bind(tool: str, pools: object) -> Any:
        raise ImportError(f"no module for {tool}")

    standin.bind = bind  # type: ignore[method-assign]
    with pytest.raises(PoolConfigError) as caught:
        async with Toolset.from_file(TOOLS, env={}):
            pass
    assert str(caught.value).split("\n")[1:] == [
        "  tools[0]: no module for query",
        "  tools[1]: no module for other",
    ]


async def test_bodies_are_prepared_once_the_pools_are_open(standin: StandIn) -> None:
    happened: list[str] = []

    async def prepare() -> None:
        happened.append("prepared")

    standin.prepare = prepare  # type: ignore[attr-defined]
    async with with_pool(standin, Pool(happened)):
        assert happened == ["opened", "prepared", "prepared"]
