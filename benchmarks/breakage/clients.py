"""Eight clients of one pool: they call, pause and call again, and remember how it went."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from time import perf_counter

from benchmarks.breakage.pools import SIZE, TIMEOUT, Pool
from benchmarks.results import Sample

CLIENTS = SIZE
PAUSE = 0.1
#: What a call may take beyond its bound, for the scheduling of a busy machine.
TOLERANCE = 0.1
#: What a task is given to end that was cancelled; then its call counts as never returned.
LAST_WAIT = 12.0


@dataclass
class Call:
    client: int
    began: float
    ended: float | None = None
    error: str | None = None


class Clients:
    """`fault` and `mend` are moments on `perf_counter`, set by whoever breaks and mends."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.calls: list[Call] = []
        self.fault = self.mend = float("inf")
        self._stop = asyncio.Event()
        self._tasks = [asyncio.create_task(self._run(client)) for client in range(CLIENTS)]

    async def _run(self, client: int) -> None:
        while not self._stop.is_set():
            call = Call(client, perf_counter())
            self.calls.append(call)
            try:
                await self.pool.call()
            except Exception as exc:
                call.error = type(exc).__name__
            # One that was cancelled never returned.
            call.ended = perf_counter()
            await asyncio.sleep(PAUSE)

    def stop_calling(self) -> None:
        """Those under way go on to their end."""
        self._stop.set()

    async def end(self) -> None:
        self.stop_calling()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=LAST_WAIT)

    # ------------------------------------------------------------------------------------------- what they saw

    @property
    def has_recovered(self) -> bool:
        """All clients have been served since the mend, and no call is left from before."""
        return len(self._first_successes()) == CLIENTS and not any(
            call.ended is None for call in self.calls if call.began < self.mend
        )

    def _first_successes(self) -> dict[int, float]:
        """For each client the seconds from the mend to its first success."""
        firsts: dict[int, float] = {}
        for call in self.calls:
            if call.ended is not None and call.error is None and call.ended >= self.mend:
                firsts.setdefault(call.client, call.ended - self.mend)
        return firsts

    def sample(self, whole_after: float | None) -> Sample:
        now = perf_counter()
        met = [call for call in self.calls if (call.ended or now) > self.fault and call.began < self.mend]
        seconds = [(call.ended or now) - call.began for call in met]
        failed = [call for call in self.calls if call.error is not None and call.ended is not None]
        late = [call for call in failed if call.ended is not None and call.ended >= self.mend]
        sample: Sample = {
            "longest": max(seconds),
            "within": share(seconds, TIMEOUT),
            "hanging": sum(call.began + TIMEOUT + TOLERANCE < self.mend <= (call.ended or now) for call in met),
            "errors": len([call for call in failed if self.fault <= (call.ended or 0) < self.mend]),
            "leftover": sum(call.began < self.mend for call in late),
            "new": sum(call.began >= self.mend for call in late),
        }
        if self.pool.bound is not None:
            sample |= {"bound": self.pool.bound, "kept": share(seconds, self.pool.bound)}
        if firsts := self._first_successes():
            sample["first"] = min(firsts.values())
        if len(firsts) == CLIENTS:
            sample["all"] = max(firsts.values())
        if whole_after is not None:
            sample["whole"] = whole_after
        return sample

    def errors(self) -> Counter[str]:
        return Counter(call.error for call in self.calls if call.error is not None)


def share(seconds: list[float], bound: float) -> float:
    return 100 * sum(each <= bound + TOLERANCE for each in seconds) / len(seconds)
