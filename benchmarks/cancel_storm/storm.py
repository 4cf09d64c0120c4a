"""A storm, and what is left of the pool."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter

from benchmarks.cancel_storm.pool import CALLERS, SIZE, Census, Pool
from benchmarks.results import Sample

#: The share of callers who are left alone.
SPARED = 0.2
#: Seconds in which a caller who is left alone should have an answer.
PATIENCE = 5.0
#: Seconds after which the storm ends, however many have been cancelled.
LONGEST = 60.0
#: Seconds for a pool to mend what it mends in the background, and for servers to notice.
CALM = 2.0
#: Seconds that the server takes for each of the questions that show how many connections are left.
HOLD = 1.0
#: Questions after the storm, by as many callers as before, and the seconds for all of them.
AFTERWARDS, AFTERWARDS_TIMEOUT = 500, 15.0
#: A first guess of how long an answer takes, and the most that is believed: the scale for moments of cancellation.
USUAL, UNUSUAL = 0.01, 0.1
NOTHING = Census(0, 0)


@dataclass
class Storm:
    """What happened to one pool."""

    pool: Pool
    dice: random.Random
    cancelled: int = 0
    answered: int = 0
    wrong: int = 0
    seconds: float = 0.0
    #: Of callers who were left alone.
    errors: Counter[str] = field(default_factory=Counter)
    #: What the server had counted before the storm, and after it.
    before: Census = NOTHING
    after: Census = NOTHING
    #: Of those who asked side by side when it was over.
    served_at_once: int = 0
    afterwards: int = 0
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _usual: float = USUAL

    async def open_all(self) -> None:
        """What is opened when it is needed is needed now."""
        await self._served(CALLERS, CALLERS, 0.1, within=PATIENCE)

    async def rage(self, cancellations: int) -> None:
        began = perf_counter()

        async def caller() -> None:
            while self.cancelled < cancellations and perf_counter() < began + LONGEST:
                if self.dice.random() < SPARED:
                    await self._ask_in_peace()
                else:
                    await self._ask_and_cancel()

        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(caller())
        self.seconds = perf_counter() - began

    async def _ask_in_peace(self) -> None:
        began = perf_counter()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._ask()
        except (Exception, asyncio.CancelledError) as exc:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self.errors[type(exc).__name__] += 1
        else:
            self._usual = min(UNUSUAL, self._usual + (perf_counter() - began - self._usual) / 20)

    async def _ask_and_cancel(self) -> None:
        asking = asyncio.create_task(self._ask())
        # At once, before its first step, or at any moment up to a little after it should have been answered.
        await asyncio.wait([asking], timeout=self.dice.uniform(0, 1.2) * self._usual)
        if asking.cancel():
            self.cancelled += 1
            # Not for ever: some ignore it.
            await asyncio.wait([asking], timeout=PATIENCE)
        elif asking.cancelled():
            self.errors[asyncio.CancelledError.__name__] += 1
        elif exc := asking.exception():
            self.errors[type(exc).__name__] += 1

    async def _ask(self) -> None:
        number = next(self._numbers)
        answer = await self.pool.ask(number)
        self.answered += 1
        self.wrong += answer != number

    async def look_at_what_is_left(self) -> None:
        # Who has to wait for another takes twice as long.
        self.served_at_once = await self._served(SIZE, SIZE, HOLD, within=1.8 * HOLD)
        self.afterwards = await self._served(AFTERWARDS, CALLERS, 0.0, within=AFTERWARDS_TIMEOUT)

    async def _served(self, questions: int, callers: int, seconds: float, *, within: float) -> int:
        """How many questions are answered in time, if so many callers ask them."""
        numbers, served = iter(range(questions)), 0

        async def caller() -> None:
            nonlocal served
            for number in numbers:
                is_right = await self.pool.ask(number, seconds) == number
                served += is_right
                self.wrong += not is_right

        asking = [asyncio.create_task(caller()) for _ in range(callers)]
        await asyncio.wait(asking, timeout=within)
        in_time = served
        for each in asking:
            each.cancel()
        await asyncio.wait(asking, timeout=PATIENCE)
        return in_time

    def sample(self) -> Sample:
        opened = self.after.connections - self.before.connections
        cut = max(0, self.after.questions - self.before.questions - self.answered)
        return {
            "afterwards": self.afterwards,
            "lost": SIZE - self.served_at_once,
            "wrong": self.wrong,
            "errors": self.errors.total(),
            "opened": opened,
            "cut": cut,
            "needless": max(0, opened - cut),
            "cancelled": self.cancelled,
            "answered": self.answered,
            "seconds": self.seconds,
        }


async def unleash(pool: Pool, cancellations: int, dice: random.Random) -> Storm:
    """Takes some seconds more than the storm itself, and a minute and a half at most."""
    found = Storm(pool, dice)
    await found.open_all()
    found.before = await pool.server.census()
    await found.rage(cancellations)
    await asyncio.sleep(CALM)
    found.after = await pool.server.census()
    await found.look_at_what_is_left()
    return found
