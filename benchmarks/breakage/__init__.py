"""`breakage`: the database goes away and comes back, in eight ways, and eight clients see what their pool makes of it.

After HikariCP's "database down" (its DbDownTest pulls the cable under pools that are asked for a connection).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter
from urllib.parse import unquote, urlsplit

from aiopool import embedded
from aiopool.testing import FaultProxy
from benchmarks.breakage.clients import CLIENTS, PAUSE, Clients
from benchmarks.breakage.faults import FAULTS, Fault, LongBlackHole
from benchmarks.breakage.pools import CONTESTANTS, SIZE, OursBounded, Pool
from benchmarks.harness import Run, opened
from benchmarks.quiet import quiet
from benchmarks.results import Comparison, Kind, Metric, Series, number

METHOD = (
    f"Each pool has {SIZE} connections, an acquire timeout of 5 s and {CLIENTS} clients that run `select 1`, pause for "
    f"{PAUSE:g} s and begin again. All pools meet the same fault at the same time, on one loop. One run is one sample: "
    "small differences mean nothing. Logging in is made cheap (one SCRAM iteration), so that pools that connect at "
    "once don't wait for the processor."
)
#: With every client at work, before anything breaks.
CALM = 1.0
#: What is still to go wrong after all has been well for so long does not count.
SETTLING = 2.0

METRICS = (
    Metric("longest", "longest call", "s"),
    Metric("bound", "its bound", "s"),
    Metric("kept", "kept", "%", lower_is_better=False),
    Metric("within", "back in 5.1 s", "%", lower_is_better=False),
    Metric("hanging", "hanging at the end", "", is_count=True),
    Metric("errors", "errors during", "", is_count=True),
    Metric("leftover", "errors after, begun before", "", is_count=True),
    Metric("new", "errors after, begun after", "", is_count=True),
    Metric("first", "first success", "s"),
    Metric("all", "all eight", "s"),
    Metric("whole", "whole without a call", "s"),
)


async def run(run: Run) -> None:
    faults = [(kind, run.effort.breakage_fault) for kind in FAULTS]
    if run.effort.breakage_long:
        faults.insert(1, (LongBlackHole, run.effort.breakage_long))
    run.expect(2 * len(faults))
    with quiet():
        for kind, seconds in faults:
            run.publish([await _play(run, kind, seconds)])


async def _play(run: Run, kind: type[Fault], seconds: float) -> Comparison:
    comparison = Comparison("breakage", kind.name, "", METRICS, ())
    lateness = Lateness()
    async with (
        embedded.postgres(private=True, settings={"max_connections": 500}) as server,
        FaultProxy.before(server.dsn) as proxy,
    ):
        await _make_login_cheap(server)
        fault = kind(server, proxy)
        # Of each pool two: the clients of one go on after the mend, those of the other do not.
        pools, twins = ([contestant(fault.dsn) for contestant in CONTESTANTS] for _ in range(2))
        async with opened(pools, comparison.skipped) as ready, opened(twins, []) as left_alone:
            callers = [Clients(pool) for pool in ready]
            leavers = [Clients(pool) for pool in left_alone]
            watch = asyncio.create_task(lateness.watch())
            await asyncio.sleep(CALM)
            run.step(f"{kind.name} · broken")
            length = await _break(fault, seconds, [*callers, *leavers])
            for clients in leavers:
                clients.stop_calling()
            run.step(f"{kind.name} · mended")
            whole = await _recover(callers, leavers, run.effort.breakage_watch)
            watch.cancel()
            comparison.series = [_series(clients, whole.get(type(clients.pool))) for clients in callers]
            await asyncio.gather(*(clients.end() for clients in (*callers, *leavers)))
    comparison.case = f"for {number(length)} s"
    comparison.about = f"{kind.about} (The loop on which all ran was late by {number(lateness.worst)} s at most.)"
    comparison.finding = _finding(comparison)
    return comparison


async def _make_login_cheap(server: embedded.PostgresServer) -> None:
    """When all connect at once, thousands of SCRAM iterations each would measure the processor."""
    import asyncpg

    password = unquote(urlsplit(server.dsn).password or "")
    connection = await asyncpg.connect(server.dsn)
    try:
        await connection.execute(f"set scram_iterations = 1; alter role current_user password '{password}'")
    finally:
        await connection.close()


async def _break(fault: Fault, seconds: float, everybody: Sequence[Clients]) -> float:
    """Breaks and mends; returns the seconds in between."""
    began = perf_counter()
    for clients in everybody:
        clients.fault = began
    await fault.begin()
    if not fault.is_brief:
        await asyncio.sleep(seconds)
    await fault.end()
    ended = perf_counter()
    for clients in everybody:
        clients.mend = ended
    return ended - began


async def _recover(callers: Sequence[Clients], leavers: Sequence[Clients], limit: float) -> dict[type[Pool], float]:
    """Until all is well or `limit` seconds are over; returns when which pool was whole again without a call."""
    whole: dict[type[Pool], float] = {}
    alone = [clients for clients in leavers if clients.pool.is_whole() is not None]
    while (now := perf_counter() - callers[0].mend) < limit:
        for clients in [clients for clients in alone if clients.pool.is_whole()]:
            # The proof is calls, so there is only one.
            alone.remove(clients)
            if await _serves_all(clients.pool):
                whole[type(clients.pool)] = now
        if not alone and all(clients.has_recovered for clients in callers):
            break
        await asyncio.sleep(0.02)
    await asyncio.sleep(SETTLING)
    return whole


async def _serves_all(pool: Pool) -> bool:
    try:
        async with asyncio.timeout(1):
            await asyncio.gather(*(pool.call() for _ in range(SIZE)))
    except Exception:
        return False
    return True


def _series(clients: Clients, whole_after: float | None) -> Series:
    series = Series(clients.pool.name, clients.pool.kind, [clients.sample(whole_after)])
    for error, times in clients.errors().items():
        series.count_error(error, times)
    return series


def _finding(comparison: Comparison) -> str:
    ours = comparison.find(OursBounded.name)
    peers = [series for series in comparison.series if series.kind is Kind.PEER]
    if ours is None or not peers:
        return ""
    longest = max(series.median("longest") or 0 for series in peers)
    hanging = sum((series.median("hanging") or 0) > 0 for series in peers)
    return (
        f"with {ours.name} the longest call took {number(ours.median('longest'))} s, with the others up to "
        f"{number(longest)} s; {hanging} of {len(peers)} others had calls hanging when it ended; all eight clients of "
        f"{ours.name} were served again after {number(ours.median('all'))} s"
    )


class Lateness:
    """How late the loop is: what pools share they must not blame on each other."""

    worst = 0.0

    async def watch(self) -> None:
        while True:
            due = perf_counter() + 0.01
            await asyncio.sleep(0.01)
            self.worst = max(self.worst, perf_counter() - due)
