"""A file of pools and tools: what is read, and how what is wrong is told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiopool.errors import PoolConfigError
from aiopool.toolserver import reading
from aiopool.toolserver.reading import ServerFile, read_file
from aiopool.toolserver.remedies import FILE_REMEDIES, TOOL_REMEDIES
from aiopool.toolserver.settings import ServerSettings
from tests.unit.manager.test_poolspec import ARTICLE
from tests.unit.toolserver.standin import StandIn

ENV = {"DATABASE_URL": "postgresql://me:hunter2@db/x", "REDIS_URL": "redis://:hunter2@cache/0"}
GANTZ = Path(__file__).resolve().parents[3] / "examples" / "gantz" / "gantz.yaml"

Read = Callable[..., ServerFile]
Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> None:
    """Reading leaves nothing, and to look for it after each of these tests takes longer than they do."""


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    standin = StandIn()
    monkeypatch.setattr(reading, "body_module", standin.module)
    return standin


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, standin: StandIn) -> Read:
    """What stands in a file called x.yaml."""
    monkeypatch.chdir(tmp_path)

    def read(text: str, env: dict[str, str] | None = None, **options: Any) -> ServerFile:
        Path("x.yaml").write_text(text)
        return read_file("x.yaml", ENV if env is None else env, **options)

    return read


@pytest.fixture
def refused(read: Read) -> Refused:
    """The message of the error that a text raises."""

    def refused(text: str, env: dict[str, str] | None = None, **options: Any) -> str:
        with pytest.raises(PoolConfigError) as caught:
            read(text, env, **options)
        assert "hunter2" not in str(caught.value)
        assert caught.value.__context__ is None
        return str(caught.value)

    return refused


# -- what is read


def test_the_articles_file_is_the_articles_byte_for_byte() -> None:
    assert GANTZ.read_bytes() == ARTICLE.encode()
    assert hashlib.sha256(GANTZ.read_bytes()).hexdigest() == (
        "a7d06aed2534527a34d064e140cd40b0c400f6cda7ce874d27f5a39bdcd83b59"
    )


def test_the_articles_file_is_read_as_it_stands(standin: StandIn) -> None:
    file = read_file(GANTZ, ENV)
    assert (file.name, file.version, list(file.pools)) == ("pooled-tools", "1.0.0", ["database", "redis"])
    [tool] = file.tools.values()
    assert (tool.name, tool.description, tool.pool) == (
        "query_database",
        "Query with pooled connection",
        "database",
    )
    assert tool.parameters.schema == {
        "type": "object",
        "properties": {"query": {"type": "string"}},
        "additionalProperties": False,
        "required": ["query"],
    }


def test_the_head_of_a_tool_says_what_its_body_may_want_to_know(read: Read, standin: StandIn, tmp_path: Path) -> None:
    file = read(
        """
        pools: {database: {}, mine: {type: redis}}
        tools:
        - name: one
          description: What it does
          pool: mine
          timeout: 2m
          environment: {A: text, B: 5, C: '${WORD}'}
          parameters: [{name: a}]
          script: {command: x}
        - {name: two, script: x}
        """,
        ENV | {"WORD": "w"},
    )
    one, two = standin.heads["one"], standin.heads["two"]
    assert (one.pool, one.pool_kind, one.timeout, one.folder) == ("mine", "redis", 120, tmp_path)
    assert one.kinds == {"database": "postgres", "mine": "redis"}
    assert one.environment == {"A": "text", "B": "5", "C": "w"}
    assert one.parameters.names == ("a",)
    assert (two.pool, two.pool_kind, two.timeout, two.environment) == (None, None, 30, {})
    assert file.tools["one"].description == "What it does"
    assert file.tools["two"].description == "two"


def test_a_call_may_take_as_long_as_the_body_itself_asks_for(read: Read) -> None:
    file = read(
        """
        tools:
        - {name: short, script: {timeout: 5s}}
        - {name: long, script: {timeout: 5m}}
        - {name: own, timeout: 10, script: {timeout: '${T}'}}
        - {name: variable, script: {timeout: '${T}'}}
        """,
        {"T": "90"},
    )
    assert {name: tool.timeout for name, tool in file.tools.items()} == {
        "short": 30,
        "long": 305,
        "own": 10,
        "variable": 95,
    }


def test_the_pool_of_a_tool_that_needs_one_is_the_only_one_of_its_kind(read: Read) -> None:
    file = read(
        """
        pools: {database: {}, cache: {}, db: {}}
        tools: [{name: a, redis: [PING]}, {name: b, pool: db, sql: select 1}, {name: c, http: x}, {name: d, python: x}]
        """
    )
    assert {name: tool.pool for name, tool in file.tools.items()} == {"a": "cache", "b": "db", "c": None, "d": None}


def test_the_server_section(read: Read) -> None:
    file = read(
        """
        name: n
        description: d
        version: 1.5
        server: {host: 0.0.0.0, port: 0, allowed_hosts: [a], allowed_origins: [], token: '${T}'}
        tools: [{name: a, sql: x, pool: database}]
        pools: {database: {}}
        x-mine: {a: 1}
        """,
        ENV | {"T": "s3cret"},
    )
    settings = file.settings
    assert (file.name, file.description, file.version) == ("n", "d", "1.5")
    assert (settings.host, settings.port, settings.allowed_hosts, settings.allowed_origins) == (
        "0.0.0.0",
        0,
        ("a",),
        (),
    )
    assert settings.token == "s3cret"
    assert "s3cret" not in repr(file)


def test_a_file_without_a_server_section_has_defaults(read: Read) -> None:
    file = read("tools: [{name: a, script: x}]")
    assert (file.name, file.description, file.version) == ("aiopool", None, "1.0.0")
    assert file.settings == ServerSettings("127.0.0.1", 8000, None, None, None)


def test_a_mapping_is_read_too(standin: StandIn) -> None:
    file = read_file({"tools": [{"name": "a", "script": "x"}]}, {})
    assert list(file.tools) == ["a"]
    assert standin.heads["a"].folder == Path.cwd()


def test_the_environment_of_the_process_is_read_by_default(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHAT", "x y")
    assert (
        read_file({"tools": [{"name": "a", "description": "${WHAT}", "script": "x"}]}).tools["a"].description == "x y"
    )


def test_a_toml_file_is_read_too(tmp_path: Path, standin: StandIn) -> None:
    file = tmp_path / "x.toml"
    text = """[pools.database]
