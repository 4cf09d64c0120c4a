"""SQLAlchemy's engine on a `DatabasePool`: it takes leases, and gives them back whatever happens."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool

from aiopool import embedded
from aiopool.adapters.postgres import DatabasePool
from aiopool.adapters.sqlalchemy import creator
from aiopool.config import PoolConfig
from aiopool.errors import PoolTimeout
from aiopool.testing import FaultProxy


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "aiopool_sqlalchemy_orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    items: Mapped[dict[str, Any]] = mapped_column(JSONB)


@asynccontextmanager
async def engine_on(db: DatabasePool, **keywords: Any) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine("postgresql+asyncpg://", async_creator=creator(db), poolclass=NullPool, **keywords)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)
        yield engine
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
    finally:
        await engine.dispose()


@asynccontextmanager
async def pool_and_engine(
    postgres: embedded.PostgresServer, max_size: int = 1, reset: Any = "session"
) -> AsyncIterator[tuple[DatabasePool, AsyncEngine]]:
    config = PoolConfig(min_size=1, max_size=max_size, validate_after=None)
    async with (
        asyncio.timeout(60),
        DatabasePool(postgres.dsn, config, reset=reset) as db,
        engine_on(db) as engine,
    ):
        yield db, engine
    assert db.stats()["leaks"] == 0


RESETS = pytest.mark.parametrize("reset", ["session", "transaction", "none"])


@RESETS
async def test_sessions_commit_and_read_what_they_wrote(postgres: embedded.PostgresServer, reset: Any) -> None:
    async with pool_and_engine(postgres, reset=reset) as (db, engine):
        async with AsyncSession(engine) as session:
            session.add(Order(id=1, items={"tea": 2}))
            await session.commit()
        async with AsyncSession(engine) as session:
            order = await session.get_one(Order, 1)
            assert order.items == {"tea": 2}
        assert await db.fetchval("select count(*) from aiopool_sqlalchemy_orders") == 1
        assert db.stats()["opened"] == 1


@RESETS
async def test_what_was_not_committed_is_rolled_back(postgres: embedded.PostgresServer, reset: Any) -> None:
    async with pool_and_engine(postgres, reset=reset) as (db, engine):
        async with AsyncSession(engine) as session:
            session.add(Order(id=1, items={}))
            await session.flush()
        async with engine.connect() as connection:
            await connection.execute(sa.insert(Order).values(id=2, items={}))
        async with AsyncSession(engine) as session:
            session.add(Order(id=3, items={}))
            await session.flush()
            with pytest.raises(IntegrityError):
                await session.execute(sa.text("insert into aiopool_sqlalchemy_orders values (3, '{}')"))
        assert await db.fetchval("select count(*) from aiopool_sqlalchemy_orders") == 0
        assert db.stats()["opened"] == 1


async def test_every_lease_comes_back_when_its_block_ends(postgres: embedded.PostgresServer) -> None:
    async with pool_and_engine(postgres, max_size=3) as (db, engine):
        assert db.stats()["in_use"] == 0
        async with engine.connect() as one, engine.connect() as two:
            await one.execute(sa.text("select 1"))
            await two.execute(sa.text("select 1"))
            assert db.stats()["in_use"] == 2
        assert db.stats()["in_use"] == 0
        with pytest.raises(ProgrammingError):
            async with engine.connect() as connection:
                await connection.execute(sa.text("select nonsense"))
        assert db.stats()["in_use"] == 0


async def test_a_hundred_sessions_share_five_connections(postgres: embedded.PostgresServer) -> None:
    async with pool_and_engine(postgres, max_size=5) as (db, engine):

        async def order(n: int) -> None:
            async with AsyncSession(engine) as session, session.begin():
                session.add(Order(id=n, items={"n": n}))
            async with AsyncSession(engine) as session:
                assert (await session.get_one(Order, n)).items == {"n": n}

        await asyncio.gather(*(order(n) for n in range(100)))
        assert db.stats()["opened"] <= 5
        assert db.stats()["in_use"] == 0


@RESETS
async def test_cancelled_sessions_cost_no_connection_and_leave_nothing(
    postgres: embedded.PostgresServer, reset: Any
) -> None:
    chance = random.Random(7)
    async with pool_and_engine(postgres, max_size=3, reset=reset) as (db, engine):

        async def order(n: int) -> int:
            async with AsyncSession(engine) as session, session.begin():
                session.add(Order(id=n, items={}))
                await session.flush()
                answer: int = (
                    await session.execute(sa.text(f"select {n} + length(pg_sleep(0.005)::text)"))
                ).scalar_one()
                await session.rollback()
                return answer

        tasks = [asyncio.create_task(order(n)) for n in range(150)]
        for task in tasks:
            if chance.random() < 0.7:
                asyncio.get_running_loop().call_later(chance.uniform(0, 0.6), task.cancel)
        for n, answer in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
            assert answer == n or isinstance(answer, asyncio.CancelledError), answer
        async with AsyncSession(engine) as session:
            assert (await session.execute(sa.text("select 42"))).scalar_one() == 42
        stats = db.stats()
        assert (stats["in_use"], stats["leaks"]) == (0, 0)
        assert await db.fetchval("select count(*) from aiopool_sqlalchemy_orders") == 0
        if reset != "none":
            assert stats["opened"] <= 3 + stats["closed_by"]["broken"] + stats["closed_by"]["discarded"]


async def test_json_is_decoded_on_connections_new_and_used(postgres: embedded.PostgresServer) -> None:
    async with pool_and_engine(postgres) as (db, engine):

        async def ask() -> tuple[Any, ...]:
            async with engine.connect() as connection:
                given = sa.bindparam("x", {"b": 3}, type_=JSONB)
                query = sa.text("select '{\"a\": [1]}'::jsonb, '[2]'::json, :x ->> 'b'").bindparams(given)
                return tuple((await connection.execute(query)).one())

        for _ in range(5):
            assert await ask() == ({"a": [1]}, [2], "3")
        await db.drain()
        assert await ask() == ({"a": [1]}, [2], "3")


async def test_two_engines_on_one_pool_keep_their_own_codecs(postgres: embedded.PostgresServer) -> None:
    async with (
        pool_and_engine(postgres) as (db, engine),
        engine_on(db, json_deserializer=lambda text: ("mine", json.loads(text))) as other,
    ):
        for _ in range(3):
            for each, expected in ((engine, {"a": 1}), (other, ("mine", {"a": 1}))):
                async with each.connect() as connection:
                    assert (await connection.execute(sa.text("select '{\"a\": 1}'::jsonb"))).scalar_one() == expected


@pytest.mark.skipif(asyncpg.__version__ < "0.31", reason="earlier ones look up built-in types on the server")
async def test_setting_up_a_connection_that_was_used_before_takes_no_round_trip(
    postgres: embedded.PostgresServer,
) -> None:
    config = PoolConfig(min_size=1, max_size=1, validate_after=None)
    async with FaultProxy.before(postgres.dsn) as proxy, DatabasePool(proxy.url, config) as db:
        engine = create_async_engine("postgresql+asyncpg://", async_creator=creator(db), poolclass=NullPool)
        sent = []
        for _ in range(5):
            async with engine.connect() as connection:
                await connection.execute(sa.text("select 1"))
            async with db.connection():
                pass  # after the reset
            sent.append(proxy.sent)
        # Begin, prepare, execute, roll back, close the statement; and two resets.
        assert [after - before for before, after in itertools.pairwise(sent)][-2:] == [7, 7]


async def test_an_isolation_level_and_autocommit_of_one_session_are_not_the_next_ones(
    postgres: embedded.PostgresServer,
) -> None:
    async with pool_and_engine(postgres) as (_, engine):
        show = sa.text("show transaction_isolation")
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="SERIALIZABLE")
            assert (await connection.execute(show)).scalar_one() == "serializable"
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(sa.text("insert into aiopool_sqlalchemy_orders values (1, '{}')"))
        async with engine.connect() as connection:
            assert (await connection.execute(show)).scalar_one() == "read committed"
            assert (await connection.execute(sa.select(sa.func.count(Order.id)))).scalar_one() == 1


async def test_rows_are_streamed_by_a_cursor_of_the_server(postgres: embedded.PostgresServer) -> None:
    async with pool_and_engine(postgres) as (db, engine):
        async with engine.connect() as connection:
            rows = await connection.stream(sa.text("select generate_series(1, 1000)"))
            assert [row[0] async for row in rows] == list(range(1, 1001))
        async with engine.connect() as connection:
            rows = await connection.stream(sa.text("select generate_series(1, 1000)"))
            assert (await anext(aiter(rows)))[0] == 1
        async with engine.connect() as connection:
            assert (await connection.execute(sa.text("select 1"))).scalar_one() == 1
        assert db.stats()["opened"] == 1


async def test_a_schema_that_changes_is_noticed(postgres: embedded.PostgresServer) -> None:
    async with pool_and_engine(postgres) as (_, engine):
        for column in ("first", "second"):
            async with engine.begin() as connection:
                await connection.execute(sa.text(f"alter table aiopool_sqlalchemy_orders add column {column} int"))
            async with engine.connect() as connection:
                keys = (await connection.execute(sa.text("select * from aiopool_sqlalchemy_orders"))).keys()
                assert column in list(keys)


async def test_a_disposed_engine_leaves_the_pool_alone_and_goes_on(postgres: embedded.PostgresServer) -> None:
    async with pool_and_engine(postgres) as (db, engine):
        await engine.dispose()
        assert db.stats()["size"] == 1
        async with engine.connect() as connection:
            assert (await connection.execute(sa.text("select 1"))).scalar_one() == 1
        assert await db.fetchval("select 2") == 2


async def test_a_full_pool_refuses_in_its_own_words(postgres: embedded.PostgresServer) -> None:
    config = PoolConfig(min_size=1, max_size=1, acquire_timeout=0.05)
    async with DatabasePool(postgres.dsn, config) as db, engine_on(db) as engine, engine.connect() as connection:
        await connection.execute(sa.text("select 1"))
        with pytest.raises(PoolTimeout, match="max_size=1"):
            await engine.connect()


async def test_a_connection_that_the_server_ended_is_a_disconnect_and_is_replaced(
    postgres: embedded.PostgresServer,
) -> None:
    async with pool_and_engine(postgres) as (db, engine):
        with pytest.raises(DBAPIError) as caught:
            async with engine.connect() as connection:
                await connection.execute(sa.text("select pg_terminate_backend(pg_backend_pid())"))
        assert caught.value.connection_invalidated
        async with engine.connect() as connection:
            assert (await connection.execute(sa.text("select 1"))).scalar_one() == 1
        assert db.stats()["opened"] == 2


@pytest.mark.filterwarnings("ignore:The garbage collector:sqlalchemy.exc.SAWarning")
async def test_one_that_is_dropped_unclosed_comes_back_too(postgres: embedded.PostgresServer) -> None:
    async with pool_and_engine(postgres) as (db, engine):
        connection = await engine.connect()
        await connection.execute(sa.text("select 1"))
        del connection
        gc.collect()
        assert await db.fetchval("select 1", timeout=10) == 1
        assert db.stats()["closed_by"]["discarded"] == 1
