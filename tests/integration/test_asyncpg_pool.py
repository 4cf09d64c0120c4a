"""`create_pool` as asyncpg's, on a real PostgreSQL: what code written for it relies on, and what it gains."""

from __future__ import annotations

import asyncio
import io
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from aiopool import embedded
from aiopool.adapters.asyncpg_pool import Pool, create_pool
from aiopool.config import PoolConfig
from aiopool.errors import PoolConfigError, PoolError, PoolTimeout
from aiopool.events import Event, Opened


@pytest_asyncio.fixture
async def pool(postgres: embedded.PostgresServer) -> AsyncIterator[Pool]:
    async with create_pool(postgres.dsn, min_size=1, max_size=1) as pool:
        yield pool


async def eventually(condition: Callable[[], object], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.005)


async def server_side(dsn: str, query: str, *params: object) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query, *params)
    finally:
        await connection.close()


class Refused(Exception):
    """What the hooks of these tests raise."""


class TestBothForms:
    async def test_async_with_opens_and_closes(self, postgres: embedded.PostgresServer) -> None:
        async with create_pool(postgres.dsn, min_size=2, max_size=3) as pool:
            assert (pool.get_size(), pool.get_idle_size()) == (2, 2)
            assert not pool.is_closing()
        assert pool.is_closing()
        assert pool.get_size() == 0

    async def test_await_opens_and_close_closes(self, postgres: embedded.PostgresServer) -> None:
        pool = await create_pool(dsn=postgres.dsn, min_size=1, max_size=1)
        assert isinstance(pool, asyncpg.Pool)
        assert await pool.fetchval("select 42") == 42
        await pool.close()
        await pool.close()

    async def test_a_pool_has_to_be_awaited_before_use(self, postgres: embedded.PostgresServer) -> None:
        pool = create_pool(postgres.dsn)
        with pytest.raises(asyncpg.InterfaceError, match="pool is not initialized"):
            await pool.fetchval("select 1")

    async def test_a_closed_pool_lends_nothing(self, postgres: embedded.PostgresServer) -> None:
        pool = await create_pool(postgres.dsn, min_size=1)
        await pool.close()
        with pytest.raises(asyncpg.InterfaceError, match="pool is closed"):
            await pool.acquire()

    @pytest.mark.skipif(not hasattr(asyncpg.Pool, "get_init_size"), reason="asyncpg has it since 0.32")
    async def test_more_may_be_opened_at_first_than_are_kept(self, postgres: embedded.PostgresServer) -> None:
        async with create_pool(
            postgres.dsn, init_size=3, min_size=1, max_size=5, max_inactive_connection_lifetime=0.2
        ) as pool:
            assert (pool.get_size(), pool.get_init_size(), pool.get_min_size(), pool.get_max_size()) == (3, 3, 1, 5)
            await eventually(lambda: pool.get_size() == 1)

    async def test_an_error_of_opening_is_asyncpgs_own_and_comes_at_once(
        self, postgres: embedded.PostgresServer
    ) -> None:
        with pytest.raises(asyncpg.InvalidCatalogNameError):
            await create_pool(postgres.dsn, database="nowhere", min_size=3)
        with pytest.raises(ConnectionRefusedError):
            await create_pool("postgresql://user@127.0.0.1:1/postgres", min_size=1)

    async def test_a_server_that_has_too_few_connections_says_so_at_once(self) -> None:
        settings = {"max_connections": 8, "superuser_reserved_connections": 2}
        async with embedded.postgres(settings=settings) as server:
            with pytest.raises(asyncpg.TooManyConnectionsError):
                await create_pool(server.dsn, min_size=10, max_size=10)
            assert await server_side(server.dsn, "select 1") == 1

    async def test_a_password_is_told_by_no_error(self) -> None:
        with pytest.raises(ValueError) as caught:
            await create_pool("postgresql://user:hunter2@secret@localhost:port/database", min_size=1)
        assert "hunter2" not in f"{caught.value!r} {caught.value.__context__!r} {caught.value.__cause__!r}"


