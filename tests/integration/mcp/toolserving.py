"""A file of tools, and the ways in which the tests serve it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from aiopool.toolserver.current import Current
from aiopool.toolserver.toolset import Toolset

MODES = ("legacy", "auto")

#: `name` marks its connections for `pg_stat_activity`.
TOOLS = """
name: trial
version: 2.1
pools:
  database: {{min_size: 1, max_size: {max_size}, server_settings: {{application_name: {name}}}}}
tools:
  - name: add
    description: Adds two numbers.
    parameters:
      - {{name: a, type: integer, required: true}}
      - {{name: b, type: integer, default: 1, minimum: 0}}
    sql: "select :a::int + :b::int as sum"
  - name: nap
    description: Sleeps in the database.
    parameters: [{{name: seconds, type: number, required: true}}]
    sql: "select pg_sleep(:seconds)"
  - name: note
    description: Writes to the database.
    parameters: [{{name: text, type: string, required: true}}]
    read_only: false
    sql: "select length(:text) as length"
"""


def write_tools(folder: Path, name: str, max_size: int = 5, text: str = TOOLS) -> Path:
    file = folder / "tools.yaml"
    file.write_text(text.format(name=name, max_size=max_size))
    return file


@asynccontextmanager
async def serving(file: Path, dsn: str) -> AsyncIterator[Current]:
    """In this process."""
    env = {"DATABASE_URL": dsn}
    async with Current(lambda: Toolset.from_file(file, env=env)) as current:
        yield current


def start(file: Path, dsn: str, *arguments: str, bounds: str = "", **how: Any) -> subprocess.Popen[Any]:
    """`aiopool serve`, as a shell would start it; `bounds` are other ones for its end."""
    program = f"from aiopool.cli import main; from aiopool.toolserver import serving; {bounds}; main()"
    return subprocess.Popen(
        [sys.executable, *(["-c", program] if bounds else ["-m", "aiopool"]), "serve", str(file), *arguments],
        env={"DATABASE_URL": dsn, "PATH": "/usr/bin:/bin", "PYTHONUTF8": "1"},
        text=True,
        **{"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, **how},
    )


@contextmanager
def started_on_http(
    file: Path, dsn: str, *arguments: str, bounds: str = ""
) -> Iterator[tuple[subprocess.Popen[Any], str]]:
    """The process, and where it listens."""
    process = start(file, dsn, "--transport", "http", "--port", "0", *arguments, bounds=bounds)
    try:
        yield process, address_of(process)
    finally:
        process.kill()
        process.communicate()


def address_of(process: subprocess.Popen[Any]) -> str:
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if found := re.search(r"(http://\S+)/mcp", line):
            return found[1]
    raise AssertionError(f"it did not start: {seen}")
