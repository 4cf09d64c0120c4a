"""Where the HTTP server listens, and what it warns of."""

from __future__ import annotations

import ipaddress
import logging
import socket

from aiopool.toolserver.serving import Failure

logger = logging.getLogger("aiopool")

#: Clients that wait to be accepted.
BACKLOG = 2048


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
        listener.listen(BACKLOG)
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
