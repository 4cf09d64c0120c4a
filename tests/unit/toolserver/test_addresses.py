"""What other processes are told of a pool's server, and what nobody is."""

from __future__ import annotations

from typing import Any

import pytest

from aiopool.adapters.postgres import DatabasePool
from aiopool.adapters.redis import RedisPool
from aiopool.errors import PoolConfigError
from aiopool.toolserver.addresses import Address, address_of


def told(pool: Any) -> Address:
    address = address_of(pool)
    assert address is not None
    return address


@pytest.mark.parametrize(
    ("dsn", "keywords", "url"),
    [
        ("postgresql://me:pw@db:5433/x?sslmode=require", {}, "postgresql://me:pw@db:5433/x?sslmode=require"),
        ("postgresql://me:pw@db/x", {"password": "a/b@c"}, "postgresql://me:a%2Fb%40c@db/x"),
        ("postgresql://me@db/x", {"user": "you", "database": "y z"}, "postgresql://you@db/y%20z"),
        ("postgresql://me@db:5432/x", {"host": "other", "port": 1}, "postgresql://me@other:1/x"),
        (None, {"host": "db", "user": "me", "password": "pw"}, "postgresql://me:pw@db"),
        (None, {"host": ["a", "b"], "port": 5433}, "postgresql://a:5433,b:5433"),
        (None, {"host": "/var/run/postgresql"}, "postgresql://%2Fvar%2Frun%2Fpostgresql"),
    ],
)
def test_the_address_is_complete(dsn: str | None, keywords: dict[str, Any], url: str) -> None:
    address = told(DatabasePool(dsn, **keywords))
    assert address.variables["DATABASE_URL"] == address.url == url
    assert not {"host", "port", "user", "password", "database"} & set(address.options)


def test_the_other_settings_go_along() -> None:
    settings = {"jit": "off"}
    address = told(DatabasePool("postgresql://db/x", reset="transaction", server_settings=settings, command_timeout=5))
    assert address.options["reset"] == "transaction"
    assert address.options["server_settings"] == settings
    assert address.options["command_timeout"] == 5
    DatabasePool(address.url, **address.options)


@pytest.mark.parametrize(
    ("pool", "url"),
    [
        (RedisPool("redis://me:p%40w@cache:1/2"), "redis://me:p%40w@cache:1/2"),
        (RedisPool("rediss://cache"), "rediss://cache:6379/0"),
        (RedisPool("unix:///run/redis.sock?db=3"), "unix:///run/redis.sock?db=3"),
        (RedisPool(host="cache", password="pw", db=1), "redis://:pw@cache:6379/1"),
    ],
)
def test_that_of_redis_is_complete(pool: RedisPool, url: str) -> None:
    address = told(pool)
    assert address.variables == {"REDIS_URL": url}
    assert address.options["decode_responses"] is True
    RedisPool(address.url, **address.options)


def test_what_cannot_be_told_to_another_process_is_refused() -> None:
    with pytest.raises(PoolConfigError, match="`password` is a function"):
        address_of(DatabasePool("postgresql://me@db/x", password=lambda: "secret"))


def test_no_password_is_shown_nor_left_in_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "from-environment")
    address = told(DatabasePool("postgresql://me:p%40ssw0rd@db/x"))
    assert "ssw0rd" not in repr(address)
    text = f"{address.url} p@ssw0rd p%40ssw0rd from-environment"
    assert address.hide(text) == "… … … …"


def test_other_pools_have_no_address() -> None:
    assert address_of(object()) is None