[[tools]]
name = "a"
sql = "select 1"
[[tools.parameters]]
name = "p"
[[tools]]
name = "b"
sql = "select 1"
[[tools.parameters]]
name = "p"
"""
    file.write_text(text)
    assert list(read_file(file, ENV).tools) == ["a", "b"]
    file.write_text(f"{text}faults = 1\n[tools.environment]\nA = []\n")
    with pytest.raises(PoolConfigError) as caught:
        read_file(file, ENV)
    assert [line.split("x.toml:")[1] for line in str(caught.value).split("\n")[1:]] == [
        "12: tools[1].parameters[0].faults: is not known here; did you mean 'default'?",
        "13: tools[1].environment: must be a table of texts (put yes, true and 1.10 into quotes), not a table",
    ]


# -- what is not there yet


def test_tools_are_listed_without_addresses_and_variables(read: Read) -> None:
    text = """
        name: '${NAME}'
        server: {token: '${TOKEN}', port: '${PORT}'}
        pools: {database: {}, redis: {url: '${MY_REDIS}', max_size: '${SIZE}'}, api: {base_url: '${API}'}}
        tools:
        - {name: a, sql: 'x ${WHAT}', pool: database, description: 'd ${NOPE}', parameters: [{name: p}]}
        - {name: b, http: {url: '${API}'}, description: d, timeout: '${T}'}
        """
    file = read(text, {}, listing=True)
    assert {name: tool.description for name, tool in file.tools.items()} == {"a": "a", "b": "d"}
    assert file.tools["a"].parameters.names == ("p",)


def test_what_is_wrong_is_told_for_a_listing_too(refused: Refused) -> None:
    text = "pools: {database: {max_sise: 3}, redis: {url: '${NOPE}'}}\ntools: [{name: a, sql: x, pol: database}]"
    message = refused(text, {}, listing=True)
    assert "did you mean 'max_size'?" in message
    assert "did you mean 'pool'?" in message
    assert "NOPE" not in message


def test_a_pool_without_an_address_is_told_with_its_line_and_the_variable(refused: Refused) -> None:
    assert refused(ARTICLE, {}).split("\n")[1:3] == [
        "  x.yaml:5: pools.database: has no address; set the environment variable DATABASE_URL, or write `dsn:`",
        "  x.yaml:11: pools.redis: has no address; set the environment variable REDIS_URL, or write `url:`",
    ]


def test_with_embedded_servers_no_address_is_needed_nor_its_variable(read: Read) -> None:
    file = read(
        "pools: {database: {dsn: '${NOPE}'}, redis: {}, api: {}}\ntools: [{name: a, script: x}]", {}, embedded=True
    )
    assert [name for name, spec in file.specs.items() if spec.lacks_address] == ["database", "redis"]
    assert [name for name, pool in file.pools.items() if pool is None] == ["database", "redis"]


def test_with_embedded_servers_other_variables_are_needed_all_the_same(refused: Refused) -> None:
    message = refused(
        "pools: {database: {max_size: '${N}'}, api: {base_url: '${U}'}}\ntools: [{name: a, script: x}]",
        {},
        embedded=True,
    )
    assert "variable N is not set" in message
    assert "variable U is not set" in message


# -- what is wrong

TOOL = "tools: [{name: a, sql: x, %s}]\npools: {database: {}}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "x.yaml: tools: has no tool"),
        ("[]", "x.yaml: must be a table of keys and values"),
        ("5", "x.yaml: must be a table of keys and values"),
        ("pools: {database: {}}", "tools: has no tool; write one"),
        ("tools: []", "tools: has no tool"),
        ("tools: {a: {}}", "tools: must be a list"),
        ("tools: [5]", "tools[0]: must be a table"),
        ("tools: [null]", "tools[0]: has no `name`"),
        ("tools: [{name: a}]", "tools[0]: does nothing; write one of `sql:`, `redis:`, `http:`, `python:`, `script:`"),
        ("tools: [{name: a, scrpt: x}]", "tools[0].scrpt: is not known here; did you mean 'script'?"),
        ("tools: [{name: a, script: null}]", "tools[0].script: is empty; write what the tool does"),
        ("tools: [{name: a, sql: x, http: y}]", "tools[0].http: says what the tool does, as sql does; remove one"),
        ("tools: [{script: x}]", "tools[0]: has no `name`; add one"),
        ("tools: [{name: 'a b', script: x}]", "tools[0].name: must be 1 to 128 ASCII letters"),
        ("tools: [{name: '', script: x}]", "tools[0].name: must be 1 to 128 ASCII letters"),
        ("tools: [{name: ünï, script: x}]", "tools[0].name: must be 1 to 128 ASCII letters"),
        ("tools: [{name: 5, script: x}]", "tools[0].name: must be text"),
        ("tools: [{name: a, script: x}, {name: a, script: y}]", "tools[1].name: is the name of an earlier tool"),
        ("tools: [{name: a, script: wrong}]", "tools[0].script: is wrong"),
        (TOOL % "pool: databse", "tools[0].pool: is no pool of this file; did you mean 'database'?"),
        (TOOL % "pool: 5", "tools[0].pool: must be text"),
        (TOOL % "timeout: 0", "tools[0].timeout: must be more than 0 seconds"),
        (TOOL % "timeout: .inf", "tools[0].timeout: must be more than 0 seconds, and finite"),
        (TOOL % "timeout: soon", "tools[0].timeout: must be a number of seconds"),
        (TOOL % "read_onli: true", "tools[0].read_onli: is not known here; did you mean 'read_only'?"),
        (TOOL % "environment: [a]", "tools[0].environment: must be a table of texts"),
        (TOOL % "environment: {a: [b]}", "tools[0].environment: must be a table of texts"),
        (
            TOOL % "environment: {a: 1.10}",
            "tools[0].environment: must be a table of texts (put yes, true and 1.10 into",
        ),
        (TOOL % "environment: {a: yes}", "tools[0].environment: must be a table of texts"),
        (TOOL % "description: '${NOPE}'", "tools[0].description: the environment variable NOPE is not set"),
        (TOOL % "inputSchema: {}", "tools[0].inputSchema: is not known here; write the parameters as a list"),
        (TOOL % "cache: {ttl: 5}", "tools[0].cache: is not known here; results are not cached"),
        (TOOL % "env: {A: b}", "tools[0].env: is not known here; write `environment:`"),
        ("tools: [{name: a, pool: x, script: y}]", "tools[0].pool: is no pool of this file; add it under `pools:`"),
        ("tools: [{name: a, sql: x}]", "tools[0]: needs a pool of type postgres; add one under `pools:`"),
        ("pools: {database: {}, db: {}}\ntools: [{name: a, sql: x}]", "add `pool:` with one of database, db"),
        ("pools: {redis: {}}\ntools: [{name: a, sql: x, pool: redis}]", "is a pool of type redis; a tool with `sql:`"),
        ("pools: {}\ntools: [{name: a, script: x}]", "pools: has no pool"),
        ("pools: [a]\ntools: [{name: a, script: x}]", "pools: must be a table of pools by name"),
        ("polls: {}\ntools: [{name: a, script: x}]", "polls: is not known here; did you mean 'pools'?"),
        ("env: {A: b}\ntools: [{name: a, script: x}]", "x.yaml:1: env: is not known here; write `${VAR}`"),
        ("retry: {}\ntools: [{name: a, script: x}]", "retry: is not known here; a pool opens lost connections again"),
        ("server: 5\ntools: [{name: a, script: x}]", "server: must be a table"),
        ("server: {prot: 5}\ntools: [{name: a, script: x}]", "server.prot: is not known here; did you mean 'port'?"),
        ("server: {port: 70000}\ntools: [{name: a, script: x}]", "server.port: must be a port, 0 to 65535"),
        ("server: {token: '${EMPTY}'}\ntools: [{name: a, script: x}]", "server.token: must be text that a header"),
        ("server: {token: 'two words'}\ntools: [{name: a, script: x}]", "server.token: must be text that a header"),
        ("server: {allowed_hosts: a}\ntools: [{name: a, script: x}]", "server.allowed_hosts: must be a list of texts"),
        ("version: [1]\ntools: [{name: a, script: x}]", "version: must be text"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(refused: Refused, text: str, problem: str) -> None:
    message = refused(text, ENV | {"EMPTY": ""})
    assert problem in message
    assert "cannot be read" not in message


def test_all_problems_of_pools_and_tools_are_told_at_once_by_their_lines(refused: Refused) -> None:
    message = refused(
        """pools:
  database: {max_sise: 5}
  redis: {max_size: 0}
  cache: {url: 'hunter2://x'}
