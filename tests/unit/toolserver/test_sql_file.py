"""What a file may say under `sql:`."""

from __future__ import annotations

from typing import Any

from tests.tool_bodies import plan_of, problem_of

PARAMETERS = [{"name": "id"}, {"name": "query"}, {"name": "n", "type": "integer"}]


def problem(sql: Any, **more: Any) -> str:
    return problem_of({"sql": sql, "parameters": PARAMETERS, **more}, "database")


REFUSED = [
    ("select :idd", "sql: :idd is no parameter of this tool; did you mean 'id'?"),
    ("select :id, $1", "both kinds, :name and $1"),
    ("select '{{id}}'", "never pasted: write :id for {{id}}, without quotes"),
    ("select {{ id }} where true", "never pasted"),
    ("{{quer}}", "{{quer}} is no parameter of this tool; did you mean 'query'?"),
    ("{{n}}", "that parameter must be of type string"),
    ("commit", "COMMIT cannot be run as a tool"),
    ("/* a */ copy t to stdout", "COPY cannot be run as a tool"),
    ("select 1; delete from t", "has several statements, and a tool runs one"),
    ("  ", "is empty; write a statement"),
    ([1], "must be a statement, or a table with it as `query`"),
    ({"quer": "select 1"}, "did you mean 'query'?"),
    ({"read_only": True}, "has no `query`"),
    ({"query": "select 1", "max_rows": 0}, "max_rows: must be from 1 to 100000"),
    ({"query": "select 1", "timeout": 0}, "timeout: must be from 0.001 to 86400"),
    ({"query": "select 1", "max_bytes": 10}, "max_bytes: must be from 1000 to 1000000"),
    ({"query": "select 1", "read_only": "no"}, "read_only: must be true or false"),
]


def test_what_cannot_be_run_is_told_with_its_remedy() -> None:
    for sql, told in REFUSED:
        assert told in problem(sql), sql


def test_what_is_said_twice_is_told() -> None:
    assert "sql.read_only: stands on the tool, too; remove one" in problem(
        {"query": "select 1", "read_only": True}, read_only=False
    )


RIGHT = ["select 1;", "select ';'; ; -- ;", "select '{{1,2},{3,4}}'::int[]", "call refresh(:id)"]


def test_what_only_looks_wrong_is_right() -> None:
    for sql in RIGHT:
        assert problem(sql) == "", sql


def test_options_stand_on_the_tool_or_in_the_table() -> None:
    on_the_tool = plan_of({"sql": "select 1", "max_rows": 5, "read_only": False}, "database")
    in_the_table = plan_of({"sql": {"query": "select 1", "max_rows": 5, "read_only": False}}, "database")
    assert on_the_tool == in_the_table
    assert plan_of({"sql": "select 1"}, "database").is_read_only
