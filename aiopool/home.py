"""Where a pool lives: the clock of its event loop, and its process."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import weakref
from collections.abc import Callable
from threading import get_ident
from typing import Protocol

#: What differs between a pool's home and elsewhere, for the fast path to compare: the running loop. Python 3.11 asks
#: the kernel before it tells that, so there it is the thread, and the loop has to be asked whether it runs.
IS_LOOP = sys.version_info >= (3, 12)
whereabouts: Callable[[], object] = asyncio._get_running_loop if IS_LOOP else get_ident


class Clock(Protocol):
    def __call__(self) -> float: ...


class Resident(Protocol):
    def _forked(self) -> None:
        """Called in a child process."""


def clock_of(loop: asyncio.AbstractEventLoop) -> Clock:
    """The loop's own clock where it has one of its own (a virtual one), else the finest that there is.

    uvloop's loop time stands still within a turn and counts milliseconds.
    """
    if "time" in getattr(loop, "__dict__", ()):
        return loop.time
    kind = next(kind for kind in type(loop).__mro__ if "time" in vars(kind))
    module = getattr(vars(kind)["time"], "__module__", None) or kind.__module__
    return time.monotonic if module.split(".")[0] in ("asyncio", "uvloop") else loop.time


#: Found out by a hook at the fork itself, so that `acquire` need not ask.
residents: weakref.WeakSet[Resident] = weakref.WeakSet()


#: In a child process: what is freed there may touch the sockets, and the epoll, that it shares with its parent.
_inherited: list[Resident] = []


def _after_fork_in_child() -> None:
    _inherited.extend(residents)
    for resident in _inherited:
        resident._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
