"""Functions as tools: what they are given, where they run, and what becomes of them when nobody waits any more."""

from __future__ import annotations

import asyncio
import os
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiopool.embedded import PostgresServer, RedisServer
from aiopool.errors import PoolConfigError
from aiopool.toolserver.toolset import Toolset

pytestmark = pytest.mark.asyncio(loop_scope="module")


def python_tools(
    folder: Path, code: str, *functions: str, env: Mapping[str, str] | None = None, **more: Any
) -> Toolset:
    """Each of the functions as a tool with a parameter `n`, from a file in that folder."""
    (folder / "handlers.py").write_text(textwrap.dedent(code))
    parameters = [{"name": "n", "type": "integer", "required": True}]
    tools = [
        {"name": each, "description": each, "parameters": parameters, "python": f"handlers:{each}", **more}
        for each in functions
    ]
    names = {"DATABASE_URL": "database", "REDIS_URL": "redis"}
    pools = {name: {"min_size": 0, "max_size": 2} for variable, name in names.items() if variable in (env or {})}
    text = yaml.safe_dump({"tools": tools, **({"pools": pools} if pools else {})})
    (folder / "tools.yaml").write_text(text)
    return Toolset.from_file(folder / "tools.yaml", env={**os.environ, **(env or {})})


async def test_functions_get_their_arguments_by_name_and_return_what_json_can_say(tmp_path: Path) -> None:
    code = """
        import dataclasses, datetime, threading
        @dataclasses.dataclass
        class Point: x: int; y: int
        async def waits(n): return {"n": n}
        def thread(n): return threading.current_thread() is threading.main_thread()
        def text(n): return f"n = {n}"
        def nothing(n): return None
        def data(n): return [Point(n, 2), datetime.date(2024, 2, 29), {1, 2}, b"x"]
        def strange(n): return object()
        def anything(**all): return all
        class Callable:
            async def __call__(self, n, other=1): return n + other
        instance = Callable()
        def lazily(n): return waits(n)
    """
    names = "waits", "thread", "text", "nothing", "data", "strange", "anything", "instance", "lazily"
    async with python_tools(tmp_path, code, *names) as tools:
        results = {name: await tools.call(name, {"n": 1}) for name in names}
        assert (await tools.call("waits", {"n": "1"})).is_error
    assert results["waits"].structured == results["anything"].structured == results["lazily"].structured == {"n": 1}
    assert results["strange"].is_error
    assert [results[name].text for name in ("thread", "text", "nothing", "data", "instance")] == [
        "false", "n = 1", "null", '[{"x": 1, "y": 2}, "2024-02-29", [1, 2], "x"]', "2",
    ]  # fmt: skip


async def test_what_a_caller_leaves_out_is_none_where_there_is_no_default(tmp_path: Path) -> None:
    code = "def show(n, more, other=5): return [n, more, other]"
    (tmp_path / "handlers.py").write_text(code)
    (tmp_path / "show.py").write_text(code.replace("show", "main") + "\nif __name__ == '__main__': main(1, 2)")
    parameters = [{"name": name, "type": "integer"} for name in ("n", "more", "other")]
    both = {"description": "x", "parameters": parameters}
    tools = [
        {"name": "function", "python": "handlers:show", **both},
        {"name": "script", "script": {"command": "python", "args": ["show.py"], "mode": "worker"}, **both},
    ]
    (tmp_path / "tools.yaml").write_text(yaml.safe_dump({"tools": tools}))
    async with Toolset.from_file(tmp_path / "tools.yaml") as served:
        for name in ("function", "script"):
            assert (await served.call(name, {"n": 1})).text == "[1, null, 5]"