class TestSettings:
    async def test_sizes_that_contradict_are_refused_in_asyncpgs_words(self) -> None:
        with pytest.raises(ValueError, match="min_size is greater than max_size"):
            create_pool("postgresql://localhost", max_size=5)

    async def test_a_config_holds_the_sizes_as_well(self, postgres: embedded.PostgresServer) -> None:
        config = PoolConfig(min_size=2, max_size=2, acquire_timeout=0.1)
        async with create_pool(postgres.dsn, config=config, name="orders") as pool:
            assert (pool.get_min_size(), pool.get_max_size(), pool.pool.name) == (2, 2, "orders")
            async with pool.acquire(), pool.acquire():
                with pytest.raises(PoolTimeout, match="max_size=2"):
                    await pool.acquire()

    async def test_a_size_beside_another_in_the_config_is_refused(self) -> None:
        with pytest.raises(PoolConfigError, match=r"max_size=3 is not allowed with config\.max_size=20"):
            create_pool("postgresql://localhost", max_size=3, config=PoolConfig())
        with pytest.raises(PoolConfigError, match=r"config\.max_idle_time=300"):
            create_pool("postgresql://localhost", max_inactive_connection_lifetime=3, config=PoolConfig())

    async def test_max_queries_replaces_a_connection(self, postgres: embedded.PostgresServer) -> None:
        async with create_pool(postgres.dsn, min_size=1, max_size=1, max_queries=2) as pool:
            backends = [await pool.fetchval("select pg_backend_pid()") for _ in range(5)]
            assert len(set(backends)) > 1

    async def test_new_connect_args_serve_once_the_connections_have_expired(
        self, postgres: embedded.PostgresServer, pool: Pool
    ) -> None:
        pool.set_connect_args(postgres.dsn, server_settings={"application_name": "after"})
        assert await pool.fetchval("show application_name") == ""
        async with pool.acquire() as connection:
            await pool.expire_connections()
            assert await connection.fetchval("select 1") == 1
        assert await pool.fetchval("show application_name") == "after"


class TestMethods:
    async def test_queries_give_what_asyncpg_gives(self, pool: Pool) -> None:
        assert await pool.execute("create temp table items (id int, name text)") == "CREATE TABLE"
        assert await pool.execute("drop table if exists items") == "DROP TABLE"
        assert await pool.fetch("select generate_series(1, 2)") == [(1,), (2,)]
        assert await pool.fetchrow("select 1, 2") == (1, 2)
        assert await pool.fetchval("select 1, 2", column=1) == 2
        assert await pool.fetchmany("select $1::int", [(1,), (2,)]) == [(1,), (2,)]
        await pool.executemany("select $1::int", [(1,), (2,)])

    async def test_records_are_copied_both_ways(self, pool: Pool) -> None:
        await pool.execute("drop table if exists copied; create table copied (id int, name text)")
        try:
            assert await pool.copy_records_to_table("copied", records=[(1, "a"), (2, "b")]) == "COPY 2"
            assert await pool.copy_to_table("copied", source=io.BytesIO(b"3\tc\n")) == "COPY 1"
            out = io.BytesIO()
            assert await pool.copy_from_table("copied", output=out) == "COPY 3"
            assert out.getvalue() == b"1\ta\n2\tb\n3\tc\n"
            assert await pool.copy_from_query("select id from copied", output=io.BytesIO()) == "COPY 3"
        finally:
            await pool.execute("drop table copied")


