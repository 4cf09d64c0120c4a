"""A Python script as a tool: in a warm worker that keeps its connection, and in a process of its own for each call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from benchmarks.mcp.client import PROGRAMS, Client, PerCall
from benchmarks.results import Kind
from benchmarks.servers import CONNECTIONS


class Worker(Client):
    name = "aiopool, mode: worker"
    kind = Kind.OURS
    mode: ClassVar[str] = "worker"

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Any]:
        from mcp import Client

        from aiopool.toolserver.current import Current
        from aiopool.toolserver.server import ToolServer
        from aiopool.toolserver.toolset import Toolset

        script = {"command": "python", "args": [str(PROGRAMS / "query.py")], "mode": self.mode}
        file = {
            "pools": {"database": {"min_size": 1, "max_size": CONNECTIONS}},
            "tools": [{"name": "query", "pool": "database", "timeout": 60, "script": script}],
        }
        current = Current(lambda: Toolset.from_file(file, env={"DATABASE_URL": self.dsn}))
        async with current, Client(ToolServer(current).mcp) as client:
            yield client


class Process(PerCall, Worker):
    name = "mode: exec"
    mode = "exec"


CONTESTANTS: tuple[type[Worker], ...] = (Worker, Process)
