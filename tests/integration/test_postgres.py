"""`DatabasePool` on a real PostgreSQL: what callers get, and what one caller leaves to the next (nothing)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import json
import random
import socket
import time
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import pytest
import pytest_asyncio

from aiopool import embedded
from aiopool.adapters._postgres_reset import SESSION_RESET
from aiopool.adapters.postgres import DatabasePool
from aiopool.config import PoolConfig
from aiopool.errors import LeaseExpired, PoolClosed, PoolConfigError, PoolTimeout, PoolUnavailable
from aiopool.testing import FaultProxy
from tests.stopwatch import Stopwatch
from tests.storms.manners import cancelled_in_the_turn_of_an_answer

ONE = PoolConfig(min_size=1, max_size=1, validate_after=None)

#: Everything that one session can tell of itself and that must be the same for each caller.
STATE = """
    select current_user, session_user, current_setting('role') as role,
           current_setting('work_mem') as work_mem, current_setting('search_path') as search_path,
           current_setting('session_replication_role') as session_replication_role,
           coalesce(current_setting('app.tenant', true), '') as tenant,
           (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks,
           (select count(*) from pg_class where relpersistence = 't' and pg_table_is_visible(oid)) as temporary,
           (select count(*) from pg_cursors where name <> '') as cursors,
           (select count(*) from pg_listening_channels()) as channels
"""

LEFT_BEHIND = {
    "a setting": "set work_mem = '9MB'",
    "a setting of the application": "set app.tenant = 'blue'",
    "a setting for superusers": "set session_replication_role = replica",
    "a search path": "set search_path = pg_catalog",
    "a role": "set role aiopool_clerk",
    "a session authorization": "set session authorization aiopool_clerk",
    "both of them": "set session authorization aiopool_clerk; set role aiopool_clerk",
    "a temporary table": "create temp table left_behind as select 1 as a",
    "an advisory lock": "select pg_advisory_lock(4711)",
    "a cursor with hold": "declare left_cursor cursor with hold for select 1",
    "a channel": "listen left_channel",
    "an open transaction": "begin; set local work_mem = '9MB'; set role aiopool_clerk",
    "a temporary table in an open transaction": "begin; create temp table left_behind (a int)",
    "an open cursor": "begin; declare left_cursor cursor for select 1; fetch left_cursor",
    "a transaction that may only read": "begin read only",
    "a savepoint": "begin; savepoint here; select pg_advisory_lock(4711)",
}


@pytest_asyncio.fixture(scope="session", loop_scope="session", autouse=True)
async def clerk(postgres: embedded.PostgresServer) -> None:
    connection = await asyncpg.connect(postgres.dsn)
    try:
        await connection.execute("drop role if exists aiopool_clerk; create role aiopool_clerk")
        await connection.execute("drop table if exists aiopool_items; create table aiopool_items (id int primary key)")
    finally:
        await connection.close()


@pytest_asyncio.fixture
async def db(postgres: embedded.PostgresServer) -> AsyncIterator[DatabasePool]:
    """One connection, so that each caller gets what the last one left."""
    async with DatabasePool(postgres.dsn, ONE) as pool:
        await pool.execute("truncate aiopool_items")
        yield pool


class SilentProxy(FaultProxy):
    """Falls silent when so many pieces have come from clients, and the last of them goes no further."""

    silent_at: int | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "sent" and value == self.silent_at:
            self.silence()


async def eventually(condition: Callable[[], bool], within: float = 10.0) -> None:
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


class TestWhatCallersGet:
    async def test_execute_returns_the_rows_of_a_query_and_none_for_a_statement_without(self, db: DatabasePool) -> None:
        assert [dict(row) for row in await db.execute("select 1 as a, 'x' as b")] == [{"a": 1, "b": "x"}]
        assert await db.execute("insert into aiopool_items values ($1)", 1) == []
        assert [row["id"] for row in await db.execute("insert into aiopool_items values (2) returning id")] == [2]

    async def test_execute_runs_a_script_of_several_statements(self, db: DatabasePool) -> None:
        assert await db.execute("insert into aiopool_items values (1); insert into aiopool_items values (2);") == []
        assert await db.fetchval("select count(*) from aiopool_items") == 2

    async def test_a_script_with_an_error_leaves_nothing_done(self, db: DatabasePool) -> None:
        with pytest.raises(asyncpg.UndefinedTableError):
            await db.execute("insert into aiopool_items values (1); insert into nowhere values (2)")
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await db.execute("insert into aiopool_items values (1); nonsense")
        assert await db.fetchval("select count(*) from aiopool_items") == 0

    async def test_fetch_fetchrow_fetchval_and_executemany_do_as_asyncpg_does(self, db: DatabasePool) -> None:
        await db.executemany("insert into aiopool_items values ($1)", [(i,) for i in range(5)])
        assert [row["id"] for row in await db.fetch("select id from aiopool_items order by id")] == list(range(5))
        row = await db.fetchrow("select id, id * 2 as twice from aiopool_items where id = $1", 4)
        assert row is not None
        assert tuple(row) == (4, 8)
        assert await db.fetchrow("select 1 where false") is None
        assert await db.fetchval("select 1, 2", column=1) == 2
        assert await db.fetchval("select 1 where false") is None

    async def test_connection_gives_a_raw_connection_or_a_lease(self, db: DatabasePool) -> None:
        async with db.connection() as connection:
            assert isinstance(connection, asyncpg.Connection)
            with pytest.raises(PoolTimeout):
                await db.connection(timeout=0)
        lease = await db.connection(timeout=1)
        assert await lease.connection.fetchval("select 1") == 1
        lease.release()

    async def test_a_timeout_bounds_the_query_and_keeps_the_connection(self, db: DatabasePool) -> None:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await db.execute("select pg_sleep(5)", timeout=0.1)
        assert time.monotonic() - began < 4
        assert await db.fetchval("select 1") == 1
        assert db.stats()["opened"] == 1

    async def test_a_timeout_that_is_no_number_is_told_as_the_pool_tells_it(self, db: DatabasePool) -> None:
        with pytest.raises(ValueError, match="timeout='5' is not allowed: it must be a number of seconds"):
            await db.fetch("select 1", timeout="5")  # type: ignore[arg-type]

    async def test_a_timeout_bounds_the_wait_for_a_connection_as_well(self, db: DatabasePool) -> None:
        async with db.connection():
            with pytest.raises(PoolTimeout) as caught:
                await db.fetch("select 1", timeout=0.1)
        assert 0.09 < caught.value.waited < 4

    async def test_command_timeout_and_server_settings_are_asyncpgs(self, postgres: embedded.PostgresServer) -> None:
        async with DatabasePool(
            postgres.dsn, ONE, command_timeout=0.1, server_settings={"application_name": "till"}
        ) as db:
            await db.execute("set application_name = 'other'")
            assert await db.fetchval("show application_name") == "till"
            with pytest.raises(TimeoutError):
                await db.execute("select pg_sleep(5)")
            assert await db.fetchval("select 1") == 1
            assert db.stats()["opened"] == 1

    async def test_a_closed_pool_refuses_and_may_be_opened_again(self, postgres: embedded.PostgresServer) -> None:
        db = DatabasePool(postgres.dsn, ONE, name="till")
        async with db:
            assert await db.fetchval("select 1") == 1
        with pytest.raises(PoolClosed):
            await db.fetchval("select 1")
        async with db:
            assert await db.fetchval("select 1") == 1
        stats = db.stats()
        assert (stats["name"], stats["size"], stats["opened"]) == ("till", 0, 2)
        json.dumps(stats)

    async def test_the_pools_own_controls_are_at_hand(self, db: DatabasePool) -> None:
        first = await db.fetchval("select pg_backend_pid()")
        assert await db.check() == 0
        await db.drain()
        assert await db.fetchval("select pg_backend_pid()") != first
        db.resize(max_size=2)
        assert db.stats()["max_size"] == 2
        assert db.pool.stats() == db.stats()

    async def test_a_lease_that_is_held_too_long_ends_with_lease_expired(
        self, postgres: embedded.PostgresServer
    ) -> None:
        config = PoolConfig(min_size=0, max_size=1, max_hold=0.2)
        async with DatabasePool(postgres.dsn, config) as db:
            with pytest.raises(LeaseExpired):
                await db.execute("select pg_sleep(5)")
            assert await db.fetchval("select 1") == 1


class TestTransactions:
    async def test_they_commit_when_the_block_ends(self, db: DatabasePool) -> None:
        async with db.transaction() as connection:
            await connection.execute("insert into aiopool_items values (1)")
        assert await db.fetchval("select count(*) from aiopool_items") == 1

    async def test_they_roll_back_on_an_error_which_reaches_the_caller(self, db: DatabasePool) -> None:
        with pytest.raises(ZeroDivisionError):
            await fail_after(db, "insert into aiopool_items values (1)")
        assert await db.fetchval("select count(*) from aiopool_items") == 0

    async def test_they_are_rolled_back_by_the_time_an_error_leaves_the_block(
        self, postgres: embedded.PostgresServer
    ) -> None:
        async with DatabasePool(postgres.dsn, PoolConfig(min_size=2, max_size=2)) as db:
            await db.execute("truncate aiopool_items; insert into aiopool_items values (1)")
            for _ in range(20):
                with pytest.raises(ZeroDivisionError):
                    await fail_after(db, "select from aiopool_items for update")
                # On the other connection.
                await db.fetch("select id from aiopool_items for update nowait")

    async def test_a_cancelled_one_is_rolled_back_in_the_background(self, db: DatabasePool) -> None:
        for statement in ("select pg_sleep(5)", None):
            inside = asyncio.Event()

            async def work(statement: str | None = statement, inside: asyncio.Event = inside) -> None:
                async with db.transaction() as connection:
                    await connection.execute("insert into aiopool_items values (1)")
                    inside.set()
                    await (connection.execute(statement) if statement else asyncio.sleep(5))

            task = asyncio.create_task(work())
            await inside.wait()
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await db.fetchval("select count(*) from aiopool_items") == 0
        assert db.stats()["opened"] == 1

    async def test_isolation_and_readonly_are_what_the_server_sees(self, db: DatabasePool) -> None:
        async with db.transaction(isolation="serializable", readonly=True, deferrable=True) as connection:
            assert await connection.fetchval("show transaction_isolation") == "serializable"
            assert await connection.fetchval("show transaction_read_only") == "on"
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            async with db.transaction(readonly=True) as connection:
                await connection.execute("insert into aiopool_items values (1)")
        for level in ("none at all", ""):
            with pytest.raises(PoolConfigError, match=f"isolation='{level}'.*read_uncommitted, .*serializable"):
                async with db.transaction(isolation=level):  # type: ignore[arg-type]
                    pass

    async def test_a_transaction_inside_is_a_savepoint(self, db: DatabasePool) -> None:
        async with db.transaction() as connection:
            await connection.execute("insert into aiopool_items values (1)")
            with pytest.raises(asyncpg.UniqueViolationError):
                async with connection.transaction():
                    await connection.execute("insert into aiopool_items values (1)")
            await connection.execute("insert into aiopool_items values (2)")
        assert await db.fetchval("select count(*) from aiopool_items") == 2

    async def test_an_error_at_commit_reaches_the_caller(self, db: DatabasePool) -> None:
        await db.execute(
            "create table if not exists aiopool_deferred (id int unique deferrable initially deferred); "
            "truncate aiopool_deferred"
        )
        with pytest.raises(asyncpg.UniqueViolationError):
            async with db.transaction() as connection:
                await connection.execute("insert into aiopool_deferred values (1), (1)")
        assert await db.fetchval("select count(*) from aiopool_deferred") == 0

    async def test_a_swallowed_error_is_no_silent_loss(self, db: DatabasePool) -> None:
        async def swallow() -> None:
            async with db.transaction() as connection:
                await connection.execute("insert into aiopool_items values (1)")
                with contextlib.suppress(asyncpg.DivisionByZeroError):
                    await connection.execute("select 1 / 0")

        with pytest.raises(asyncpg.InFailedSQLTransactionError, match="rolled back, not committed"):
            await swallow()
        assert db.stats()["opened"] == 1

    async def test_a_broken_connection_does_not_hide_the_callers_error(self, db: DatabasePool) -> None:
        async def break_it(error: Exception | None) -> None:
            async with db.transaction() as connection:
                connection.terminate()
                if error is not None:
                    raise error

        with pytest.raises(ZeroDivisionError):
            await break_it(ZeroDivisionError())
        with pytest.raises(asyncpg.InterfaceError, match="closed"):
            await break_it(None)
        assert await db.fetchval("select 1") == 1

    async def test_they_cost_a_begin_and_a_commit_and_nothing_else(self, postgres: embedded.PostgresServer) -> None:
        async with FaultProxy.before(postgres.dsn) as proxy, DatabasePool(proxy.url, ONE, reset="transaction") as db:
            before = proxy.sent
            async with db.transaction():
                pass
            await asyncio.sleep(0.05)
            assert proxy.sent - before == 2


class TestSessionReset:
    @pytest.mark.parametrize("what", LEFT_BEHIND)
    async def test_the_next_caller_finds_nothing_of(self, db: DatabasePool, what: str) -> None:
        fresh = await db.fetchrow(STATE)
        assert fresh is not None
        async with db.connection() as connection:
            await connection.execute(LEFT_BEHIND[what])
            if not connection.is_in_transaction():
                assert dict(await connection.fetchrow(STATE) or {}) != dict(fresh)
        async with db.connection() as connection:
            assert not connection.is_in_transaction()
            assert dict(await connection.fetchrow(STATE) or {}) == dict(fresh)
        assert db.stats()["opened"] == 1

    @pytest.mark.parametrize("what", LEFT_BEHIND)
    async def test_nor_when_a_transaction_failed_on_top_of(self, db: DatabasePool, what: str) -> None:
        fresh = await db.fetchrow(STATE)
        async with db.connection() as connection:
            await connection.execute(LEFT_BEHIND[what])
            if not connection.is_in_transaction():
                await connection.execute("begin")
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.execute("select 1 / 0")
        assert await db.fetchrow(STATE) == fresh
        assert db.stats()["opened"] == 1

    async def test_a_role_that_was_dropped_meanwhile_is_left_behind(
        self, db: DatabasePool, postgres: embedded.PostgresServer
    ) -> None:
        async with db.connection() as connection:
            await connection.execute("create role aiopool_gone; set role aiopool_gone")
            await server_side(postgres.dsn, "drop role aiopool_gone")
        assert await db.fetchval("select current_user = session_user")
        assert db.stats()["opened"] == 1

    async def test_a_user_without_privileges_can_be_reset(self, postgres: embedded.PostgresServer) -> None:
        await server_side(postgres.dsn, "drop role if exists aiopool_guest")
        await server_side(postgres.dsn, "create role aiopool_guest login password 'guest'")
        async with DatabasePool(postgres.dsn, ONE, user="aiopool_guest", password="guest") as db:
            await db.execute("set work_mem = '9MB'")
            assert await db.fetchval("show work_mem") != "9MB"
            assert db.stats()["opened"] == 1
        await server_side(postgres.dsn, "drop role aiopool_guest")

    async def test_a_role_in_the_server_settings_stays(self, postgres: embedded.PostgresServer) -> None:
        async with DatabasePool(postgres.dsn, ONE, server_settings={"role": "aiopool_clerk"}) as db:
            for statement in ("select 1", "set role none", "reset session authorization"):
                await db.execute(statement)
                assert await db.fetchval("select current_user") == "aiopool_clerk"

    async def test_lastval_is_not_the_last_callers(self, db: DatabasePool) -> None:
        await db.execute("create sequence if not exists aiopool_numbers")
        await db.fetchval("select nextval('aiopool_numbers')")
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
            await db.fetchval("select lastval()")

    async def test_a_transaction_object_that_was_left_open_is_forgotten(self, db: DatabasePool) -> None:
        async with db.connection() as connection:
            await connection.transaction().start()
        async with db.connection() as connection, connection.transaction(isolation="serializable"):
            # A real one: a savepoint would not have its own isolation.
            assert await connection.fetchval("show transaction_isolation") == "serializable"

    async def test_asyncpgs_prepared_statements_stay_valid(self, db: DatabasePool) -> None:
        statements = "select name, prepare_time from pg_prepared_statements where statement = 'select $1::int + 7'"
        assert await db.fetchval("select $1::int + 7", 1) == 8
        before = await db.fetch(statements)
        for i in range(10):
            await db.execute("set work_mem = '9MB'")
            assert await db.fetchval("select $1::int + 7", i) == i + 7
        assert await db.fetch(statements) == before
        assert len(before) == 1

    @pytest.mark.parametrize("left_behind", ["select 1", "begin", "begin; select pg_advisory_lock(4711)"])
    async def test_it_takes_one_round_trip(self, postgres: embedded.PostgresServer, left_behind: str) -> None:
        async with FaultProxy.before(postgres.dsn) as proxy, DatabasePool(proxy.url, ONE) as db:
            async with db.connection() as connection:
                await connection.execute(left_behind)
                before = proxy.sent
            await eventually(lambda: db.stats()["available"] == 1)
            assert proxy.sent - before == 1

    async def test_a_release_does_not_wait_for_it(self, postgres: embedded.PostgresServer) -> None:
        async with FaultProxy.before(postgres.dsn) as proxy, DatabasePool(proxy.url, ONE) as db:
            lease = await db.connection()
            proxy.silence()
            lease.release()
            await asyncio.sleep(0.05)
            assert (db.stats()["in_use"], db.stats()["available"], db.stats()["size"]) == (0, 0, 1)
            proxy.pass_through()
            assert await db.fetchval("select 1") == 1
            assert db.stats()["opened"] == 1

    async def test_it_is_sent_before_the_next_step_of_the_caller(self, db: DatabasePool) -> None:
        async with db.connection() as connection:
            before = connection._protocol.queries_count
        assert connection._protocol.queries_count == before + 1

    async def test_one_that_cannot_end_costs_the_connection(self, postgres: embedded.PostgresServer) -> None:
        config = PoolConfig(min_size=0, max_size=1, reset_timeout=0.2)
        async with FaultProxy.before(postgres.dsn) as proxy, DatabasePool(proxy.url, config) as db:
            lease = await db.connection()
            proxy.silence()
            lease.release()
            await eventually(lambda: db.stats()["closed_by"]["reset_failed"] == 1)
            proxy.pass_through()
            assert await db.fetchval("select 1") == 1

    async def test_a_statement_timeout_of_one_caller_does_not_hurt_the_next(self, db: DatabasePool) -> None:
        await db.execute("set statement_timeout = '50ms'")
        await db.execute("select pg_sleep(0.1)")

    def test_it_is_one_message_without_what_would_break_asyncpg(self) -> None:
        assert "DISCARD ALL" not in SESSION_RESET
        assert "DEALLOCATE" not in SESSION_RESET


class TestOtherResets:
    async def test_transaction_sends_nothing_when_no_transaction_is_open(
        self, postgres: embedded.PostgresServer
    ) -> None:
        async with FaultProxy.before(postgres.dsn) as proxy, DatabasePool(proxy.url, ONE, reset="transaction") as db:
            async with db.connection() as connection:
                await connection.execute("set work_mem = '9MB'")
                before = proxy.sent
            assert db.stats()["available"] == 1
            await asyncio.sleep(0.05)
            assert proxy.sent == before
            assert await db.fetchval("show work_mem") == "9MB"

    @pytest.mark.parametrize("then", ["select 1", "select 1 / 0"])
    async def test_transaction_rolls_an_open_one_back(self, postgres: embedded.PostgresServer, then: str) -> None:
        async with DatabasePool(postgres.dsn, ONE, reset="transaction") as db:
            await db.execute("truncate aiopool_items")
            try:
                async with db.connection() as connection:
                    await connection.execute("begin; insert into aiopool_items values (1)")
                    await connection.execute(then)
            except asyncpg.DivisionByZeroError:
                pass
            assert await db.fetchval("select count(*) from aiopool_items") == 0
            assert db.stats()["opened"] == 1

    async def test_transaction_stops_listening_for_a_caller_who_did_not(
        self, postgres: embedded.PostgresServer
    ) -> None:
        async with DatabasePool(postgres.dsn, ONE, reset="transaction") as db:
            async with db.connection() as connection:
                await connection.add_listener("left_channel", lambda *_: None)
            assert await db.fetchval("select count(*) from pg_listening_channels()") == 0

    async def test_none_sends_nothing_and_never_lends_an_open_transaction(
        self, postgres: embedded.PostgresServer
    ) -> None:
        async with FaultProxy.before(postgres.dsn) as proxy, DatabasePool(proxy.url, ONE, reset="none") as db:
            async with db.connection() as connection:
                await connection.execute("set work_mem = '9MB'")
                before = proxy.sent
            assert db.stats()["available"] == 1
            assert proxy.sent == before
            await db.execute("begin")
            assert await db.fetchval("show work_mem") != "9MB"
            assert db.stats()["closed_by"]["reset_failed"] == 1

    async def test_another_mode_is_refused(self) -> None:
        with pytest.raises(PoolConfigError, match=r"reset='all'.*session, transaction, none"):
            DatabasePool("postgresql://", reset="all")  # type: ignore[arg-type]


class TestWhatStaysOnTheClient:
    @pytest.fixture(params=["session", "transaction", "none"])
    def reset(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    async def test_listeners_of_one_caller_are_dead_for_the_next(
        self, postgres: embedded.PostgresServer, reset: Any
    ) -> None:
        heard: list[object] = []
        async with DatabasePool(postgres.dsn, ONE, reset=reset) as db:
            async with db.connection() as connection:
                await connection.add_listener("left_channel", lambda *args: heard.append(args))
                connection.add_log_listener(lambda *args: heard.append(args))
                connection.add_query_logger(heard.append)
                connection.add_termination_listener(heard.append)
            await db.execute("notify left_channel")
            await db.execute("do $$begin raise notice 'hello'; end$$")
            await db.drain()
            await db.fetchval("select 1")
        assert heard == []

    async def test_a_listener_works_again_for_the_next(self, postgres: embedded.PostgresServer, reset: Any) -> None:
        async with DatabasePool(postgres.dsn, ONE, reset=reset) as db:
            for _ in range(3):
                heard = asyncio.Event()
                async with db.connection() as connection:
                    await connection.add_listener("left_channel", lambda *_, heard=heard: heard.set())
                    await connection.execute("notify left_channel")
                    await asyncio.wait_for(heard.wait(), 5)

    async def test_statements_of_an_ended_lease_refuse_to_work(
        self, postgres: embedded.PostgresServer, reset: Any
    ) -> None:
        async with DatabasePool(postgres.dsn, ONE, reset=reset) as db:
            async with db.connection() as connection:
                statement = await connection.prepare("select 1")
                assert await statement.fetchval() == 1
            async with db.connection():
                with pytest.raises(asyncpg.InterfaceError, match="released back"):
                    await statement.fetchval()

    async def test_what_configure_set_up_outlives_resets(self, postgres: embedded.PostgresServer, reset: Any) -> None:
        queries: list[str] = []
        notices: list[str] = []

        async def configure(connection: Any) -> None:
            await connection.set_type_codec("json", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
            connection.add_query_logger(lambda record: queries.append(record.query))
            connection.add_log_listener(lambda _, message: notices.append(message.message))

        async with DatabasePool(postgres.dsn, ONE, reset=reset, configure=configure) as db:
            for _ in range(3):
                assert await db.fetchval("select $1::json", {"a": [1]}) == {"a": [1]}
                await db.execute("do $$begin raise notice 'hello'; end$$")
            await asyncio.sleep(0)
            assert db.stats()["opened"] == 1
        assert queries.count("select $1::json") == 3
        assert notices == ["hello"] * 3

    async def test_a_configure_that_fails_is_an_open_failure(self, postgres: embedded.PostgresServer) -> None:
        def configure(_: Any) -> None:
            raise ValueError("no such codec")

        db = DatabasePool(postgres.dsn, ONE, configure=configure)
        with pytest.raises(PoolUnavailable) as caught:
            await db.open()
        assert str(caught.value.__cause__) == "no such codec"


class TestCancellation:
    @pytest.mark.parametrize("reset", ["session", "transaction", "none"])
    async def test_a_cancelled_query_keeps_the_connection(self, postgres: embedded.PostgresServer, reset: Any) -> None:
        async with DatabasePool(postgres.dsn, ONE, reset=reset) as db:
            pid = await db.fetchval("select pg_backend_pid()")
            for _ in range(20):
                task = asyncio.create_task(db.fetchval("select pg_sleep(5)"))
                await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await db.fetchval("select pg_backend_pid()") == pid
            assert db.stats()["opened"] == 1

    async def test_a_cancelled_caller_does_not_wait_for_the_server(self, postgres: embedded.PostgresServer) -> None:
        config = PoolConfig(min_size=0, max_size=1, reset_timeout=0.3, validate_after=None)
        for work in (lambda db: db.fetchval("select pg_sleep(5)"), sleep_in_transaction):
            async with FaultProxy.before(postgres.dsn) as proxy, DatabasePool(proxy.url, config) as db:
                await db.fetchval("select 1")
                task: asyncio.Task[Any] = asyncio.create_task(work(db))
                await asyncio.sleep(0.1)
                proxy.silence()
                task.cancel()
                with Stopwatch() as watch, pytest.raises(asyncio.CancelledError):
                    await task
                assert watch.seconds < 0.1
                await eventually(lambda db=db: db.stats()["closed_by"]["reset_failed"] == 1)  # type: ignore[misc]
                proxy.pass_through()
                assert await db.fetchval("select 1") == 1

    async def test_a_loop_that_stalls_for_longer_than_a_command_may_take_has_its_answer_or_a_timeout(
        self, postgres: embedded.PostgresServer
    ) -> None:
        for turns in range(1, 5):
            async with DatabasePool(postgres.dsn, ONE, command_timeout=0.1) as db, db.connection() as connection:
                task = asyncio.create_task(connection.fetchval("select 2 * $1::int", 1))
                for _ in range(turns):
                    await asyncio.sleep(0)
                time.sleep(0.25)  # noqa: ASYNC251 - the answer and the end of its time come in one turn
                (outcome,) = await asyncio.gather(task, return_exceptions=True)
                assert outcome == 2 or isinstance(outcome, TimeoutError), repr(outcome)

    @pytest.mark.parametrize("reset", ["session", "transaction", "none"])
    async def test_a_query_that_was_cancelled_right_before_the_close_runs_no_longer(
        self, postgres: embedded.PostgresServer, reset: Any
    ) -> None:
        db = DatabasePool(postgres.dsn, ONE, reset=reset)
        pid = await db.fetchval("select pg_backend_pid()")
        task = asyncio.create_task(db.fetchval("select pg_sleep(30)"))
        observer = await asyncpg.connect(postgres.dsn)
        query = "select count(*) from pg_stat_activity where pid = $1 and state = 'active'"
        for _ in range(1000):
            if await observer.fetchval(query, pid):
                break
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        await db.close()
        assert not await observer.fetchval(query, pid)
        await observer.close()

    @pytest.mark.parametrize("reset", ["session", "transaction", "none"])
    async def test_a_storm_of_cancellations_loses_no_connection_and_gives_no_wrong_answer(
        self, postgres: embedded.PostgresServer, reset: Any
    ) -> None:
        size, tasks, rng = 10, 2000, random.Random(1)
        done = cancelled = 0

        async def ask(db: DatabasePool, nonce: int) -> None:
            nonlocal done, cancelled
            try:
                # Half of them with statements that are new to the connection: cancelled while being prepared.
                query = (
                    f"select $1::int, {nonce} from pg_sleep($2)" if nonce % 2 else "select $1::int, 0 from pg_sleep($2)"
                )
                row = await db.fetchrow(query, nonce, rng.uniform(0, 0.004))
                assert row is not None
                assert tuple(row) == (nonce, nonce if nonce % 2 else 0)
                done += 1
            except asyncio.CancelledError:
                cancelled += 1
                raise

        config = PoolConfig(min_size=size, max_size=size, validate_after=None)
        async with DatabasePool(postgres.dsn, config, reset=reset) as db:
            pids = {row[0] for row in await asyncio.gather(*(fetch_pid(db) for _ in range(size)))}
            running = set()
            for nonce in range(tasks):
                task = asyncio.create_task(ask(db, nonce))
                running.add(task)
                task.add_done_callback(running.discard)
                asyncio.get_running_loop().call_later(rng.uniform(0, 0.02), task.cancel)
                if nonce % 5 == 0:
                    await asyncio.sleep(0.002)
            results = await asyncio.gather(*running, return_exceptions=True)
            assert [r for r in results if isinstance(r, Exception)] == []
            await eventually(lambda: db.stats()["available"] == size)
            assert {row[0] for row in await asyncio.gather(*(fetch_pid(db) for _ in range(size)))} == pids
            stats = db.stats()
            assert (stats["size"], stats["opened"], stats["in_use"]) == (size, size, 0)
        assert done + cancelled <= tasks
        assert min(done, cancelled) > tasks / 20

    async def test_an_operation_left_running_costs_the_connection_not_the_next_caller(
        self, postgres: embedded.PostgresServer
    ) -> None:
        for reset in ("session", "transaction", "none"):
            async with DatabasePool(postgres.dsn, ONE, reset=reset) as db:  # type: ignore[arg-type]
                async with db.connection() as connection:
                    stray = asyncio.create_task(connection.fetchval("select pg_sleep(5)"))
                    await asyncio.sleep(0.01)
                assert await db.fetchval("select 1") == 1
                with pytest.raises(asyncpg.PostgresConnectionError):
                    await stray
                assert db.stats()["closed_by"]["broken"] == 1

    async def test_a_copy_left_running_costs_the_connection_not_the_next_caller(
        self, postgres: embedded.PostgresServer
    ) -> None:
        for reset in ("session", "transaction", "none"):
            async with DatabasePool(postgres.dsn, ONE, reset=reset) as db:  # type: ignore[arg-type]
                async with db.connection() as connection:
                    got = asyncio.Event()

                    async def sink(_: bytes, got: asyncio.Event = got) -> None:
                        got.set()
                        await asyncio.sleep(5)

                    stray = asyncio.create_task(
                        connection.copy_from_query("select * from generate_series(1, 1000000)", output=sink)
                    )
                    await got.wait()
                assert await db.fetchval("select 1") == 1
                stray.cancel()
                await asyncio.wait([stray])

    async def test_a_cancelled_copy_keeps_the_connection(self, db: DatabasePool) -> None:
        async def slow(_: bytes) -> None:
            await asyncio.sleep(5)

        async def copy() -> None:
            async with db.connection() as connection:
                await connection.copy_from_query("select * from generate_series(1, 1000000)", output=slow)

        task = asyncio.create_task(copy())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await db.fetchval("select 42") == 42
        assert db.stats()["opened"] == 1


async def cancelled_while_it_is_prepared(db: DatabasePool) -> None:
    await cancelled_in_the_turn_of_an_answer(lambda: only(db.fetch("select * from aiopool_items")), 0, 0)


async def cancelled_inside_the_block(db: DatabasePool) -> None:
    async with db.connection() as connection:
        await cancelled_in_the_turn_of_an_answer(lambda: only(connection.fetch("select * from aiopool_items")), 0, 0)


async def prepared_and_never_executed(db: DatabasePool) -> None:
    async with db.connection() as connection:
        await connection.prepare("select * from aiopool_items")


async def a_copy(db: DatabasePool) -> None:
    async with db.connection() as connection:
        await connection.copy_from_query("select * from generate_series(1, 1000000)", output=io.BytesIO())


async def a_copy_inside_the_block(db: DatabasePool) -> None:
    async with db.connection() as connection:
        endless = "select * from generate_series(1, 1000000)"
        await cancelled_in_the_turn_of_an_answer(
            lambda: only(connection.copy_from_query(endless, output=io.BytesIO())), 0, 0
        )


async def only(query: Any) -> None:
    await query


class TestWhatAsyncpgTakesForDone:
    @pytest.fixture(params=["session", "transaction", "none"])
    def reset(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    @pytest.mark.parametrize(
        "leave", [cancelled_while_it_is_prepared, cancelled_inside_the_block, prepared_and_never_executed]
    )
    async def test_a_statement_that_was_prepared_only_keeps_no_lock_and_no_transaction(
        self, postgres: embedded.PostgresServer, reset: Any, leave: Callable[[DatabasePool], Any]
    ) -> None:
        locks = "select count(*) from pg_locks where relation = 'aiopool_items'::regclass"
        async with DatabasePool(postgres.dsn, ONE, reset=reset) as db:
            await leave(db)
            await eventually(lambda: db.stats()["available"] == 1)
            assert await server_side(postgres.dsn, locks) == 0
            async with db.transaction(isolation="repeatable_read") as connection:
                assert await connection.fetchval("select 1") == 1
            assert db.stats()["opened"] == 1

    async def test_one_that_was_executed_costs_no_round_trip_more(self, postgres: embedded.PostgresServer) -> None:
        async with FaultProxy.before(postgres.dsn) as proxy, DatabasePool(proxy.url, ONE, reset="none") as db:
            async with db.connection() as connection:
                statement = await connection.prepare("select 1")
                assert await statement.fetchval() == 1
                assert await connection.fetchval("select 2") == 2
                before = proxy.sent
            assert db.stats()["available"] == 1
            await asyncio.sleep(0.05)
            assert proxy.sent == before

    @pytest.mark.parametrize("is_inside", [False, True])
    async def test_a_copy_cancelled_when_a_piece_is_there_costs_the_connection_not_the_next_caller(
        self, postgres: embedded.PostgresServer, reset: Any, is_inside: bool
    ) -> None:
        async with DatabasePool(postgres.dsn, ONE, reset=reset) as db:
            if is_inside:
                await a_copy_inside_the_block(db)
            else:
                await cancelled_in_the_turn_of_an_answer(lambda: a_copy(db), 0, 0)
            assert await db.fetchval("select 42") == 42
            assert db.stats()["closed_by"]["broken"] == 1

    async def test_a_connection_class_of_ones_own_is_used(self, postgres: embedded.PostgresServer) -> None:
        class Own(asyncpg.Connection):  # type: ignore[type-arg]
            async def meaning(self) -> Any:
                return await self.fetchval("select 42")

        async with DatabasePool(postgres.dsn, ONE, connection_class=Own) as db, db.connection() as connection:
            assert isinstance(connection, Own)
            assert await connection.meaning() == 42

    async def test_an_error_of_asyncpgs_own_is_told_as_it_is_and_costs_no_connection(self, db: DatabasePool) -> None:
        async def copy() -> None:
            async with db.connection() as connection:
                await connection.set_type_codec("int4", schema="pg_catalog", encoder=str, decoder=int, format="text")
                await connection.copy_records_to_table("aiopool_items", records=[(1,)])

        with pytest.raises(asyncpg.InternalClientError, match="encoder"):
            await copy()
        assert await db.fetchval("select 42") == 42
        assert db.stats()["opened"] == 1


class TestBounds:
    async def test_every_command_is_bounded_unless_told_otherwise(self, postgres: embedded.PostgresServer) -> None:
        for given, found in (({}, 60.0), ({"command_timeout": 7}, 7), ({"command_timeout": None}, None)):
            async with DatabasePool(postgres.dsn, ONE, **given) as db, db.connection() as connection:
                assert connection._config.command_timeout == found

    async def test_a_command_on_a_lent_connection_is_bounded_too(self, postgres: embedded.PostgresServer) -> None:
        async with DatabasePool(postgres.dsn, ONE, command_timeout=0.1) as db:
            async with db.connection() as connection:
                with pytest.raises(TimeoutError):
                    await connection.execute("select pg_sleep(5)")
            assert await db.fetchval("select 1") == 1
            # The call's own bound counts, also if it is the longer one.
            assert await db.fetchval("select 1 from pg_sleep(0.3)", timeout=5) == 1

    async def test_the_error_names_the_bound_and_the_remedy(self, postgres: embedded.PostgresServer) -> None:
        async with DatabasePool(postgres.dsn, ONE, command_timeout=0.1, name="till") as db:
            with pytest.raises(TimeoutError, match=r"'till'.*command_timeout=0\.1 seconds.*longer timeout"):
                await db.fetch("select pg_sleep(5)")
            with pytest.raises(TimeoutError, match=r"'till'.*timeout=0\.2 seconds"):
                await db.fetch("select pg_sleep(5)", timeout=0.2)

    @pytest.mark.parametrize("given", [{"timeout": 0.2}, {}])
    async def test_the_bound_holds_wherever_in_a_call_the_server_falls_silent(
        self, postgres: embedded.PostgresServer, given: dict[str, float]
    ) -> None:
        # With one statement in the cache each call prepares one, closes another, and executes.
        settings: dict[str, Any] = {"statement_cache_size": 1, "command_timeout": 0.2, "reset": "none"}
        async with SilentProxy.before(postgres.dsn) as proxy:
            for piece in range(1, 5):
                async with DatabasePool(proxy.url, ONE, **settings) as db:
                    await db.fetchval("select 1")
                    proxy.silent_at = proxy.sent + piece
                    with Stopwatch() as watch, contextlib.suppress(TimeoutError, asyncpg.PostgresConnectionError):
                        await db.fetchval("select 2", **given)
                        assert piece == 4, "the call should have failed"
                    assert watch.seconds < 0.3
                    proxy.silent_at = None
                    proxy.pass_through()
                    assert await db.fetchval("select 3") == 3

    async def test_the_closing_of_old_statements_is_bounded_on_a_lent_connection_too(
        self, postgres: embedded.PostgresServer
    ) -> None:
        settings: dict[str, Any] = {"statement_cache_size": 1, "command_timeout": 0.2, "reset": "none"}
        async with SilentProxy.before(postgres.dsn) as proxy, DatabasePool(proxy.url, ONE, **settings) as db:
            await db.fetchval("select 1")
            proxy.silent_at = proxy.sent + 2
            with Stopwatch() as watch, pytest.raises(asyncpg.PostgresConnectionError):
                async with asyncio.timeout(5), db.connection() as connection:
                    await connection.fetchval("select 2")
            assert watch.seconds < 0.4
            proxy.silent_at = None
            proxy.pass_through()
            assert await db.fetchval("select 3") == 3

    async def test_each_command_has_the_whole_of_its_own_bound(self, postgres: embedded.PostgresServer) -> None:
        async with DatabasePool(postgres.dsn, ONE, command_timeout=0.3) as db, db.connection() as connection:
            await connection.execute("select pg_sleep(0.2)")
            for given in ({}, {"timeout": 0.1}, {"timeout": 0.6}, {}):
                began, bound = time.monotonic(), given.get("timeout", 0.3)
                with Stopwatch() as watch, pytest.raises(TimeoutError):
                    await connection.execute("select pg_sleep(5)", **given)
                assert time.monotonic() - began > bound - 0.001
                assert watch.seconds < bound + 0.15
                assert await connection.fetchval("select 1") == 1

    async def test_bounds_cost_one_timer_for_many_commands(
        self, postgres: embedded.PostgresServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with DatabasePool(postgres.dsn, ONE, reset="transaction") as db:
            await db.fetchval("select 1")
            loop, timers = asyncio.get_running_loop(), []
            call_later = loop.call_later

            def count(delay: float, callback: Any, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
                timers.append(delay)
                return call_later(delay, callback, *args, **kwargs)

            monkeypatch.setattr(loop, "call_later", count)
            for _ in range(100):
                await db.fetchval("select 1")
            assert len([delay for delay in timers if delay > 50]) <= 1

    async def test_nobody_waits_for_a_rollback_that_cannot_be_answered(self, postgres: embedded.PostgresServer) -> None:
        config = PoolConfig(min_size=0, max_size=1, reset_timeout=0.5)
        async with (
            FaultProxy.before(postgres.dsn) as proxy,
            DatabasePool(proxy.url, config, command_timeout=0.2) as db,
        ):
            await db.fetchval("select 1")

            async def work() -> None:
                async with db.transaction() as connection:
                    proxy.black_hole()
                    await connection.execute("select 1")

            with Stopwatch() as watch, pytest.raises(TimeoutError):
                await work()
            assert watch.seconds < 0.4
            proxy.pass_through()
            assert await db.fetchval("select 1", timeout=5) == 1

    async def test_the_kernel_watches_the_peer(self, postgres: embedded.PostgresServer) -> None:
        for given, seconds in (({}, 60), ({"command_timeout": 300}, 300), ({"dead_peer_after": 6}, 6)):
            async with DatabasePool(postgres.dsn, ONE, **given) as db, db.connection() as connection:  # type: ignore[arg-type]
                sock = connection._transport.get_extra_info("socket")
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                read = functools.partial(sock.getsockopt, socket.IPPROTO_TCP)
                idle, interval, count = (
                    read(option) for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                )
                assert idle + interval * count == seconds
                assert read(socket.TCP_USER_TIMEOUT) == seconds * 1000
        async with DatabasePool(postgres.dsn, ONE, dead_peer_after=None) as db, db.connection() as connection:
            assert not connection._transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    async def test_a_long_query_on_a_live_server_is_not_disturbed(self, postgres: embedded.PostgresServer) -> None:
        async with DatabasePool(postgres.dsn, ONE, command_timeout=None, dead_peer_after=1) as db:
            assert await db.fetchval("select 1 from pg_sleep(3)") == 1
            assert db.stats()["opened"] == 1

    async def test_what_nobody_takes_ends_the_connection_even_without_a_command_timeout(
        self, postgres: embedded.PostgresServer
    ) -> None:
        async with (
            FaultProxy.before(postgres.dsn) as proxy,
            DatabasePool(proxy.url, ONE, command_timeout=None, dead_peer_after=1) as db,
        ):
            proxy.silence()
            with pytest.raises(asyncpg.PostgresConnectionError):
                async with asyncio.timeout(10):  # more than fits into the buffers between here and there
                    await db.fetchval(f"select length('{'x' * 20_000_000}')")
            proxy.pass_through()
            assert await db.fetchval("select 1", timeout=5) == 1

    @pytest.mark.parametrize(
        "bad", [{"command_timeout": 0}, {"command_timeout": "60"}, {"dead_peer_after": 0.5}, {"dead_peer_after": True}]
    )
    def test_a_bound_that_is_none_is_refused(self, bad: dict[str, Any]) -> None:
        with pytest.raises(PoolConfigError, match=f"{next(iter(bad))}=.*seconds from .* or None"):
            DatabasePool("postgresql://", **bad)


class TestLostConnections:
    async def test_callers_see_a_connection_error_whenever_the_server_ends_one(
        self, postgres: embedded.PostgresServer
    ) -> None:
        stop = asyncio.Event()
        seen: list[Exception] = []

        async def ask(db: DatabasePool) -> None:
            while not stop.is_set():
                try:
                    await db.fetchval("select 1")
                except Exception as exc:
                    seen.append(exc)

        config = PoolConfig(min_size=4, max_size=4, backoff_max=0.1)
        settings = {"application_name": "victim"}
        async with DatabasePool(postgres.dsn, config, server_settings=settings) as db:
            tasks = [asyncio.create_task(ask(db)) for _ in range(6)]
            async with asyncio.timeout(60):
                while len(seen) < 5:
                    await asyncio.sleep(0.02)
                    await server_side(
                        postgres.dsn,
                        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'victim'",
                    )
            stop.set()
            await asyncio.gather(*tasks)
        assert [exc for exc in seen if not isinstance(exc, (asyncpg.PostgresConnectionError, ConnectionError))] == []

    async def test_one_that_is_terminated_while_idle_is_dropped_at_once(
        self, db: DatabasePool, postgres: embedded.PostgresServer
    ) -> None:
        db.resize(min_size=0)
        pid = await db.fetchval("select pg_backend_pid()")
        await server_side(postgres.dsn, "select pg_terminate_backend($1)", pid)
        await eventually(lambda: db.stats()["size"] == 0)
        assert await db.fetchval("select 1") == 1

    async def test_one_that_is_terminated_in_use_fails_its_caller_only(
        self, db: DatabasePool, postgres: embedded.PostgresServer
    ) -> None:
        pid = await db.fetchval("select pg_backend_pid()")
        task = asyncio.create_task(db.execute("select pg_sleep(5)"))
        await asyncio.sleep(0.05)
        await server_side(postgres.dsn, "select pg_terminate_backend($1)", pid)
        with pytest.raises((asyncpg.AdminShutdownError, asyncpg.PostgresConnectionError)):
            await task
        assert await db.fetchval("select pg_backend_pid()") != pid

    async def test_one_that_its_caller_closed_is_replaced(self, db: DatabasePool) -> None:
        async with db.connection() as connection:
            await connection.close()
        assert await db.fetchval("select 1") == 1

    async def test_the_check_finds_one_that_died_in_silence(self, postgres: embedded.PostgresServer) -> None:
        config = PoolConfig(min_size=1, max_size=1, validate_timeout=0.2)
        async with FaultProxy.before(postgres.dsn) as proxy, DatabasePool(proxy.url, config) as db:
            proxy.silence()
            assert await db.check() == 1
            proxy.pass_through()
            assert await db.fetchval("select 1") == 1

    async def test_a_query_whose_connection_is_closed_under_it_ends_on_a_server_that_looks(
        self, postgres: embedded.PostgresServer
    ) -> None:
        async def becomes(count: int) -> None:
            query = "select count(*) from pg_stat_activity where application_name = 'forsaken' and state = 'active'"
            deadline = time.monotonic() + 5
            while await server_side(postgres.dsn, query) != count:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)

        settings = {"application_name": "forsaken", "client_connection_check_interval": "50ms"}
        db = DatabasePool(postgres.dsn, ONE, server_settings=settings)
        asking = asyncio.create_task(db.execute("select pg_sleep(30)"))
        await becomes(1)
        await db.close(timeout=0)
        with pytest.raises((asyncpg.PostgresConnectionError, PoolClosed)):
            await asking
        await becomes(0)

    async def test_a_validation_that_leaves_a_transaction_open_is_no_good(
        self, postgres: embedded.PostgresServer
    ) -> None:
        async with DatabasePool(postgres.dsn, PoolConfig(min_size=1, max_size=1)) as db:
            assert await db.check() == 0
            async with db.connection() as connection:
                assert not connection.is_in_transaction()
        config = PoolConfig(min_size=0, max_size=1, validation_query="begin")
        async with DatabasePool(postgres.dsn, config) as db:
            await db.fetchval("select 1")
            await eventually(lambda: db.stats()["available"] == 1)
            assert await db.check() == 1

    async def test_a_restarted_server_is_found_again(self) -> None:
        async with embedded.postgres(private=True) as server:
            config = PoolConfig(min_size=5, max_size=5, backoff_max=0.2, unavailable_after=None)
            async with DatabasePool(server.dsn, config) as db:
                stop = asyncio.Event()
                failures: list[Exception] = []
                right = wrong = 0

                async def ask(i: int) -> None:
                    nonlocal right, wrong
                    while not stop.is_set():
                        try:
                            is_right = await db.fetchval("select $1::int", i) == i
                            right += is_right
                            wrong += not is_right
                        except Exception as exc:
                            failures.append(exc)
                        await asyncio.sleep(0.005)

                tasks = [asyncio.create_task(ask(i)) for i in range(20)]
                await eventually(lambda: right > 100)
                await server.restart()
                await eventually(lambda: db.stats()["size"] == 5, within=15)
                seen, before = len(failures), right
                await eventually(lambda: right > before + 200, within=15)
                stop.set()
                await asyncio.gather(*tasks)
                assert wrong == 0
                assert len(failures) == seen, failures[-1]
                await eventually(lambda: db.stats()["available"] == 5)


class TestOpening:
    async def test_a_wrong_password_fails_at_once_and_is_not_told(self, postgres: embedded.PostgresServer) -> None:
        db = DatabasePool(postgres.dsn, ONE, password="tr0ub4dor&3")
        began = time.monotonic()
        with pytest.raises(PoolUnavailable) as caught:
            await db.open()
        assert time.monotonic() - began < 4
        assert isinstance(caught.value.__cause__, asyncpg.InvalidPasswordError)
        assert "tr0ub4dor" not in f"{caught.value} {caught.value.__cause__} {db!r} {db.pool!r} {db.stats()}"

    async def test_an_unknown_database_fails_at_once(self, postgres: embedded.PostgresServer) -> None:
        db = DatabasePool(postgres.dsn, ONE, database="aiopool_nowhere")
        with pytest.raises(PoolUnavailable) as caught:
            await db.open()
        assert isinstance(caught.value.__cause__, asyncpg.InvalidCatalogNameError)

    @pytest.mark.parametrize("line", ["password=s3cr%2tword", "no key", "[ledger\npassword=s3cr%2tword"])
    async def test_a_service_file_that_cannot_be_read_fails_at_once_and_is_not_told(
        self, tmp_path: Path, line: str
    ) -> None:
        path = tmp_path / "services.conf"
        path.write_text(f"[ledger]\n{line}\n" if line.startswith("password") else f"{line}\n")
        db = DatabasePool("postgresql://127.0.0.1:1/x?service=ledger", ONE, servicefile=str(path))
        with pytest.raises(PoolUnavailable) as caught:
            await db.open()
        assert isinstance(caught.value.__cause__, PoolConfigError)
        told = "".join(traceback.format_exception(caught.value))
        assert "service file" in told
        assert "tword" not in told

    async def test_a_raw_at_sign_in_the_password_is_refused_before_any_name_is_looked_up(self) -> None:
        db = DatabasePool("postgresql://app:s3cr@tword@db.invalid,other.invalid/x", ONE)
        with pytest.raises(PoolUnavailable) as caught:
            await db.open()
        assert isinstance(caught.value.__cause__, PoolConfigError)
        assert "@ as %40" in str(caught.value.__cause__)
        assert "tword" not in "".join(traceback.format_exception(caught.value))

    async def test_a_server_that_is_full_is_asked_again(self, postgres: embedded.PostgresServer) -> None:
        await server_side(postgres.dsn, "drop role if exists aiopool_guest")
        await server_side(postgres.dsn, "create role aiopool_guest login password 'guest' connection limit 1")
        parts = urlsplit(postgres.dsn)
        other = await asyncpg.connect(postgres.dsn, user="aiopool_guest", password="guest")
        config = PoolConfig(min_size=0, max_size=1, backoff_initial=0.05, backoff_max=0.05)
        async with DatabasePool(
            f"postgresql://aiopool_guest:{quote('guest')}@{parts.hostname}:{parts.port}/postgres", config
        ) as db:
            asking = asyncio.create_task(db.fetchval("select 1"))
            await asyncio.sleep(0.2)
            assert not asking.done()
            await other.close()
            assert await asking == 1
            assert db.stats()["open_failures"] > 0
        await server_side(postgres.dsn, "drop role aiopool_guest")

    async def test_an_open_that_hangs_is_bounded_by_open_timeout(self, postgres: embedded.PostgresServer) -> None:
        config = PoolConfig(min_size=0, max_size=1, open_timeout=0.2, unavailable_after=0.3)
        async with FaultProxy.before(postgres.dsn) as proxy, DatabasePool(proxy.url, config) as db:
            proxy.silence()
            began = time.monotonic()
            with pytest.raises(PoolUnavailable):
                await db.fetchval("select 1")
            assert time.monotonic() - began < 5
            proxy.pass_through()


async def fail_after(db: DatabasePool, statement: str) -> None:
    async with db.transaction() as connection:
        await connection.execute(statement)
        raise ZeroDivisionError


async def fetch_pid(db: DatabasePool) -> list[int]:
    rows = await db.fetch("select pg_backend_pid() from pg_sleep(0.05)")
    return [row[0] for row in rows]


async def sleep_in_transaction(db: DatabasePool) -> None:
    async with db.transaction() as connection:
        await connection.execute("select pg_sleep(5)")
