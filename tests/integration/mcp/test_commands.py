"""`aiopool check`, `invoke` and `tools` on real servers: what they print, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from aiopool import cli, embedded

ROOT = Path(__file__).resolve().parents[3]
GANTZ = ROOT / "examples" / "gantz" / "gantz.yaml"
TOOLS = """name: trial
pools:
  database: {min_size: 1, unavailable_after: 0.5, server_settings: {application_name: "${NAME:-trial}"}}
  redis: {min_size: 0, unavailable_after: 0.5}
tools:
  - name: add
    description: Adds two numbers.
    parameters:
      - {name: a, type: integer, required: true}
      - {name: b, type: integer, default: 1}
    sql: "select :a::int + :b::int as sum"
  - name: nap
    timeout: 60
    sql: "select pg_sleep(5)"
  - name: ping
    redis: [PING]
"""
NOBODY = {"DATABASE_URL": "postgresql://me:hunter2@127.0.0.1:1/x", "REDIS_URL": "redis://:hunter2@127.0.0.1:1/0"}

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command in this process, in a folder that has the file x.yaml."""
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(TOOLS)

    def run(*arguments: str, **env: str | None) -> Result:
        env = {"DATABASE_URL": None, "REDIS_URL": None} | env
        result = CliRunner().invoke(cli._app(), list(arguments), env=env)
        assert isinstance(result.exception, SystemExit | None), result.exception
        assert "Traceback" not in result.output
        assert "hunter2" not in result.output
        return result

    return run


@pytest.fixture
def env(postgres: embedded.PostgresServer, redis_server: embedded.RedisServer) -> dict[str, str]:
    return {"DATABASE_URL": postgres.dsn, "REDIS_URL": redis_server.url}


# -- check


def test_check_tells_each_pool_and_tool_of_the_articles_file(run: Run, env: dict[str, str]) -> None:
    result = run("check", str(GANTZ), **env)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "pool database (postgres): ok, 5 connections",
        "pool redis (redis): ok, 2 connections",
        "tool query_database: ok",
        f"{GANTZ}: 2 pools, 1 tool: all is well",
    ]


def test_check_connects_pools_that_keep_no_connection_too(run: Run, env: dict[str, str]) -> None:
    result = run("check", "x.yaml", **env)
    assert result.exit_code == 0
    assert "pool redis (redis): ok, 1 connection\n" in result.stdout


def test_check_names_the_variable_for_a_pool_without_an_address(run: Run) -> None:
    result = run("check", "x.yaml")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "aiopool: check: x.yaml has 2 problems:",
        "  x.yaml:3: pools.database: has no address; set the environment variable DATABASE_URL, or write `dsn:`",
        "  x.yaml:4: pools.redis: has no address; set the environment variable REDIS_URL, or write `url:`",
    ]


def test_check_tells_why_each_pool_does_not_connect(run: Run) -> None:
    result = run("check", "x.yaml", **NOBODY)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "pool database (postgres): does not connect",
        "pool redis (redis): does not connect",
        "tool add: its pool does not connect",
        "tool nap: its pool does not connect",
        "tool ping: its pool does not connect",
    ]
    _, database, redis = result.stderr.splitlines()
    assert database.startswith("  x.yaml:3: pools.database: cannot connect: ConnectionRefusedError (")
    assert database.endswith("; check that its server runs and that its address is right (`dsn:` or DATABASE_URL)")
    assert redis.startswith("  x.yaml:4: pools.redis: cannot connect: ConnectionError (")


def test_check_tells_a_wrong_password_without_a_word_of_it(run: Run, env: dict[str, str]) -> None:
    login, _, place = env["DATABASE_URL"].rpartition("@")
    wrong = f"{login.rpartition(':')[0]}:hunter2@{place}"
    result = run("check", "x.yaml", **env | {"DATABASE_URL": wrong})
    assert result.exit_code == 1
    assert "pools.database: cannot connect: InvalidPasswordError (password authentication failed" in result.stderr
    assert "pool redis (redis): ok" in result.stdout
    assert "tool ping: ok" in result.stdout


