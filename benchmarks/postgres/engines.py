"""`sqlalchemy`: an engine on its own pool, on `EnginePool`, and on a `DatabasePool` that it borrows from."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from aiopool import PoolConfig, embedded
from benchmarks.harness import Run
from benchmarks.postgres.client import QUERY, Client
from benchmarks.results import Kind, Target
from benchmarks.servers import CONNECTIONS, compare_clients

TASKS = (1, 10, 100)


class Engine(Client):
    """As most code uses one: a transaction around the query."""

    package = "aiopool-core[postgres,sqlalchemy]"

    @abstractmethod
    async def connect(self) -> Any:
        """The engine."""

    async def open(self) -> None:
        from sqlalchemy import text

        self._query = text(QUERY)
        self._engine = await self.connect()

    async def close(self) -> None:
        await self._engine.dispose()

    async def call(self) -> None:
        async with self._engine.connect() as connection:
            (await connection.execute(self._query)).scalar()


class Own(Engine):
    name = "AsyncAdaptedQueuePool"

    def settings(self) -> dict[str, Any]:
        return {}

    async def connect(self) -> Any:
        from sqlalchemy.ext.asyncio import create_async_engine

        url = self.dsn.replace("postgresql://", "postgresql+asyncpg://", 1)
        return create_async_engine(url, pool_size=CONNECTIONS, max_overflow=0, **self.settings())


class OwnWithPing(Own):
    name = "AsyncAdaptedQueuePool, pool_pre_ping"

    def settings(self) -> dict[str, Any]:
        return {"pool_pre_ping": True}


class Ours(Own):
    name = "aiopool, EnginePool"
    kind = Kind.OURS

    def settings(self) -> dict[str, Any]:
        from aiopool.adapters.engine import EnginePool

        return {"poolclass": EnginePool}


class Borrowing(Engine):
    name = "aiopool, creator(DatabasePool)"
    kind = Kind.OURS

    async def connect(self) -> Any:
        from sqlalchemy.ext.asyncio import create_async_engine
        from sqlalchemy.pool import NullPool

        from aiopool.adapters.postgres import DatabasePool
        from aiopool.adapters.sqlalchemy import creator

        config = PoolConfig(min_size=CONNECTIONS, max_size=CONNECTIONS)
        self._pool = DatabasePool(self.dsn, config, reset="transaction")
        await self._pool.open()
        return create_async_engine("postgresql+asyncpg://", async_creator=creator(self._pool), poolclass=NullPool)

    async def close(self) -> None:
        await super().close()
        await self._pool.close()


CONTESTANTS: tuple[type[Engine], ...] = (Ours, Borrowing, Own, OwnWithPing)


def targets(tasks: int) -> tuple[Target, ...]:
    throughput = Target(Ours.name, at_least=1.0, times=Own.name)
    # With fewer tasks than ten for each connection, one slow call says more of the machine than of the pool.
    return (throughput, Target(Ours.name, at_most=2.0, metric="starvation")) if tasks == 100 else (throughput,)


async def run(run: Run) -> None:
    async with embedded.postgres() as server:
        await compare_clients(
            run,
            "sqlalchemy",
            "SQLAlchemy over asyncpg",
            f"`{QUERY}` through `engine.connect()`, in the transaction that SQLAlchemy begins and rolls back.",
            [kind(server) for kind in CONTESTANTS],
            TASKS,
            references=(Own.name,),
            targets=targets,
        )
