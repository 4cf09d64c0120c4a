"""The HTTP server: uvicorn, which is told by us when to end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from aiopool.toolserver.app import App

#: Connections of clients at once, below what a process may usually have; those beyond get 503.
MAX_CONNECTIONS = 500
#: How long the last answers may take to be written, in seconds.
WRITE_TIMEOUT = 1


async def run(app: App, listener: socket.socket, grace: int) -> None:
    """Serve until cancelled; then let calls under way end for `grace` seconds, and cancel what is left."""
    server = _Server(
        uvicorn.Config(
            app,
            http="h11",  # strict, and the same everywhere
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=WRITE_TIMEOUT,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.wait((serving,))
    finally:
        await app.end(grace)
        server.should_exit = True
        await asyncio.wait((serving,))
    serving.result()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are answered already, from before the start until after the end."""
        yield