server: {port: x}
tools:
- name: a
  pool: nope
  sql: wrong
  parameters: [{name: p, type: text}]
- name: a
  sql: x
  cache: {}
"""
    )
    lines = [line.split(":")[1] for line in message.split("\n")[1:]]
    assert lines == ["2", "3", "4", "5", "8", "9", "10", "11", "13"]


@pytest.mark.parametrize("key", ["items", "default", "properties"])
@pytest.mark.parametrize("levels", [40, 150, 300, 1000])
def test_what_is_nested_beyond_sense_is_refused(refused: Refused, key: str, levels: int) -> None:
    nested = "{items: " * levels + "{}" + "}" * levels
    text = "tools: [{name: a, script: x, parameters: [{name: p, type: array, %s: %s}]}]"
    message = refused(text % (key, nested))
    assert "deep" in message or "default: does not fit" in message


def test_an_unknown_pool_is_told_once_and_so_is_a_wrong_one(refused: Refused) -> None:
    assert "problems" not in refused("pools: {database: {}}\ntools: [{name: a, sql: x, pool: databse}]")
    # Of what kind it would be, nobody knows.
    assert "problems" not in refused("pools: {mine: {}}\ntools: [{name: a, sql: x}]")


@pytest.mark.parametrize("key", [*FILE_REMEDIES, *TOOL_REMEDIES])
def test_remedies_are_for_keys_that_mean_nothing_here(key: str) -> None:
    from aiopool.poolspec import SECTIONS

    assert key not in SECTIONS or key in TOOL_REMEDIES
    assert key not in reading._TOOL_KEYS or key in FILE_REMEDIES
