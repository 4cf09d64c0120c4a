"""Toolsets whose tools are scripts that a test writes."""

from __future__ import annotations

import asyncio
import os
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiopool.toolserver.toolset import Toolset
from aiopool.toolserver.workers import WorkerPool


def script_tool(
    name: str, text: str, folder: Path, *args: str, pool: str | None = "database", **script: Any
) -> dict[str, Any]:
    """A tool that runs this text; its parameters are what its arguments name."""
    (folder / f"{name}.py").write_text(textwrap.dedent(text))
    parameters = [{"name": each.strip("{}")} for each in args if each.startswith("{{")]
    tool: dict[str, Any] = {"name": name, "description": name, "parameters": parameters}
    if pool is not None:
        tool["pool"] = pool
    return tool | {"script": {"command": "python", "args": [str(folder / f"{name}.py"), *args], **script}}


def toolset(*tools: Mapping[str, Any], env: Mapping[str, str] | None = None, **config: Any) -> Toolset:
    """With a pool for each address in `env`."""
    env = env or {}
    names = {"DATABASE_URL": "database", "REDIS_URL": "redis"}
    pools = {name: {"min_size": 0, "max_size": 2, **config} for variable, name in names.items() if variable in env}
    file = {"name": "scripted", "tools": list(tools), **({"pools": pools} if pools else {})}
    return Toolset.from_file(file, env={**os.environ, **env})


def worker_pids(tools: Toolset, pool: str = "database") -> list[int]:
    workers = tools.pools.get(pool)
    assert isinstance(workers, WorkerPool)
    return [info.connection.pid for info in workers.pool._stock.connections]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def eventually(is_so: Callable[[], bool], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < deadline, "it has not come to pass"
        await asyncio.sleep(0.01)
