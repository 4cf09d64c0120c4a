"""Ends the processes of tools when the server that started them is gone, be it killed with -9.

    server ── pipe: `+1234`, `-1234` for each process group that begins and ends ──► this process

Started by path with a bare interpreter: of the standard library only, and only what loads in milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

#: Seconds that they have to end when they are told to.
GRACE = 2.0


def watch(pipe: int, server: int) -> set[int]:
    """The groups that were left when the server ended."""
    groups: set[int] = set()
    received = b""
    while True:
        # A child that the server has forked may hold its end of the pipe open after its death; what is in it counts.
        is_alive = os.getppid() == server
        if not select.select([pipe], [], [], 1.0 if is_alive else 0.0)[0]:
            if is_alive:
                continue
            break
        data = os.read(pipe, 65536)
        if not data:
            break
        *lines, received = (received + data).split(b"\n")
        for line in lines:
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    return groups


def end(groups: set[int]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE
        for group in groups:
            strike(group, number)
        while groups and time.monotonic() < deadline:
            time.sleep(0.01)
            groups = {group for group in groups if strike(group, 0)}


def strike(group: int, number: int) -> bool:
    """Whether there was somebody to get the signal."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    end(watch(int(sys.argv[1]), os.getppid()))
