"""Pools from a file or a mapping: what is built, and how what is wrong is told."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection

from aiopool import poolspec
from aiopool.adapters.http import HTTPClientPool
from aiopool.adapters.postgres import DatabasePool
from aiopool.adapters.redis import RedisPool
from aiopool.config import PoolConfig
from aiopool.errors import PoolConfigError
from aiopool.manager import PoolManager
from aiopool.poolkinds import KINDS
from tests.unit.manager.stubs import StubPool

ENV = {"DATABASE_URL": "postgresql://me:hunter2@db/x", "REDIS_URL": "redis://:hunter2@cache/0"}

ARTICLE = """\
# gantz.yaml
name: pooled-tools

pools:
  database:
    min_size: 5
    max_size: 20
    max_idle_time: 300
    health_check_interval: 30

  redis:
    min_size: 2
    max_size: 10
    max_idle_time: 600

tools:
  - name: query_database
    description: Query with pooled connection
    pool: database
    parameters:
      - name: query
        type: string
        required: true
    script:
      command: python
      args: ["scripts/pooled_query.py", "{{query}}"]
"""

Built = dict[str, tuple[str, str | None, PoolConfig | None, dict[str, Any]]]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Built:
    """Pools are not built but noted: name -> (kind, address, config, the adapter's keywords)."""
    noted: Built = {}
    for kind in KINDS.values():

        def build(name: str, *rest: Any, kind: str = kind.type) -> StubPool:
            noted[name] = (kind, *rest)
            return StubPool(name)

        monkeypatch.setitem(KINDS, kind.type, replace(kind, build=build))
    return noted


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., PoolManager]:
    """A manager from the text of a file called x.yaml, or as `suffix` says."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, suffix: str = "yaml", **env: str) -> PoolManager:
        Path(f"x.{suffix}").write_text(text)
        return PoolManager.from_config(f"x.{suffix}", env=ENV | env)

    return load


@pytest.fixture
def refused(load: Callable[..., PoolManager]) -> Callable[..., str]:
    """The message of the error that a text raises."""

    def refused(text: str, suffix: str = "yaml", **env: str) -> str:
        with pytest.raises(PoolConfigError) as caught:
            load(text, suffix, **env)
        assert "hunter2" not in str(caught.value)
        return str(caught.value)

    return refused


Load = Callable[..., PoolManager]
Refused = Callable[..., str]


# -- what is built


def test_the_articles_file_is_read_as_it_stands(built: Built, load: Load) -> None:
    manager = load(ARTICLE)
    assert list(manager) == ["database", "redis"]
    database = PoolConfig(min_size=5, max_size=20, max_idle_time=300, health_check_interval=30)
    assert built["database"] == ("postgres", ENV["DATABASE_URL"], database, {})
    redis = PoolConfig(min_size=2, max_size=10, max_idle_time=600)
    assert built["redis"] == ("redis", ENV["REDIS_URL"], redis, {})


def test_the_environment_of_the_process_is_read_by_default(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere")
    PoolManager.from_config({"pools": {"redis": {}}})
    assert built["redis"][1] == "redis://elsewhere"


def test_toml_and_a_mapping_say_the_same_as_yaml(built: Built, load: Load) -> None:
    load("[pools.main]\ntype = 'postgres'\ndsn = 'x'\nmax_size = 3\nreset = 'none'\n", "toml")
    from_toml = built.pop("main")
    load("pools: {main: {type: postgres, dsn: x, max_size: 3, reset: none}}")
    from_yaml = built.pop("main")
    mapping = {"pools": {"main": {"type": "postgres", "dsn": "x", "max_size": 3, "reset": "none"}}}
    PoolManager.from_config(mapping, env={})
    assert built["main"] == from_yaml == from_toml == ("postgres", "x", PoolConfig(max_size=3), {"reset": "none"})


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("database", "postgres"),
        ("db", "postgres"),
        ("postgres", "postgres"),
        ("postgresql", "postgres"),
        ("postgres-reports", "postgres"),
        ("Database", "postgres"),
        ("redis", "redis"),
        ("cache", "redis"),
        ("http", "http"),
        ("api", "http"),
    ],
)
def test_the_kind_is_told_by_the_name(built: Built, load: Load, name: str, kind: str) -> None:
    load(f"pools: {{{name}: {{}}}}")
    assert built[name][0] == kind


def test_a_stated_type_counts_more_than_the_name(built: Built, load: Load) -> None:
    load("pools: {redis: {type: postgres}}")
    assert built["redis"][:2] == ("postgres", ENV["DATABASE_URL"])


def test_a_pool_without_settings_has_the_adapters_own(built: Built, load: Load) -> None:
    load("pools:\n  database:\n  redis: {}\n")
    assert built["database"] == ("postgres", ENV["DATABASE_URL"], None, {})
    assert built["redis"][2] is None


@pytest.mark.parametrize("key", ["dsn", "url"])
@pytest.mark.parametrize("name", ["database", "redis"])
def test_an_address_in_the_file_counts_more_than_the_environment(built: Built, load: Load, name: str, key: str) -> None:
    load(f"pools: {{{name}: {{{key}: 'scheme://here'}}}}")
    assert built[name][1] == "scheme://here"


def test_a_host_is_an_address_too(built: Built, load: Load) -> None:
    load("pools:\n  database: {host: here, port: 1}\n  redis: {host: there}\n")
    assert built["database"][1:] == (None, None, {"host": "here", "port": 1})
    assert built["redis"][1:] == (None, None, {"host": "there"})


def test_an_http_pool_needs_no_address(built: Built, load: Load) -> None:
    load("pools:\n  api:\n  http: {base_url: 'https://a'}\n  other: {type: http, url: 'https://b'}\n")
    assert [built[name][1] for name in ("api", "http", "other")] == [None, "https://a", "https://b"]


def test_adapter_keywords_of_all_kinds_are_passed_on(built: Built, load: Load) -> None:
    load(
        """
        pools:
          database:
            server_settings: {application_name: me, work_mem: "64"}
            ssl: require
            command_timeout: 5s
            dead_peer_after: none
          redis: {db: 2, batching: true, decode_responses: false, socket_timeout: null}
          api: {headers: {X-Key: a}, auth: [me, hunter2], verify: false, timeout: 2.5, max_per_origin: 4}
        """
    )
    settings = {"application_name": "me", "work_mem": "64"}
    bounds = {"command_timeout": 5.0, "dead_peer_after": None}
    assert built["database"][3] == {"server_settings": settings, "ssl": "require", **bounds}
    assert built["redis"][3] == {"db": 2, "batching": True, "decode_responses": False, "socket_timeout": None}
    assert built["api"][3] == {
        "headers": {"X-Key": "a"},
        "auth": ("me", "hunter2"),
        "verify": False,
        "timeout": 2.5,
        "max_per_origin": 4,
    }


def test_max_connections_is_another_name_for_max_size(built: Built, load: Load) -> None:
    load("pools:\n  redis: {max_connections: 7, min_size: 1}\n  db: {max_connections: 3, max_size: 3}\n")
    assert built["redis"][2:] == (PoolConfig(min_size=1, max_size=7), {})
    assert built["db"][2:] == (PoolConfig(max_size=3), {})


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30", 30),
        ("1.5", 1.5),
        ("30s", 30),
        ("5m", 300),
        ("1m30s", 90),
        ("1h 30m", 5400),
        ("2s500ms", 2.5),
        ("1h", 3600),
        ("250ms", 0.25),
        ('"2 s"', 2),
        ("null", None),
    ],
)
def test_durations_are_seconds_or_say_their_unit(built: Built, load: Load, written: str, seconds: float | None) -> None:
    load(f"pools: {{database: {{max_idle_time: {written}}}}}")
    config = built["database"][2]
    assert config is not None
    assert config.max_idle_time == seconds


def test_toml_says_none_in_words(built: Built, load: Load) -> None:
    load("[pools.database]\nmax_lifetime = 'none'\n", "toml")
    assert built["database"][2] == PoolConfig(max_lifetime=None)


def test_variables_stand_for_text_numbers_durations_and_flags(built: Built, load: Load) -> None:
    load(
        """
        pools:
          database:
            dsn: postgresql://${USER_NAME}@${HOST:-localhost}/x
            max_size: ${SIZE}
            max_idle_time: ${IDLE}
            lifetime_jitter: ${JITTER:-0.2}
            direct_tls: ${TLS}
            password: ${NUMBER}
            server_settings: {application_name: "a ${NUMBER} $1 $$"}
        """,
        USER_NAME="me",
        SIZE="7",
        IDLE="5m",
        TLS="true",
        NUMBER="12345",
    )
    _, address, config, options = built["database"]
    assert address == "postgresql://me@localhost/x"
    assert config == PoolConfig(max_size=7, max_idle_time=300.0, lifetime_jitter=0.2)
    assert options == {
        "direct_tls": True,
        "password": "12345",
        "server_settings": {"application_name": "a 12345 $1 $$"},
    }
    assert type(options["password"]) is str


def test_variables_outside_the_pools_are_left_alone(built: Built, load: Load) -> None:
    load("pools: {redis: }\ntools: [{sql: '${NO_SUCH}'}]\ndescription: ${NO_SUCH}\n")
    assert "redis" in built


def test_a_mapping_is_expanded_and_stays_as_it_was(built: Built) -> None:
    mapping = {"pools": {"api": {"headers": {"X": "${X}"}}}}
    PoolManager.from_config(mapping, env={"X": "1"})
    assert built["api"][3] == {"headers": {"X": "1"}}
    assert mapping == {"pools": {"api": {"headers": {"X": "${X}"}}}}


def test_a_mapping_may_hold_objects_for_the_driver(built: Built) -> None:
    context = object()
    PoolManager.from_config({"pools": {"db": {"ssl": context}}}, env=ENV)
    assert built["db"][3] == {"ssl": context}


def test_anchors_for_defaults_have_a_place(built: Built, load: Load) -> None:
    load("x-small: &small {max_size: 2}\npools: {redis: *small, db: {<<: *small, min_size: 1}}\n")
    assert built["db"][2] == PoolConfig(min_size=1, max_size=2)


# -- what is refused


def test_all_problems_are_told_at_once_each_with_its_line_and_remedy(refused: Refused) -> None:
    message = refused(
        """\
