"""The article's file and its script, in both modes and by hand."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
import yaml
from mcp import Client, StdioServerParameters

from aiopool.embedded import PostgresServer, RedisServer
from aiopool.toolserver.toolset import Toolset

pytestmark = pytest.mark.asyncio(loop_scope="module")

GANTZ = Path(__file__).resolve().parents[3] / "examples" / "gantz"


@pytest.fixture(scope="module")
def env(postgres: PostgresServer, redis_server: RedisServer) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": postgres.dsn, "REDIS_URL": redis_server.url}


@pytest.mark.parametrize("mode", ["worker", "exec"])
async def test_the_articles_file_answers_a_query(env: dict[str, str], tmp_path: Path, mode: str) -> None:
    file = GANTZ / "gantz.yaml"
    if mode == "exec":
        data = yaml.safe_load(file.read_text())
        script = data["tools"][0]["script"]
        script["mode"] = mode
        script["working_dir"] = str(GANTZ)
        file = tmp_path / "gantz.yaml"
        file.write_text(yaml.safe_dump(data))
    async with Toolset.from_file(file, env=env) as tools:
        result = await tools.call("query_database", {"query": "select 6 * 7 as answer"})
        assert result.structured == {"rows": [{"answer": 42}], "row_count": 1}
        writes = await tools.call("query_database", {"query": "create table leak (a int)"})
        assert writes.is_error
        assert "read-only transaction" in writes.text
        stats = tools.pools.stats()["database"]
        assert (stats["min_size"], stats["max_size"]) == ((5, 20) if mode == "worker" else (0, 20))
        assert stats["acquired"] == 2


async def test_its_script_runs_by_hand(env: dict[str, str]) -> None:
    script = str(GANTZ / "scripts" / "pooled_query.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, "select 1 as one", env=env, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert json.loads(out) == {"rows": [{"one": 1}], "row_count": 1}


async def test_a_client_calls_it_over_stdio(env: dict[str, str]) -> None:
    command = ["-m", "aiopool", "serve", str(GANTZ / "gantz.yaml"), "--transport", "stdio"]
    async with Client(StdioServerParameters(command=sys.executable, args=command, env=env)) as client:
        calls = (client.call_tool("query_database", {"query": f"select {n} as n"}) for n in range(20))
        results = await asyncio.gather(*calls)
        assert [result.structured_content["rows"] for result in results] == [[{"n": n}] for n in range(20)]


async def test_the_comparison_of_both_modes_prints_its_table(env: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(GANTZ / "compare.py"), "3", env=env, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert "A call in a worker takes 1/" in out.decode()