def test_check_tells_all_that_is_wrong_with_a_file_at_once(run: Run, env: dict[str, str]) -> None:
    Path("x.yaml").write_text(
        "pools:\n  database: {max_sise: 5}\ntools:\n- name: a\n  pool: databse\n  sql: select :b\n- nam: c\n"
    )
    result = run("check", "x.yaml", **env)
    assert (result.exit_code, result.stdout) == (1, "")
    for problem in (
        "x.yaml:2: pools.database.max_sise: is not known for a pool of type postgres; did you mean 'max_size'?",
        "x.yaml:5: tools[0].pool: is no pool of this file; did you mean 'database'?",
        "x.yaml:7: tools[1].nam: is not known here; did you mean 'name'?",
    ):
        assert problem in result.stderr


def test_check_tells_of_a_program_that_is_not_there(run: Run) -> None:
    Path("own").mkdir()
    Path("own/hello").write_text("#!/bin/sh\necho hello\n")
    Path("own/hello").chmod(0o755)
    Path("x.yaml").write_text(
        "tools:\n- {name: a, script: {command: no-program}}\n- {name: b, script: {command: date}}\n"
        "- {name: c, script: {shell: date, command: /no/sh}}\n"
        f"- {{name: d, script: {{command: hello}}, environment: {{PATH: {Path('own').absolute()}}}}}\n"
    )
    result = run("check", "x.yaml")
    assert result.exit_code == 1
    assert [line for line in result.stdout.splitlines() if line.startswith("tool")] == [
        "tool a: cannot be used",
        "tool b: ok",
        "tool c: cannot be used",
        "tool d: ok",
    ]
    assert result.stderr.splitlines() == [
        "aiopool: check: x.yaml has 2 problems:",
        "  x.yaml:2: tools[0]: there is no program 'no-program' here that can be run; install it, or correct its name",
        "  x.yaml:4: tools[2]: there is no program '/no/sh' here that can be run; install it, or correct its name",
    ]


@pytest.mark.parametrize(
    "words", [["check"], ["invoke", "x.yaml"], ["tools", "--jsn", "x.yaml"], ["serve"], ["nothing"]]
)
def test_a_command_line_that_is_wrong_ends_with_status_2(run: Run, words: list[str]) -> None:
    assert run(*words).exit_code == 2


@pytest.mark.parametrize("command", ["check", "tools", "invoke"])
@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("nowhere.yaml", None, "nowhere.yaml: cannot be read (No such file or directory)"),
        ("x.json", "{}", "x.json: the kind of file is told by its suffix; use .yaml, .yml or .toml"),
        ("b.yaml", b"\xff\xfe\x00", "b.yaml:1: is not UTF-8 text"),
        ("y.yaml", "a: [", "y.yaml:1: is not valid YAML"),
        ("z.yaml", "a: &a [*a]\n", "z.yaml"),
        ("e.yaml", "", "e.yaml: tools: has no tool"),
        ("t.toml", "[[tools", "t.toml:1: is not valid TOML"),
        ("d.yaml", ..., "d.yaml: cannot be read (Is a directory)"),
    ],
)
def test_what_is_no_file_of_tools_is_told_as_such(run: Run, command: str, name: str, content: Any, told: str) -> None:
    match content:
        case str():
            Path(name).write_text(content)
        case bytes():
            Path(name).write_bytes(content)
        case e if e is ...:
            Path(name).mkdir()
    result = run(command, name, *(["a"] if command == "invoke" else []))
    assert (result.exit_code, result.stdout) == (1, "")
    assert told in result.stderr


# -- invoke


def test_invoke_prints_the_result(run: Run, env: dict[str, str]) -> None:
    result = run("invoke", "x.yaml", "add", '{"a": 41}', **env)
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["rows"] == [{"sum": 42}]


