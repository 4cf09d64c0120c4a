"""`Watch`: what is remembered of a lease while it lasts, in pools that watch over their leases."""

from __future__ import annotations

import asyncio
import sys
import traceback
from os.path import dirname
from typing import Generic, TypeVar

from aiopool.connection import PooledConnection

T = TypeVar("T")

_QUIET = (dirname(__file__), dirname(asyncio.__file__))


class Watch(Generic[T]):
    """Who holds which connection, since when. Does not hold the lease itself, so that a lost one is noticed."""

    __slots__ = ("_stack", "info", "is_reclaimed", "is_reported", "since", "task_name")

    def __init__(self, info: PooledConnection[T], since: float, *, with_stack: bool) -> None:
        self.info = info
        self.since = since
        self.is_reported = False
        self.is_reclaimed = False
        self.task_name = ""
        self._stack: traceback.StackSummary | None = None
        if with_stack:
            task = asyncio.current_task()
            self.task_name = task.get_name() if task else ""
            # Lines are looked up when the stack is shown, which is hardly ever.
            self._stack = traceback.StackSummary.extract(
                traceback.walk_stack(sys._getframe(1)), limit=24, lookup_lines=False
            )

    @property
    def stack(self) -> str:
        """The stack that acquired the lease, without our own frames, outermost call first."""
        if self._stack is None:
            return ""
        frames = [frame for frame in reversed(self._stack) if not frame.filename.startswith(_QUIET)]
        return "".join(traceback.StackSummary.from_list(frames).format())