class TestRelease:
    async def test_what_was_released_can_be_used_no_more(self, pool: Pool) -> None:
        async with pool.acquire() as connection:
            assert isinstance(connection, asyncpg.Connection)
            statement = await connection.prepare("select 1")
        assert "[released]" in repr(connection)
        with pytest.raises(asyncpg.InterfaceError, match="released back to the pool"):
            await connection.fetchval("select 1")
        with pytest.raises(asyncpg.InterfaceError, match="released back to the pool"):
            await statement.fetchval()

    async def test_a_second_release_is_no_second_connection(self, pool: Pool) -> None:
        connection = await pool.acquire()
        await pool.release(connection)
        async with pool.acquire(timeout=5):
            await pool.release(connection)
            with pytest.raises(TimeoutError):
                await pool.acquire(timeout=0.05)

    async def test_a_connection_of_another_pool_is_refused(self, postgres: embedded.PostgresServer, pool: Pool) -> None:
        async with create_pool(postgres.dsn, min_size=1, max_size=1) as other, other.acquire() as foreign:
            for wrong in (foreign, foreign._con, object()):
                with pytest.raises(asyncpg.InterfaceError, match="is not a member of this pool"):
                    await pool.release(wrong)
            assert await foreign.fetchval("select 1") == 1

    async def test_one_of_asyncpgs_own_pool_is_refused(self, postgres: embedded.PostgresServer, pool: Pool) -> None:
        async with asyncpg.create_pool(postgres.dsn, min_size=1, max_size=1) as other, other.acquire() as foreign:
            with pytest.raises(asyncpg.InterfaceError, match="is not a member of this pool"):
                await pool.release(foreign)

    async def test_a_listener_left_behind_is_told_and_the_connection_not_lost(self, pool: Pool) -> None:
        connection = await pool.acquire()
        await connection.add_listener("channel", lambda *_: None)
        with pytest.raises(asyncpg.InterfaceWarning):  # an error here, as the tests' warnings are
            await pool.release(connection)
        assert await pool.fetchval("select count(*) from pg_listening_channels()") == 0

    async def test_what_one_caller_leaves_the_next_does_not_find(self, pool: Pool) -> None:
        told: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: told.append(about["message"]))
        async with pool.acquire() as connection:
            await connection.execute("select pg_advisory_lock(7); set work_mem = '9MB'")
            await connection.execute("begin")
        async with pool.acquire() as connection:
            assert not connection.is_in_transaction()
            assert await connection.fetchval("show work_mem") != "9MB"
            assert await connection.fetchval("select count(*) from pg_locks where locktype = 'advisory'") == 0
        assert ["active transaction" in message for message in told] == [True]

    async def test_a_statement_that_was_only_prepared_holds_no_lock(self, postgres: embedded.PostgresServer) -> None:
        class NoReset(asyncpg.Connection):  # as for PgBouncer
            def get_reset_query(self) -> str:
                return ""

        async with create_pool(postgres.dsn, min_size=1, max_size=1, connection_class=NoReset) as pool:
            async with pool.acquire() as connection:
                await connection.prepare("select count(*) from pg_class")
                backend = connection.get_server_pid()
            await eventually(lambda: pool.pool.stats()["available"] == 1)
            held = "select count(*) from pg_locks where pid = $1 and locktype = 'relation'"
            assert await server_side(postgres.dsn, held, backend) == 0


