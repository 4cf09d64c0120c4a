"""`backends`: real servers under load, without a pool, with aiopool and with the driver's own."""

from __future__ import annotations

from collections.abc import Sequence

from aiopool import embedded
from benchmarks.backends import https, postgres, redis
from benchmarks.harness import Run, opened
from benchmarks.load import METRICS, Caller, compare_loads, load
from benchmarks.results import Comparison, number

TASKS = (1, 10, 100)
SIZE = "Pools of 10 connections; every task calls again as soon as it is answered."


async def run(run: Run) -> None:
    async with embedded.postgres() as database:
        clients = [kind(database) for kind in postgres.CONTESTANTS]
        about = f"`{postgres.QUERY}`. {SIZE}"
        await _compare(run, "PostgreSQL", about, clients, postgres.Ours.name, postgres.Asyncpgs.name)
    async with embedded.redis() as cache:
        callers = [kind(cache) for kind in redis.CONTESTANTS]
        about = f"SET and GET of {len(redis.VALUE)} bytes count as one. {SIZE}"
        await _compare(run, "Redis", about, callers, redis.Ours.name, redis.Blocking.name)
    async with embedded.https() as web:
        for http2, title in ((False, "HTTPS, HTTP/1.1"), (True, "HTTPS, HTTP/2")):
            about = f"GET of 200 bytes. {SIZE}"
            requesters = [kind(web, http2) for kind in https.CONTESTANTS]
            await _compare(run, title, about, requesters, https.Ours.name, https.SameSize.name)


async def _compare(run: Run, title: str, about: str, callers: Sequence[Caller], ours: str, peer: str) -> None:
    skipped: list[str] = []
    comparisons: list[Comparison] = []
    effort = run.effort
    async with opened(callers, skipped) as ready:
        run.expect((effort.backend_rounds + 1) * len(ready) * len(TASKS))
        for tasks in TASKS:
            comparison = Comparison(
                suite="backends",
                group=title,
                case=f"{tasks} task{'s' * (tasks > 1)}",
                metrics=METRICS,
                references=("unpooled", peer),
                skipped=skipped,
                about=about,
            )
            # Connections are opened, statements prepared, caches filled.
            for caller in ready:
                run.step(f"{title} · {comparison.case} · warm-up · {caller.name}")
                await load(caller, tasks, effort.backend_cell / 4)
            await compare_loads(
                run, comparison, ready, tasks=tasks, seconds=effort.backend_cell, rounds=effort.backend_rounds
            )
            comparison.finding = _finding(comparison, ours, peer)
            comparisons.append(comparison)
    run.publish(comparisons)


def _finding(comparison: Comparison, ours: str, peer: str) -> str:
    over_none, over_peer = comparison.ratio_of(ours, "unpooled"), comparison.ratio_of(ours, peer)
    if over_none is None or over_peer is None:
        return ""
    return f"{ours} serves {number(over_none)}× as many as unpooled, {number(over_peer)}× as many as {peer}"
