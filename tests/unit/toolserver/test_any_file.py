"""Whatever a file holds, it is read or refused in words; no other exception, and no value in the words."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiopool.errors import PoolConfigError
from aiopool.toolserver.reading import BODIES, _Unread, body_module, read_file

SECRET = "hunter2"
KEYS = st.sampled_from(
    [
        *("name", "description", "version", "server", "pools", "tools", "pool", "timeout", "environment", "parameters"),
        *(
            "type",
            "required",
            "default",
            "enum",
            "min",
            "max",
            "pattern",
            "items",
            "properties",
            "host",
            "port",
            "token",
        ),
        *("query", "read_only", "max_rows", "command", "args", "shell", "mode", "stdin", "url", "method", "headers"),
        *("body", "json", "extract", "function", "working_dir", "allow", "database", "redis", "api", "dsn", "base_url"),
        *BODIES,
    ]
)
TEXTS = st.sampled_from(
    [
        *(
            "",
            "x",
            "{{a}}",
            "{{nope}}",
            "select 1",
            "select :a",
            "30s",
            "python",
            "GET",
            "https://x/{{a}}",
            "m:f",
            "${A}",
        ),
        *("${NOPE}", "${", "integer", "array", "(", "database", "redis", "worker", "\ud800", "\x00", SECRET, "a\nb"),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers(-3, 70_000) | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS, lambda each: st.lists(each, max_size=3) | st.dictionaries(KEYS, each, max_size=4), max_leaves=8
)
RIGHT: dict[str, Any] = {
    "name": "n",
    "server": {"port": 1, "allowed_hosts": ["a"], "token": "t"},
    "pools": {"database": {"max_size": 3}, "redis": {}, "api": {"base_url": "https://x"}},
    "tools": [
        {
            "name": "a",
            "timeout": 3,
            "parameters": [
                {"name": "a", "enum": ["x"], "default": "x", "pattern": "x"},
                {"name": "b", "type": "array", "items": {"type": "integer", "minimum": 3}},
                {"name": "c", "type": "object", "properties": {"d": {"type": "number"}}},
            ],
            "sql": {"query": "select :a", "read_only": True, "max_rows": 3, "timeout": 1},
        },
        {"name": "b", "sql": "{{q}}", "pool": "database", "parameters": [{"name": "q"}]},
        {"name": "c", "redis": ["GET", "k:{{q}}"], "parameters": [{"name": "q"}]},
        {"name": "d", "redis": {"command": [["SET", "k", "{{q}}"]], "allow": ["SET"]}, "parameters": [{"name": "q"}]},
        {
            "name": "e",
            "http": {
                "method": "POST",
                "url": "https://x/{{q}}",
                "query": {"q": "{{q}}"},
                "headers": {"a": "b"},
                "json": {"q": "{{q}}"},
                "extract": "a.b",
            },
            "parameters": [{"name": "q"}],
        },
        {"name": "f", "python": {"function": "json:dumps"}, "parameters": [{"name": "obj"}]},
        {
            "name": "g",
            "script": {"command": "cat", "args": ["-", "{{q}}"], "timeout": 3, "stdin": "{{q}}", "working_dir": "/"},
            "environment": {"A": "b"},
            "parameters": [{"name": "q"}],
        },
        {"name": "h", "script": {"shell": "echo {{q}}"}, "parameters": [{"name": "q"}]},
    ],
}


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(place for key, value in items for place in places(value, (*path, key)))]


PLACES = places(RIGHT)[1:]


def changed(changes: list[tuple[tuple[Any, ...], str, Any, str]]) -> dict[str, Any]:
    """The right file with these places removed, replaced, or under another key."""
    file = copy.deepcopy(RIGHT)
    for place, how, value, key in changes:
        parent: Any = file
        for step in place[:-1]:
            with suppress(LookupError, TypeError):
                parent = parent[step]
        if isinstance(parent, dict):
            old = parent.pop(place[-1], None)
            if how != "remove":
                parent[place[-1] if how == "replace" else key] = value if how == "replace" else old
        elif isinstance(parent, list):
            parent.append(value)
    return file


FILES = st.lists(
    st.tuples(st.sampled_from(PLACES), st.sampled_from(["replace", "replace", "remove", "rename"]), VALUES, KEYS),
    min_size=0,
    max_size=2,
).map(changed)
ENV = {"A": "1", "DATABASE_URL": "postgresql://x/y", "REDIS_URL": "redis://x/0"}


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(file=FILES, listing=st.booleans(), embedded=st.booleans())
def test_whatever_a_file_holds_it_is_read_or_refused(file: dict[str, Any], listing: bool, embedded: bool) -> None:
    told = ""
    try:
        tools = read_file(file, ENV, listing=listing, embedded=embedded).tools.values()
        assert listing or all(hasattr(tool.plan, "is_read_only") and type(tool.plan) is not _Unread for tool in tools)
    except PoolConfigError as exc:
        told = str(exc)
    assert SECRET not in told


def test_every_body_is_there() -> None:
    for key in BODIES:
        assert key == body_module(key).KEY
