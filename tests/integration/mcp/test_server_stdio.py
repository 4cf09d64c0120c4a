"""`aiopool serve` over stdio, as a process: however it ends, it ends soon, with every pool closed and stdout clean."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from aiopool import embedded
from tests.integration.mcp.test_server_calls import eventually, queries
from tests.integration.mcp.toolserving import MODES, TOOLS, start, write_tools

PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
STOPPED = "aiopool: stopped; nothing is left running\n"
HANDSHAKE: list[dict[str, Any]] = [
    {
        "id": 0,
        "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    },
    {"method": "notifications/initialized"},
]
#: A tool that keeps the event loop for itself, and one that prints.
RUDE = """
import sys, time
async def hog():
    print("hogging", file=sys.stderr, flush=True)
    time.sleep(600)
async def shout():
    print("this is no protocol")
    sys.stdout.write("nor is this")
    return sys.stdin.read()
async def half():
    return r'{"a": "\\ud800"}'
"""


def call(number: int, tool: str, **arguments: Any) -> dict[str, Any]:
    return {"id": number, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


def lines(*messages: dict[str, Any]) -> str:
    return "".join(json.dumps({"jsonrpc": "2.0", **message}) + "\n" for message in messages)


def answers(out: str) -> dict[int, Any]:
    """By id; whatever is no JSON-RPC fails the test."""
    parsed = [json.loads(line) for line in out.splitlines()]
    assert all(message["jsonrpc"] == "2.0" for message in parsed)
    return {message["id"]: message for message in parsed if "id" in message}


def runs(word: str) -> bool:
    """Is there a process with this in its command line?"""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            if word.encode() in file.read_bytes():
                return True
    return False


@pytest.mark.parametrize("mode", MODES)
async def test_clients_of_both_generations_call_tools(
    postgres: embedded.PostgresServer, tmp_path: Path, mode: str
) -> None:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "aiopool", "serve", str(write_tools(tmp_path, "client"))],
        env={"DATABASE_URL": postgres.dsn},
    )
    async with Client(server, mode=mode) as client:
        assert (await client.call_tool("add", {"a": 1})).structured_content["rows"] == [{"sum": 2}]  # type: ignore[index]
    assert await queries(postgres.dsn, "client", "true") == 0


async def test_at_the_end_of_input_calls_are_answered_and_the_status_is_0(
    postgres: embedded.PostgresServer, tmp_path: Path
) -> None:
    (tmp_path / "rude.py").write_text(RUDE)
    text = TOOLS + "  - {{name: shout, python: 'rude:shout'}}\n  - {{name: half, python: 'rude:half'}}\n"
    process = start(write_tools(tmp_path, "eof", text=text), postgres.dsn, **PIPES)
    # What is no message is answered, and does no harm.
    garbage = (
        "{\n\n  \nnull\n"
        + "x" * 5_000_000
        + "\n\x00\n"
        + lines(call(10, "x" * 5_000_000))
        + '{"jsonrpc":"2.0","method":"no/such"}\n'
    )
    requests = (
        lines(*HANDSHAKE)
        + garbage
        + '{"jsonrpc":"2.0","id":9,"method":"tools/call","params":5}\n'
        + lines(call(1, "shout"), call(2, "nap", seconds=0.5), {"id": 3, "method": "?"}, call(4, "half"))
    )
    out, err = await asyncio.to_thread(process.communicate, requests, 30)
    assert process.returncode == 0
    answered = answers(out)
    assert not answered[1]["result"].get("isError"), answered[1]
    assert answered[2]["result"]["structuredContent"]["row_count"] == 1
    assert answered[3]["error"]["code"] == -32601
    assert answered[4]["result"]["structuredContent"] == {"a": "?"}, "half a surrogate pair cannot be sent"
    assert answered[9]["error"]["code"] == -32600, "somebody waits for this answer"
    assert "longer than 4194304 bytes" in answered[10]["error"]["message"]
    assert answered[None]["error"]["code"] == -32700  # type: ignore[index]
    assert "this is no protocol" in err
    assert "Traceback" not in err
    assert await queries(postgres.dsn, "eof", "true") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_while_the_client_keeps_its_side_open(
    postgres: embedded.PostgresServer, tmp_path: Path, number: int
) -> None:
    name = f"signal_{number}"
    with start(write_tools(tmp_path, name), postgres.dsn, bounds="serving.GRACE = 1", **PIPES) as process:
        process.stdin.write(lines(*HANDSHAKE, call(1, "nap", seconds=0.7), call(2, "nap", seconds=60)))
        process.stdin.flush()

        async def run() -> bool:
            return await queries(postgres.dsn, name) == 2

        async def ended() -> bool:
            return await queries(postgres.dsn, name, "true") == 0

        await eventually(run, 20)
        began = time.monotonic()
        process.send_signal(number)
        assert await asyncio.to_thread(process.wait, 20) == 128 + number
        assert time.monotonic() - began < 5
        answered = answers(process.stdout.read())
        assert "result" in answered[1]
        assert "cancelled" in answered[2]["result"]["content"][0]["text"]
        assert process.stderr.read().endswith(STOPPED)
        await eventually(ended)


async def test_what_a_client_that_is_killed_has_asked_for_is_cancelled_at_once(
    postgres: embedded.PostgresServer, tmp_path: Path
) -> None:
    with start(write_tools(tmp_path, "killed"), postgres.dsn, **PIPES) as process:
        process.stdin.write(lines(*HANDSHAKE, call(1, "nap", seconds=60)))
        process.stdin.flush()

        async def under_way() -> bool:
            return await queries(postgres.dsn, "killed") == 1

        async def ended() -> bool:
            return await queries(postgres.dsn, "killed", "true") == 0

        await eventually(under_way, 20)
        # All that is left of a process after kill -9: its ends are closed.
        process.stdout.close()
        process.stdin.close()
        await eventually(ended, 3)
        assert await asyncio.to_thread(process.wait, 10) == 0


async def test_a_signal_at_any_moment_of_the_start_ends_it(postgres: embedded.PostgresServer, tmp_path: Path) -> None:
    file = write_tools(tmp_path, "starting")
    moments = [0.1, 0.5, 0.9, 1.3]
    processes = [start(file, postgres.dsn, **PIPES) for _ in moments]
    for process, moment, before in zip(processes, moments, [0.0, *moments], strict=False):
        await asyncio.sleep(moment - before)
        process.send_signal(signal.SIGTERM)
    for process in processes:
        out, err = await asyncio.to_thread(process.communicate, None, 20)
        # Before Python has come to our first line, a signal ends it without a word.
        assert (process.returncode, err[-len(STOPPED) :]) in [(143, STOPPED), (-signal.SIGTERM, "")], err
        assert out == ""
    assert await queries(postgres.dsn, "starting", "true") == 0


async def test_what_hangs_is_ended_by_force_and_with_it_what_it_has_started(
    postgres: embedded.PostgresServer, tmp_path: Path
) -> None:
    (tmp_path / "rude.py").write_text(RUDE)
    seconds = f"600.{os.getpid()}"
    rude = f"""
  - {{{{name: hog, description: Blocks., python: 'rude:hog'}}}}
  - {{{{name: sleep, description: Sleeps., script: {{{{command: sleep, args: ['{seconds}']}}}}}}}}
