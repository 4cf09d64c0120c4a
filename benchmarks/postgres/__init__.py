"""`postgres`: `select 1` through the pools of four drivers and ours, and over connections without a pool."""

from __future__ import annotations

from aiopool import embedded
from benchmarks.harness import Run
from benchmarks.postgres import limits, ours, peers
from benchmarks.postgres.client import QUERY, Client
from benchmarks.results import Target
from benchmarks.servers import compare_clients

TASKS = (1, 10, 100)
CONTESTANTS: tuple[type[Client], ...] = (
    ours.PerSession,
    ours.PerTransaction,
    ours.WithoutReset,
    peers.Asyncpg,
    peers.AsyncpgWithoutReset,
    peers.Psycopg,
    peers.SQLAlchemy,
    limits.Dedicated,
    limits.Unpooled,
)
OVER_DEFAULT_RESET = {1: 2.0, 10: 1.25, 100: 1.25}
OVER_DEDICATED = {1: 0.8, 10: 0.8, 100: 0.6}


def targets(tasks: int) -> tuple[Target, ...]:
    return (
        Target(ours.PerSession.name, at_least=OVER_DEFAULT_RESET[tasks], times=peers.Asyncpg.name),
        Target(ours.PerTransaction.name, at_least=1.0, times=peers.AsyncpgWithoutReset.name),
        Target(ours.PerTransaction.name, at_least=OVER_DEDICATED[tasks], times=limits.Dedicated.name),
    )


async def run(run: Run) -> None:
    async with embedded.postgres() as server:
        await compare_clients(
            run,
            "postgres",
            "PostgreSQL",
            f"`{QUERY}`, without a transaction around it. `reset=session` clears all that a session remembers; "
            "asyncpg.Pool's default clears less; `reset=transaction` ends what is open, like psycopg_pool.",
            [kind(server) for kind in CONTESTANTS],
            TASKS,
            references=(peers.Asyncpg.name, limits.Dedicated.name),
            targets=targets,
        )
