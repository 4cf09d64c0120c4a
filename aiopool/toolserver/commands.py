"""`aiopool check`, `aiopool invoke`, `aiopool tools`: what a file of pools and tools says, and what comes of it.

What a command needs is imported when it is run: `aiopool --help` shall not wait for it, nor fail without it.
"""

# No `from __future__ import annotations`: typer reads them.

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiopool.ending import fail, flush, interruption
from aiopool.errors import PoolConfigError

if TYPE_CHECKING:
    from aiopool.toolserver.tool import Tool

File = Annotated[str, typer.Argument(help="The file of pools and tools, YAML or TOML.")]
Embedded = Annotated[bool, typer.Option("--embedded", help="Start servers for pools without an address.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (check, invoke, tools):
        app.command()(command)


def check(file: File, embedded: Embedded = False) -> None:
    """Check a file and connect each of its pools: a line for each pool and tool, and all that is wrong."""
    with _ending("check"):
        from aiopool.toolserver.checking import check

        interruption.run(check(file, embedded=embedded, say=typer.echo))


def invoke(
    file: File,
    tool: Annotated[str, typer.Argument(help="The tool's name.")],
    arguments: Annotated[str, typer.Argument(help="Its arguments, a JSON object.")] = "{}",
    embedded: Embedded = False,
) -> None:
    """Call one tool of a file and print its result; what the tool says went wrong goes to stderr."""
    with _ending("invoke"):
        given = _object(arguments)

        from aiopool.toolserver.toolset import Toolset

        toolset = Toolset.from_file(file, embedded=embedded, eager=False)

        async def call() -> None:
            if tool not in toolset.tools:
                result = await toolset.call(tool, given)  # has the words for it, and needs no pool
            else:
                async with toolset:
                    result = await toolset.call(tool, given)
            if result.is_error:
                fail(f"invoke: {result.text}")
            typer.echo(result.text)

        interruption.run(call())


def tools(
    file: File, as_json: Annotated[bool, typer.Option("--json", help="As MCP's tools/list would have it.")] = False
) -> None:
    """List the tools of a file, with their schemas; needs no server, nor its address."""
    with _ending("tools"):
        from aiopool.toolserver.reading import read_file

        listed = read_file(file, listing=True).tools.values()
        if as_json:
            entries = [
                {"name": tool.name, "description": tool.description, "inputSchema": tool.parameters.schema}
                for tool in listed
            ]
            typer.echo(json.dumps({"tools": entries}, indent=2, ensure_ascii=False))
        else:
            typer.echo("\n\n".join(map(_shown, listed)))


def _shown(tool: "Tool") -> str:
    lines = [tool.name, *(f"    {line}" for line in tool.description.strip().splitlines())]
    required = tool.parameters.schema.get("required", ())
    for name, schema in tool.parameters.schema["properties"].items():
        is_required = ", required" if name in required else ""
        lines.append(f"  {name}{is_required}: {json.dumps(schema, ensure_ascii=False)}")
    return "\n".join(lines)


def _object(text: str) -> dict[str, Any]:
    example = """an object such as '{"query": "select 1"}' is needed, in quotes for the shell"""
    try:
        given = json.loads(text)
    except ValueError as exc:
        # Numbers of more digits than Python reads have words of their own.
        where = f"{exc.msg} at character {exc.pos + 1}" if isinstance(exc, json.JSONDecodeError) else str(exc)
        fail(f"invoke: the arguments are not valid JSON ({where}); {example}")
    except RecursionError:
        fail("invoke: the arguments are nested too deeply")
    if not isinstance(given, dict):
        fail(f"invoke: the arguments are JSON, but {example}")
    return given


@contextmanager
def _ending(command: str) -> Iterator[None]:
    """Whatever goes wrong ends the command with status 1 and words that say what to do."""
    try:
        yield
        sys.stdout.flush()
    except PoolConfigError as exc:
        fail(f"{command}: {exc}")
    except ImportError as exc:
        advice = "" if "pip install" in str(exc) else '; run: pip install "aiopool-core[all]"'
        fail(f"{command}: {exc}{advice}")
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has seen enough.
        flush()
        sys.exit(1)
    except Exception as exc:
        from aiopool.adapters import hush

        hush(exc, *map(os.environ.get, ("DATABASE_URL", "REDIS_URL", "PGPASSWORD")))
        fail(f"{command}: {type(exc).__name__}: {' '.join(str(exc).split())}")
