"""The keeper of a server: a process beside the caller's own.

A keeper is the parent of one server. It owns the server's folder and holds a socket to the caller; when that
socket ends, because the block was left or because the caller was killed with -9, it ends the server and
removes the folder. However and whenever the caller's life ends, no server and no folder outlives it.

    caller ◄── socket: one JSON line each way ──► keeper ── parent of ──► server and its children

Started by path with a bare interpreter: of the standard library only, and only what loads in milliseconds.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOCKET = 0
GRACE = 5.0  # seconds a server has to end by itself before it is killed, and then to vanish


class Keeper:
    """One folder and, in it, one child process at a time. `user`, if given, is a (uid, gid) for both."""

    def __init__(self, base: str, name: str, end_signal: int, user: list[int] | None) -> None:
        self.folder = os.path.join(base, f"aiopool-{name}-{os.urandom(6).hex()}")
        self.end_signal = end_signal
        self.user = user
        self.pid = 0
        self.exit_code: int | None = None
        os.mkdir(self.folder, 0o700)
        if user:
            os.chown(self.folder, *user)

    def spawn(self, *argv: str) -> int:
        self.exit_code = None
        self.pid = os.fork()
        if self.pid == 0:
            self._become(argv)
        return self.pid

    def poll(self) -> int | None:
        """The child's exit code, or None while it lives."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self.pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
        return self.exit_code

    def signal(self, number: int) -> None:
        if self._running():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the server with its whole family, and return when no process of it is left."""
        family = {self.pid, *children(self.pid)} if self._running() else set()
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            # Where orphans are adopted they show up here, which also catches a child born a moment ago.
            family |= children(os.getpid())
            family = {pid for pid in family if strike(pid)}
            self.poll()
            if not family:
                return
            time.sleep(0.002)

    def end(self) -> None:
        self.signal(self.end_signal)
        deadline = time.monotonic() + GRACE
        while self._running() and time.monotonic() < deadline:
            time.sleep(0.002)
        self.kill()
        self._remove_shared_memory()
        import shutil

        shutil.rmtree(self.folder, ignore_errors=True)

    def _running(self) -> bool:
        return self.pid > 0 and self.poll() is None

    def _become(self, argv: tuple[str, ...]) -> None:
        try:
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            log = os.open(os.path.join(self.folder, "server.log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if self.user:
                os.setgroups([])
                os.setgid(self.user[1])
                os.setuid(self.user[0])
            os.chdir(self.folder)
            os.execv(argv[0], argv)
        except OSError as error:
            os.write(2, f"{argv[0]}: {error}\n".encode())
            os._exit(126 if isinstance(error, PermissionError) else 127)
        finally:
            os._exit(127)

    def _remove_shared_memory(self) -> None:
        # A killed PostgreSQL leaves its SysV segment behind; a clean exit removes both it and this file.
        try:
            status = Path(self.folder, "data", "postmaster.pid").read_text().splitlines()
            segment = int(status[6].split()[1])
        except (OSError, IndexError, ValueError):
            return
        import ctypes

        if self.user:
            # In a container root may not remove a segment of somebody else.
            os.seteuid(self.user[0])
        ctypes.CDLL(None).shmctl(segment, 0, None)
        if self.user:
            os.seteuid(0)


def children(parent: int) -> set[int]:
    try:
        return {int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()}
    except OSError:
        if sys.platform.startswith("linux"):
            return set()
    import subprocess

    listing = subprocess.run(["/bin/ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
    pairs = [line.split() for line in listing.splitlines()]
    return {int(pid) for pid, its_parent in pairs if int(its_parent) == parent}


def strike(pid: int) -> bool:
    """Kill a process; False if there was none."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def adopt_orphans() -> None:
    """Become the parent of a killed server's children: PID 1 of a container may not reap them."""
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def requests() -> Iterator[list[Any]]:
    caller, received = os.getppid(), b""
    while True:
        while b"\n" in received:
            line, received = received.split(b"\n", 1)
            yield json.loads(line)
        # A child that the caller forked would hold the socket open after the caller's death.
        if not select.select([SOCKET], [], [], 1.0)[0]:
            if os.getppid() != caller:
                return
            continue
        data = os.read(SOCKET, 65536)
        if not data:
            return
        received += data


def reply(value: object) -> None:
    os.write(SOCKET, json.dumps(value).encode() + b"\n")


def keep(base: str, name: str, end_signal: int, user: list[int] | None) -> None:
    # Ctrl-C is for the caller, who ends us in its own time; a request to terminate takes the server along.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit())
    keeper = Keeper(base, name, end_signal, user)
    try:
        reply(keeper.folder)
        adopt_orphans()
        for method, *arguments in requests():
            reply(getattr(keeper, method)(*arguments))
    except OSError:
        pass  # the caller is gone
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        keeper.end()


if __name__ == "__main__":
    keep(*json.loads(sys.argv[1]))
