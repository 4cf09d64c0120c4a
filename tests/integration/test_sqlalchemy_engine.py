"""`EnginePool` under SQLAlchemy's engines, with two drivers: what their users see, and what becomes of connections."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.exc import TimeoutError as SQLAlchemyTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from aiopool import embedded
from aiopool.adapters.engine import EnginePool
from aiopool.config import PoolConfig
from aiopool.errors import PoolConfigError, PoolTimeout, PoolUnavailable
from aiopool.events import Closed

ONE = sa.text("select 1")


@pytest.fixture(params=["asyncpg", "psycopg"])
def address(postgres: embedded.PostgresServer, request: pytest.FixtureRequest) -> str:
    return postgres.dsn.replace("postgresql://", f"postgresql+{request.param}://")


@asynccontextmanager
async def engine_at(address: str, **keywords: Any) -> AsyncIterator[tuple[AsyncEngine, EnginePool]]:
    """With the figures checked at the end: nothing is lent, nothing is lost."""
    engine = create_async_engine(address, poolclass=EnginePool, **keywords)
    pool = engine.pool
    assert isinstance(pool, EnginePool)
    try:
        async with asyncio.timeout(60):
            yield engine, pool
            assert pool.stats()["in_use"] == 0
    finally:
        assert isinstance(engine.pool, EnginePool)
        core = engine.pool.pool
        await engine.dispose()
    stats = core.stats()
    assert (stats["size"], stats["leaks"]) == (0, 0)
    assert stats["opened"] == stats["closed"]


async def backend(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(sa.text("select pg_backend_pid()"))).scalar_one())


async def test_one_connection_serves_one_after_the_other(address: str) -> None:
    async with engine_at(address) as (engine, pool):
        assert len({await backend(engine) for _ in range(5)}) == 1
        assert pool.stats()["opened"] == 1
        assert pool.status() == "size=1 available=1 in_use=0 waiting=0 max_size=15"


async def test_sqlalchemys_words_for_sizes_mean_what_they_mean_to_it(address: str) -> None:
    async with engine_at(address, pool_size=2, max_overflow=1, pool_timeout=1) as (engine, pool):
        async with engine.connect() as one, engine.connect() as two, engine.connect() as three:
            for connection in (one, two, three):
                await connection.execute(ONE)
            with pytest.raises(SQLAlchemyTimeout, match=r"in_use=3 waiting=1 max_size=3") as caught:
                await backend(engine)
            assert isinstance(caught.value, PoolTimeout)
            assert caught.value.phase == "wait"
        assert pool.stats()["available"] <= 2, "what is above pool_size is closed when it comes back"


async def test_a_config_says_all_of_that_and_more(address: str) -> None:
    config = PoolConfig(min_size=0, max_size=1, acquire_timeout=5, max_uses=2)
    async with engine_at(address, config=config) as (engine, pool):
        assert len({await backend(engine) for _ in range(4)}) == 2
        assert pool.pool.config is config


async def test_callers_are_served_in_the_order_they_came(address: str) -> None:
    async with engine_at(address, pool_size=1, max_overflow=0) as (engine, _):
        served = []

        async def call(number: int) -> None:
            async with engine.connect() as connection:
                await connection.execute(ONE)
                served.append(number)

        await asyncio.gather(*map(call, range(30)))
        assert served == list(range(30))


async def test_what_was_not_committed_is_rolled_back(address: str) -> None:
    async with engine_at(address, pool_size=1, max_overflow=0) as (engine, _):
        async with engine.begin() as connection:
            await connection.execute(sa.text("drop table if exists aiopool_engine"))
            await connection.execute(sa.text("create table aiopool_engine (n int)"))
        async with engine.connect() as connection:
            await connection.execute(sa.text("insert into aiopool_engine values (1)"))

        async def fail() -> None:
            async with engine.begin() as connection:
                await connection.execute(sa.text("insert into aiopool_engine values (2)"))
                await connection.execute(sa.text("select nonsense"))

        with pytest.raises(ProgrammingError):
            await fail()
        async with engine.begin() as connection:
            assert (await connection.execute(sa.text("select count(*) from aiopool_engine"))).scalar_one() == 0
            await connection.execute(sa.text("drop table aiopool_engine"))


async def test_random_cancellations_lose_nothing_and_mix_nothing_up(address: str) -> None:
    chance = random.Random(3)
    async with engine_at(address, pool_size=3, max_overflow=0) as (engine, pool):

        async def ask(number: int) -> None:
            async with engine.connect() as connection:
                answer = await connection.execute(sa.text("select cast(:n as int)"), {"n": number})
                assert answer.scalar_one() == number

        tasks = [asyncio.create_task(ask(number)) for number in range(200)]
        for task in chance.sample(tasks, 100):
            await asyncio.sleep(chance.random() * 0.004)
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(each) for each in outcomes} <= {type(None), asyncio.CancelledError}
        await asyncio.gather(*(ask(number) for number in range(30)))
        assert pool.stats()["size"] <= 3


async def test_a_connection_whose_server_process_is_gone_is_replaced(
    postgres: embedded.PostgresServer, address: str
) -> None:
    async with engine_at(address, pool_size=1, max_overflow=0, pool_pre_ping=True) as (engine, pool):
        before = await backend(engine)
        killer = await asyncpg.connect(postgres.dsn)
        await killer.execute("select pg_terminate_backend($1, 5000)", before)
        await killer.close()
        assert await backend(engine) != before
        assert pool.stats()["closed_by"].get("invalid") == 1


async def test_one_that_died_in_use_is_closed_and_the_next_caller_gets_another(
    postgres: embedded.PostgresServer, address: str
) -> None:
    async with engine_at(address, pool_size=1, max_overflow=0) as (engine, pool):
        killer = await asyncpg.connect(postgres.dsn)
        async with engine.connect() as connection:
            process = (await connection.execute(sa.text("select pg_backend_pid()"))).scalar_one()
            await killer.execute("select pg_terminate_backend($1, 5000)", process)
            with pytest.raises(DBAPIError):
                await connection.execute(ONE)
        await killer.close()
        assert await backend(engine) != process
        assert pool.stats()["closed_by"].get("broken") == 1


async def test_who_invalidates_a_connection_frees_its_place(address: str) -> None:
    async with engine_at(address, pool_size=1, max_overflow=0) as (engine, _):
        async with engine.connect() as connection:
            await connection.execute(ONE)
            await connection.invalidate()
        await backend(engine)


@pytest.mark.filterwarnings("ignore:<psycopg.AsyncConnection:ResourceWarning")  # psycopg's own, for the same
@pytest.mark.parametrize("elsewhere", [False, True], ids=["on the loop's thread", "on another thread"])
async def test_a_connection_dropped_without_closing_frees_its_place(address: str, elsewhere: bool) -> None:
    async with engine_at(address, pool_size=1, max_overflow=0) as (engine, _):

        async def drop() -> None:
            connection = await engine.connect()
            await connection.execute(ONE)

        def collect() -> None:
            thread = threading.Thread(target=gc.collect)
            thread.start()
            thread.join()

        gc.disable()
        try:
            await drop()
            with pytest.warns(sa.exc.SAWarning, match="garbage collector"):
                collect() if elsewhere else gc.collect()
        finally:
            gc.enable()
        await asyncio.sleep(0)
        await backend(engine)


async def test_a_wrong_password_is_told_with_its_cause_and_never_shown() -> None:
    async with embedded.postgres() as server:
        address = sa.make_url(server.dsn).set(drivername="postgresql+asyncpg", username="nobody", password="hunter2")
        async with engine_at(address.render_as_string(False), config=PoolConfig(min_size=0, unavailable_after=0)) as (
            engine,
            _,
        ):
            with pytest.raises(PoolUnavailable) as caught:
                await backend(engine)
            assert caught.value.__cause__ is not None
            assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("keywords", "complaint"),
    [
        ({"pool_size": 0}, "pool_size=0 is not allowed: a pool has a limit"),
        ({"max_overflow": -1}, "max_overflow=-1 is not allowed: a pool has a limit"),
        ({"pool_timeout": -1}, "acquire_timeout=-1 is not allowed"),
        ({"pool_size": 3, "config": PoolConfig()}, "pool_size=3 is not allowed with config="),
        ({"pool_pre_ping": True, "config": PoolConfig()}, "pool_pre_ping=True is not allowed with config="),
        ({"config": PoolConfig(max_shares=2)}, "max_shares=2 is not allowed for EnginePool"),
        ({"pool_use_lifo": False}, "pool_use_lifo=False is not allowed: what came back last is lent first"),
    ],
)
def test_sizes_that_contradict_are_refused(keywords: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PoolConfigError, match=complaint):
        create_async_engine("postgresql+asyncpg://", poolclass=EnginePool, **keywords)


async def test_what_came_back_last_is_lent_first(address: str) -> None:
    async with engine_at(address, pool_use_lifo=True) as (engine, _):
        async with engine.connect() as one, engine.connect() as other:
            await one.execute(ONE)
            last = (await other.execute(sa.text("select pg_backend_pid()"))).scalar_one()
            await one.close()
        assert await backend(engine) == last


async def test_figures_are_those_of_sqlalchemys_pool(address: str) -> None:
    async def figures(**keywords: Any) -> list[tuple[int, int, int, int]]:
        engine = create_async_engine(address, pool_size=2, max_overflow=1, **keywords)
        told = []

        def tell() -> None:
            pool: Any = engine.pool
            told.append((pool.size(), pool.checkedin(), pool.checkedout(), pool.overflow()))

        tell()
        connections = [engine.connect() for _ in range(3)]
        for connection in connections:
            await connection.start()
            tell()
        for connection in connections[:2]:
            await connection.close()
            tell()
        await connections[2].close()
        pool: Any = engine.pool
        if isinstance(pool, EnginePool):  # closes in the background
            gone = asyncio.Event()
            pool.pool.subscribe(lambda event: gone.set() if isinstance(event, Closed) else None)
            await gone.wait()
        tell()
        await engine.dispose()
        tell()
        return told

    assert await figures(poolclass=EnginePool) == await figures()


def test_without_a_limit_for_idle_connections_all_are_kept() -> None:
    pool: Any = create_async_engine("postgresql+asyncpg://", poolclass=EnginePool, config=PoolConfig(max_size=7)).pool
    assert (pool.size(), pool.overflow()) == (7, -7)


@pytest.mark.parametrize(
    "wrong", [{"database": "nosuch"}, {"username": "nobody", "password": "hunter2"}], ids=["database", "password"]
)
async def test_what_opening_again_cannot_help_is_told_at_once(address: str, wrong: dict[str, str]) -> None:
    url = sa.make_url(address).set(**wrong)
    async with engine_at(url.render_as_string(False)) as (engine, pool):
        with pytest.raises(PoolUnavailable):
            await backend(engine)
        assert pool.stats()["open_failures"] == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # SQLAlchemy 2.0 leaves such a connection to its driver
@pytest.mark.parametrize("is_sql", [False, True], ids=["in Python", "in SQL"])
async def test_a_connect_listener_that_raises_is_told_and_at_once_if_it_is_the_server_who_refuses(
    address: str, is_sql: bool
) -> None:
    async with engine_at(address, config=PoolConfig(min_size=0, unavailable_after=0.2)) as (engine, pool):

        @sa.event.listens_for(engine.sync_engine, "connect")
        def refuse(connection: Any, _: object) -> None:
            if not is_sql:
                raise RuntimeError("no tenant is set")
            connection.cursor().execute("set role nosuch")

        with pytest.raises(PoolUnavailable) as caught:
            await backend(engine)
        assert ("nosuch" if is_sql else "no tenant is set") in str(caught.value.__cause__)
        assert (pool.stats()["open_failures"] == 1) is is_sql


async def test_a_server_that_is_away_is_tried_again(address: str) -> None:
    url = sa.make_url(address).set(port=1).render_as_string(False)
    async with engine_at(url, config=PoolConfig(min_size=0, unavailable_after=0.5)) as (engine, pool):
        with pytest.raises(PoolUnavailable):
            await backend(engine)
        assert pool.stats()["open_failures"] > 1
