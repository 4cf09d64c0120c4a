"""`cancel_storm`: thousands of cancellations at random moments, and what is left of each pool on its real server."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

from aiopool import embedded
from benchmarks.cancel_storm import http, postgres, redis, storm
from benchmarks.cancel_storm.pool import SIZE, Pool
from benchmarks.harness import Run, compare, opened
from benchmarks.http.server import granian
from benchmarks.quiet import quiet
from benchmarks.results import Comparison, Kind, Metric, Sample, Target

METHOD = (
    f"Each pool has {SIZE} connections and meets a storm of its own, once: each question carries a number that must be "
    "in its answer; four of five callers are cancelled at a random moment, the fifth is left alone, and has an error "
    f"if there is no answer after {storm.PATIENCE:g} s. Connections and questions are counted by the server. When the "
    f"storm is over, {SIZE} questions for which the server takes {storm.HOLD:g} s each are asked at once: connections "
    "that don't answer side by side are lost."
)
METRICS = (
    Metric("afterwards", f"answered of {storm.AFTERWARDS} afterwards", "", lower_is_better=False, is_count=True),
    Metric("lost", f"lost of {SIZE} connections", "", is_count=True),
    Metric("wrong", "wrong answers", "", is_count=True),
    Metric("errors", "errors of those left alone", "", is_count=True),
    Metric("opened", "connections opened anew", "", is_count=True),
    Metric("cut", "replies cut off", "", is_count=True),
    Metric("needless", "opened anew beyond those", "", is_count=True),
    Metric("cancelled", "cancelled", "", is_count=True),
    Metric("answered", "answered meanwhile", "", lower_is_better=False, is_count=True),
    Metric("seconds", "lasted", "s"),
)


async def run(run: Run) -> None:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(embedded.postgres(private=True, settings=postgres.SETTINGS))
        cache = await stack.enter_async_context(embedded.redis(private=True))
        web = await stack.enter_async_context(granian())
        postgres_server = await stack.enter_async_context(postgres.Server.of(database))
        redis_server = await stack.enter_async_context(redis.Server.of(cache))
        http_server = await stack.enter_async_context(http.Server.of(web))
        await _compare(run, "PostgreSQL", [kind(postgres_server) for kind in postgres.CONTESTANTS])
        await _compare(run, "Redis", [kind(redis_server) for kind in redis.CONTESTANTS])
        await _compare(run, "HTTPS, HTTP/1.1", [kind(http_server) for kind in http.CONTESTANTS])


async def _compare(run: Run, case: str, pools: Sequence[Pool]) -> None:
    cancellations = run.effort.storm_cancellations
    comparison = Comparison(
        "cancel_storm",
        case,
        f"{cancellations:,} cancellations",
        METRICS,
        (),
        targets=tuple(target for pool in pools if pool.kind is Kind.OURS for target in _targets(pool)),
    )

    async def measure(pool: Pool) -> Sample:
        found = await storm.unleash(pool, cancellations, run.dice)
        comparison.note(pool.name, found.errors, ())
        return found.sample()

    with quiet():
        # One after the other, for the server counts for all of them.
        for pool in pools:
            async with opened([pool], comparison.skipped) as ready:
                run.expect(len(ready))
                await compare(run, comparison, ready, measure, rounds=1)
    comparison.finding = _finding(comparison)
    run.publish([comparison])


def _targets(pool: Pool) -> tuple[Target, ...]:
    return tuple(Target(pool.name, at_most=0, metric=metric) for metric in ("lost", "wrong", "needless"))


def _finding(comparison: Comparison) -> str:
    def told(key: str) -> str:
        figures = ((series.name, series.median(key)) for series in comparison.series)
        return ", ".join(f"{name} {value:,.0f}" for name, value in figures if value) or "nobody"

    return f"connections lost by {told('lost')}; opened anew by {told('opened')}"
