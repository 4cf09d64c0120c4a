"""What a script finds in a worker and may change: put back after each call, or else the worker is worn."""

from __future__ import annotations

import atexit
import gc
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LIMITS = ("RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_STACK")
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
#: How long processes that a script has left behind may take to vanish when they are killed, in seconds.
_VANISHES = 1.0
#: Names of threads that are ours.
OWN_THREADS = "aiopool"


class Surroundings:
    """Of one process, taken before its first script runs.

    Put back: environment, folder, `sys.argv`, `sys.path`, standard streams, umask, signal handlers, timers, recursion
    limit, garbage collection, hooks. What cannot be undone makes the worker worn: threads, processes (which are
    killed), `atexit` callbacks, resource limits, user, priority, standard streams that were closed or replaced.
    """

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._folder = os.getcwd()
        self._path = list(sys.path)
        # To ask for the real-time signals, too, would take longer than all else here.
        self._handlers = {number: signal.getsignal(number) for number in signal.valid_signals() if number < 32}
        self._umask = _umask()
        self._limits, self._user = _limits(), _user()
        self._recursion = sys.getrecursionlimit()
        self._threads = set(threading.enumerate())
        self._callbacks = atexit._ncallbacks()
        self._streams = (sys.stdout, sys.stderr)
        self._files = tuple(map(_file, (1, 2)))
        self._main = sys.modules["__main__"]
        _adopt_orphans()

    def enter(self, environment: Mapping[str, str], folder: str, path: list[str]) -> None:
        """What a call wants."""
        _set_environment(environment)
        os.chdir(folder)
        sys.path[:] = [*path, *self._path]

    def restore(self) -> str | None:
        """Why the worker cannot be used again; None if everything is as it was."""
        sys.modules["__main__"] = self._main
        sys.excepthook, threading.excepthook = sys.__excepthook__, threading.__excepthook__
        sys.settrace(None)
        sys.setprofile(None)
        for timer in _TIMERS:
            signal.setitimer(timer, 0)
        for number, handler in self._handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.set_wakeup_fd(-1)
        sys.setrecursionlimit(self._recursion)
        gc.enable()
        _set_environment(self._environment)
        sys.path[:] = self._path
        sys.argv = [""]
        os.umask(self._umask)
        os.chdir(self._folder)
        return self._wear()

    def _wear(self) -> str | None:
        if any(not thread.name.startswith(OWN_THREADS) for thread in set(threading.enumerate()) - self._threads):
            return "a thread"
        if atexit._ncallbacks() != self._callbacks:
            return "an atexit callback"
        if _limits() != self._limits:
            return "resource limits"
        if _user() != self._user:
            return "another user or priority"
        if (sys.stdout, sys.stderr) != self._streams or any(stream.closed for stream in self._streams):
            return "other standard streams"
        if tuple(map(_file, (1, 2))) != self._files:
            return "other standard streams"
        return "processes" if _had_children() else None


def _set_environment(wanted: Mapping[str, str]) -> None:
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _limits() -> list[tuple[int, int]]:
    return [resource.getrlimit(getattr(resource, name)) for name in _LIMITS if hasattr(resource, name)]


def _user() -> tuple[int, ...]:
    return os.getuid(), os.geteuid(), os.getgid(), os.getegid(), os.getpriority(os.PRIO_PROCESS, 0)


def _file(descriptor: int) -> Any:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _adopt_orphans() -> None:
    """Processes that detach themselves become our children when their parents end, so none escapes."""
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def _had_children() -> bool:
    """Kills what a script has left running; what has ended already is only waited for."""
    had_some, deadline = False, time.monotonic() + _VANISHES
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                had_some = True
                for child in _children():
                    os.kill(child, signal.SIGKILL)
                time.sleep(0.001)
        except ChildProcessError:
            break
        except ProcessLookupError:
            continue
    return had_some


def _children() -> list[int]:
    """Where /proc doesn't tell, they are killed with the worker's group."""
    tasks = Path("/proc/self/task")
    return [int(child) for task in tasks.glob("*/children") for child in task.read_text().split()]
