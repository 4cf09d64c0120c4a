"""Who takes part where no server does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

from benchmarks.harness import Contestant

SIZE = 10


class Pool(Contestant):
    """A pool over connections that do nothing, so that only the pool itself is left to measure."""

    #: With more tasks than this it is not tried, for the reason given; None: with any number.
    most_tasks: ClassVar[int | None] = None
    why_no_more: ClassVar[str] = ""
    #: Set by `open`: acquires and releases, in the way that the pool's manual shows if it shows one.
    lease: Callable[[], AbstractAsyncContextManager[object]]

    def __init__(self, size: int = SIZE, least: int | None = None, opening: float = 0.0) -> None:
        """At most `size` connections, `least` of them there from the start; opening one takes `opening` seconds."""
        self.size = size
        self.least = size if least is None else least
        self.opening = opening
        #: Connections whose opening was begun, and was completed.
        self.begun = self.made = 0

    async def connect(self) -> None:
        """To be called whenever the pool opens a connection."""
        self.begun += 1
        if self.opening:
            await asyncio.sleep(self.opening)
        self.made += 1

    async def spin(self, times: int) -> None:
        """Acquire and release so often; without a context manager, if the pool has none of its own."""
        lease = self.lease
        for _ in range(times):
            async with lease():
                pass
