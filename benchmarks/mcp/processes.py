"""Servers as programs: ours, and what one would write by hand instead of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, TextIO

from benchmarks.mcp.client import PROGRAMS

#: Seconds until a server that was just started has to listen: FastMCP may have to be installed.
STARTS_WITHIN = 60.0
#: And to end, when it is asked to.
ENDS_WITHIN = 5.0
FASTMCP = ("fastmcp==4.1.2", "asyncpg")


def ours(where: str) -> list[str]:
    """`where` is `stdio` or a port."""
    transport = ["stdio"] if where == "stdio" else ["http", "--port", where]
    return [sys.executable, "-m", "aiopool", "serve", str(PROGRAMS / "tools.yaml"), "--transport", *transport]


def mcpserver(where: str, *how: str) -> list[str]:
    return [sys.executable, "-P", str(PROGRAMS / "mcpserver.py"), where, *how]


def fastmcp(where: str) -> list[str]:
    """In an environment of its own: 72 packages are a lot to ask of whoever measures something else."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise ModuleNotFoundError("uv is not installed", name="uv")
    packages = [word for package in FASTMCP for word in ("--with", package)]
    isolated = ["run", "--isolated", "--no-project", "--quiet", "--python", sys.executable]
    return [uv, *isolated, *packages, "python", "-P", str(PROGRAMS / "fastmcp_server.py"), where]


def silence() -> TextIO:
    """Where servers write what nobody reads."""
    return open(os.devnull, "w")


def over_stdio(command: list[str], dsn: str, errlog: TextIO) -> AbstractAsyncContextManager[Any]:
    """What `mcp.Client` takes for a server that it is to start."""
    from mcp import StdioServerParameters
    from mcp.client.stdio import stdio_client

    program, *arguments = command
    parameters = StdioServerParameters(command=program, args=arguments, env={**os.environ, "DATABASE_URL": dsn})
    return stdio_client(parameters, errlog=errlog)


@asynccontextmanager
async def listening(command: list[str], port: int, dsn: str) -> AsyncIterator[str]:
    """The address of the server that this command starts, which ends with the block."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "DATABASE_URL": dsn},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(STARTS_WITHIN):
            while not await _listens(port):
                if process.returncode is not None:
                    raise RuntimeError(f"the server ended with status {process.returncode}")
                await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        # `uv run` passes it on, and ends with what it has started.
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), ENDS_WITHIN)
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