"""
    file = write_tools(tmp_path, "hog", text=TOOLS + rude)
    with start(file, postgres.dsn, bounds="serving.GRACE, serving.DEADLINE = 0.2, 0.5", **PIPES) as process:
        process.stdin.write(lines(*HANDSHAKE, call(1, "sleep")))
        process.stdin.flush()

        async def sleeps() -> bool:
            return runs(seconds)

        async def has_ended() -> bool:
            return not runs(seconds)

        await eventually(sleeps, 20)
        process.stdin.write(lines(call(2, "hog")))
        process.stdin.flush()
        while "hogging" not in await asyncio.to_thread(process.stderr.readline):
            assert process.poll() is None
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 143
        assert time.monotonic() - began < 3
        await eventually(has_ended)


async def test_what_is_wrong_at_the_start_is_told_on_stderr_with_status_1(
    postgres: embedded.PostgresServer, tmp_path: Path
) -> None:
    file = write_tools(tmp_path, "wrong", text=TOOLS.replace("sql:", "sqll:", 1))
    nobody = tmp_path / "nobody.yaml"
    nobody.write_text(
        TOOLS.replace("min_size: 1", "min_size: 1, user: nobody, password: hunter2, unavailable_after: 0").format(
            name="nobody", max_size=1
        )
    )
    cases = {file: "sqll", nobody: "database"}
    processes = {path: start(path, postgres.dsn, **PIPES) for path in cases}
    for path, word in cases.items():
        out, err = await asyncio.to_thread(processes[path].communicate, None, 20)
        assert processes[path].returncode == 1
        assert out == ""
        assert err.startswith("aiopool: serve: ")
        assert word in err
        assert "Traceback" not in err
        assert "hunter2" not in err
