"""`article`: three requests, one after the other, to a PostgreSQL server that takes 100 ms to connect to.

The article that aiopool started from says what pooling saves there; this measures it. A delay proxy puts the network
between client and server, and is adjusted until an open and a piece of work take what they take in the article.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.delay_proxy import DelayProxy
from benchmarks.harness import Contestant, Run, compare, opened
from benchmarks.results import Comparison, Kind, Metric, Sample, Series, number, percentile

REQUESTS = 3
#: What the article supposes, in seconds, and what it claims for the three requests.
OPEN, WORK = 0.1, 0.05
UNPOOLED_CLAIM: Sample = {"total": 450.0, "get": 100.0, "work": 50.0}
POOLED_CLAIM: Sample = {"total": 153.0, "get": 1.0, "work": 50.0}
ACQUIRE_CLAIM: Sample = {"p50": 1000.0}

TOTAL = Metric("total", "three requests", "ms")
PHASES = (Metric("get", "get a connection", "ms"), Metric("work", "work", "ms"), Metric("leave", "leave", "ms"))
ACQUIRE = (Metric("p50", "acquire p50", "µs"), Metric("p99", "acquire p99", "µs"))
UNPOOLED, UNPOOLED_CLAIMED, CLAIMED = "without a pool", "the article, without a pool", "the article"


@dataclass
class Place:
    """A server, the network in front of it, and the statement that keeps it busy for long enough."""

    near: str
    proxy: DelayProxy
    work: str = "select 1"

    @property
    def far(self) -> str:
        return self.proxy.url


class Client(Contestant):
    package = "aiopool-core[postgres]"

    def __init__(self, place: Place) -> None:
        self.place = place

    async def open(self) -> None:
        import asyncpg

        self._connect: Callable[..., Awaitable[Any]] = asyncpg.connect

    @abstractmethod
    async def requests(self) -> Sample: ...


class Unpooled(Client):
    name = UNPOOLED
    kind = Kind.UNPOOLED

    async def requests(self) -> Sample:
        watch = _Watch()
        for _ in range(REQUESTS):
            connection = await self._connect(self.place.far)
            watch.lap("get")
            await connection.execute(self.place.work)
            watch.lap("work")
            await connection.close()
            watch.lap("leave")
        return watch.sample()


class Pooled(Client):
    """On a pool that was just used, as it is under steady traffic."""

    name = "aiopool"
    kind = Kind.OURS

    def _new_pool(self) -> Any:
        from aiopool.adapters.postgres import DatabasePool

        return DatabasePool(self.place.far)

    async def open(self) -> None:
        self._pool = self._new_pool()
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    async def requests(self) -> Sample:
        await self._requests(self._pool)
        return await self._requests(self._pool)

    async def _requests(self, pool: Any) -> Sample:
        watch = _Watch()
        for _ in range(REQUESTS):
            await self._request(pool, watch)
        return watch.sample()

    async def _request(self, pool: Any, watch: _Watch) -> None:
        lease = await pool.connection()
        watch.lap("get")
        try:
            await lease.connection.execute(self.place.work)
            watch.lap("work")
        finally:
            lease.release()
        watch.lap("leave")


class PooledAfterPause(Pooled):
    """Connections that nobody used for a while are checked before they are lent: a round trip each."""

    name = "aiopool, after a pause"

    async def requests(self) -> Sample:
        await asyncio.sleep(2 * (self._pool.config.validate_after or 0))
        return await self._requests(self._pool)


class FreshlyPooled(Pooled):
    """A process that has just started: the pool opens within the time."""

    name = "aiopool, opening included"

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def requests(self) -> Sample:
        pool = self._new_pool()
        try:
            return await self._requests(pool)
        finally:
            await pool.close()


class Acquire(Contestant):
    """`acquire` alone, again and again on a warm pool of real connections to a server nearby."""

    name = "aiopool, DatabasePool"
    kind = Kind.OURS
    package = "aiopool-core[postgres]"
    times = 2000

    def __init__(self, place: Place) -> None:
        self.place = place

    async def open(self) -> None:
        from aiopool.adapters.postgres import DatabasePool

        # A reset of the whole session would be a round trip in the background, which is not the question here.
        self._pool = DatabasePool(self.place.near, reset="transaction")
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    async def requests(self) -> Sample:
        took = []
        for _ in range(self.times):
            began = perf_counter()
            lease = await self._pool.connection()
            took.append((perf_counter() - began) * 1e6)
            lease.release()
        took.sort()
        return {"p50": percentile(took, 0.5), "p99": percentile(took, 0.99)}


class _Watch:
    """Times the phases of requests that follow each other."""

    def __init__(self) -> None:
        self._began = self._last = perf_counter()
        self._laps: dict[str, list[float]] = {}

    def lap(self, phase: str) -> None:
        now = perf_counter()
        self._laps.setdefault(phase, []).append((now - self._last) * 1000)
        self._last = now

    def sample(self) -> Sample:
        """In milliseconds: the total, and the median of each phase."""
        return {"total": (self._last - self._began) * 1000, **{name: median(t) for name, t in self._laps.items()}}


async def run(run: Run) -> None:
    from aiopool import embedded

    rounds = run.effort.article_rounds
    requests = Comparison(
        "article",
        "Three requests, one after the other",
        "connecting takes 100 ms, the work 50 ms",
        (TOTAL, *PHASES),
        (UNPOOLED,),
    )
    acquire = Comparison(
        "article", "Getting a connection from a warm pool", "one task", ACQUIRE, (CLAIMED,), about=Acquire.__doc__ or ""
    )
    async with embedded.postgres() as server, DelayProxy(server.dsn, default_port=5432) as proxy:
        place = Place(server.dsn, proxy)
        clients: list[Client] = [Unpooled(place), Pooled(place), PooledAfterPause(place), FreshlyPooled(place)]
        run.expect(rounds * (len(clients) + 1))
        try:
            requests.about = await _move_away(place)
        except ImportError as exc:
            requests.skipped.append(f"{exc.name} is not installed: pip install 'aiopool-core[postgres]'")
            run.publish([requests])
            return
        requests.series += [
            Series(UNPOOLED_CLAIMED, Kind.CLAIM, [UNPOOLED_CLAIM] * rounds, against=UNPOOLED_CLAIMED),
            Series("the article, with a pool", Kind.CLAIM, [POOLED_CLAIM] * rounds, against=UNPOOLED_CLAIMED),
        ]
        async with opened(clients, requests.skipped) as ready:
            await compare(run, requests, ready, lambda client: client.requests(), rounds=rounds)
        requests.finding = _finding(requests)
        run.publish([requests])

        acquire.series.append(Series(CLAIMED, Kind.CLAIM, [ACQUIRE_CLAIM] * rounds))
        async with opened([Acquire(place)], acquire.skipped) as fast:
            await compare(run, acquire, fast, lambda client: client.requests(), rounds=rounds)
        if took := acquire.median(Acquire.name):
            acquire.finding = (
                f"{number(took)} µs, {number(ACQUIRE_CLAIM['p50'] / took)} times less than the article counts"
            )
        run.publish([acquire])


async def _move_away(place: Place) -> str:
    """Sets the delay so that opening a connection takes `OPEN`, and the statement so that it takes `WORK`."""
    import asyncpg

    async def opening(round_trip: float) -> float:
        place.proxy.round_trip = round_trip
        took = []
        for _ in range(5):
            began = perf_counter()
            connection = await asyncpg.connect(place.far)
            took.append(perf_counter() - began)
            await connection.close()
        return median(took)

    # Most of it is round trips, but how many of them depends on how the server authenticates.
    here, there = await opening(0), await opening(0.01)
    round_trip = max(0.0, (OPEN - here) / max(1, (there - here) / 0.01))
    round_trip *= OPEN / await opening(round_trip)
    place.proxy.round_trip = round_trip

    connection = await asyncpg.connect(place.far)
    nap = WORK - round_trip
    for _ in range(3):
        place.work = f"select pg_sleep({max(0.0, nap):.6f})"
        began = perf_counter()
        await connection.execute(place.work)
        nap += WORK - (perf_counter() - began)
    await connection.close()
    return (
        f"A proxy puts {number(round_trip * 1000)} ms of round trip between client and PostgreSQL, so that opening a "
        f"connection takes {OPEN * 1000:.0f} ms; the work is a query of {WORK * 1000:.0f} ms. Closing politely is a "
        "round trip too, which the article leaves out."
    )


def _finding(comparison: Comparison) -> str:
    without, pooled = comparison.median(UNPOOLED), comparison.median(Pooled.name)
    ratio = comparison.ratio_of(Pooled.name, UNPOOLED)
    if without is None or pooled is None or ratio is None:
        return ""
    claimed, hoped = UNPOOLED_CLAIM["total"], POOLED_CLAIM["total"]
    return (
        f"{number(without)} ms without a pool, {number(pooled)} ms with it: {number(1 / ratio)} times faster "
        f"(the article: {number(claimed)} and {number(hoped)} ms, {number(claimed / hoped)} times)"
    )
