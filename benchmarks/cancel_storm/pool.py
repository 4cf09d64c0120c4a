"""Who takes part in `cancel_storm`, and what their servers tell."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.harness import Contestant

#: Connections in each pool.
SIZE = 10
#: Callers at a time: more than connections, so that some are cancelled in the line.
CALLERS = 40


@dataclass(frozen=True)
class Census:
    """What a server has counted since it was started, but for those who asked it for this."""

    #: Connections that came in.
    connections: int
    #: Questions that it began to answer.
    questions: int


class Server(Protocol):
    async def census(self) -> Census: ...


class Pool(Contestant):
    """A pool under cancellation. What waits for a connection waits for `storm.PATIENCE` seconds at least."""

    server: Any

    @abstractmethod
    async def ask(self, number: int, seconds: float = 0.0) -> int:
        """A question that the server takes so long for; returns the number in the answer."""
