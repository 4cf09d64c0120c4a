"""What adapters say and refuse before any server is asked."""

from __future__ import annotations

import importlib
import ssl
import sys
from typing import Any

import asyncpg
import pytest

from aiopool import adapters
from aiopool.adapters._asyncpg import bad_parameters, is_fatal
from aiopool.adapters.http import HTTPClientPool
from aiopool.adapters.postgres import DatabasePool
from aiopool.adapters.redis import RedisPool
from aiopool.config import PoolConfig
from aiopool.errors import PoolConfigError, PoolUnavailable

MALFORMED = [
    "postgresql://user:tr0ub4dor/x@host/database",
    "postgresql://user:tr0ub4dor#x@host:5432/database",
    "postgresql://user:tr0ub4dor?x@host/database",
    "postgresql://user:%74r0ub4dor/x@host/database",
    "postgresql://user:tr0ub4dor@[host/database",
    "mysql://user:tr0ub4dor@host/database",
    "user:tr0ub4dor@host/database",
]


@pytest.mark.parametrize("dsn", MALFORMED)
async def test_a_malformed_dsn_is_told_without_the_password(dsn: str) -> None:
    db = DatabasePool(dsn, PoolConfig(min_size=1, max_size=1), name="db")
    with pytest.raises(PoolUnavailable) as caught:
        await db.open()
    cause = caught.value.__cause__
    assert isinstance(cause, PoolConfigError)
    assert cause.__cause__ is cause.__context__ is None
    told = f"{caught.value} {cause} {db!r} {db.pool!r} {db.stats()}"
    assert "tr0ub4dor" not in told
    assert "r0ub" not in told
    assert "percent-encode" in told


def test_a_complaint_that_quotes_nothing_of_the_dsn_is_told() -> None:
    wrong = ValueError("`sslmode` parameter must be one of: disable, require")
    assert "must be one of: disable" in str(bad_parameters(wrong, "postgresql://u:p@h/d?sslmode=maybe"))


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InvalidPasswordError(),
        asyncpg.InvalidAuthorizationSpecificationError(),
        asyncpg.InvalidCatalogNameError(),
        asyncpg.InsufficientPrivilegeError(),
        ssl.SSLCertVerificationError(),
        PoolConfigError(),
        TypeError(),
    ],
)
def test_what_trying_again_cannot_help_is_fatal(error: Exception) -> None:
    assert is_fatal(error)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.CannotConnectNowError(),
        asyncpg.TooManyConnectionsError(),
        asyncpg.ConnectionDoesNotExistError(),
        ConnectionRefusedError(),
        TimeoutError(),
        OSError(),
    ],
)
def test_a_server_that_is_starting_full_or_out_of_reach_is_not_fatal(error: Exception) -> None:
    assert not is_fatal(error)


def test_a_keyword_that_asyncpg_does_not_know_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"max_size.*PoolConfig"):
        DatabasePool("postgresql://", max_size=5)
    DatabasePool("postgresql://", command_timeout=5, statement_cache_size=0, server_settings={})


def test_no_repr_holds_an_address_or_a_password() -> None:
    pools = [
        DatabasePool("postgresql://user:tr0ub4dor@example.com/db", name="one"),
        RedisPool("redis://user:tr0ub4dor@example.com", name="one"),
        HTTPClientPool("https://user:tr0ub4dor@example.com", name="one"),
    ]
    for pool in pools:
        assert repr(pool) == f"<{type(pool).__name__} 'one'>"


def test_pools_without_a_name_have_names_of_their_own() -> None:
    for kind in (DatabasePool, RedisPool, HTTPClientPool):
        assert kind().name != kind().name


@pytest.mark.parametrize(
    ("module", "driver", "extra"),
    [("postgres", "asyncpg", "postgres"), ("redis", "redis", "redis"), ("http", "httpx", "http")],
)
def test_a_missing_driver_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, driver: str, extra: str
) -> None:
    for name in [
        name for name in sys.modules if name.partition(".")[0] == driver or name.startswith("aiopool.adapters.")
    ]:
        monkeypatch.delitem(sys.modules, name)

    class Nowhere:
        @staticmethod
        def find_spec(name: str, *_: Any) -> None:
            if name.partition(".")[0] == driver:
                raise ModuleNotFoundError(f"No module named {name!r}", name=driver)

    monkeypatch.setattr(sys, "meta_path", [Nowhere, *sys.meta_path])
    with pytest.raises(ImportError, match=rf'pip install "aiopool-core\[{extra}\]"'):
        importlib.import_module(f"aiopool.adapters.{module}")


def test_adapters_are_imported_when_they_are_asked_for() -> None:
    assert adapters.DatabasePool.__name__ == "DatabasePool"
    with pytest.raises(AttributeError, match="OraclePool"):
        _ = adapters.OraclePool  # type: ignore[attr-defined]