class TestHooks:
    async def test_init_runs_once_and_setup_each_time(self, postgres: embedded.PostgresServer) -> None:
        calls: list[str] = []

        async def init(connection: Any) -> None:
            calls.append("init")
            await connection.execute("create temp table mine (id int)")

        async def setup(connection: Any) -> None:
            calls.append("setup")

        async def reset(connection: Any) -> None:
            calls.append("reset")

        async with create_pool(postgres.dsn, min_size=1, max_size=1, init=init, setup=setup, reset=reset) as pool:
            for _ in range(2):
                # What `init` has made stays, as with asyncpg.
                assert await pool.fetchval("select count(*) from mine") == 0
            await eventually(lambda: len(calls) == 5)
        assert calls == ["init", "setup", "reset", "setup", "reset"]

    async def test_a_setup_that_raises_closes_the_connection_and_costs_no_capacity(
        self, postgres: embedded.PostgresServer
    ) -> None:
        given: list[Any] = []

        async def setup(connection: Any) -> None:
            given.append(connection)
            if len(given) == 1:
                raise Refused

        async with create_pool(postgres.dsn, min_size=1, max_size=1, setup=setup) as pool:
            with pytest.raises(Refused):
                await pool.acquire()
            assert given[0].is_closed()
            async with pool.acquire(timeout=5) as connection:
                assert connection is given[1]

    async def test_a_setup_that_hangs_is_bounded_by_the_acquire(self, postgres: embedded.PostgresServer) -> None:
        hanging = [True]

        async def setup(connection: Any) -> None:
            if hanging.pop():
                await connection.execute("select pg_sleep(60)")
            hanging.append(False)

        async with create_pool(postgres.dsn, min_size=1, max_size=1, setup=setup) as pool:
            with pytest.raises(TimeoutError):
                await pool.acquire(timeout=0.1)
            hanging[:] = [False]
            assert await pool.fetchval("select 1") == 1

    async def test_an_init_that_raises_is_told_at_once(self, postgres: embedded.PostgresServer) -> None:
        fails = True

        async def init(connection: Any) -> None:
            if fails:
                raise Refused("no")

        with pytest.raises(Refused):
            await create_pool(postgres.dsn, min_size=2, init=init)
        async with create_pool(postgres.dsn, min_size=0, init=init) as pool:
            with pytest.raises(Refused, match="no") as caught:
                await pool.acquire(timeout=2)  # less than `unavailable_after`
            assert any("can't open connections" in note for note in caught.value.__notes__)
            fails = False
            deadline = time.monotonic() + 5
            while True:  # within a step of the backoff, the error is told again
                try:
                    assert await pool.fetchval("select 1") == 1
                    break
                except Refused:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.02)

    async def test_a_reset_that_raises_costs_the_connection_and_is_logged(
        self, postgres: embedded.PostgresServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def reset(connection: Any) -> None:
            raise Refused

        async with create_pool(postgres.dsn, min_size=1, max_size=1, reset=reset) as pool:
            first = await pool.fetchval("select pg_backend_pid()")
            assert await pool.fetchval("select pg_backend_pid()") != first
            assert "the reset of a connection failed: Refused" in caplog.text

    async def test_connect_may_give_a_connection_of_its_own(self, postgres: embedded.PostgresServer) -> None:
        async def connect(*args: Any, **kwargs: Any) -> Any:
            return await asyncpg.connect(postgres.dsn)

        async with create_pool(connect=connect, min_size=1, max_size=1) as pool:
            first = await pool.fetchval("select pg_backend_pid()")
            assert await pool.fetchval("select pg_backend_pid()") == first

    async def test_connect_must_give_a_connection(self) -> None:
        async def connect(*args: Any, **kwargs: Any) -> Any:
            return 1

        with pytest.raises(asyncpg.InterfaceError, match="expected pool connect callback to return"):
            await create_pool(connect=connect, min_size=1)


class TestLoss:
    async def test_a_cancelled_acquire_costs_nothing_and_keeps_the_order(self, pool: Pool) -> None:
        served: list[int] = []

        async def caller(number: int) -> None:
            async with pool.acquire():
                served.append(number)

        async with pool.acquire():
            callers = [asyncio.create_task(caller(number)) for number in range(6)]
            await asyncio.sleep(0)
            callers[1].cancel()
            callers[4].cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        assert served == [0, 2, 3, 5]
        assert pool.get_size() == 1

    @pytest.mark.parametrize("has_hook", [False, True])
    async def test_a_cancelled_query_costs_no_connection_and_answers_nobody_else(
        self, postgres: embedded.PostgresServer, has_hook: bool
    ) -> None:
        async def reset(connection: Any) -> None:
            await connection.execute("reset all")

        async def work() -> None:
            async with pool.acquire() as connection:
                await connection.execute("set work_mem = '9MB'")
                await connection.execute("begin; select pg_sleep(30)")

        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the open transaction is reported
        hook = reset if has_hook else None
        async with create_pool(postgres.dsn, min_size=1, max_size=1, reset=hook) as pool:
            for number in range(10):
                worker = asyncio.create_task(work())
                await asyncio.sleep(0.02)  # until the server is at it, or nearly
                worker.cancel()
                async with pool.acquire(timeout=10) as connection:
                    assert not connection.is_in_transaction()
                    assert await connection.fetchval("select $1::int", number) == number
                    assert await connection.fetchval("show work_mem") != "9MB"
            assert pool.pool.stats()["opened"] == 1

    async def test_a_storm_of_cancellations_loses_no_capacity(self, postgres: embedded.PostgresServer) -> None:
        chance = random.Random(4)

        async def setup(connection: Any) -> None:
            await connection.execute("select 1")

        async with create_pool(postgres.dsn, min_size=3, max_size=3, setup=setup) as pool:
            for _ in range(15):
                callers = [asyncio.create_task(pool.fetchval("select pg_sleep(0.001)")) for _ in range(20)]
                await asyncio.sleep(chance.random() / 50)
                for caller in chance.sample(callers, 15):
                    caller.cancel()
                await asyncio.wait(callers)
            async with asyncio.timeout(10):
                held = [await pool.acquire() for _ in range(3)]
                assert [await connection.fetchval("select 7") for connection in held] == [7, 7, 7]
            for connection in held:
                await pool.release(connection)

    async def test_a_backend_killed_while_idle_is_replaced(self, postgres: embedded.PostgresServer, pool: Pool) -> None:
        backend = await pool.fetchval("select pg_backend_pid()")
        await server_side(postgres.dsn, "select pg_terminate_backend($1)", backend)
        await eventually(lambda: pool.pool.stats()["opened"] == 2)
        assert await pool.fetchval("select 42") == 42

    async def test_a_backend_killed_in_use_frees_its_place_before_the_release(
        self, postgres: embedded.PostgresServer, pool: Pool
    ) -> None:
        connection = await pool.acquire()
        await server_side(postgres.dsn, "select pg_terminate_backend($1)", connection.get_server_pid())
        async with pool.acquire(timeout=5) as other:
            assert await other.fetchval("select 42") == 42
            with pytest.raises(asyncpg.InterfaceError, match="released back to the pool"):
                await connection.fetchval("select 1")
            await pool.release(connection)

    async def test_a_connection_that_dies_on_its_way_to_a_caller_is_not_lent(
        self, postgres: embedded.PostgresServer
    ) -> None:
        async with create_pool(postgres.dsn, min_size=0, max_size=1) as pool:
            loop, killed = asyncio.get_running_loop(), []

            def kill_the_first(event: Event) -> None:
                if isinstance(event, Opened) and not killed:
                    killed.append(event.info)
                    loop.call_soon(event.info.connection.terminate)  # after it was handed over, before its caller wakes

            pool.pool.subscribe(kill_the_first)
            assert await pool.fetchval("select 42", timeout=5) == 42
            assert (len(killed), pool.pool.stats()["opened"]) == (1, 2)

    async def test_a_connection_closed_by_its_holder_frees_its_place(self, pool: Pool) -> None:
        connection = await pool.acquire()
        await connection.close()
        assert await pool.fetchval("select 42", timeout=5) == 42

    async def test_a_server_that_restarts_costs_a_wait_and_no_error(self) -> None:
        async with embedded.postgres(private=True) as server, create_pool(server.dsn, min_size=1, max_size=2) as pool:
            await server.stop()
            question = asyncio.create_task(pool.fetchval("select 42"))
            await server.start()
            assert await question == 42

    async def test_while_the_server_is_down_callers_get_the_error_of_the_attempt(self) -> None:
        async with embedded.postgres(private=True) as server:
            config = PoolConfig(min_size=1, max_size=2, unavailable_after=0.05)
            async with create_pool(server.dsn, config=config) as pool:
                await server.stop()
                with pytest.raises((OSError, asyncpg.PostgresError)) as caught:
                    await pool.fetchval("select 42")
                assert not isinstance(caught.value, PoolError)


class TestEnd:
    async def test_close_waits_for_what_is_in_use(self, postgres: embedded.PostgresServer) -> None:
        pool = await create_pool(postgres.dsn, min_size=1, max_size=1)
        connection = await pool.acquire()
        waiting = asyncio.ensure_future(pool.acquire())
        await asyncio.sleep(0)
        closing = asyncio.create_task(pool.close())
        with pytest.raises(asyncpg.InterfaceError, match="pool is closing"):
            await waiting
        with pytest.raises(asyncpg.InterfaceError, match="pool is closing"):
            await pool.acquire()
        assert await connection.fetchval("select 1") == 1
        assert not closing.done()
        await pool.release(connection)
        await closing

    async def test_a_close_that_takes_too_long_terminates(self, postgres: embedded.PostgresServer) -> None:
        pool = await create_pool(postgres.dsn, min_size=1, max_size=1)
        connection = await pool.acquire()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await pool.close()
        with pytest.raises(asyncpg.InterfaceError, match="released back to the pool"):
            await connection.fetchval("select 1")

    async def test_terminate_ends_what_is_in_use_and_who_waits(self, postgres: embedded.PostgresServer) -> None:
        name = urlsplit(postgres.dsn).path + "-terminated"
        pool = await create_pool(postgres.dsn, min_size=2, max_size=2, server_settings={"application_name": name})
        connection, _ = await pool.acquire(), await pool.acquire()
        waiting = asyncio.ensure_future(pool.acquire())
        await asyncio.sleep(0)
        pool.terminate()
        assert pool.is_closing()
        assert pool.get_size() == 0
        with pytest.raises(asyncpg.InterfaceError, match="released back to the pool"):
            await connection.fetchval("select 1")
        with pytest.raises(asyncpg.InterfaceError, match="pool is clos"):
            await waiting
        await pool.release(connection)
        await eventually(lambda: pool.pool.stats()["closed"] == pool.pool.stats()["opened"])
        for _ in range(100):
            if not await server_side(
                postgres.dsn, "select count(*) from pg_stat_activity where application_name = $1", name
            ):
                break
            await asyncio.sleep(0.02)
        else:
            pytest.fail("a backend was left")
