"""What adapters are given is judged before any server is asked, and told under the names that the caller wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from aiopool.adapters.asyncpg_pool import create_pool
from aiopool.adapters.http import HTTPClientPool, HTTPTransport
from aiopool.adapters.postgres import DatabasePool
from aiopool.adapters.redis import RedisConnectionPool, RedisPool
from aiopool.config import PoolConfig
from aiopool.errors import PoolConfigError

#: Those whose connections cannot be shared.
UNSHARED: list[Callable[..., Any]] = [DatabasePool, create_pool, RedisPool, RedisConnectionPool]


@pytest.mark.parametrize("adapter", UNSHARED)
def test_a_config_that_is_none_is_refused_as_the_pool_would_refuse_it(adapter: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="config is a dict: it must be a PoolConfig, or None"):
        adapter(config={"max_size": 3})


@pytest.mark.parametrize("adapter", UNSHARED)
def test_callers_cannot_share_a_connection_that_serves_one_at_a_time(adapter: Callable[..., Any]) -> None:
    name = "create_pool" if adapter is create_pool else adapter.__name__
    with pytest.raises(PoolConfigError, match=rf"max_shares=3 is not allowed for {name},.*raise max_size"):
        adapter(config=PoolConfig(max_shares=3))


def test_batches_cannot_share_a_connection_either() -> None:
    with pytest.raises(PoolConfigError, match="max_shares=2 is not allowed for RedisPool"):
        RedisPool(batching=True, config=PoolConfig(max_shares=2))


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:1", None])
@pytest.mark.parametrize(
    "bad",
    [
        {"max_connections": 0},
        {"max_connections": "3"},
        {"max_keepalive": -1},
        {"max_per_origin": 1.5},
        {"max_per_origin": 0},
        {"keepalive_expiry": -1},
        {"keepalive_expiry": "5"},
    ],
)
def test_sizes_that_no_http_pool_can_have_are_refused_with_and_without_an_origin(
    bad: dict[str, Any], base_url: str | None
) -> None:
    name, value = next(iter(bad.items()))
    with pytest.raises(PoolConfigError, match=f"^{name}={value!r} is not allowed: it must be a"):
        HTTPClientPool(base_url, **bad)


@pytest.mark.parametrize("bad", [{"max_connections": -1}, {"max_keepalive_connections": -1}, {"keepalive_expiry": -1}])
def test_limits_that_no_transport_can_have_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(PoolConfigError, match=f"^{next(iter(bad))}=-1 is not allowed: it must be a"):
        HTTPTransport(limits=httpx.Limits(**bad))


def test_no_limit_and_no_time_at_all_are_allowed_as_with_httpx() -> None:
    HTTPTransport(limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=None))
    HTTPClientPool("http://127.0.0.1:1", keepalive_expiry=0)


def test_limits_beside_the_sizes_that_mean_the_same_are_refused() -> None:
    with pytest.raises(TypeError, match=r"'limits'.*max_connections="):
        HTTPClientPool(limits=httpx.Limits(max_connections=3))


def test_a_keyword_that_httpx_does_not_know_is_refused_under_the_name_of_the_pool() -> None:
    with pytest.raises(TypeError, match=r"HTTPClientPool got an unexpected keyword 'nosuch'.*httpx\.AsyncClient\(\)"):
        HTTPClientPool(nosuch=1)


@pytest.mark.parametrize("place", [{}, {"url": "redis://localhost"}])
def test_a_keyword_that_redis_py_does_not_know_is_refused_with_what_may_stand_there(place: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"RedisPool was given.*'nosuch'.*PoolConfig"):
        RedisPool(**place, nosuch=1)


def test_tls_beside_a_url_is_refused_with_what_to_write_in_it() -> None:
    with pytest.raises(TypeError, match="rediss://"):
        RedisPool("redis://localhost", ssl=True)


@pytest.mark.parametrize("adapter", [RedisPool, RedisConnectionPool])
@pytest.mark.parametrize("bad", [{"max_connections": 0}, {"max_connections": "3"}, {"timeout": -1}])
def test_sizes_that_no_redis_pool_can_have_are_refused_under_redis_pys_names(
    adapter: Callable[..., Any], bad: dict[str, Any]
) -> None:
    name, value = next(iter(bad.items()))
    with pytest.raises(PoolConfigError, match=f"^{name}={value!r} is not allowed: it must be a"):
        adapter(**bad)


def test_a_timeout_of_none_is_for_ever_as_with_redis_pys_blocking_pool() -> None:
    assert RedisConnectionPool(timeout=None).pool.config.acquire_timeout is None
    assert RedisConnectionPool(timeout=2).pool.config.acquire_timeout == 2
    assert RedisConnectionPool().pool.config.acquire_timeout == PoolConfig().acquire_timeout
    with pytest.raises(PoolConfigError, match=r"timeout=None is not allowed with config\.acquire_timeout=30"):
        RedisConnectionPool(timeout=None, config=PoolConfig())
