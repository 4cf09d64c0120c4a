"""Who takes part in `overhead`."""

from __future__ import annotations

from abc import abstractmethod

from benchmarks.harness import Contestant

#: Connections in each pool, all idle.
SIZE = 10


class Spinner(Contestant):
    """A pool over connections that do nothing, so that only the pool itself is left to measure."""

    @abstractmethod
    async def spin(self, times: int) -> None:
        """Acquire and release so often, in the way that the pool's manual shows; a loop of its own costs least."""
