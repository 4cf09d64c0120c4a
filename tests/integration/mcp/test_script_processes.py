"""Scripts in processes of their own: arguments, shells, bounds, and what is left when they end."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from aiopool.embedded import PostgresServer, RedisServer
from aiopool.toolserver.toolset import Toolset
from tests.integration.mcp.scripted import eventually, is_alive, script_tool, toolset

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = [
    'x"; id -un; echo "',
    "x'; id -un; echo '",
    "$(id)",
    "`id`",
    "${HOME}",
    "$HOME",
    "a; id",
    "a && id",
    "a | id",
    "a > /tmp/aiopool-hostile",
    "a\nid\n",
    "a\\",
    "\\$(id)",
    "*",
    "~",
    "{{name}}",
    "{{other}}",
    "a  b\tc",
    "!!",
    "#",
    "%s%n",
    "ä\u202e𝕏\u0301",
    "\x07\x1b[31m\r",
    "",
    "'",
    '"',
    "$((1+1))",
    "a[$(id)]",
    "x=$(id)",
]
SHELLS = {
    "bare": "printf %s {{name}}",
    "double": 'printf %s "{{name}}"',
    "single": "printf %s '{{name}}'",
    "mixed": "printf %s \"<{{name}}>\"'<{{name}}>'{{name}}",
    "nested": 'printf %s "$(printf %s "{{name}}.")"',
    "assigned": 'X={{name}}; printf %s "$X"',
    "commented": "# it's {{name}}\nprintf %s {{name}} # \"{{name}}",
    "looped": 'for each in {{name}} "{{name}}"; do printf %s "$each"; done',
    "function": 'f() { printf %s "$1"; }; f {{name}}',
    "continued": "printf %s \\\n{{name}}",
}


def told(shell: str, value: str) -> str:
    match shell:
        case "mixed":
            return f"<{value}><{value}>{value}"
        case "nested":
            return f"{value}."
        case "looped":
            return value * 2
    return value


def shell_tool(name: str, text: str, **script: Any) -> dict[str, Any]:
    return {
        "name": name,
        "description": name,
        "parameters": [{"name": "name"}, {"name": "other"}],
        "script": {"shell": text, "allow_dash": True, **script},
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shells() -> AsyncIterator[Toolset]:
    async with toolset(*(shell_tool(name, text) for name, text in SHELLS.items())) as tools:
        yield tools


@pytest.mark.parametrize("shell", SHELLS)
async def test_no_value_becomes_code_in_a_shell(shells: Toolset, shell: str) -> None:
    results = await asyncio.gather(*(shells.call(shell, {"name": value}) for value in HOSTILE))
    assert [result.text for result in results] == [told(shell, value).rstrip("\r\n") for value in HOSTILE]
    assert not os.path.exists("/tmp/aiopool-hostile")  # noqa: ASYNC240


async def test_no_value_becomes_another_argument(tmp_path: Path) -> None:
    text = "import sys, json; print(json.dumps({'argv': sys.argv[1:]}))"
    tool = script_tool("show", text, tmp_path, "{{name}}", "<{{name}}>", pool=None, allow_dash=True)
    async with toolset(tool) as tools:
        results = await asyncio.gather(*(tools.call("show", {"name": value}) for value in HOSTILE))
    assert [result.structured for result in results] == [{"argv": [value, f"<{value}>"]} for value in HOSTILE]


async def test_a_dash_in_front_is_refused_where_it_could_be_an_option(tmp_path: Path) -> None:
    tools = [
        {**shell_tool("shell", "echo {{name}} -- {{other}}"), "script": {"shell": "echo {{name}} -- {{other}}"}},
        {**shell_tool("quoted", ""), "script": {"shell": 'echo "{{name}}" x"{{other}}"'}},
        {**shell_tool("argv", ""), "script": {"command": "echo", "args": ["{{name}}", "--", "{{other}}"]}},
        {**shell_tool("first", ""), "script": {"command": "echo", "args": ["--", "{{other}}", "x{{name}}"]}},
    ]
    async with toolset(*tools) as served:
        for name in ("shell", "quoted", "argv"):
            result = await served.call(name, {"name": "-n", "other": "x"})
            assert result.is_error
            assert result.text.startswith("argument name begins with a dash")
        for name in ("shell", "quoted", "argv", "first"):
            result = await served.call(name, {"name": "x", "other": "-n"})
            assert not result.is_error
            assert "-n" in result.text


async def test_a_negative_number_is_no_option() -> None:
    tool = {
        "name": "number",
        "description": "number",
        "parameters": [{"name": "n", "type": "integer"}],
        "script": {"command": "echo", "args": ["{{n}}"]},
    }
    async with toolset(tool) as tools:
        assert (await tools.call("number", {"n": -5})).text == "-5"


async def test_what_no_program_can_be_given_is_told(caplog: pytest.LogCaptureFixture) -> None:
    tool = {**shell_tool("shell", "echo {{name}}"), "script": {"shell": "echo {{name}}"}}
    argv = {**shell_tool("argv", ""), "script": {"command": "echo", "args": ["{{name}}"]}}
    missing = {**shell_tool("missing", ""), "script": {"command": "no-such-program", "args": ["{{name}}"]}}
    async with toolset(tool, argv, missing) as tools:
        assert "tool 'missing': there is no program 'no-such-program' here" in caplog.text
        assert caplog.text.count("there is no program") == 1
        for name in ("shell", "argv"):
            assert "holds a null character" in (await tools.call(name, {"name": "a\0b"})).text
            assert "is longer than 100000 bytes" in (await tools.call(name, {"name": "x" * 200_000})).text
        assert "cannot be run on this server: No such file" in (await tools.call("missing", {"name": "x"})).text


async def test_whatever_keeps_a_program_from_being_started_is_told(tmp_path: Path) -> None:
    contents = {"empty": "\n", "orphan": "#!/no/such/interpreter\n"}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    tools = [{**shell_tool(name, ""), "script": {"command": str(tmp_path / name)}} for name in contents]
    async with toolset(*tools) as served:
        told = {name: (await served.call(name, {"name": "x"})).text for name in contents}
    assert told == {
        "empty": "'empty' cannot be run on this server: Exec format error",
        "orphan": "'orphan' cannot be run on this server: No such file or directory",
    }


async def test_its_end_takes_along_all_that_it_has_started() -> None:
    tool = shell_tool("leave", "sleep 60 & echo $!; (sleep 61 & echo $!)")
    async with toolset(tool) as tools:
        began = time.monotonic()
        pids = [int(pid) for pid in (await tools.call("leave")).text.split()]
        assert time.monotonic() - began < 10
    assert len(pids) == 2
    await eventually(lambda: not any(map(is_alive, pids)))


async def test_one_that_ignores_the_request_to_end_is_killed_with_its_children(tmp_path: Path) -> None:
    deaf = f"trap '' TERM; echo $$ > {tmp_path}/pids; sleep 60 & echo $! >> {tmp_path}/pids; while :; do sleep 1; done"
    async with toolset(shell_tool("deaf", deaf, timeout=0.3)) as tools:
        result = await tools.call("deaf")
        assert (result.text, result.is_error) == (
            "the script ran longer than 0.3 s and was stopped; let it do less",
            True,
        )
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert tools.pools.stats()["scripts.slots"]["size"] == 1  # its slot is taken until it is gone
        await eventually(lambda: not any(map(is_alive, pids)))


async def test_a_polite_one_has_time_to_tidy_up_when_its_caller_leaves(tmp_path: Path) -> None:
    polite = f"trap 'echo tidy > {tmp_path}/tidy; exit 0' TERM; touch {tmp_path}/on; while :; do sleep 0.01; done"
    async with toolset(shell_tool("polite", polite)) as tools:
        call = asyncio.create_task(tools.call("polite"))
        await eventually((tmp_path / "on").exists)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await eventually((tmp_path / "tidy").exists)


async def test_calls_that_are_cancelled_at_any_moment_leave_nothing(tmp_path: Path) -> None:
    draw, mark = random.Random(5), f"aiopool-mark-{os.getpid()}"
    tool = shell_tool("echo", f"sleep 0.01 & wait; printf %s {{{{name}}}} # {mark}")
    async with toolset(tool) as tools:

        async def call(n: int) -> None:
            task = asyncio.create_task(tools.call("echo", {"name": str(n)}))
            if n % 2:
                await asyncio.sleep(draw.random() * 0.1)
                task.cancel()
            try:
                result = await task
            except asyncio.CancelledError:
                return
            assert (result.text, result.is_error) == (str(n), False)

        await asyncio.gather(*map(call, range(100)))
        assert tools.pools.stats()["scripts.slots"]["size"] <= 20
    running = await asyncio.create_subprocess_exec("ps", "-eo", "args", stdout=asyncio.subprocess.PIPE)
    assert mark not in (await running.communicate())[0].decode()


async def test_ends_are_seen_where_the_kernel_has_no_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "pidfd_open", refused, raising=False)
    async with toolset(
        shell_tool("echo", "sleep 60 & echo {{name}}"), shell_tool("slow", "sleep 60", timeout=0.1)
    ) as tools:
        results = await asyncio.gather(*(tools.call("echo", {"name": str(n)}) for n in range(10)))
        assert [result.text for result in results] == [str(n) for n in range(10)]
        assert (await tools.call("slow")).is_error


async def test_no_more_run_at_once_than_the_pool_allows(postgres: PostgresServer, tmp_path: Path) -> None:
    tool = shell_tool("count", f"touch {tmp_path}/$$; ls {tmp_path} | wc -l; sleep 0.05; rm {tmp_path}/$$")
    tool["pool"] = "database"
    async with toolset(tool, env={"DATABASE_URL": postgres.dsn}, max_size=3) as tools:
        results = await asyncio.gather(*(tools.call("count") for _ in range(12)))
        assert {int(result.text) for result in results} <= {1, 2, 3}
        assert tools.pools.stats()["database"]["opened"] == 3


async def test_output_is_cut_while_it_comes() -> None:
    tool = shell_tool("endless", "yes", max_output=1000, timeout=0.5)
    cut = shell_tool("cut", "yes | head -c 5000000; echo oops >&2", max_output=1000)
    async with toolset(tool, cut) as tools:
        assert (await tools.call("endless")).is_error
        result = await tools.call("cut")
        assert result.text.endswith("[truncated: these are the first 1000 of 5000000 bytes; ask for less]")
        assert len(result.text) < 1200


async def test_output_that_is_cut_at_the_most_a_result_can_hold_says_how_long_it_was() -> None:
    async with toolset(shell_tool("large", "yes | head -c 5000000")) as tools:
        result = await tools.call("large")
        assert result.text.count("[truncated") == 1
        assert "of 5000000 bytes" in result.text[-100:]
        assert len(result.text) <= 1_000_000


async def test_a_failure_tells_the_end_of_what_was_complained() -> None:
    tool = shell_tool("fail", "echo out; seq 100000 >&2; exit 3")
    async with toolset(tool, shell_tool("killed", "kill -9 $$")) as tools:
        result = await tools.call("fail")
        assert result.is_error
        assert result.text.startswith("the script ended with exit status 3:\n…")
        assert result.text.endswith("\n99999\n100000")
        assert len(result.text) < 2100
        assert (await tools.call("killed")).text == "the script ended with the signal SIGKILL and said nothing"


async def test_it_sees_the_address_of_its_pool_in_its_environment_and_no_secret_of_ours(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    text = """
        import json, os
        print(json.dumps({"dsn": os.environ["DATABASE_URL"], "argv": open("/proc/self/cmdline").read(),
            "home": "HOME" in os.environ, "secret": os.environ.get("TOKEN_OF_THE_SERVER"), "own": os.environ["OWN"],
            "arg": os.environ["AIOPOOL_ARG_NAME"]}))
    """
    tool = script_tool("show", text, tmp_path, "{{name}}", mode="exec")
    tool["environment"] = {"OWN": "yes"}
    secret = {"DATABASE_URL": postgres.dsn, "TOKEN_OF_THE_SERVER": "x"}
    async with toolset(tool, env=secret) as tools:
        shown = (await tools.call("show", {"name": "n"})).structured
    assert shown is not None
    # The whole address is hidden in what is told, and was there all the same.
    assert shown["dsn"] == "…"
    assert shown["home"]
    assert (shown["secret"], shown["own"], shown["arg"]) == (None, "yes", "n")
    assert "postgres" not in shown["argv"]


async def test_variables_that_a_shell_text_names_are_for_it_and_in_no_list_of_processes() -> None:
    text = 'printf "%s " "${API_KEY}" ${NOT_SET:-default}; tr "\\0" " " < /proc/$$/cmdline'
    async with toolset(shell_tool("shell", text), env={"API_KEY": "s3cret-key", "OTHER": "x"}) as tools:
        told = (await tools.call("shell")).text
    assert told.startswith("s3cret-key default ")
    assert told.count("s3cret-key") == 1


async def test_connection_opens_its_own_where_there_is_no_worker(
    postgres: PostgresServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    plain = "from aiopool.script import connection\nwith connection() as db: print(db.fetchval('select 6 * 7'))"
    main = "def main(n, connection): return {'n': connection.fetchval('select $1::int', n)}"
    is_async = "async def main(n, connection): return {'n': await connection.fetchval('select $1::int', n)}"
    redis = "def main(n, redis): return redis.ping()"
    tools = [
        script_tool("plain", plain, tmp_path, mode="exec"),
        script_tool("main", main, tmp_path, "{{n}}", mode="exec"),
        script_tool("is_async", is_async, tmp_path, "{{n}}", mode="exec"),
        script_tool("with_redis", redis, tmp_path, "{{n}}", mode="exec", pool="redis"),
    ]
    for tool in tools:
        tool["parameters"] = [{"name": "n", "type": "integer"}] if tool["parameters"] else []
    async with toolset(*tools, env={"DATABASE_URL": postgres.dsn, "REDIS_URL": redis_server.url}) as served:
        calls = [served.call(tool["name"], {"n": 7} if tool["parameters"] else {}) for tool in tools]
        assert [result.text for result in await asyncio.gather(*calls)] == ["42", '{"n": 7}', '{"n": 7}', "true"]


async def test_the_query_of_a_script_that_is_killed_ends_soon(postgres: PostgresServer, tmp_path: Path) -> None:
    code = """
        from aiopool.script import connection
        with connection() as db:
            db.fetch("select pg_sleep(60) as orphan")
    """
    tool = script_tool("slow", code, tmp_path, mode="exec")
    observer = await asyncpg.connect(postgres.dsn)
    query = (
        "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(60) as orphan'"
    )
    async with toolset(tool, env={"DATABASE_URL": postgres.dsn}) as tools:
        call = asyncio.create_task(tools.call("slow"))
        for wanted in (1, 0):
            for _ in range(1000):
                if await observer.fetchval(query) == wanted:
                    break
                await asyncio.sleep(0.01)
            assert await observer.fetchval(query) == wanted
            call.cancel()
    await asyncio.wait([call])
    await observer.close()


async def test_workers_and_processes_end_when_the_server_is_killed(postgres: PostgresServer, tmp_path: Path) -> None:
    sleeps = f"import os, time; open('{tmp_path}/worker', 'w').write(str(os.getpid())); time.sleep(600)"
    (tmp_path / "sleeps.py").write_text(sleeps)
    (tmp_path / "tools.yaml").write_text(
        textwrap.dedent(
            f"""
            pools: {{database: {{min_size: 1, max_size: 2}}}}
            tools:
              - {{name: sleeps, description: x, pool: database, script: {{command: python, args: [sleeps.py]}}}}
              - {{name: own, description: x, script: {{shell: "echo $$ > {tmp_path}/own; exec sleep 600"}}}}
            """
        )
    )
    code = f"""
        import asyncio
        from aiopool.toolserver.toolset import Toolset
        async def main():
            async with Toolset.from_file({str(tmp_path / "tools.yaml")!r}) as tools:
                await asyncio.gather(tools.call("sleeps"), tools.call("own"))
        asyncio.run(main())
    """
    environment = {**os.environ, "DATABASE_URL": postgres.dsn}
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(code), env=environment)
    files = tmp_path / "worker", tmp_path / "own"
    await eventually(lambda: all(file.exists() and file.read_text().strip() for file in files))
    pids = [int(file.read_text()) for file in files]
    assert all(map(is_alive, pids))
    await asyncio.sleep(0.2)  # until the warden knows of the youngest
    server.send_signal(signal.SIGKILL)
    await server.wait()
    await eventually(lambda: not any(map(is_alive, pids)))