async def test_the_connection_is_lent_to_async_functions_and_without_await_to_others(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    code = """
        async def waits(n, connection): return await connection.fetchval("select $1::int", n)
        def thread(n, database):
            with database.transaction():
                return database.fetch("select $1::int as n", n)
        async def without(n): return n
        def keeps(n, connection):
            kept.append(connection)
            return 1
        def later(n): return kept[0].fetchval("select 1")
        kept = []
    """
    names = "waits", "thread", "without", "keeps", "later"
    env = {"DATABASE_URL": postgres.dsn}
    async with python_tools(tmp_path, code, *names, env=env, pool="database") as tools:
        texts = [(await tools.call(name, {"n": 7})).text for name in names[:4]]
        assert texts == ["7", '[{"n": 7}]', "7", "1"]
        assert (await tools.call("later", {"n": 7})).is_error
        stats = tools.pools.get("database").stats()
        assert (stats["in_use"], stats["acquired"]) == (0, 3)


async def test_redis_comes_as_its_client(redis_server: RedisServer, tmp_path: Path) -> None:
    code = """
        async def waits(n, redis): return await redis.ping()
        def thread(n, redis):
            redis.set("aiopool-python", n)
            return redis.getdel("aiopool-python")
    """
    env = {"REDIS_URL": redis_server.url}
    async with python_tools(tmp_path, code, "waits", "thread", env=env, pool="redis") as tools:
        assert [(await tools.call(name, {"n": 7})).text for name in ("waits", "thread")] == ["true", "7"]


async def test_a_connection_comes_back_sound_when_the_caller_leaves_a_thread_behind(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    code = """
        import time
        def sleeps(n, connection):
            connection.execute("set application_name = 'left-behind'")
            connection.fetchval("select pg_sleep(600)")
        def stuck(n):
            time.sleep(600)
        async def fast(n, connection): return await connection.fetchval("select $1::int", n)
    """
    env = {"DATABASE_URL": postgres.dsn}
    async with python_tools(
        tmp_path, code, "sleeps", "stuck", "fast", env=env, pool="database", timeout="300ms"
    ) as tools:
        began = time.monotonic()
        results = await asyncio.gather(*(tools.call(name, {"n": 1}) for name in ("sleeps", "sleeps", "stuck")))
        assert all(result.is_error and "timeout of 0.3 s" in result.text for result in results)
        calls = await asyncio.gather(*(tools.call("fast", {"n": n}) for n in range(10)), return_exceptions=True)
        assert [result.text for result in calls] == [str(n) for n in range(10)]
        count = "select count(*) from pg_stat_activity where application_name = 'left-behind' and state = 'active'"
        async with asyncio.timeout(5):
            while await tools.pools.get("database").fetchval(count):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
    assert time.monotonic() - began < 10


async def test_exceptions_are_masked_unless_they_are_for_the_model(postgres: PostgresServer, tmp_path: Path) -> None:
    code = """
        from aiopool.telling import ToolFailure
        async def told(n, connection): await connection.fetch("selec")
        def chosen(n): raise ToolFailure("choose another n")
        def masked(n): raise ValueError("secret")
        def exits(n): raise SystemExit(3)
        def stops(n): raise StopIteration
        def interrupts(n): raise KeyboardInterrupt
        async def leaves(n): raise GeneratorExit
    """
    names = "told", "chosen", "masked", "exits", "stops", "interrupts", "leaves"
    env = {"DATABASE_URL": postgres.dsn}
    async with python_tools(tmp_path, code, *names, env=env, pool="database") as tools:
        told, chosen, masked, exits, *others = [await tools.call(name, {"n": 1}) for name in names]
    assert told.text.startswith('syntax error at or near "selec" (SQLSTATE 42601')
    assert chosen.text == "choose another n"
    for result in (masked, *others):
        assert result.text.startswith("internal error")
    assert exits.is_error


async def test_what_is_wrong_with_a_function_is_told_when_the_file_is_read(tmp_path: Path) -> None:
    code = """
        def more(n, limit): ...
        def less(): ...
        def near(nn): ...
        def by_position(n, /): ...
        def wants(n, connection): ...
        def yields(n): yield n
        async def yields_later(n): yield n
        number = 3
    """
    names = "more", "less", "near", "by_position", "wants", "yields", "yields_later", "number", "missing", "more.deep"
    with pytest.raises(PoolConfigError) as caught:
        python_tools(tmp_path, code, *names)
    told = str(caught.value)
    for words in (
        "more() takes 'limit', which is no parameter of this tool",
        "less() does not take the parameter 'n' of this tool",
        "near() takes 'nn', which is no parameter of this tool",
        "by_position() takes 'n' by its position only",
        "wants() takes a connection, and the tool has no `pool:`",
        "yields is no function that returns",
        "yields_later is no function that returns",
        "number is no function that returns",
        "module handlers has no function 'missing'; it has: more, less",
    ):
        assert words in told
    assert f"{tmp_path}/tools.yaml:" in told


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def f(:", "fails with SyntaxError in line 1 of broken.py"),
        ("import no_such_module_anywhere", "fails with ModuleNotFoundError in line 1 of broken.py"),
        ("\nraise ValueError('secret')", "fails with ValueError in line 2 of broken.py"),
        ("raise SystemExit", "fails with SystemExit in line 1 of broken.py"),
    ],
)
async def test_a_module_that_cannot_be_imported_is_told_without_its_words(
    tmp_path: Path, code: str, words: str
) -> None:
    (tmp_path / "broken.py").write_text(code)
    tool = {"name": "x", "description": "x", "python": "broken:f"}
    (tmp_path / "tools.yaml").write_text(yaml.safe_dump({"tools": [tool]}))
    with pytest.raises(PoolConfigError) as caught:
        Toolset.from_file(tmp_path / "tools.yaml")
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_file_that_is_read_again_has_the_code_as_it_is_now(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("WORD = 'before'")
    code = "import beside\nasync def say(n): return beside.WORD"
    async with python_tools(tmp_path, code, "say") as before:
        (tmp_path / "beside.py").write_text("WORD = 'afterwards'")
        async with python_tools(tmp_path, code, "say") as after:
            assert (await after.call("say", {"n": 1})).text == "afterwards"
            assert (await before.call("say", {"n": 1})).text == "before"
