"""`aiopool serve`: the tools of a file over stdio or HTTP, from the first moment to an orderly end.

What ends it is the client that closes its side (stdio), or a signal, which arrives here as a cancellation. Then calls
under way have a moment to end, the rest is cancelled, and every pool is closed.

What a transport needs is imported when it is known which: `import mcp` takes a second.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Literal

from aiopool.errors import PoolConfigError
from aiopool.telling import explain

if TYPE_CHECKING:
    from aiopool.toolserver.current import Current
    from aiopool.toolserver.server import ToolServer

logger = logging.getLogger("aiopool")

Transport = Literal["stdio", "http"]
#: Makes a block within which the server follows its file.
KeepCurrent = Callable[["ToolServer"], AbstractAsyncContextManager[None]]
Over = Callable[["Current", KeepCurrent], Awaitable[None]]

#: Seconds that calls under way may take to end when the server does.
GRACE = 4
#: Seconds after which a server that should have ended is ended by force; `docker stop` waits for ten.
DEADLINE = 9.0

#: What the extra brings that is imported here.
_EXTRA = ("mcp", "starlette", "uvicorn", "watchfiles", "jsonschema", "yaml")
_REMEDY = "; run: pip install 'aiopool-core[mcp]'"


class Failure(Exception):
    """The tools cannot be served; the message says why, and what to do about it."""


async def serve(
    file: str,
    transport: Transport = "stdio",
    *,
    host: str | None = None,
    port: int | None = None,
    embedded: bool = False,
    reload: bool = True,
) -> None:
    """Serve `file` until the client has gone (stdio), or until cancelled; raises `Failure`.

    `host` and `port` replace those of the file. With `embedded`, pools without an address get servers of their own.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logger.setLevel(logging.INFO)
    try:
        if transport == "stdio":
            await _serve(file, embedded, reload, partial(_over_stdio, *_take_stdio()))
        else:
            await _serve(file, embedded, reload, partial(_over_http, host, port))
    except (PoolConfigError, ImportError) as exc:
        is_ours = isinstance(exc, ModuleNotFoundError) and exc.name in _EXTRA
        raise Failure(f"{exc}{_REMEDY if is_ours else ''}") from None
    except Failure:
        raise
    except Exception as exc:
        raise Failure(explain(exc)) from None


async def _serve(file: str, embedded: bool, reload: bool, over: Over) -> None:
    from aiopool.toolserver.current import Current
    from aiopool.toolserver.reloading import reloading, signature
    from aiopool.toolserver.toolset import Toolset

    async with AsyncExitStack() as stack:
        env = dict(os.environ)
        if embedded:
            from aiopool.toolserver.standins import standins

            env |= await stack.enter_async_context(standins(file, env))
        known = signature(file)
        current = Current(lambda: Toolset.from_file(file, env=env, embedded=embedded))
        await over(current, lambda server: reloading(server.reload, file, known, watch=reload))


def _take_stdio() -> tuple[int, int]:
    """Stdin and stdout for the protocol: whatever else reads finds nothing, and what it prints goes to stderr."""
    if sys.stdin is None or sys.stdout is None:
        raise Failure("stdin or stdout is closed; a client opens both, or use --transport http")
    incoming, outgoing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return incoming, outgoing


async def _over_stdio(incoming: int, outgoing: int, current: Current, keep_current: KeepCurrent) -> None:
    from aiopool.toolserver.server import ToolServer
    from aiopool.toolserver.stdio import Wire

    async with current:
        server = ToolServer(current)
        logger.info("serving %d tools over stdio", len(current.toolset.tools))
        async with keep_current(server):
            await Wire(incoming, outgoing).serve(server, GRACE, ending=partial(_end_within, DEADLINE))


async def _over_http(host: str | None, port: int | None, current: Current, keep_current: KeepCurrent) -> None:
    from aiopool.toolserver import listening
    from aiopool.toolserver.guard import loopback

    settings = current.toolset.settings
    with listening.bind(host or settings.host, settings.port if port is None else port) as listener:
        hosts = [*loopback(listener.getsockname()[1]), *(settings.allowed_hosts or ())]
        listening.warn_of_strangers(
            listener, has_hosts=bool(settings.allowed_hosts), has_token=settings.token is not None
        )
        from aiopool.toolserver import webserver
        from aiopool.toolserver.app import App

        async with current:
            app = App(current, hosts=hosts, origins=settings.allowed_origins or (), token=settings.token)
            logger.info("serving %d tools on %s/mcp", len(current.toolset.tools), listening.url_of(listener))
            async with keep_current(app.server):
                await webserver.run(app, listener, GRACE)


def kill_children() -> None:
    """End what tools have started, for an end by force: nothing else would."""
    if (processes := sys.modules.get("aiopool.toolserver.processes")) is not None:
        processes.kill_all()


def _end_within(seconds: float) -> None:
    """Whatever hangs, the process ends: a client that has closed its side may be waiting for that."""

    def end() -> None:
        kill_children()
        os.write(2, b"aiopool: ended by force\n")
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
