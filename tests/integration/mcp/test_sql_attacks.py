"""What comes of statements that a model was talked into writing, and of those that are only too much."""

from __future__ import annotations

import asyncio
import logging
import random
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from aiopool import PoolConfig, embedded
from aiopool.adapters.postgres import DatabasePool
from aiopool.telling import explain
from aiopool.toolserver import _sql_body
from aiopool.toolserver._sql_text import first_word
from aiopool.toolserver.tool import Preparing, Result
from tests.tool_bodies import Called, manager_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROLE = "sql_attacks_reader"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def owner(postgres: embedded.PostgresServer) -> AsyncIterator[DatabasePool]:
    """The superuser: nothing but the tool itself stands in the way of an attack."""
    async with DatabasePool(postgres.dsn, PoolConfig(min_size=0, max_size=2), name="database") as pool:
        await pool.execute(
            f"create table sql_attacks as select 1 as id; create role {ROLE} login password 'reader'; "
            f"grant select on all tables in schema public to {ROLE}"
        )
        yield pool
        await pool.execute(f"drop table sql_attacks; drop owned by {ROLE}; drop role {ROLE}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reader(owner: DatabasePool, postgres: embedded.PostgresServer) -> AsyncIterator[DatabasePool]:
    """A role with the rights that the documentation proposes."""
    config = PoolConfig(min_size=0, max_size=2)
    async with DatabasePool(postgres.dsn, config, name="database", user=ROLE, password="reader") as pool:
        yield pool


def written(database: DatabasePool, **options: Any) -> Called:
    sql = {"query": "{{query}}", **options}
    return Called({"sql": sql, "parameters": [{"name": "query"}]}, manager_of(database=database), "database")


async def told(calling: Any) -> str:
    try:
        result: Result = await calling
    except Exception as exc:
        return explain(exc)
    return f"DONE: {result.text}"


#: The statement, and a part of what the model is told.
REFUSED = [
    # Several statements, or the end of the transaction: the protocol takes one, and only what reads.
    ("select 1; delete from sql_attacks", "cannot insert multiple commands"),
    ("select 1; commit; delete from sql_attacks", "cannot insert multiple commands"),
    ("commit; delete from sql_attacks; begin", "begins with COMMIT"),
    ("/* x */ commit", "begins with COMMIT"),
    ("-- x\n/* /* */ */ rollback", "begins with ROLLBACK"),
    ("COMMIT", "begins with COMMIT"),
    ("end", "begins with END"),
    ("begin read write", "begins with BEGIN"),
    ("start transaction read write", "begins with START"),
    ("savepoint x", "begins with SAVEPOINT"),
    ("set transaction read write", "begins with SET"),
    ("set role postgres", "begins with SET"),
    ("set session authorization postgres", "begins with SET"),
    ("reset role", "begins with RESET"),
    ("discard all", "begins with DISCARD"),
    ("copy (select 1) to program 'touch /tmp/owned'", "begins with COPY"),
    ("copy sql_attacks from '/etc/passwd'", "begins with COPY"),
    ("do $$ begin delete from sql_attacks; end $$", "begins with DO"),
    ("call nothing()", "begins with CALL"),
    ("listen x", "begins with LISTEN"),
    ("notify x", "begins with NOTIFY"),
    ("prepare x as delete from sql_attacks", "begins with PREPARE"),
    ("execute x", "begins with EXECUTE"),
    ("declare x cursor for select 1", "begins with DECLARE"),
    ("fetch all from x", "begins with FETCH"),
    ("lock table sql_attacks", "begins with LOCK"),
    ("vacuum", "begins with VACUUM"),
    ("load 'auto_explain'", "begins with LOAD"),
    ("grant all on sql_attacks to public", "begins with GRANT"),
    ("alter system set fsync = off", "begins with ALTER"),
    ("create temp table sql_attacks_temp (id int)", "begins with CREATE"),
    ("delete from sql_attacks", "begins with DELETE"),
    ("\ufeffdelete from sql_attacks", "begins with"),
    ("\u00a0delete from sql_attacks", "begins with"),
    (";commit", "begins with COMMIT"),
    ("", "begins with no keyword"),
    ("-- nothing", "begins with no keyword"),
    # What begins well, and writes: the transaction only reads.
    ("with gone as (delete from sql_attacks returning *) select * from gone", "25006"),
    ("explain analyze delete from sql_attacks", "25006"),
    ("explain (analyze) insert into sql_attacks values (2)", "25006"),
    ("select 1 into sql_attacks_new", "25006"),
    ("select * from sql_attacks for update", "25006"),
    ("select nextval('sql_attacks_seq')", "42P01"),
    ("select set_config('transaction_read_only', 'off', false)", "25001"),
    ("select lo_create(424242)", "25006"),
    ("with x as (select set_config('transaction_read_only', 'off', true)) select * from x", "25001"),
    # Parameters that nobody gives, and bytes that no text has.
    ("select $1::int", "write their values into it"),
    ("select 'a\0b'", "U+0000"),
    ("select dblink_exec('dbname=postgres', 'delete from sql_attacks')", "42883"),
]


@pytest.mark.parametrize(("text", "why"), REFUSED)
async def test_an_attack_is_refused_in_words_for_the_model(owner: DatabasePool, text: str, why: str) -> None:
    assert why in await told(written(owner)(query=text))
    assert await owner.fetchval("select count(*) from sql_attacks") == 1


#: What is carried out, and what is left of it for the next caller.
FORGOTTEN = [
    ("select set_config('search_path', 'evil', false)", "select current_setting('search_path') = 'evil'"),
    ("select set_config('statement_timeout', '0', false)", "select current_setting('statement_timeout') = 'evil'"),
    ("select set_config('role', 'sql_attacks_reader', false)", "select current_user = 'sql_attacks_reader'"),
    (
        "select set_config('session_authorization', 'sql_attacks_reader', false)",
        "select session_user = 'sql_attacks_reader'",
    ),
    ("select 1 as id into temp sql_attacks_temp", "select to_regclass('pg_temp.sql_attacks_temp') is not null"),
    (
        "select pg_advisory_lock(4711)",
        "select exists (select from pg_locks where locktype = 'advisory' and objid = 4711)",
    ),
    ("select pg_notify('x', 'y')", "select pg_notification_queue_usage() > 0.5"),
    ("select pg_export_snapshot()", "select false"),
]


@pytest.mark.parametrize("reset", ["session", "transaction", "none"])
@pytest.mark.parametrize(("text", "left"), FORGOTTEN)
async def test_nothing_of_a_statement_is_left_for_the_next_caller(
    owner: DatabasePool, postgres: embedded.PostgresServer, reset: Any, text: str, left: str
) -> None:
    config = PoolConfig(min_size=0, max_size=1)
    async with DatabasePool(postgres.dsn, config, reset=reset, name="database") as database:
        await told(written(database)(query=text))
        assert await database.fetchval(left) is False
        assert await database.fetchval("select current_setting('is_superuser')") == "on"
        await told(written(database, read_only=False)(query=text))
        assert await database.fetchval(left) is False


@pytest.mark.parametrize("reset", ["session", "transaction", "none"])
async def test_a_failed_statement_costs_no_connection_in_any_mode_of_reset(
    postgres: embedded.PostgresServer, reset: Any
) -> None:
    config = PoolConfig(min_size=0, max_size=1)
    async with DatabasePool(postgres.dsn, config, reset=reset, name="database") as database:
        before = await database.fetchval("select pg_backend_pid()")
        assert "22012" in await told(written(database)(query="select 1/0"))
        assert "ran longer than 0.1 s" in await told(written(database, timeout=0.1)(query="select pg_sleep(5)"))
        assert await database.fetchval("select pg_backend_pid()") == before


# ------------------------------------------------------------------------------------------- too much


TOO_LONG = [
    "select pg_sleep(20)",
    "with recursive bomb as (select 1 as n union all select n + 1 from bomb) select max(n) from bomb",
    "select count(*) from generate_series(1, 100000) a, generate_series(1, 100000) b",
    "select set_config('statement_timeout', '0', false), pg_sleep(20)",
    "select repeat('a', 30) || 'b' ~ '^(a+)+$' from pg_sleep(20)",
]


@pytest.mark.parametrize("text", TOO_LONG)
async def test_what_takes_too_long_is_ended_by_the_server(owner: DatabasePool, text: str) -> None:
    began = asyncio.get_running_loop().time()
    assert "the query ran longer than 0.2 s" in await told(written(owner, timeout=0.2)(query=text))
    running = (
        "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and datname = $1"
    )
    while await owner.fetchval(running, "postgres"):
        await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - began < 5


@pytest.mark.parametrize("text", ["select repeat(repeat('x', 1000000), 100)", "select array_fill(1, array[5000000])"])
async def test_a_single_value_without_bounds_is_cut_off_before_it_fills_our_memory(
    owner: DatabasePool, text: str
) -> None:
    tracemalloc.start()
    try:
        answer = await told(written(owner)(query=text))
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()
    assert "too large" in answer or "54000" in answer
    assert await owner.fetchval("select 1") == 1


async def test_large_rows_are_cut_off_as_one_large_value_is(owner: DatabasePool) -> None:
    answer = await told(written(owner)(query="select repeat('x', 1000000) from generate_series(1, 200)"))
    assert "too large" in answer


async def test_documents_are_shown_as_far_as_they_fit(owner: DatabasePool) -> None:
    before = owner.stats()["closed"]
    answer = await told(written(owner)(query="select repeat('x', 200000) as x from generate_series(1, 200)"))
    assert '"row_count": 4, "truncated": true' in answer
    assert owner.stats()["closed"] == before


async def test_rows_without_end_cost_no_more_than_those_that_are_wanted(owner: DatabasePool) -> None:
    answer = await told(
        written(owner)(query="with recursive n as (select 1 as n union all select n + 1 from n) select n from n")
    )
    assert '"row_count": 200, "truncated": true' in answer


async def test_rows_without_columns_are_rows_too(owner: DatabasePool) -> None:
    answer = await told(written(owner)(query="select from generate_series(1, 1000)"))
    assert '"row_count": 200, "truncated": true' in answer


async def test_a_session_that_ends_itself_ends_no_other_call(owner: DatabasePool) -> None:
    assert "was lost" in await told(written(owner)(query="select pg_terminate_backend(pg_backend_pid())"))
    cancelled = "select pg_cancel_backend(pg_backend_pid()), pg_sleep(5)"
    assert "user request" in await told(written(owner)(query=cancelled))
    assert (await told(written(owner)(query="select 1 as a"))).startswith("DONE")


async def test_a_bound_on_bytes_ends_with_the_call_even_if_that_was_given_up(
    postgres: embedded.PostgresServer,
) -> None:
    async with DatabasePool(postgres.dsn, PoolConfig(min_size=0, max_size=1), name="database") as database:
        query = "select repeat(repeat('x', 1000), 7500), 1 union all select 'x', 1 from pg_sleep(20)"
        calling = asyncio.create_task(told(written(database, timeout=20)(query=query)))
        await asyncio.sleep(0.3)
        calling.cancel()
        await asyncio.wait([calling])
        large = await database.fetchval("select repeat(repeat('x', 1000), 20000)")
        assert len(large) == 20_000_000


async def test_whoever_gives_up_leaves_nothing_running(owner: DatabasePool) -> None:
    calling = asyncio.create_task(told(written(owner)(query="select pg_sleep(20), 'given up'")))
    query = "select count(*) from pg_stat_activity where query like '%given up%' and pid <> pg_backend_pid()"
    async with asyncio.timeout(5):
        while not await owner.fetchval(query):
            pass
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    async with asyncio.timeout(5):
        while await owner.fetchval(f"{query} and state = 'active'"):
            pass
    assert owner.stats()["in_use"] == 0


# ------------------------------------------------------------------------------------------- the rights of the role


OF_SUPERUSERS = [
    "select pg_read_file('/etc/passwd')",
    "select pg_ls_dir('/')",
    "select lo_export(1, '/tmp/owned')",
    "select pg_reload_conf()",
    "select * from pg_authid",
    "select set_config('role', 'postgres', false)",
    "select set_config('session_authorization', 'postgres', false)",
]


@pytest.mark.parametrize("text", OF_SUPERUSERS)
async def test_only_the_rights_of_the_role_keep_a_statement_inside_of_the_database(
    reader: DatabasePool, text: str
) -> None:
    answer = await told(written(reader)(query=text))
    assert not answer.startswith("DONE"), answer
    assert (await told(written(reader)(query="select id from sql_attacks"))).startswith('DONE: {"rows": [{"id": 1}]')


async def test_a_role_that_may_leave_the_database_is_warned_of_once(
    owner: DatabasePool,
    reader: DatabasePool,
    postgres: embedded.PostgresServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.WARNING, logger="aiopool")
    async with DatabasePool(postgres.dsn, PoolConfig(min_size=0), name="other") as other:
        for _ in range(2):
            body = written(other).body
            assert isinstance(body, Preparing)
            await body.prepare()
        quiet = written(reader).body
        assert isinstance(quiet, Preparing)
        await quiet.prepare()
        fixed = Called({"sql": "select 1"}, manager_of(database=other), "database").body
        assert isinstance(fixed, Preparing)
        await fixed.prepare()
    monkeypatch.setattr(_sql_body, "LOOK", 0.2)
    async with DatabasePool("postgresql://a:b@127.0.0.1:1/c", PoolConfig(min_size=0), name="gone") as gone:
        body = written(gone).body
        assert isinstance(body, Preparing)
        await body.prepare()
    (message,) = [each for each in caplog.messages if "logs in" in each]
    assert not any("fails" in each for each in caplog.messages)
    assert "pool 'other' logs in as 'postgres', a superuser" in message
    assert "grant select on all tables" in message
    assert "@" not in message


async def test_the_server_begins_to_read_where_we_do(owner: DatabasePool) -> None:
    rng = random.Random(7)
    blank = [
        "/*",
        "*/",
        "--",
        "\n",
        "\r",
        " ",
        "\f",
        "\v",
        "(",
        ")",
        ";",
        "'",
        "$$",
        "E'",
        "\\",
        "\u00a0",
        "\u2028",
        "/",
        "-",
        "+",
    ]
    words = ["select 1", "values(1)", "commit", "rollback"]
    seen = set()
    async with owner.connection() as connection:
        for _ in range(400):
            text = "".join(
                rng.choices(blank, k=rng.randint(0, 3)) + rng.choices(words) + rng.choices(blank + words, k=2)
            )
            await connection.execute("begin")
            try:
                statement = await connection.prepare(text, name="")
                await statement.fetch()
                done = (statement.get_statusmsg() or "").partition(" ")[0].lower()
            except asyncpg.PostgresError:
                continue
            finally:
                await connection.execute("rollback")
            # The server calls VALUES a SELECT, too.
            assert first_word(text).replace("values", "select") == done, text
            seen.add(done)
    assert seen >= {"select", "commit", "rollback"}


@pytest.mark.parametrize("reset", ["session", "none"])
async def test_calls_that_are_given_up_at_any_moment_leave_nothing(
    postgres: embedded.PostgresServer, reset: Any
) -> None:
    rng = random.Random(3)
    texts = [
        "select pg_sleep(0.01)",
        "select repeat('x', 100000) from generate_series(1, 40)",
        "select set_config('search_path', 'evil', false), pg_advisory_lock_shared(1)",
        "select 1/0",
    ]
    config = PoolConfig(min_size=0, max_size=4)
    async with DatabasePool(postgres.dsn, config, reset=reset, name="database") as database:

        async def call() -> None:
            calling = asyncio.create_task(told(written(database)(query=rng.choice(texts))))
            if rng.random() < 0.5:
                await asyncio.sleep(rng.random() * 0.03)
                calling.cancel()
            await asyncio.wait([calling])

        await asyncio.gather(*(call() for _ in range(100)))
        assert (database.stats()["in_use"], database.stats()["waiting"]) == (0, 0)
        left = "select count(*) from pg_locks where locktype = 'advisory' and objid = 1"
        async with asyncio.timeout(5):  # the pool may still be at it
            while await database.fetchval(left):
                pass
        for lease in [await database.connection() for _ in range(4)]:
            assert await lease.connection.fetchval("show search_path") == '"$user", public'
            lease.release()