pools:
  database:
    dsn: postgresql://me:hunter2@${NO_HOST}/x
    min_sise: 5
    max_size: "20"
    max_size: 21
  main: {max_size: 2}
  redis:
    min_size: 30
    max_size: 10
tool: []
"""
    )
    assert message.splitlines() == [
        "x.yaml has 6 problems:",
        "  x.yaml:3: pools.database.dsn: the environment variable NO_HOST is not set; "
        "set it, or write ${NO_HOST:-default}",
        "  x.yaml:4: pools.database.min_sise: is not known for a pool of type postgres; did you mean 'min_size'?",
        "  x.yaml:6: pools.database.max_size: is written twice, first in line 5; remove one",
        "  x.yaml:7: pools.main: its name does not tell what kind of pool it is; "
        "add `type:` with one of postgres, redis, http",
        "  x.yaml:9: pools.redis.min_size: min_size=30 is not allowed with max_size=10: "
        "it must not be larger; lower min_size or raise max_size",
        "  x.yaml:11: tool: is not known here; did you mean 'tools'?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"^x.yaml: is empty; write `pools:`"),
        ("# nothing\n", r"^x.yaml: is empty"),
        ("- a\n", r"^x.yaml: must be a table of keys and values"),
        ("text", r"^x.yaml: must be a table"),
        ("name: x\ntools: []\n", r"^x.yaml: has no `pools:`; add it and write a pool under it"),
        ("pools:\n", r"^x.yaml:1: pools: has no pool; write a pool under it, such as `database: "),
        ("a: 1\npools: {}\n", r"x.yaml:1: a: is not known here"),
        ("pools: {}\n", r"^x.yaml:1: pools: has no pool"),
        ("\npools: [database]\n", r"^x.yaml:2: pools: must be a table of pools by name"),
        ("pools: database\n", r"^x.yaml:1: pools: must be a table of pools by name"),
        ("pools:\n  database: 5\n", r"^x.yaml:2: pools.database: must be a table of settings"),
        ("pools:\n  1: {}\n", r"^x.yaml:2: pools.1: a pool's name must be text; put it into quotes"),
        ("pools:\n  on: {}\n", r"^x.yaml:2: pools.True: a pool's name must be text"),
        ("pool: {}\n", r"^x.yaml:1: pool: is not known here; did you mean 'pools'\?"),
    ],
)
def test_a_file_without_pools_is_refused(refused: Refused, text: str, message: str) -> None:
    assert re.search(message, refused(text))


@pytest.mark.parametrize(("suffix", "line"), [("yaml", 3), ("toml", 3)])
def test_a_misspelt_key_is_refused_with_the_right_one(refused: Refused, suffix: str, line: int) -> None:
    text = {
        "yaml": "pools:\n  redis:\n    max_conections: 3\n",
        "toml": "\n[pools.redis]\nmax_conections = 3\n",
    }[suffix]
    assert refused(text, suffix) == (
        f"x.{suffix}:{line}: pools.redis.max_conections: "
        "is not known for a pool of type redis; did you mean 'max_connections'?"
    )


def test_a_key_of_another_kind_of_pool_is_refused(refused: Refused) -> None:
    assert "pools.redis.reset: is not known for a pool of type redis" in refused("pools: {redis: {reset: session}}")


@pytest.mark.parametrize("kind", ["postgers", "REDIS", "htp"])
def test_a_misspelt_type_is_refused_with_the_right_one(refused: Refused, kind: str) -> None:
    message = refused(f"pools:\n  database:\n    type: {kind}\n")
    assert message.startswith("x.yaml:3: pools.database.type: must be one of postgres, redis, http; did you mean '")


def test_an_unlike_type_is_refused_with_all_that_exist(refused: Refused) -> None:
    for kind in ("kafka", "5", "[redis]"):
        message = refused(f"pools:\n  database:\n    type: {kind}\n")
        assert message == "x.yaml:3: pools.database.type: must be one of postgres, redis, http"


@pytest.mark.parametrize(("name", "variable"), [("database", "DATABASE_URL"), ("cache", "REDIS_URL")])
@pytest.mark.parametrize("empty", [True, False])
def test_a_pool_without_an_address_is_refused_with_the_variable_to_set(name: str, variable: str, empty: bool) -> None:
    with pytest.raises(
        PoolConfigError, match=rf"pools\.{name}: has no address; set the environment variable {variable}"
    ):
        PoolManager.from_config({"pools": {name: {}}}, env={variable: ""} if empty else {})


def test_two_addresses_or_an_empty_one_are_refused(refused: Refused) -> None:
    assert "pools.db.url: says the same as dsn; remove one" in refused("pools: {db: {dsn: x, url: y}}")
    assert "pools.db.dsn: is empty" in refused("pools: {db: {dsn: ''}}")


def test_two_names_for_one_setting_must_agree(refused: Refused) -> None:
    message = refused("pools:\n  redis:\n    max_size: 5\n    max_connections: 6\n")
    assert message == (
        "x.yaml:4: pools.redis.max_connections: says the same as max_size, but differs from it; remove one"
    )


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("max_size: many", "max_size: must be a whole number, not this text"),
        ('max_size: "5"', r"max_size: must be a whole number, not text \(leave out the quotes\)"),
        (
            "lifetime_jitter: 1e-3",
            r"must be a number, not text \(as a number, YAML has it with a point and a sign: 1.0e",
        ),
        ("max_size: 5.5", "max_size: must be a whole number, not a number"),
        ("max_size: true", "max_size: must be a whole number, not true or false"),
        ("max_size: null", "max_size: must be a whole number, not nothing"),
        ("max_size: [5]", "max_size: must be a whole number, not a list"),
        (
            "max_size: ${DATABASE_URL}",
            "max_size: must be a whole number, not what the environment variable holds",
        ),
        ("max_size: 1${SIZE}", r"max_size: must be a whole number, not text"),
        (
            "max_idle_time: soon",
            'max_idle_time: must be a number of seconds, or text such as "30s" or "1m30s", or none',
        ),
        ("max_idle_time: 5 weeks", "max_idle_time: must be a number of seconds"),
        ("lifetime_jitter: 1s", "lifetime_jitter: must be a number, not this text"),
        ("password: 123", r"password: must be text \(in quotes, if need be\), not a number"),
        ("password: 2024-01-01", r"password: must be text \(in quotes, if need be\), not date"),
        ("type: ${NO}", "type: the environment variable NO is not set"),
        ("direct_tls: 1", "direct_tls: must be true or false, not a number"),
        ("ssl: 1", r"ssl: must be true or false, or text"),
        ("reset: hunter2", "reset: must be one of session, transaction, none, not this text"),
        ("reset: []", "reset: must be one of session, transaction, none, not a list"),
        ("server_settings: {a: 1}", r"server_settings: must be a table of texts \(put numbers into quotes\)"),
        ("server_settings: hunter2", "server_settings: must be a table of texts"),
        ("dsn: {hunter2: hunter2}", "dsn: must be text"),
        ("max_size: 0", "max_size: max_size=0 is not allowed"),
        ("max_size: ${MINUS}", "max_size: max_size=-1 is not allowed"),
        ("max_idle_time: .nan", "max_idle_time: max_idle_time=nan is not allowed"),
        ("max_idle_time: .inf", "max_idle_time: max_idle_time=inf is not allowed"),
        ("backoff_max: 0.01", "backoff_max: backoff_max=0.01 is not allowed with"),
        ("min_size: 21", "min_size: min_size=21 is not allowed with max_size=20"),
        ("max_connections: 0", "max_connections: max_size=0 is not allowed"),
        (
            "dsn: ${NO:?hunter is not in the vault; ask Ann}",
            "NO is not set: hunter is not in the vault; ask Ann",
        ),
        ("user: ${NO", r"user: a \$\{ has no closing brace"),
        ("user: ${NO-X}", r"user: \$\{NO…\} is not understood"),
        ("server_settings: {a: '${NO}'}", r"server_settings.a: the environment variable NO is not set"),
        ("1: 2", r"1: is not known for a pool of type postgres"),
        ("postgresql://me:hunter2@x/y: 1", r"\(an address\): is not known for a pool of type postgres"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line_and_is_not_shown(refused: Refused, setting: str, problem: str) -> None:
    message = refused(f"pools:\n  database:\n    {setting}\n", SIZE="5", MINUS="-1")
    assert re.match(rf"x\.yaml:[23]: pools\.database(?:\.\w+)?(?:: |\.){problem}|x\.yaml:[23]: .*{problem}", message), (
        message
    )
    assert "\n" not in message, "one problem is told once"


def test_the_wrong_toml_value_of_a_table_further_down_has_its_own_line(refused: Refused) -> None:
    message = refused("[pools.redis]\nmax_size = 1\n\n[pools.database]\n# five\nmax_size = '5'\n", "toml")
    assert message.startswith("x.toml:6: pools.database.max_size: must be a whole number")


def test_an_adapter_that_refuses_is_told_with_the_line_and_without_its_words(
    load: Load, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: Any) -> Any:
        raise RuntimeError("cannot parse redis://:hunter2@cache/0")

    monkeypatch.setitem(KINDS, "redis", replace(KINDS["redis"], build=build))
    message = refused("\npools:\n  redis:\n")
    assert message == (
        "x.yaml:3: pools.redis: its driver refuses these settings (RuntimeError); check the address first"
    )


def test_a_missing_extra_and_a_refused_field_are_told_with_the_line(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_driver(*_: Any) -> Any:
        raise ImportError("redis is not installed; run: pip install 'aiopool-core[redis]'")

    def fussy(*_: Any) -> Any:
        raise PoolConfigError("min_size=0 is not allowed here")

    monkeypatch.setitem(KINDS, "redis", replace(KINDS["redis"], build=without_driver))
    monkeypatch.setitem(KINDS, "postgres", replace(KINDS["postgres"], build=fussy))
    lines = refused("pools:\n  redis:\n  db:\n    min_size: 0\n").splitlines()
    assert lines[1] == "  x.yaml:2: pools.redis: redis is not installed; run: pip install 'aiopool-core[redis]'"
    assert lines[2] == "  x.yaml:4: pools.db.min_size: min_size=0 is not allowed here"


@pytest.mark.parametrize(("name", "size"), [("db", 20), ("redis", 50)])
def test_a_setting_beside_max_size_leaves_the_adapters_max_size(built: Built, load: Load, name: str, size: int) -> None:
    load(f"pools: {{{name}: {{min_size: 1}}}}")
    assert built[name][2] == PoolConfig(min_size=1, max_size=size)


def test_a_field_that_an_http_pool_cannot_honour_is_refused_not_ignored(refused: Refused) -> None:
    message = refused("pools:\n  api:\n    min_size: 3\n")
    assert message.startswith("x.yaml:3: pools.api.min_size: is not known for a pool of type http; ")
    assert message.endswith("it means nothing there, remove it")


def test_every_field_of_pool_config_can_be_written() -> None:
    assert set(poolspec._CONFIG) == set(PoolConfig.__dataclass_fields__)


# -- with the real adapters, unopened


def test_the_articles_file_gives_pools_of_its_sizes(load: Load) -> None:
    manager = load(ARTICLE)
    database, redis = manager.get("database"), manager.get("redis")
    assert isinstance(database, DatabasePool)
    assert isinstance(redis, RedisPool)
    assert database.config == PoolConfig(min_size=5, max_size=20, max_idle_time=300, health_check_interval=30)
    assert (database.name, redis.name) == ("database", "redis")
    assert manager.stats()["database"]["max_size"] == 20
    assert manager.stats()["redis"]["max_size"] == 10


@pytest.mark.parametrize(
    ("settings", "max_connections", "max_keepalive"),
    [
        ({}, 100, 20),
        ({"max_size": 7}, 7, 20),
        ({"max_connections": 7}, 7, 20),
        ({"max_keepalive": 3}, 100, 3),
        ({"max_idle": 3, "max_size": 7}, 7, 3),
    ],
)
def test_sizes_of_an_http_pool_reach_httpx(settings: dict[str, int], max_connections: int, max_keepalive: int) -> None:
    pool = PoolManager.from_config({"pools": {"api": settings}}, env={}).get("api")
    assert isinstance(pool, HTTPClientPool)
    assert pool.stats()["max_size"] == max_connections
    assert pool._settings["limits"].max_keepalive_connections == max_keepalive


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_every_keyword_that_may_be_written_is_one_that_the_driver_takes(kind: str) -> None:
    drivers: dict[str, list[Any]] = {
        "postgres": [DatabasePool, asyncpg.connect],
        "redis": [RedisPool, SSLConnection, AbstractConnection, Connection],
    }
    known = {name for driver in drivers[kind] for name in inspect.signature(driver).parameters}
    assert set(KINDS[kind].options) - known == set(KINDS[kind].same_as) - known


def test_every_keyword_that_may_be_written_for_http_is_one_that_httpx_takes() -> None:
    known = {name for one in (HTTPClientPool, httpx.AsyncClient) for name in inspect.signature(one).parameters}
    assert set(KINDS["http"].options) <= known


def test_an_address_that_the_driver_refuses_is_told_without_being_shown(refused: Refused) -> None:
    assert refused("pools:\n  redis:\n    url: me:hunter2\n").startswith("x.yaml:2: pools.redis: ")


def test_the_pools_of_a_configuration_are_scraped() -> None:
    registry = CollectorRegistry()
    mapping: dict[str, Any] = {"pools": {"database": {}, "redis": {}, "api": {}}}
    manager = PoolManager.from_config(mapping, env=ENV, registry=registry)
    for name in manager:
        assert registry.get_sample_value("connection_pool_size", {"pool_name": name}) == 0
    count = registry.get_sample_value("connection_pool_wait_seconds_count", {"pool_name": "database"})
    assert count == 0


def test_a_mapping_of_pools_needs_no_file_around_it() -> None:
    manager = PoolManager.from_config({"db": {"dsn": "postgresql://u@h/d"}}, env={})
    assert list(manager) == ["db"]
