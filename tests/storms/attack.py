"""The attack: callers who ask questions and cancel them, and a tally of the answers.

Each question carries a nonce, which must be in its answer.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.storms.manners import MANNERS, left_alone

#: Asks a question that holds the nonce, and returns the nonce that is in the answer.
Way = Callable[[int], Awaitable[int]]


@dataclass(frozen=True)
class Plan:
    """What befalls one query. `moment` is a share of the time that such a query takes; `nth` counts its awaits."""

    nonce: int
    way: Way
    manner: str
    moment: float
    nth: int


def plans(ways: Sequence[Way], seed: int, *, spared: float, first: int = 0) -> Iterator[Plan]:
    """Without end; `spared` is the share of queries that are left alone.

    The same seed plans the same; the network and the machine decide the rest.
    """
    rnd, nonce = random.Random(seed), first
    manners = [name for name, manner in MANNERS.items() if manner is not left_alone]
    while True:
        way, manner = rnd.choice(ways), rnd.choice(manners)
        manner = left_alone.__name__ if rnd.random() < spared else manner
        yield Plan(nonce, way, manner, moment=2 * rnd.random() ** 2, nth=int(rnd.expovariate(0.5)))
        nonce += 1


@dataclass
class Tally:
    """What became of the queries."""

    queries: int = 0
    #: Queries that nobody cancelled.
    spared: int = 0
    right: int = 0
    wrong: int = 0
    #: Of queries that nobody had cancelled, and of those that raised something else than their cancellation.
    errors: Counter[str] = field(default_factory=Counter)
    #: Seconds.
    slowest: float = 0.0
    # How long a spared query takes under this load: the scale for moments.
    _usual: float = 0.01

    @property
    def cancelled(self) -> int:
        return self.queries - self.right - self.wrong - self.errors.total()

    def complaints(self) -> list[str]:
        told = [f"{self.wrong} answers belonged to somebody else"] if self.wrong else []
        return told + [f"{count} times {error}" for error, count in self.errors.most_common()]

    async def attack(self, plans: Iterator[Plan]) -> None:
        """One caller, with one query after the other."""
        for plan in plans:
            self.queries += 1
            began = time.monotonic()
            await MANNERS[plan.manner](partial(self._ask, plan), plan.moment * self._usual, plan.nth)
            took = time.monotonic() - began
            self.slowest = max(self.slowest, took)
            if plan.manner == left_alone.__name__:
                self.spared += 1
                self._usual += (took - self._usual) / 50

    async def _ask(self, plan: Plan) -> None:
        try:
            answer = await plan.way(plan.nonce)
        except BaseException as error:
            task = asyncio.current_task()
            is_cancelled = task is not None and task.cancelling() > 0
            if is_cancelled and isinstance(error, asyncio.CancelledError):
                raise
            self.errors[f"{type(error).__name__}: {error} ({plan.way.__name__}, {plan.manner})"] += 1
            if not isinstance(error, (Exception, asyncio.CancelledError)):
                raise
        else:
            self.right += answer == plan.nonce
            self.wrong += answer != plan.nonce
