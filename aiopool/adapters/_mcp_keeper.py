"""The keeper of an MCP server that is run over stdio: the parent of its process, and of all that comes from it.

    caller ── stdin, stdout ──► server          straight through; the keeper touches neither
       └────── socket ────────► keeper ── parent of ──► server and its children

When the caller's end of the socket ends, because the session was left or because the caller was killed with -9, the
keeper ends the server; and when the server has ended, whatever it has started. If the keeper is killed, the kernel
kills the server (on Linux), and the caller the rest of the process group.

Started by path with a bare interpreter: of the standard library only, and only what loads in milliseconds.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time

#: Standard error, until the caller's own has come through it.
SOCKET = 2
#: Seconds that a server has to end when its standard input has.
PATIENCE = 2.0
#: And when it is told to; and then its children. Both together are less than our own caller waits for us.
GRACE = 0.5
POLL = 0.005
LINUX = sys.platform.startswith("linux")


def keep(argv: list[str]) -> int:
    """The server's exit code, which is told to the caller, too."""
    link, caller = socket.socket(fileno=os.dup(SOCKET)), os.getppid()
    wakes, wake = os.pipe()
    os.set_blocking(wakes, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    # The whole process group is told to end; and handlers, unlike what is ignored, are not passed on by `exec`.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    _, (errors,), _, _ = socket.recv_fds(link, 1, 1)
    os.dup2(errors, SOCKET)
    os.close(errors)
    _prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: the orphans of our family come to us
    _tell(link, f"keeper {os.getpid()}")
    keeper, server = os.getpid(), os.fork()
    if server == 0:
        _become(argv, link, keeper)
    # They are the server's; ours would keep its peer from seeing that they end.
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    code, patience = _reap(server), PATIENCE
    while code is None and os.getppid() == caller:
        # A child that the caller has forked may hold its end of the socket open after the caller's death.
        ready = select.select([link.fileno(), wakes], [], [], 1.0)[0]
        if wakes in ready and signal.SIGTERM in os.read(wakes, 4096):
            patience = 0.0
            break
        code = _reap(server)
        if link.fileno() in ready and not link.recv(4096):
            break
    if code is None:
        code = _end(server, patience)
    _tell(link, f"ended {code}")
    _end_family()
    _reap(0)
    return code


def _become(argv: list[str], link: socket.socket, keeper: int) -> None:
    try:
        _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() == keeper:
            os.execvp(argv[0], argv)
    except OSError as error:
        _tell(link, f"failed {error.errno}")
    finally:
        os._exit(127)


def _end(server: int, patience: float) -> int:
    """Its standard input has ended; then it is told to end, and then killed."""
    for number, seconds in ((0, patience), (signal.SIGTERM, GRACE), (signal.SIGKILL, float("inf"))):
        os.kill(server, number)  # it is not reaped yet, so the number is still its own
        deadline = time.monotonic() + seconds
        while True:
            if (code := _reap(server)) is not None:
                return code
            if time.monotonic() >= deadline:
                break
            time.sleep(POLL)
    raise AssertionError("nobody survives SIGKILL")


def _end_family() -> None:
    began = time.monotonic()
    told: set[int] = set()
    while (family := _family()) and time.monotonic() < began + 2 * GRACE:
        is_late = time.monotonic() > began + GRACE
        for pid in family if is_late else family - told:
            told.add(pid)
            _strike(pid, signal.SIGKILL if is_late else signal.SIGTERM)
        time.sleep(POLL)
        _reap(0)


def _family() -> set[int]:
    """Our descendants, and who else is in our process group; nobody who is dead."""
    parents: dict[int, int] = {}
    family: set[int] = set()
    us = os.getpid()
    for pid, parent, group in _processes():
        parents[pid] = parent
        if group == us:
            family.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in family or parent == us} - family:
        family |= more
    return family - {us}


def _processes() -> list[tuple[int, int, int]]:
    """(pid, parent, process group) of all that live."""
    if not LINUX:
        import subprocess

        listing = subprocess.run(
            ["/bin/ps", "-A", "-o", "pid=,ppid=,pgid=,stat="], capture_output=True, text=True, check=False
        )
        rows = [line.split() for line in listing.stdout.splitlines()]
        return [(int(pid), int(ppid), int(pgid)) for pid, ppid, pgid, state in rows if state[0] != "Z"]
    processes = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/stat", "rb") as stat:
                    state, parent, group, *_ = stat.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if state not in b"ZX":
                processes.append((int(entry), int(parent), int(group)))
    return processes


def _strike(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _reap(server: int) -> int | None:
    """Buries the dead; the server's exit code if it is among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == server:
            code = os.waitstatus_to_exitcode(status)


def _tell(link: socket.socket, line: str) -> None:
    try:
        link.sendall(line.encode() + b"\n")
    except OSError:  # the caller is gone
        return


def _prctl(option: int, value: int) -> None:
    """Of Linux; elsewhere there is none."""
    if LINUX:
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    code = keep(sys.argv[1:])
    os._exit(code if code >= 0 else 128 - code)
