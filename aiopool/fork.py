"""Finding out that the process was forked, at no cost to `acquire`."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    def _forked(self) -> None: ...


_open_pools: weakref.WeakSet[Forkable] = weakref.WeakSet()


def watch(pool: Forkable) -> None:
    """From now on `pool._forked()` is called in every child process."""
    _open_pools.add(pool)


def unwatch(pool: Forkable) -> None:
    _open_pools.discard(pool)


def _after_fork_in_child() -> None:
    for pool in list(_open_pools):
        pool._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
