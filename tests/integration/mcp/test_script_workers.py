"""Scripts in warm workers: what a script may do without the next one noticing."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import textwrap
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from aiopool.embedded import PostgresServer, RedisServer
from aiopool.toolserver.tool import Result
from aiopool.toolserver.toolset import Toolset
from tests.integration.mcp.scripted import eventually, is_alive, script_tool, toolset, worker_pids

QUERY = """
    import json, sys
    from aiopool.script import connection
    with connection() as db:
        print(json.dumps({"rows": db.fetch(sys.argv[1])}, default=str))
"""
PID = "import os; print(os.getpid())"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def env(postgres: PostgresServer) -> dict[str, str]:
    return {"DATABASE_URL": postgres.dsn}


@dataclass
class Scratch:
    """One worker, and a script for it that each test writes anew."""

    tools: Toolset
    folder: Path

    async def run(self, text: str) -> Result:
        (self.folder / "scratch.py").write_text(textwrap.dedent(text))
        return await self.tools.call("scratch")

    async def pid(self) -> int:
        return int((await self.tools.call("pid")).text)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scratch]:
    folder = tmp_path_factory.mktemp("scratch")
    async with toolset(
        script_tool("scratch", "pass", folder), script_tool("pid", PID, folder), env=env, max_size=1
    ) as tools:
        yield Scratch(tools, folder)


async def test_a_script_that_prints_has_its_object_as_structured_content(env: dict[str, str], tmp_path: Path) -> None:
    async with toolset(script_tool("query", QUERY, tmp_path, "{{query}}"), env=env) as tools:
        result = await tools.call("query", {"query": "select 1 as one, 'ä' as text"})
        assert result == Result('{"rows": [{"one": 1, "text": "\\u00e4"}]}', {"rows": [{"one": 1, "text": "ä"}]})


async def test_one_connection_serves_all_the_calls_of_a_worker(env: dict[str, str], tmp_path: Path) -> None:
    backend = "select pg_backend_pid() as pid"
    async with toolset(script_tool("query", QUERY, tmp_path, "{{query}}"), env=env, max_size=1) as tools:
        pids = {(await tools.call("query", {"query": backend})).text for _ in range(5)}
        assert len(pids) == 1
        assert tools.pools.get("database").stats()["opened"] == 1


async def test_main_is_called_by_name_and_returns_what_json_can_say(env: dict[str, str], tmp_path: Path) -> None:
    text = """
        import datetime, decimal, uuid
        def main(n, items, *, flag=False):
            when, total = datetime.date(2024, 2, 29), decimal.Decimal("0.10")
            return {"n": n, "items": items, "flag": flag, "when": when, "sum": total}
    """
    tool = script_tool("typed", text, tmp_path)
    tool["parameters"] = [
        {"name": "n", "type": "integer"},
        {"name": "items", "type": "array", "items": {"type": "string"}},
        {"name": "flag", "type": "boolean", "default": True},
    ]
    async with toolset(tool, env=env) as tools:
        result = await tools.call("typed", {"n": -3, "items": ["-rf", "{{n}}"]})
        assert result.structured == {
            "n": -3, "items": ["-rf", "{{n}}"], "flag": True, "when": "2024-02-29", "sum": "0.10",
        }  # fmt: skip


async def test_main_is_given_the_connection_under_the_name_of_the_pool(env: dict[str, str], tmp_path: Path) -> None:
    sync = script_tool(
        "sync", "def main(n, database): return database.fetchval('select $1::text', n)", tmp_path, "{{n}}"
    )
    text = "async def main(n, connection): return [dict(r) for r in await connection.fetch('select $1::text as n', n)]"
    is_async = script_tool("is_async", text, tmp_path, "{{n}}")
    async with toolset(sync, is_async, env=env) as tools:
        assert (await tools.call("sync", {"n": "7"})).text == "7"
        assert (await tools.call("is_async", {"n": "8"})).text == '[{"n": "8"}]'


async def test_what_the_database_says_of_a_query_reaches_the_model(env: dict[str, str], tmp_path: Path) -> None:
    by_main = script_tool(
        "by_main", "def main(query, connection): return connection.fetch(query)", tmp_path, "{{query}}"
    )
    async with toolset(script_tool("query", QUERY, tmp_path, "{{query}}"), by_main, env=env) as tools:
        for name in ("query", "by_main"):
            result = await tools.call(name, {"query": "selec 1"})
            assert result.is_error
            assert result.text == 'syntax error at or near "selec" (SQLSTATE 42601, at character 1)'
            assert not (await tools.call(name, {"query": "select 1"})).is_error


async def test_other_exceptions_of_main_are_masked_and_those_of_scripts_told_with_their_traceback(
    env: dict[str, str], tmp_path: Path
) -> None:
    by_main = script_tool("by_main", "def main(): raise ValueError('secret')", tmp_path)
    plain = script_tool("plain", "raise ValueError('told')", tmp_path)
    async with toolset(by_main, plain, env=env) as tools:
        masked = await tools.call("by_main")
        assert masked.is_error
        assert masked.text.startswith("internal error ")
        assert "secret" not in masked.text
        told = await tools.call("plain")
        assert told.is_error
        assert told.text.startswith("the script ended with exit status 1:\nTraceback")
        assert told.text.endswith("ValueError: told")
        assert "aiopool" not in told.text


async def test_nothing_of_a_session_is_seen_by_the_next_call(env: dict[str, str], tmp_path: Path) -> None:
    dirty = """
        from aiopool.script import connection
        with connection() as db:
            db.execute("begin")
            db.execute("create temp table leftover (a int)")
            db.execute("set statement_timeout = '77s'")
            db.execute("select pg_advisory_lock(4711)")
            print(db.fetchval("select pg_backend_pid()"))
    """
    look = """
        from aiopool.script import connection
        with connection() as db:
            print(db.fetchval("select pg_backend_pid()"))
            print(db.fetchval("select to_regclass('leftover')"), db.fetchval("show statement_timeout"))
            print(db.fetchval("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"))
    """
    async with toolset(
        script_tool("dirty", dirty, tmp_path), script_tool("look", look, tmp_path), env=env, max_size=1
    ) as tools:
        pid = (await tools.call("dirty")).text
        assert (await tools.call("look")).text == f"{pid}\nNone 0\n0"


async def test_what_a_script_changes_in_its_process_is_put_back(env: dict[str, str], tmp_path: Path) -> None:
    change = """
        import decimal, gc, os, signal, sys, threading
        os.environ["LEAK"] = "x"; del os.environ["PATH"]
        os.chdir("/"); os.umask(0)
        sys.path.insert(0, "/nowhere"); sys.argv.append("more"); sys.setrecursionlimit(500); gc.disable()
        sys.stdin.close(); os.close(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0.05); signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        decimal.getcontext().prec = 3
        sys.excepthook = print
        leak = "global"
        print(os.getpid())
    """
    look = """
        import decimal, gc, json, os, signal, sys
        print(json.dumps({
            "env": "LEAK" in os.environ, "path": "PATH" in os.environ,
            "prec": decimal.getcontext().prec, "hook": sys.excepthook is sys.__excepthook__,
            "cwd": os.getcwd(), "umask": os.umask(0),
            "sys": "/nowhere" in sys.path, "argv": sys.argv[1:], "gc": gc.isenabled(),
            "limit": sys.getrecursionlimit() > 500,
            "stdin": sys.stdin.read(), "term": signal.getsignal(signal.SIGTERM) == signal.SIG_IGN,
            "timer": signal.getitimer(signal.ITIMER_REAL)[0],
            "mask": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            "globals": "leak" in globals(), "name": __name__, "main": sys.modules["__main__"].__dict__ is globals(),
            "pid": os.getpid(),
        }))
    """
    tools = script_tool("change", change, tmp_path), script_tool("look", look, tmp_path)
    async with toolset(*tools, env=env, max_size=1) as tools:
        before = (await tools.call("look")).structured
        pid = (await tools.call("change")).text
        after = (await tools.call("look")).structured
        assert after == before
        assert str(after["pid"]) == pid
        assert after["stdin"] == ""
        assert (after["env"], after["path"], after["globals"], after["name"]) == (False, True, False, "__main__")


@pytest.mark.parametrize(
    "leftover",
    [
        "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()",
        "import subprocess; subprocess.Popen(['sleep', '60'])",
        "import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True)",
        "import atexit; atexit.register(print, 'bye')",
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))",
        "import sys; sys.stdout.flush(); sys.stdout.close()",
        "import os; os.dup2(2, 1)",
        "import sys, io; sys.stdout = io.StringIO()",
        "import sys; sys.stdout = None",
    ],
)
async def test_a_worker_with_something_left_that_cannot_be_undone_runs_nothing_more(
    served: Scratch, leftover: str
) -> None:
    pid = await served.pid()
    result = await served.run(f"import os, sys; print(os.getpid()); sys.stdout.flush(); {leftover}")
    assert result.text.split()[0] == str(pid)
    assert await served.pid() != pid
    await eventually(lambda: not is_alive(pid))


async def test_processes_that_a_script_leaves_behind_are_gone_when_its_worker_is(served: Scratch) -> None:
    text = """
        import os, subprocess
        print(subprocess.Popen(["sleep", "60"]).pid)
        detached = subprocess.Popen(["sh", "-c", "setsid sleep 60 & echo $!"], stdout=subprocess.PIPE)
        print(detached.stdout.readline().decode())
    """
    pids = [int(pid) for pid in (await served.run(text)).text.split()]
    assert len(pids) == 2
    await eventually(lambda: not any(map(is_alive, pids)))


KILL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
TERM = "import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"
FORK = "import os\nif os.fork() == 0: print('child', flush=True)\nelse: os.wait(); print('parent')"


@pytest.mark.parametrize(
    ("text", "told", "is_error"),
    [
        ("import sys; print('out'); sys.exit()", "out", False),
        ("import sys; print('out'); sys.exit(0)", "out", False),
        ("import sys; sys.exit(3)", "the script ended with exit status 3 and said nothing", True),
        ("import sys; sys.exit('so it is')", "the script ended with exit status 1:\nso it is", True),
        ("import sys; print('but'); sys.exit(True)", "the script ended with exit status 1:\nbut", True),
        ("import os; print('out', flush=True); os._exit(0)", "out", False),
        ("import os; print('out', flush=True); os._exit(7)", "the script ended with exit status 7:\nout", True),
        (KILL, "the script ended with the signal SIGKILL and said nothing", True),
        ("import ctypes; ctypes.string_at(0)", "the script ended with the signal SIGSEGV and said nothing", True),
        ("import os; os.closerange(3, 256); print('out')", None, True),
        ("import os; os.closerange(0, 256)", None, True),
        ("raise KeyboardInterrupt", None, True),
        (TERM, "the script ended with exit status 143 and said nothing", True),
        ("import json; json.dumps = json.loads = lambda *_: 'x'; print('out')", "out", False),
        (FORK, "child\nparent", False),
        ("import os\nos.fork() or os._exit(0)\nprint('parent')", "parent", False),
        ("import asyncio\nasync def f(): print('ran')\nasyncio.run(f())", "ran", False),
        ("def f(): return f()\nf()", None, True),
        ("this is not Python", None, True),
    ],
)  # fmt: skip
async def test_a_script_ends_as_it_would_in_a_process_of_its_own(
    served: Scratch, text: str, told: str | None, is_error: bool
) -> None:
    result = await served.run(text)
    assert result.is_error == is_error
    if told is not None:
        assert result.text == told
    assert await served.pid() > 0


async def test_output_is_cut_at_its_limit_and_says_so(env: dict[str, str], tmp_path: Path) -> None:
    printed = script_tool("printed", "for _ in range(300): print('x' * 100_000)", tmp_path, max_output=1000)
    returned = script_tool("returned", "def main(): return 'ä' * 1_000_000", tmp_path, max_output=1001)
    async with toolset(printed, returned, env=env) as tools:
        result = await tools.call("printed")
        assert result.text == "x" * 1000 + "\n[truncated: these are the first 1000 of 30000300 bytes; ask for less]"
        result = await tools.call("returned")
        assert result.text == "ä" * 500 + "\n[truncated: these are the first 1000 of 2000000 bytes; ask for less]"
        assert not result.is_error


async def test_binary_output_and_complaints_on_stderr_are_no_problem(served: Scratch) -> None:
    text = "import sys; sys.stdout.buffer.write(bytes(range(256))); sys.stderr.buffer.write(b'\\xff' * 100_000)"
    result = await served.run(text)
    assert not result.is_error
    assert "\ufffd" in result.text
    json.dumps(result.text)


async def test_input_environment_and_folder_are_as_the_file_says(env: dict[str, str], tmp_path: Path) -> None:
    text = """
        import json, os, sys
        print(json.dumps({"in": sys.stdin.read(), "env": os.environ.get("COLOUR"),
            "arg": os.environ["AIOPOOL_ARG_A_B"],
            "gantz": os.environ["GANTZ_ARG_A_B"], "cwd": os.getcwd(), "dsn": "DATABASE_URL" in os.environ,
            "proc": "postgresql" in open("/proc/self/environ").read(),
            "other": os.environ.get("SECRET_OF_THE_SERVER")}))
    """
    tool = script_tool("surroundings", text, tmp_path, "{{a-b}}", stdin="<{{a-b}}>", working_dir=str(tmp_path))
    tool["environment"] = {"COLOUR": "red"}
    os.environ["SECRET_OF_THE_SERVER"] = "x"
    try:
        async with toolset(tool, env=env) as tools:
            assert (await tools.call("surroundings", {"a-b": "ä\n{{a-b}}"})).structured == {
                "in": "<ä\n{{a-b}}>", "env": "red", "arg": "ä\n{{a-b}}", "gantz": "ä\n{{a-b}}", "cwd": str(tmp_path),
                "dsn": True, "proc": False, "other": None,
            }  # fmt: skip
    finally:
        del os.environ["SECRET_OF_THE_SERVER"]


async def test_modules_beside_a_script_are_its_own_and_are_read_again_when_they_change(
    env: dict[str, str], tmp_path: Path
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "helper.py").write_text(f"NAME = {folder.name!r}")
    tools = [script_tool(folder.name, "import helper; print(helper.NAME)", folder) for folder in folders]
    tools.append(script_tool("named", "import helper\ndef main(): return helper.NAME", folders[0]))
    async with toolset(*tools, env=env, max_size=1) as served:
        for _ in range(2):
            for name in ("one", "two", "named"):
                assert (await served.call(name)).text == name.replace("named", "one")
        (folders[0] / "helper.py").write_text("NAME = 'changed'")
        assert [(await served.call(name)).text for name in ("one", "two", "named")] == ["changed", "two", "changed"]


async def test_arguments_with_a_dash_reach_no_command_line_unless_they_may(env: dict[str, str], tmp_path: Path) -> None:
    plain = script_tool("plain", "import sys; print(sys.argv[1:])", tmp_path, "{{x}}", "--y={{x}}")
    named = script_tool("named", "def main(x): return x", tmp_path, "{{x}}")
    may = script_tool("may", "import sys; print(sys.argv[1:])", tmp_path, "{{x}}", allow_dash=True)
    after = script_tool("after", "import sys; print(sys.argv[1:])", tmp_path, "--", "{{x}}")
    async with toolset(plain, named, may, after, env=env) as tools:
        result = await tools.call("plain", {"x": "--help"})
        assert result.is_error
        assert result.text.startswith("argument x begins with a dash")
        assert (await tools.call("named", {"x": "--help"})).text == "--help"
        assert (await tools.call("may", {"x": "--help"})).text == "['--help']"
        assert (await tools.call("after", {"x": "--help"})).text == "['--', '--help']"


async def test_what_drivers_find_in_the_environment_they_find_in_workers_and_processes(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await asyncpg.connect(postgres.dsn)
    database = await owner.fetchval("select current_database()")
    await owner.close()
    monkeypatch.setenv("PGDATABASE", database)
    monkeypatch.setenv("PGAPPNAME", "by-environment")
    text = """
        from aiopool.script import connection
        with connection() as db: print(db.fetchval("select current_database()"))
    """
    dsn = postgres.dsn.rpartition("/")[0]
    tools = script_tool("warm", text, tmp_path), script_tool("cold", text, tmp_path, mode="exec")
    async with toolset(*tools, env={"DATABASE_URL": dsn}) as served:
        assert [(await served.call(name)).text for name in ("warm", "cold")] == [database, database]


async def test_a_script_that_never_ends_is_stopped_and_its_query_with_it(
    env: dict[str, str], tmp_path: Path, postgres: PostgresServer
) -> None:
    stuck = """
        import os, time
        from aiopool.script import connection
        with connection() as db:
            db.execute("set application_name = 'stuck-script'")
            db.execute("select pg_sleep(600)")
    """
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1)\nwhile True: time.sleep(1)"
    tools = script_tool("stuck", stuck, tmp_path, timeout=0.5), script_tool("deaf", deaf, tmp_path, timeout=0.5)
    async with toolset(*tools, script_tool("pid", PID, tmp_path), env=env, max_size=1) as served:
        pid = int((await served.call("pid")).text)
        result = await served.call("stuck")
        assert (result.text, result.is_error) == (
            "the script ran longer than 0.5 s and was stopped; let it do less",
            True,
        )
        watcher = await asyncpg.connect(postgres.dsn)
        stuck_query = "select count(*) from pg_stat_activity where application_name = 'stuck-script'"
        try:
            async with asyncio.timeout(10):
                while await watcher.fetchval(stuck_query):  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0.02)
        finally:
            await watcher.close()
        await eventually(lambda: not is_alive(pid))
        pid = int((await served.call("pid")).text)
        assert (await served.call("deaf")).is_error
        assert (await served.call("pid")).text != str(pid)
        await eventually(lambda: not is_alive(pid))


async def test_calls_that_are_cancelled_at_any_moment_cost_no_more_than_their_worker(
    env: dict[str, str], tmp_path: Path
) -> None:
    echo = """
        import time
        from aiopool.script import connection
        def main(n):
            with connection() as db:
                return db.fetchval("select $1::text from pg_sleep(0.002)", n)
    """
    async with toolset(script_tool("echo", echo, tmp_path, "{{n}}"), env=env, max_size=3) as tools:
        await tools.call("echo", {"n": "first"})
        draw = random.Random(7)

        async def call(n: int) -> None:
            task = asyncio.create_task(tools.call("echo", {"n": str(n)}))
            if n % 3 == 0:
                await asyncio.sleep(draw.random() * 0.05)
                task.cancel()
            try:
                result = await task
            except asyncio.CancelledError:
                return
            assert (result.text, result.is_error) == (str(n), False)

        await asyncio.gather(*map(call, range(60)))
        pids = worker_pids(tools)
        assert len(pids) <= 3
    for pid in pids:
        await eventually(lambda pid=pid: not is_alive(pid))


async def test_a_pool_whose_workers_are_all_busy_is_told_before_the_calls_time_is_up(
    env: dict[str, str], tmp_path: Path
) -> None:
    busy = script_tool("busy", "import time; time.sleep(1.5)", tmp_path)
    quick = script_tool("quick", "print(1)", tmp_path) | {"timeout": "500ms"}
    async with toolset(busy, quick, env=env, min_size=1, max_size=1) as tools:
        call = asyncio.create_task(tools.call("busy"))
        await asyncio.sleep(0.05)
        result = await tools.call("quick")
        assert result.text.startswith("pool 'database' is exhausted: 1 of 1 in use")
        assert not (await call).is_error


async def test_a_hundred_calls_share_five_workers(env: dict[str, str], tmp_path: Path) -> None:
    text = "def main(n, connection): return connection.fetchval('select $1::text from pg_sleep(0.01)', n)"
    async with toolset(script_tool("echo", text, tmp_path, "{{n}}"), env=env, max_size=5) as tools:
        results = await asyncio.gather(*(tools.call("echo", {"n": str(n)}) for n in range(100)))
        assert [result.text for result in results] == [str(n) for n in range(100)]
        stats = tools.pools.get("database").stats()
        assert stats["opened"] <= 5
        assert sum(stats["closed_by"].values()) == 0


async def test_killed_workers_are_replaced_and_only_their_own_callers_are_told(
    env: dict[str, str], tmp_path: Path
) -> None:
    text = "def main(n, connection): return connection.fetchval('select $1::text from pg_sleep(0.01)', n)"
    draw = random.Random(3)
    async with toolset(script_tool("echo", text, tmp_path, "{{n}}"), env=env, max_size=3) as tools:

        async def kill() -> None:
            while True:
                await asyncio.sleep(0.1)
                if pids := worker_pids(tools):
                    try:
                        os.kill(draw.choice(pids), signal.SIGKILL)
                    except ProcessLookupError:
                        continue

        async def call(n: int) -> bool:
            result = await tools.call("echo", {"n": str(n)})
            assert result.text == (
                "the script ended with the signal SIGKILL and said nothing" if result.is_error else str(n)
            )
            return result.is_error

        killer = asyncio.create_task(kill())
        failed = 0
        for batch in range(8):
            failed += sum(await asyncio.gather(*(call(10 * batch + n) for n in range(10))))
        killer.cancel()
        assert failed < 40
        # The last one may have been killed right now, and nobody has noticed yet.
        assert not (await call(1000) and await call(1001))


async def test_a_closed_toolset_leaves_no_process_and_no_session(
    env: dict[str, str], tmp_path: Path, postgres: PostgresServer
) -> None:
    tool = script_tool("query", QUERY, tmp_path, "{{query}}")
    async with toolset(tool, env=env, min_size=2, max_size=2) as tools:
        await tools.call("query", {"query": "select 1"})
        pids = worker_pids(tools)
        slow = asyncio.create_task(tools.call("query", {"query": "select pg_sleep(0.3)"}))
        await asyncio.sleep(0.05)
    assert not (await slow).is_error
    assert len(pids) == 2
    assert not any(map(is_alive, pids))


async def test_nobody_opens_connections_that_only_workers_use(env: dict[str, str], tmp_path: Path) -> None:
    sql = {"name": "now", "description": "now", "pool": "database", "sql": "select 1 as one"}
    query = script_tool("query", QUERY, tmp_path, "{{query}}")
    async with toolset(query, env=env, min_size=1) as tools:
        assert set(tools.pools) == {"database"}
        assert worker_pids(tools)
    async with toolset(query, sql, env=env, min_size=1) as tools:
        assert set(tools.pools) == {"database", "database.workers"}
        assert len(worker_pids(tools, "database.workers")) == 1
        assert (await tools.call("now")).structured


async def test_a_pool_of_workers_that_cannot_connect_says_so_without_the_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dsn = "postgresql://somebody:hunter22@127.0.0.1:9/nowhere"
    with pytest.raises(Exception) as caught:
        async with toolset(
            script_tool("query", QUERY, tmp_path, "{{query}}"),
            env={"DATABASE_URL": dsn},
            min_size=1,
            unavailable_after=0,
        ):
            pass
    told = f"{caught.value} {caught.value.__cause__} {caplog.text}"
    assert "ConnectionRefusedError" in told
    assert "hunter22" not in told


async def test_passwords_stand_in_no_list_of_processes_and_are_hidden_in_what_is_told(
    postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    password = "hunter-22-secret"
    owner = await asyncpg.connect(postgres.dsn)
    try:
        await owner.execute(f"create role scripted login password '{password}'")
        host, port = owner._addr if isinstance(owner._addr, tuple) else ("127.0.0.1", 5432)
        dsn = f"postgresql://scripted:{password}@{host}:{port}/{await owner.fetchval('select current_database()')}"
        text = """
            import os, sys
            print(open("/proc/self/cmdline").read(), open("/proc/self/environ").read())
            print(os.environ["DATABASE_URL"], file=sys.stderr)
            sys.exit(len(sys.argv) - 1)
        """
        tools = script_tool("fine", text, tmp_path), script_tool("fails", text, tmp_path, "{{x}}")
        async with toolset(*tools, env={"DATABASE_URL": dsn}) as served:
            results = [await served.call("fine"), await served.call("fails", {"x": "x"})]
        assert [result.is_error for result in results] == [False, True]
        assert password not in str(results) + caplog.text
        assert "scripted" not in results[0].text
    finally:
        await owner.execute("drop role scripted")
        await owner.close()


async def test_other_event_loops_serve_as_well(env: dict[str, str], tmp_path: Path) -> None:
    uvloop = pytest.importorskip("uvloop")
    big = script_tool("big", "print('x' * 500_000)", tmp_path)
    cold = script_tool("cold", "print(1)", tmp_path, mode="exec")
    slow = script_tool("slow", "import time; time.sleep(60)", tmp_path, timeout=0.2)

    async def on_uvloop() -> list[Result]:
        async with toolset(big, cold, slow, env=env) as tools:
            return [await tools.call(name) for name in ("big", "cold", "slow", "big")]

    results = await asyncio.to_thread(uvloop.run, on_uvloop())
    assert [len(result.text) for result in (results[0], results[1], results[3])] == [500_000, 1, 500_000]
    assert results[2].is_error


async def test_redis_is_lent_too(redis_server: RedisServer, tmp_path: Path) -> None:
    text = """
        from aiopool.script import connection
        def main(key):
            with connection() as cache:
                with cache.pipeline() as pipe:
                    pipe.set(key, "v").expire(key, 60)
                    done = pipe.execute()
                value = cache.get(key)
                cache.delete(key)
            return {"done": done, "value": value, "left": cached(key)}
        def cached(key):
            with connection() as cache:
                return cache.exists(key)
    """
    is_async = "async def main(key, redis):\n    await redis.set(key, 'w')\n    return await redis.getdel(key)"
    tools = (
        script_tool("sync", text, tmp_path, "{{key}}", pool="redis"),
        script_tool("is_async", is_async, tmp_path, "{{key}}", pool="redis"),
    )
    async with toolset(*tools, env={"REDIS_URL": redis_server.url}) as served:
        result = await served.call("sync", {"key": "aiopool-script"})
        assert result.structured == {"done": [True, True], "value": "v", "left": 0}
        assert (await served.call("is_async", {"key": "aiopool-script"})).text == "w"


async def test_a_connection_is_not_used_after_it_was_given_back_nor_elsewhere(
    env: dict[str, str], tmp_path: Path
) -> None:
    kept = """
        import threading
        from aiopool.script import connection
        def main(how):
            with connection() as db:
                if how == "thread":
                    caught = []
                    def use():
                        try: db.fetchval("select 1")
                        except RuntimeError as exc: caught.append(str(exc))
                    thread = threading.Thread(target=use); thread.start(); thread.join()
                    return caught[0]
            return db.fetchval("select 1")
    """
    loop = """
        import asyncio
        from aiopool.script import connection
        async def work():
            async with connection() as db: return 1
        def main(): return asyncio.run(work())
    """
    tools = script_tool("kept", kept, tmp_path, "{{how}}"), script_tool("loop", loop, tmp_path)
    async with toolset(*tools, env=env) as served:
        assert "main thread" in (await served.call("kept", {"how": "thread"})).text
        assert (await served.call("kept", {"how": "later"})).is_error
        assert (await served.call("loop")).is_error
        assert not (await served.call("kept", {"how": "thread"})).is_error


async def test_nested_blocks_share_the_one_connection(env: dict[str, str], tmp_path: Path) -> None:
    text = """
        from aiopool.script import connection
        def main():
            with connection() as outer, outer.transaction():
                outer.execute("create temp table t (a int)")
                with connection() as inner:
                    inner.execute("insert into t values (1)")
                return outer.fetchval("select count(*) from t")
    """
    async with toolset(script_tool("nested", text, tmp_path), env=env) as tools:
        assert (await tools.call("nested")).text == "1"
