"""What this process holds at a moment, as the system counts it."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path


def descriptors() -> int:
    """How many this process has open; 0 where the system does not tell.

    But for /dev/null: libuv opens that with the first stream of each loop, to have a descriptor to spare.
    """
    return sum(leads_to != os.devnull for leads_to in _open())


def _open() -> Iterator[str]:
    own = Path("/proc/self/fd")
    for descriptor in own.iterdir() if own.exists() else ():
        with suppress(FileNotFoundError):  # that of the listing itself
            yield os.readlink(descriptor)


def tasks() -> int:
    return len(asyncio.all_tasks())


def resident_bytes() -> int:
    """This process's memory as the system counts it; 0 where it does not tell."""
    own = Path("/proc/self/statm")
    return int(own.read_text().split()[1]) * 4096 if own.exists() else 0


async def eventually(condition: Callable[[], bool | Awaitable[bool]], within: float = 10.0) -> bool:
    """Whether it came true in time. What closes, closes in the background, and servers take a moment to notice."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if await value if inspect.isawaitable(value) else value:
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
