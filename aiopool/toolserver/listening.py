"""The HTTP server: where it listens, what it warns of, and how it ends."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from aiopool.toolserver.app import App
from aiopool.toolserver.serving import Failure

logger = logging.getLogger("aiopool")

#: Clients' connections at once; those beyond get 503.
MAX_CONNECTIONS = 2000


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there; who connects has to wait until it is served. Port 0 is any free one.

    Raises `Failure`.
    """
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(MAX_CONNECTIONS)
    except (OSError, OverflowError) as exc:
        if listener is not None:
            listener.close()
        reason = getattr(exc, "strerror", None) or str(exc)
        raise Failure(
            f"cannot listen on {host}:{port} ({reason}); choose another with --port, where 0 is any free one, or --host"
        ) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Where it is, without a path."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def warn_of_strangers(listener: socket.socket, *, has_hosts: bool, has_token: bool) -> None:
    """Say so if other machines can reach it, and not everything is set for that."""
    host = listener.getsockname()[0]
    if ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        return
    if not has_token:
        logger.warning("other machines can reach %s, and whoever does can call every tool; set server.token", host)
    if not has_hosts:
        logger.warning(
            "%s answers only to the names of this machine itself (localhost); set server.allowed_hosts, "
            "such as [tools.example.com, 'tools.example.com:8000'], for those that others call it by",
            host,
        )


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
            timeout_graceful_shutdown=grace,
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
