"""This process's side of a server's keeper; the other side is `_keeper_process`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

KEEPER_TIMEOUT = 15.0
_PROGRAM = Path(__file__).with_name("_keeper_process.py")


class Keeper:
    """Our end of the socket to a keeper. For threads, not for an event loop; every wait is bounded."""

    def __init__(self, name: str, end_signal: int, user: tuple[int, int] | None) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(KEEPER_TIMEOUT)
        arguments = json.dumps([base_folder(), name, int(end_signal), user])
        # Neither the caller's secrets nor its PG* variables are meant for the servers.
        passed = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "HOME", "TMPDIR")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM), arguments],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in passed if name in os.environ} | {"LC_ALL": "C"},
                # Out of reach of the terminal's Ctrl-C, which is ours to answer.
                start_new_session=True,
            )
        self.folder = Path(self._answer())
        self.log = self.folder / "server.log"

    def ask(self, method: str, *arguments: object) -> Any:
        with suppress(BrokenPipeError):
            self._socket.sendall(json.dumps([method, *arguments]).encode() + b"\n")
        return self._answer()

    def _answer(self) -> Any:
        received = b""
        with suppress(ConnectionError, TimeoutError):
            while not received.endswith(b"\n") and (part := self._socket.recv(65536)):
                received += part
        if not received.endswith(b"\n"):
            raise RuntimeError("the server's keeper is gone or hangs, and the server with it")
        return json.loads(received)

    def tail(self) -> str:
        """The end of the log, for a message."""
        with suppress(OSError):
            if lines := self.log.read_text(errors="replace").splitlines():
                return "\n    ".join(["its log ends with:", *lines[-20:]])
        return "it logged nothing"

    def let_go(self) -> None:
        # Not close(): a thread may be reading, and a forked child may hold a copy.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.let_go()
        self._socket.close()
        self._process.wait(KEEPER_TIMEOUT)


def base_folder() -> str:
    """Where servers' folders are made."""
    # In memory if there is room: most of PostgreSQL's first start may go into creating 1,000 files on a disk.
    with suppress(OSError):
        memory = os.statvfs("/dev/shm")
        if os.access("/dev/shm", os.W_OK | os.X_OK) and memory.f_bavail * memory.f_frsize > 1 << 30:
            return "/dev/shm"
    return tempfile.gettempdir()
