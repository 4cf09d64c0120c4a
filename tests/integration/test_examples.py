"""The examples run as they stand, and the tools of the article do what they say."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytest_asyncio

from aiopool import DatabasePool, HTTPClientPool, PoolNotFound, RedisPool, embedded, pools

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

#: A line that each must print, as a pattern.
SAYS = {
    "quickstart.py": r"^100 leases of [1-5] connections;",
    "postgres.py": r"^the next caller's table of that name: None$",
    "redis_cache.py": r"^from the cache: \{'orders': 42",
    "http_api.py": r"^100 answers in \{'HTTP/2'\}",
    "manager.py": r'^connection_pool_size\{pool_name="api"\} 1\.0$',
    "simulation.py": r"^replay: python examples/simulation\.py \d+$",
    "article.py": r"^200 queries over \d+ connections",
    "mcp_client.py": r"^200 of 200 calls at once succeeded$",
}
#: Waits for clients, which are those of another example.
SERVERS = {"mcp_handlers.py"}


def test_each_example_is_tested():
    assert sorted({*SAYS, *SERVERS}) == sorted(file.name for file in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", SAYS)
def test_it_runs(name: str, postgres: embedded.PostgresServer, redis_server: embedded.RedisServer):
    environment = {**os.environ, "DATABASE_URL": postgres.dsn, "REDIS_URL": redis_server.url}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr == ""
    assert re.search(SAYS[name], done.stdout, re.MULTILINE), done.stdout


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest_asyncio.fixture
async def tools(
    postgres: embedded.PostgresServer,
    redis_server: embedded.RedisServer,
    https_server: embedded.HTTPSServer,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Any]:
    monkeypatch.setattr(pools, "_pools", {})
    pools.register("database", DatabasePool(postgres.dsn))
    pools.register("redis", RedisPool(redis_server.url))
    pools.register("api", HTTPClientPool(https_server.url, verify=https_server.ssl_context))
    async with pools:
        yield load("article")


async def test_the_database_tool_returns_rows(tools):
    answer = await tools.query_database_tool("select n from generate_series(1, 3) n")
    assert answer == {"success": True, "data": [{"n": 1}, {"n": 2}, {"n": 3}]}


@pytest.mark.parametrize(
    "query", ["drop table nothing", "selec 1", "select 1; select 2", "create table t (id int)", "select 1/0"]
)
async def test_the_database_tool_returns_errors(tools, query):
    answer = await tools.query_database_tool(query)
    assert answer["success"] is False
    assert answer["error"]
    assert (await tools.query_database_tool("select 1 as n"))["data"] == [{"n": 1}]


async def test_the_cache_tool_gets_sets_and_deletes(tools):
    assert await tools.cache_tool("get", "article:key") == {"value": None}
    assert await tools.cache_tool("set", "article:key", "value") == {"success": True}
    assert await tools.cache_tool("get", "article:key") == {"value": "value"}
    assert await tools.cache_tool("delete", "article:key") == {"success": True}
    assert await tools.cache_tool("delete", "article:key") == {"success": False}
    assert (await tools.cache_tool("set", "article:key"))["success"] is False
    assert (await tools.cache_tool("flush", "article:key"))["success"] is False


async def test_the_api_tool_posts_and_returns_the_answer(tools):
    answer = await tools.call_api_tool("/echo", {"id": 1})
    assert answer["method"] == "POST"
    assert answer["body"] in ('{"id":1}', '{"id": 1}')
    assert (await tools.call_api_tool("/status/503", {}))["success"] is False


async def test_the_dispatcher_asks_the_pool_of_that_name(tools):
    dispatcher = load("manager")
    assert await dispatcher.pooled_query(pools, "database", query="select 1 as n") == [{"n": 1}]
    assert await dispatcher.pooled_query(pools, "redis", key="article:nothing") is None
    assert (await dispatcher.pooled_query(pools, "api", url="/echo"))["path"] == "/echo"
    with pytest.raises(PoolNotFound):
        await dispatcher.pooled_query(pools, "databse", query="select 1")
