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
    from aiopool.toolserver.stdio import Wire

logger = logging.getLogger("aiopool")

Transport = Literal["stdio", "http"]
#: Makes a block within which the server follows its file.
KeepCurrent = Callable[["ToolServer"], AbstractAsyncContextManager[None]]
Over = Callable[["Current", KeepCurrent], Awaitable[None]]

#: Seconds that calls under way may take to end when the server does.
GRACE = 4
#: Seconds after which a server that should have ended is ended by force; `docker stop` waits for ten.
DEADLINE = 9.0


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
            from aiopool.toolserver.stdio import Wire

            wire = Wire()
            await _serve(file, embedded, reload, partial(_over_stdio, wire))
        else:
            await _serve(file, embedded, reload, partial(_over_http, host, port))
    except ModuleNotFoundError as exc:
        raise Failure(f"{exc.name} is not installed; run: pip install 'aiopool-core[mcp]'") from None
    except (Failure, PoolConfigError, ImportError) as exc:
        raise Failure(str(exc)) from None
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


async def _over_stdio(wire: Wire, current: Current, keep_current: KeepCurrent) -> None:
    from aiopool.toolserver.server import ToolServer

    async with current:
        server = ToolServer(current)
        logger.info("serving %d tools over stdio", len(current.toolset.tools))
        async with keep_current(server):
            await wire.serve(server, GRACE, ending=partial(_end_within, DEADLINE))


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
