"""Clients that nobody here wrote, against `aiopool serve`: they run at once, and each test looks at one of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from aiopool import embedded
from tests.integration.mcp.foreign import packages
from tests.integration.mcp.toolserving import started_on_http

HERE = Path(__file__).parent
TOOLS = HERE / "tools.yaml"
ARTICLES = HERE.parents[3] / "examples" / "gantz" / "gantz.yaml"
SERVE = [sys.executable, "-m", "aiopool", "serve"]
STDIO = [*SERVE, str(TOOLS)]
#: At once: each of them keeps a processor busy, and so do the tests beside these.
THREADS = 3
#: For one client, in seconds, on a machine that is busy with the others.
PATIENCE = 120.0

#: What they agree on with the server, if they tell: FastMCP's client is of the newer generation.
PROTOCOLS = {"TypeScript SDK": None, "mcp 1.x": "2025-11-25", "FastMCP": "2026-07-28"}

Run = subprocess.CompletedProcess[str]


class Clients:
    """They run side by side, each in a process of its own; `result` is what it printed."""

    def __init__(self, url: str, dsn: str, redis: str, scratch: Path) -> None:
        self.url, self.dsn, self.redis, self.scratch = url, dsn, redis, scratch
        self._threads = ThreadPoolExecutor(THREADS)
        npm = self._threads.submit(packages.install)
        self._runs = {
            **{name: self._threads.submit(self._run, command, scratch) for name, command in self._python().items()},
            **{name: self._threads.submit(self._node, command, npm) for name, command in self._programs().items()},
        }

    def result(self, name: str) -> Run:
        return self._runs[name].result()

    def close(self) -> None:
        self._threads.shutdown()

    def _python(self) -> dict[str, list[str]]:
        return {
            "FastMCP": packages.python(packages.FASTMCP, HERE / "story_fastmcp.py", self.url, *STDIO),
            "mcp 1.x": packages.python(packages.MCP1, HERE / "story_mcp1.py", self.url, *STDIO),
        }

    def _programs(self) -> dict[str, list[str]]:
        """Those for Node.js, in the folder that has the packages."""
        bin_ = Path("node_modules", ".bin")
        exemptions = ["--expected-failures", str(HERE / "not_offered.yaml"), "--output-dir", str(self.scratch)]
        inspector = [str(bin_ / "mcp-inspector"), "--cli", "--connect-timeout", "60000"]
        over_http = [*inspector, self.url, "--transport", "http"]
        over_stdio = [*inspector, "-e", f"DATABASE_URL={self.dsn}", "-e", f"REDIS_URL={self.redis}", *SERVE]
        return {
            "TypeScript SDK": [str(HERE / "story.mjs"), self.url, *SERVE, shutil.copy(TOOLS, self.scratch)],
            "conformance": [str(bin_ / "conformance"), "server", "--url", self.url, "--suite", "all", *exemptions],
            "inspector, list": [*over_http, "--method", "tools/list"],
            "inspector, call": [*over_http, *_call("divide", "a=5")],
            "inspector, error": [*over_http, *_call("divide", "a=5", "b=0")],
            "inspector, article": [
                *over_stdio,
                str(ARTICLES),
                *_call("query_database", "query=select 6 * 7 as answer"),
            ],
        }

    def _node(self, command: list[str], npm: Future[Path]) -> Run:
        return self._run(packages.node(*command), npm.result())

    def _run(self, command: list[str], folder: Path) -> Run:
        env = {**os.environ, "DATABASE_URL": self.dsn}
        nothing = subprocess.DEVNULL
        return subprocess.run(
            command, cwd=folder, env=env, stdin=nothing, capture_output=True, text=True, timeout=PATIENCE
        )


def _call(tool: str, *arguments: str) -> list[str]:
    given = [word for argument in arguments for word in ("--tool-arg", argument)]
    return ["--method", "tools/call", "--tool-name", tool, *given]


@pytest.fixture(scope="module")
def clients(
    postgres: embedded.PostgresServer,
    redis_server: embedded.RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Clients]:
    with started_on_http(TOOLS, postgres.dsn) as (_, address):
        clients = Clients(f"{address}/mcp", postgres.dsn, redis_server.url, tmp_path_factory.mktemp("foreign"))
        try:
            yield clients
        finally:
            clients.close()


def printed(run: Run) -> Any:
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def rows(quotient: float) -> dict[str, Any]:
    return {"rows": [{"quotient": quotient}], "row_count": 1, "truncated": False}


@pytest.mark.parametrize("transport", ["http", "stdio"])
@pytest.mark.parametrize("name", ["TypeScript SDK", "mcp 1.x", "FastMCP"])
def test_a_client_lists_calls_errs_gives_up_and_goes_on(clients: Clients, name: str, transport: str) -> None:
    seen = printed(clients.result(name))[transport]
    protocol, server, gave_up = (seen.pop(key, None) for key in ("protocol", "server", "gaveUp"))
    assert protocol == PROTOCOLS[name]
    if name != "FastMCP":  # which does not tell
        assert (server["name"], server["version"]) == ("foreign", "1.2")
    if name != "mcp 1.x":  # whose calls go on in the server when nobody waits for them
        assert gave_up is True
    if (name, transport) == ("TypeScript SDK", "stdio"):
        assert seen.pop("added") == ["late"], "it was told that the file had changed"
    assert 1 <= seen.pop("backends") <= 3, "twenty calls at once share the pool's three connections"
    assert seen == {
        "tools": ["divide", "hold", "json_schema_2020_12_tool", "nap", "test_error_handling", "test_simple_text"],
        "schema": {
            "type": "object",
            "properties": {"a": {"type": "number"}, "b": {"type": "number", "default": 2}},
            "required": ["a"],
            "additionalProperties": False,
        },
        "simple": [{"type": "text", "text": "This is a simple text response for testing."}],
        "quotient": rows(2.5),
        "sameAsText": True,
        "numbers": list(range(20)),
        "divided": {"isError": True, "text": "division by zero (SQLSTATE 22012)"},
        "invalid": {
            "isError": True,
            "text": 'there is no parameter "c"; known are: a, b; argument a must be of type number, not "one"',
        },
        "stranger": {"isError": True, "text": "there is no tool 'devide'; did you mean 'divide'?"},
        "afterwards": rows(0.25),
    }


async def test_what_a_client_gave_up_is_cancelled_in_the_database(clients: Clients) -> None:
    for name in ("TypeScript SDK", "FastMCP"):
        assert clients.result(name).returncode == 0
    connection = await asyncpg.connect(clients.dsn)
    try:
        deadline = time.monotonic() + 5
        while await connection.fetchval(
            "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep(50)%' "
            "and pid <> pg_backend_pid()"
        ):
            assert time.monotonic() < deadline, "a query goes on for nobody"
    finally:
        await connection.close()


def test_the_conformance_suite_finds_what_a_server_of_tools_offers(clients: Clients) -> None:
    run = clients.result("conformance")
    assert run.returncode == 0, run.stdout[run.stdout.find("=== SUMMARY") :] + run.stderr
    passed = {line.split()[1].rstrip(":") for line in run.stdout.splitlines() if line.startswith("✓")}
    assert passed == {
        "server-initialize",
        "ping",
        "tools-list",
        "tools-call-simple-text",
        "tools-call-error",
        "server-sse-multiple-streams",
        "dns-rebinding-protection",
    }
    (file,) = clients.scratch.glob("server-json-schema-2020-12-*/checks.json")
    checks = {check["name"]: check["status"] for check in json.loads(file.read_text())}
    assert checks["JsonSchema2020_12AdditionalProperties"] == "SUCCESS"


def test_the_inspector_lists_and_calls(clients: Clients) -> None:
    assert len(printed(clients.result("inspector, list"))["tools"]) == 6
    assert printed(clients.result("inspector, call"))["structuredContent"] == rows(2.5)
    failed = clients.result("inspector, error")
    assert failed.returncode != 0
    answer = json.loads(failed.stdout)
    assert answer["isError"] is True
    assert answer["content"][0]["text"] == "division by zero (SQLSTATE 22012)"


def test_the_inspector_calls_the_tool_of_the_articles_file_over_stdio(clients: Clients) -> None:
    answer = printed(clients.result("inspector, article"))
    assert answer["isError"] is False
    assert answer["structuredContent"] == {"rows": [{"answer": 42}], "row_count": 1}
