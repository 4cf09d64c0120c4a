"""Ports of the loopback interface: one that is free to listen on, and whether one is listened on."""

from __future__ import annotations

import errno
import secrets
import socket
from contextlib import suppress

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port that nobody listens on now; somebody else may take it before you do."""
    # Below every system's ephemeral range: while the server is down, a client that keeps trying could else be
    # given this very port as its own, connect to itself, and keep the server from coming back.
    for _ in range(1000):
        port = 20_000 + secrets.randbelow(12_000)
        if is_free(port):
            return port
    raise RuntimeError(f"no free port between 20000 and 32000 on {LOOPBACK}")


def is_free(port: int) -> bool:
    """Whether it can be listened on."""
    with socket.socket() as probe, suppress(OSError):
        probe.bind((LOOPBACK, port))
        return True
    return False


def is_served(port: int) -> bool:
    """Whether somebody listens on it."""
    with socket.socket() as caller:
        caller.settimeout(1.0)
        # Whoever is too busy to accept serves all the same.
        return caller.connect_ex((LOOPBACK, port)) != errno.ECONNREFUSED
