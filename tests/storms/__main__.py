"""`python -m tests.storms`: storms and a soak on real servers; exits 0 only if all holds."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from aiopool import embedded
from tests.storms import backends
from tests.storms.soak import Soak, soak
from tests.storms.storm import Backend, Storm, storm


class Choice(StrEnum):
    POSTGRES = "postgres"
    REDIS = "redis"
    HTTP1 = "http1"
    HTTP2 = "http2"
    SOAK = "soak"
    ALL = "all"


def main(
    which: Annotated[Choice, typer.Argument(help="What to run.")] = Choice.ALL,
    queries: Annotated[int, typer.Option(help="Of each storm.", min=1)] = 20_000,
    seconds: Annotated[float, typer.Option(help="Of the soak.", min=1)] = 60,
    seed: Annotated[int, typer.Option(help="What is planned; the machine decides the rest.")] = 1,
) -> None:
    """Cancel queries at random moments, on servers that are started here, and look at what is left."""
    out = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    complaints = asyncio.run(_run(which, queries, seconds, seed, out))
    for complaint in complaints:
        out.print(complaint, style="red", markup=False)
    raise typer.Exit(bool(complaints))


async def _run(which: Choice, queries: int, seconds: float, seed: int, out: Console) -> list[str]:
    complaints = []
    async with AsyncExitStack() as stack:
        makers = await _makers(which, stack)
        if which is not Choice.SOAK:
            storms = []
            for make in makers:
                backend = make()
                with out.status(backend.title):
                    storms.append(await storm(backend, queries=queries, seed=seed))
            out.print(_storm_table(storms))
            complaints += [f"{found.title}: {complaint}" for found in storms for complaint in found.complaints]
        if which in (Choice.SOAK, Choice.ALL):
            with out.status(f"Soak, {seconds:g} s"):
                soaked = await soak([make() for make in makers], seconds=seconds, seed=seed)
            out.print(_soak_table(soaked))
            complaints += [f"Soak: {complaint}" for complaint in soaked.complaints()]
    return complaints


async def _makers(which: Choice, stack: AsyncExitStack) -> list[Callable[[], Backend]]:
    """The backends of that choice, and their servers, started."""
    makers: list[Callable[[], Backend]] = []
    is_mixed = which in (Choice.SOAK, Choice.ALL)
    if is_mixed or which is Choice.POSTGRES:
        postgres = await stack.enter_async_context(embedded.postgres())
        makers += [partial(backends.postgres, postgres, reset) for reset in backends.RESET_MODES]
    if is_mixed or which is Choice.REDIS:
        redis = await stack.enter_async_context(embedded.redis())
        makers += [partial(backends.redis, redis, batching=batching) for batching in (False, True)]
    if is_mixed or which in (Choice.HTTP1, Choice.HTTP2):
        https = await stack.enter_async_context(embedded.https())
        versions = [http2 for http2 in (False, True) if is_mixed or http2 is (which is Choice.HTTP2)]
        makers += [partial(backends.http, https, http2=http2) for http2 in versions]
    return makers


def _storm_table(storms: Iterable[Storm]) -> Table:
    columns = "queries spared answered cancelled wrong errors opened size on_server fds tasks slowest seconds holds"
    table = Table("storm", *(column.replace("_", " ") for column in columns.split()))
    for found in storms:
        tally = found.tally
        counts = (tally.queries, tally.spared, tally.right, tally.cancelled, tally.wrong, tally.errors.total())
        left = (found.opened, found.size, found.on_server, f"{found.descriptors:+}", f"{found.tasks:+}")
        times = (f"{tally.slowest:.2f} s", f"{found.seconds:.1f}")
        verdict = "no" if found.complaints else "yes"
        table.add_row(found.title, *(str(value) for value in (*counts, *left, *times)), verdict)
    return table


def _soak_table(soaked: Soak) -> Table:
    table = Table("soak", "queries", "fds", "tasks", "Python's blocks", "resident MiB")
    for number, pause in enumerate(soaked.pauses, start=1):
        counts = (pause.queries, pause.descriptors, pause.tasks, pause.blocks)
        table.add_row(f"pause {number}", *map(str, counts), f"{pause.resident / 2**20:.1f}")
    tally = soaked.tally
    table.caption = f"{tally.cancelled} queries were cancelled, {tally.wrong} answers were wrong"
    return table


if __name__ == "__main__":
    typer.run(main)
