"""`mcp`: calls of tools through the SDK's client, with pools and without; and servers written by hand.

Four questions: what a pool saves a handler, what a warm worker saves a script, what a pool of sessions saves whoever
calls many servers, and what it costs to have a file served instead of writing the server.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from aiopool import embedded
from aiopool.embedded.ports import free_port
from benchmarks.harness import Run
from benchmarks.mcp import handlers, processes, scripts, served, sessions
from benchmarks.mcp.client import QUERY
from benchmarks.quiet import quiet
from benchmarks.results import Target
from benchmarks.servers import compare_clients

#: At once: a single caller, and more than there are connections. Where every call costs a process, less.
TASKS = (1, 20)
SCRIPT_TASKS = (1, 4)
STDIO_TASKS = (20,)
#: Of the time that other suites have for a cell: there are many here.
SHARE = 0.5


async def run(run: Run) -> None:
    import mcp  # noqa: F401 - without it there is nothing to compare

    effort = replace(run.effort, backend_cell=run.effort.backend_cell * SHARE)
    shorter = Run(effort, run.expect, run.step, run.publish, run.dice)
    async with embedded.postgres() as server:
        with quiet():
            for part in (_handlers, _scripts, _sessions_over_stdio, _sessions_over_http, _servers):
                await part(shorter, server.dsn)


async def _handlers(run: Run, dsn: str) -> None:
    ours, unpooled = handlers.Leased.name, handlers.Unpooled.name
    await compare_clients(
        run,
        "mcp",
        "A handler",
        f"A tool of an `MCPServer` that runs `{QUERY}`, called through `mcp.Client` in the same process.",
        [kind(dsn) for kind in handlers.CONTESTANTS],
        TASKS,
        references=(unpooled, handlers.ByHand.name),
        targets=lambda tasks: (
            Target(ours, at_least=5.0, times=unpooled),
            Target(ours, at_least=1.0, times=handlers.ByHand.name),
        ),
    )


async def _scripts(run: Run, dsn: str) -> None:
    process = scripts.Process.name
    await compare_clients(
        run,
        "mcp",
        "A script",
        f"A Python script that runs `{QUERY}`, as the tool of a file, called through `mcp.Client` in the same process.",
        [kind(dsn) for kind in scripts.CONTESTANTS],
        SCRIPT_TASKS,
        references=(process,),
        targets=lambda tasks: (Target(scripts.Worker.name, at_least=20.0, times=process),),
    )


async def _sessions_over_stdio(run: Run, dsn: str) -> None:
    command = processes.ours("stdio")
    per_call = sessions.Fresh.name
    with processes.silence() as nothing:

        def factory() -> Any:
            from aiopool.adapters.mcp import stdio

            return stdio(*command, env={**os.environ, "DATABASE_URL": dsn}, errlog=nothing)

        def target() -> Any:
            return processes.over_stdio(command, dsn, nothing)

        await compare_clients(
            run,
            "mcp",
            "Sessions over stdio",
            "A tool of `aiopool serve`, which is a process that the client starts.",
            [kind(target, factory) for kind in sessions.CONTESTANTS],
            (1,),
            references=(per_call, sessions.Single.name),
            targets=lambda tasks: (Target(sessions.Pooled.name, at_least=100.0, times=per_call),),
        )


async def _sessions_over_http(run: Run, dsn: str) -> None:
    port = free_port()
    async with processes.listening(processes.ours(str(port)), port, dsn) as url:

        def factory() -> Any:
            from aiopool.adapters.mcp import streamable_http

            return streamable_http(url)

        per_call = sessions.Fresh.name
        await compare_clients(
            run,
            "mcp",
            "Sessions over HTTP",
            "A tool of `aiopool serve`, called through `mcp.Client` over streamable HTTP.",
            [kind(lambda: url, factory) for kind in sessions.CONTESTANTS],
            TASKS,
            references=(per_call, sessions.Single.name),
            targets=lambda tasks: (Target(sessions.Pooled.name, at_least=3.0, times=per_call),),
        )


async def _servers(run: Run, dsn: str) -> None:
    about = (
        f"Servers with a tool that runs `{QUERY}`, each in a process of its own, called through `mcp.Client`. "
        "`aiopool serve` does so in a transaction that only reads, with a bound on its time, and resets the session."
    )
    for transport, kinds, cases in (("HTTP", served.OVER_HTTP, TASKS), ("stdio", served.OVER_STDIO, STDIO_TASKS)):
        await compare_clients(
            run,
            "mcp",
            f"Servers over {transport}",
            about,
            [kind(dsn, transport) for kind in kinds],
            cases,
            references=(served.ByHand.name, served.FastMCPByHand.name),
            targets=_server_targets,
        )


def _server_targets(tasks: int) -> tuple[Target, ...]:
    return (
        Target(served.Ours.name, at_least=0.8, times=served.ByHand.name),
        Target(served.Ours.name, at_least=1.0, times=served.FastMCPByHand.name),
    )
