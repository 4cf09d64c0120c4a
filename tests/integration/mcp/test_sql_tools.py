"""Statements as tools, on a real server: what they give back, and what comes of attacks on them."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from aiopool import PoolConfig, embedded
from aiopool.adapters.postgres import DatabasePool
from aiopool.telling import ToolFailure, explain
from aiopool.toolserver._sql_text import numbered
from aiopool.toolserver.tool import Preparing
from tests.tool_bodies import Called, manager_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(postgres: embedded.PostgresServer) -> AsyncIterator[DatabasePool]:
    async with DatabasePool(postgres.dsn, PoolConfig(min_size=0, max_size=2), name="database") as pool:
        await pool.execute(
            """
            drop table if exists sql_tools;
            create table sql_tools (id int primary key, name text, price numeric, tags text[], about jsonb);
            insert into sql_tools select i, 'name ' || i, i * 1.50, array['a', 'b'], jsonb_build_object('n', i)
            from generate_series(1, 1000) i
            """
        )
        yield pool
        await pool.execute("drop table sql_tools")


def tool(database: DatabasePool, sql: Any, *, timeout: float = 30.0, **more: Any) -> Called:
    return Called({"sql": sql, **more}, manager_of(database=database), "database", timeout)


def written(database: DatabasePool, *, timeout: float = 30.0, **options: Any) -> Called:
    """A tool whose statement the model writes."""
    return tool(
        database, {"query": "{{query}}", **options}, timeout=timeout, parameters=[{"name": "query", "required": True}]
    )


async def told(calling: Any) -> str:
    try:
        result = await calling
    except Exception as exc:
        return explain(exc)
    return f"NOT REFUSED: {result.text}"


# ------------------------------------------------------------------------------------------- what it gives back


async def test_rows_come_as_text_and_as_an_object_with_their_columns_in_order(database: DatabasePool) -> None:
    one = tool(
        database,
        "select name, id, price, tags, about from sql_tools where id = :id",
        parameters=[{"name": "id", "type": "integer"}],
    )
    result = await one(id=2)
    assert result.structured == {
        "rows": [{"name": "name 2", "id": 2, "price": "3.00", "tags": ["a", "b"], "about": {"n": 2}}],
        "row_count": 1,
        "truncated": False,
    }
    assert json.loads(result.text) == result.structured
    assert list(json.loads(result.text)["rows"][0]) == ["name", "id", "price", "tags", "about"]
    assert not result.is_error


VALUES = [
    ("null", None),
    ("true", True),
    ("9007199254740993", "9007199254740993"),
    ("-5", -5),
    ("1.10", "1.10"),
    ("1e3::numeric", "1000"),
    ("'NaN'::numeric", "NaN"),
    ("'NaN'::float8", "NaN"),
    ("'-Infinity'::float4", "-Infinity"),
    ("0.5::float8", 0.5),
    ("date '2026-01-31'", "2026-01-31"),
    ("'infinity'::date", "infinity"),
    ("'-infinity'::timestamp", "-infinity"),
    ("'infinity'::timestamptz", "infinity"),
    ("timestamp '2026-01-31 12:00'", "2026-01-31T12:00:00"),
    ("timestamptz '2026-01-31 12:00+02'", "2026-01-31T10:00:00+00:00"),
    ("time '12:30'", "12:30:00"),
    ("interval '1 day 2 hours 0.5 s'", "P1DT7200.5S"),
    ("interval '-1 hour'", "-P0DT3600S"),
    ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    (r"'\x00ff'::bytea", r"\x00ff"),
    ("'10.0.0.1'::inet", "10.0.0.1"),
    ("'10.0.0.0/8'::cidr", "10.0.0.0/8"),
    ("'08:00:2b:01:02:03'::macaddr", "08:00:2b:01:02:03"),
    ("int4range(1, 5)", "[1,5)"),
    ("'empty'::int4range", "empty"),
    ("tstzrange('2026-01-01', null)", "[2026-01-01T00:00:00+00:00,)"),
    ("'{[1,2),[5,6)}'::int4multirange", ["[1,2)", "[5,6)"]),
    ("B'0101'", "0101"),
    ("point(1, 2)", [1.0, 2.0]),
    ("array[[1, 2], [3, null]]", [[1, 2], [3, None]]),
    ("array[1.5, 'NaN']::numeric[]", ["1.5", "NaN"]),
    ("'[1, {\"a\": null}]'::json", [1, {"a": None}]),
    ("array['{\"a\": 1}']::jsonb[]", [{"a": 1}]),
    ("row(1, 'a')", [1, "a"]),
    ("'a'::\"char\"", "a"),
    ("'pg_class'::regclass", "pg_class"),
    ("'ä€😀'", "ä€😀"),
    ("'12.30'::money", "$12.30"),
    ("'a & b'::tsquery", "'a' & 'b'"),
]


@pytest.mark.parametrize(("expression", "value"), VALUES)
async def test_every_type_has_a_form_in_json(database: DatabasePool, expression: str, value: Any) -> None:
    result = await tool(database, f"select {expression} as value")()
    assert result.structured is not None
    assert result.structured["rows"][0]["value"] == value
    assert json.loads(result.text) == result.structured


async def test_composite_rows_and_enums_and_domains_have_a_form_too(database: DatabasePool) -> None:
    await database.execute(
        "create type sql_tools_pair as (a int, b text); create type sql_tools_mood as enum ('good', 'bad'); "
        "create domain sql_tools_small as int check (value < 10)"
    )
    try:
        one = tool(
            database,
            "select (1, 'x')::sql_tools_pair as pair, cast(:mood as sql_tools_mood) as mood, "
            "array['bad']::sql_tools_mood[] as moods, cast(:small as sql_tools_small) as small",
            parameters=[{"name": "mood"}, {"name": "small"}],
        )
        result = await one(mood="good", small="7")
        assert result.structured is not None
        assert result.structured["rows"] == [{"pair": {"a": 1, "b": "x"}, "mood": "good", "moods": ["bad"], "small": 7}]
    finally:
        await database.execute("drop type sql_tools_pair; drop type sql_tools_mood; drop domain sql_tools_small")


async def test_columns_of_one_name_do_not_hide_each_other(database: DatabasePool) -> None:
    result = await tool(database, "select 1 as a, 2 as a, 3 as a_2")()
    assert result.structured is not None
    assert result.structured["rows"] == [{"a": 1, "a_2": 2, "a_2_2": 3}]


FITTING = [
    ("int4", "integer", 5, 5),
    ("int4", "string", "5", 5),
    ("int8", "string", "9007199254740993", "9007199254740993"),
    ("float8", "number", 1, 1.0),
    ("numeric", "number", 0.1, "0.1"),
    ("numeric", "string", "0.10", "0.10"),
    ("bool", "boolean", True, True),
    ("bool", "string", "no", False),
    ("text", "integer", 5, "5"),
    ("text", "string", "'; drop table sql_tools; --", "'; drop table sql_tools; --"),
    ("text", "object", {"a": 1}, '{"a": 1}'),
    ("jsonb", "object", {"a": [1]}, {"a": [1]}),
    ("jsonb", "string", '{"a": 1}', {"a": 1}),
    ("json", "array", [1, "a"], [1, "a"]),
    ("date", "string", "2026-01-31", "2026-01-31"),
    ("timestamp", "string", "2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00"),
    ("timestamptz", "string", "2026-01-31T12:00", "2026-01-31T12:00:00+00:00"),
    ("time", "string", "12:30", "12:30:00"),
    ("interval", "number", 90, "P0DT90S"),
    ("interval", "string", "3600.5", "P0DT3600.5S"),
    ("uuid", "string", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("bytea", "string", r"\x00ff", r"\x00ff"),
    ("inet", "string", "10.0.0.1", "10.0.0.1"),
    ("int4[]", "array", [1, None, "3"], [1, None, 3]),
    ("int4[]", "array", [[1], [2]], [[1], [2]]),
    ("text[]", "array", ["a", 1], ["a", "1"]),
    ("jsonb[]", "array", [{"a": 1}, [2]], [{"a": 1}, [2]]),
]


@pytest.mark.parametrize(("type_name", "declared", "value", "back"), FITTING)
async def test_a_json_value_becomes_what_the_parameter_is(
    database: DatabasePool, type_name: str, declared: str, value: Any, back: Any
) -> None:
    one = tool(database, f"select :v::{type_name} as v", parameters=[{"name": "v", "type": declared}])
    result = await one(v=value)
    assert result.structured is not None
    assert result.structured["rows"] == [{"v": back}]
    assert (await one()).structured == {"rows": [{"v": None}], "row_count": 1, "truncated": False}


UNFIT = [
    ("int4", "five", "argument v is for a value of type int4: it must be a whole number"),
    ("int4", "2147483648", "must be from -2147483648 to 2147483647"),
    ("int2", "1.5", "must be a whole number"),
    ("float8", "x", "must be a number"),
    ("numeric", "x", "must be a number"),
    ("bool", "maybe", "must be true or false"),
    ("jsonb", "{", "must be JSON"),
    ("date", "31.1.2026", "must be a date such as 2026-01-31"),
    ("timestamptz", "now", "must be a time such as"),
    ("time", "noon", "must be a time of day"),
    ("uuid", "1", "must be a UUID"),
    ("bytea", "abc", "must be bytes in hexadecimal"),
    ("interval", "1 day", "must be a number of seconds"),
    ("interval", "nan", "must be a number of seconds"),
    ("text", "a\0b", "U+0000"),
    ("text", "\ud800", "no text that can be sent"),
    ("int4[]", "1", "must be an array"),
    ("numeric", "1e999999999", "it does not fit into one"),
    ("timestamptz", "0001-01-01T00:00:00+23:59", "it does not fit into one"),
    ("point", "(1,2)", "is of type point, which takes no such value: in the statement, write :v::text::point"),
    ("int4range", "[1,2)", "write :v::text::int4range"),
]


@pytest.mark.parametrize(("type_name", "value", "problem"), UNFIT)
async def test_a_value_that_does_not_fit_is_told_by_its_parameter(
    database: DatabasePool, type_name: str, value: str, problem: str
) -> None:
    one = tool(database, f"select :v::{type_name}", parameters=[{"name": "v"}])
    with pytest.raises(ToolFailure) as failure:
        await one.body.run({"v": value})
    assert problem in str(failure.value)
    assert "argument v" in str(failure.value)


async def test_a_text_can_be_cast_to_any_type_in_the_statement(database: DatabasePool) -> None:
    one = tool(database, "select :v::text::int4range as v", parameters=[{"name": "v"}])
    result = await one(v="[1,5)")
    assert result.structured is not None
    assert result.structured["rows"] == [{"v": "[1,5)"}]


@pytest.mark.parametrize(
    "text", ["select date '0044-03-15 BC'", "select timestamp '294276-01-01'", "select time '24:00'"]
)
async def test_what_python_cannot_hold_is_told_with_its_remedy(database: DatabasePool, text: str) -> None:
    assert "cast it to text" in await told(written(database)(query=text))


@pytest.mark.parametrize("text", ["select c from pg_class c", "table pg_attribute", "table pg_stats"])
async def test_what_the_driver_cannot_read_is_told_with_its_remedy(database: DatabasePool, text: str) -> None:
    before = database.stats()["closed"]
    assert "cast that one to text" in await told(written(database)(query=text))
    assert database.stats()["closed"] == before


async def test_no_more_rows_than_wanted_are_made_and_the_model_is_told(database: DatabasePool) -> None:
    one = written(database, max_rows=3)
    result = await one(query="select generate_series(1, 1000000000) as g")
    assert result.structured is not None
    assert result.structured["rows"] == [{"g": 1}, {"g": 2}, {"g": 3}]
    assert result.structured["truncated"] is True
    assert result.structured["notice"].startswith("only the first 3 rows are shown, there are more")
    exact = await one(query="select g from generate_series(1, 3) g")
    assert exact.structured is not None
    assert exact.structured["truncated"] is False


async def test_more_rows_than_one_batch_come_in_order(database: DatabasePool) -> None:
    result = await tool(database, {"query": "select id from sql_tools order by id", "max_rows": 1000})()
    assert result.structured is not None
    assert [row["id"] for row in result.structured["rows"]] == list(range(1, 1001))
    assert not result.structured["truncated"]


async def test_rows_are_cut_where_their_bytes_are_enough(database: DatabasePool) -> None:
    one = tool(database, {"query": "select repeat('x', 1000) as x from generate_series(1, 100)", "max_bytes": 10_000})
    result = await one()
    assert result.structured is not None
    assert 5 < result.structured["row_count"] <= 9
    assert result.structured["truncated"] is True
    assert len(result.text) <= 10_000
    assert "10000 bytes" in result.structured["notice"]
    assert "no row is shown" in (await tool(database, {"query": "select repeat('x', 9999)", "max_bytes": 1000})()).text


EVERY_KIND = [
    ("select 1 as a", [{"a": 1}]),
    ("select 1 as a;", [{"a": 1}]),
    ("values (1), (2)", [{"column1": 1}, {"column1": 2}]),
    ("with x as (select 1 as a) select * from x", [{"a": 1}]),
    ("(select 1 as a) union all (select 2)", [{"a": 1}, {"a": 2}]),
    ("-- why\n/* /* not */ */ select 1 as a", [{"a": 1}]),
    ("table sql_tools_two", [{"a": 1}]),
    ("show server_encoding", [{"server_encoding": "UTF8"}]),
    ("explain (costs off) select 1", [{"QUERY PLAN": "Result"}]),
    ("select 1 as a where false", []),
    ("select from generate_series(1, 2)", [{}, {}]),
]


@pytest.mark.parametrize(("text", "rows"), EVERY_KIND)
async def test_every_kind_of_statement_that_reads_works(database: DatabasePool, text: str, rows: Any) -> None:
    if "sql_tools_two" in text:
        await database.execute("create table sql_tools_two as select 1 as a")
    try:
        result = await written(database)(query=text)
        assert result.structured == {"rows": rows, "row_count": len(rows), "truncated": False}
    finally:
        await database.execute("drop table if exists sql_tools_two")


async def test_a_tool_that_may_write_commits_what_it_did(database: DatabasePool) -> None:
    one = written(database, read_only=False)
    assert (await one(query="create table sql_tools_log (id serial, t text)")).structured == {
        "rows": [],
        "row_count": 0,
        "truncated": False,
        "status": "CREATE TABLE",
    }
    try:
        inserted = await one(query="insert into sql_tools_log (t) values ('a'), ('b')")
        assert inserted.structured is not None
        assert (inserted.structured["row_count"], inserted.structured["status"]) == (2, "INSERT 0 2")
        returned = await one(query="insert into sql_tools_log (t) select 'c' from generate_series(1, 500) returning id")
        assert returned.structured is not None
        assert (returned.structured["row_count"], returned.structured["truncated"]) == (200, True)
        assert (await one(query="update sql_tools_log set t = 'd' where t = 'a'")).structured["row_count"] == 1
        assert await database.fetchval("select count(*) from sql_tools_log") == 502
        assert "23502" in await told(one(query="insert into sql_tools_log (id) values (null)"))
        bound = tool(
            database,
            {"query": "insert into sql_tools_log (t) values ($1)", "read_only": False},
            parameters=[{"name": "t"}],
        )
        await bound(t="e")
        assert await database.fetchval("select count(*) from sql_tools_log where t = 'e'") == 1
    finally:
        await database.execute("drop table sql_tools_log")


async def test_what_is_deferred_to_the_commit_is_told_when_it_fails(database: DatabasePool) -> None:
    await database.execute("create table sql_tools_once (id int, unique (id) deferrable initially deferred)")
    try:
        one = written(database, read_only=False)
        assert "23505" in await told(one(query="insert into sql_tools_once values (1), (1)"))
        assert await database.fetchval("select count(*) from sql_tools_once") == 0
    finally:
        await database.execute("drop table sql_tools_once")


async def test_a_statement_of_the_file_goes_on_when_its_table_has_changed(database: DatabasePool) -> None:
    await database.execute("create table sql_tools_changing as select 1 as a")
    try:
        one = tool(database, "select * from sql_tools_changing where a = :a", parameters=[{"name": "a"}])
        for _ in range(3):
            assert (await one(a="1")).structured["rows"] == [{"a": 1}]
        await database.execute("alter table sql_tools_changing add b text default 'x'")
        for _ in range(3):
            assert (await one(a="1")).structured["rows"] == [{"a": 1, "b": "x"}]
        await database.execute("alter table sql_tools_changing alter b drop default, alter b type jsonb using '{}'")
        assert (await one(a="1")).structured["rows"] == [{"a": 1, "b": {}}]
    finally:
        await database.execute("drop table sql_tools_changing")


async def test_the_database_s_own_words_and_state_reach_the_model(database: DatabasePool) -> None:
    answer = await told(written(database)(query="select nam from sql_tools"))
    assert 'column "nam" does not exist' in answer
    assert "42703" in answer
    assert "sql_tools.name" in answer


async def test_a_statement_of_the_file_that_cannot_be_run_is_warned_of_at_the_start(
    database: DatabasePool, caplog: pytest.LogCaptureFixture
) -> None:
    for text in ("select nam from sql_tools where id = :id", "select name from sql_tools where id = :id"):
        body = tool(database, text, parameters=[{"name": "id"}]).body
        assert isinstance(body, Preparing)
        await body.prepare()
    (message,) = caplog.messages
    assert "tool 'tool': as the database is now, its statement fails: column \"nam\" does not exist" in message


async def test_a_failed_statement_costs_no_connection(database: DatabasePool) -> None:
    before = database.stats()["closed"]
    for _ in range(3):
        await told(written(database)(query="select 1/0"))
    assert database.stats()["closed"] == before


def _hidden(rng: random.Random) -> str:
    """Something in which the server sees no parameter, whatever it looks like."""
    inside = "".join(
        rng.choices([":a", "$1", "'", '"', "\\", "$$", "$x$", "--", "/*", "*/", "\n", "é", ";", " ", "E"], k=6)
    )
    match rng.randrange(7):
        case 0:
            return "'" + inside.replace("'", "''") + "'"
        case 1:
            return "E'" + inside.replace("\\", "\\\\").replace("'", rng.choice(["\\'", "''"])) + "'"
        case 2:
            return "$q$" + inside.replace("$q$", "") + "$q$"
        case 3:
            return "1 /* " + inside.replace("/*", "").replace("*/", "").replace("/", "").replace("*", "") + " /* */ */"
        case 4:
            return "1 -- " + inside.replace("\n", " ") + "\n"
        case 5:
            return '1 as "' + inside.replace('"', '""') + '"'
        case _:
            return "E'a'" + rng.choice(["\n", " \n\t", "--x\n", " -- ' \n\n"]) + "'\\' :a'"


async def test_the_server_sees_the_parameters_where_we_do(database: DatabasePool) -> None:
    rng = random.Random(5)
    async with database.connection() as connection:
        for _ in range(300):
            text = f"select {_hidden(rng)}, :a::text, {_hidden(rng)}, (:a), (:b::int[])[1:2], {_hidden(rng)}"
            changed, names, problems = numbered(text, ("a", "b"))
            assert (names, problems) == (("a", "b"), []), text
            statement = await connection.prepare(changed, name="")
            assert [each.name for each in statement.get_parameters()] == ["text", "int4[]"], text
            row = await statement.fetchrow("x", [1, 2])
            assert (row[1], row[3]) == ("x", "x"), text