def test_invoke_opens_no_pool_that_the_tool_does_not_use(run: Run, env: dict[str, str]) -> None:
    result = run("invoke", "x.yaml", "add", '{"a": 41}', **NOBODY | {"DATABASE_URL": env["DATABASE_URL"]})
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("add", "{}", "invoke: argument a is missing"),
        ("add", '{"a": "1"}', 'invoke: argument a must be of type integer, not "1"'),
        ("add", '{"a": NaN}', "invoke: argument a is not a finite number"),
        ("add", "{a: 1}", "invoke: the arguments are not valid JSON (Expecting property name"),
        ("add", "[1]", "invoke: the arguments are JSON, but an object such as '{"),
        ("add", "", "invoke: the arguments are not valid JSON (Expecting value at character 1)"),
        ("add", '{"a": ' + "1" * 5000 + "}", "invoke: the arguments are not valid JSON (Exceeds the limit"),
        ("add", "[" * 100_000, "invoke: the arguments are nested too deeply"),
        ("add", '{"a": "\\ud800"}', "invoke: argument a holds half a character"),
        ("ad", "{}", "invoke: there is no tool 'ad'; did you mean 'add'?"),
        ("add", '{"a": 2147483647}', "out of range"),
    ],
    ids=lambda value: value[:20],
)
def test_invoke_tells_what_goes_wrong_on_stderr(
    run: Run, env: dict[str, str], tool: str, arguments: str, told: str
) -> None:
    result = run("invoke", "x.yaml", tool, arguments, **env)
    assert (result.exit_code, result.stdout) == (1, "")
    assert told in result.stderr


def test_invoke_tells_of_a_server_that_is_away(run: Run) -> None:
    result = run("invoke", "x.yaml", "ping", **NOBODY)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "aiopool: invoke: " in result.stderr


# -- tools


def test_tools_are_listed_with_their_schemas_and_no_server(run: Run) -> None:
    result = run("tools", "x.yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[:4] == [
        "add",
        "    Adds two numbers.",
        '  a, required: {"type": "integer"}',
        '  b: {"type": "integer", "default": 1}',
    ]


def test_tools_are_listed_as_mcp_lists_them(run: Run) -> None:
    from mcp.types import ListToolsResult

    result = run("tools", str(GANTZ), "--json")
    [tool] = ListToolsResult.model_validate_json(result.stdout).tools
    assert (tool.name, tool.description) == ("query_database", "Query with pooled connection")
    assert tool.input_schema["required"] == ["query"]


# -- processes


@pytest.fixture
def start(tmp_path: Path, env: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    (tmp_path / "x.yaml").write_text(TOOLS)
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "aiopool", *arguments],
            cwd=tmp_path,
            env=os.environ | env | more | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_a_call(
    start: Callable[..., subprocess.Popen[str]], run: Run, env: dict[str, str], number: signal.Signals
) -> None:
    Path("y.yaml").write_text(
        "pools: {database: {min_size: 0}}\ntools:\n- name: sessions\n  parameters: [{name: of}]\n"
        "  sql: select state from pg_stat_activity where application_name = :of and query like '%pg_sleep%'\n"
    )
    process = start("invoke", "x.yaml", "nap", NAME=number.name)

    def is_napping() -> bool:
        sessions = run("invoke", "y.yaml", "sessions", json.dumps({"of": number.name}), **env)
        return '"active"' in sessions.stdout

    wait_until(is_napping)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (128 + number, "", "aiopool: stopped; nothing is left running\n")


def test_a_reader_that_has_seen_enough_is_no_failure_worth_words(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("tools", "x.yaml")
    assert process.stdout is not None
    process.stdout.close()
    process.wait(20)
    assert process.stderr is not None
    assert process.stderr.read() == ""


def wait_until(is_so: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
