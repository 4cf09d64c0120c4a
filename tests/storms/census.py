"""What this process holds at a moment, as the system counts it."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from pathlib import Path


def descriptors() -> int:
    """How many this process has open; 0 where the system does not tell."""
    own = Path("/proc/self/fd")
    return len(list(own.iterdir())) if own.exists() else 0


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
