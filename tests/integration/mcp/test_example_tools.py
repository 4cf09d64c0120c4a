"""The example's tools, called as a server would call them."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from aiopool import embedded
from aiopool.toolserver.toolset import Toolset

pytestmark = pytest.mark.asyncio(loop_scope="module")
FILE = Path(__file__).resolve().parents[3] / "examples" / "tools.yaml"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def toolset(
    postgres: embedded.PostgresServer, redis_server: embedded.RedisServer, https_server: embedded.HTTPSServer
) -> AsyncIterator[Toolset]:
    file = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    file["pools"]["api"]["verify"] = str(https_server.ca_file)
    addresses = {"DATABASE_URL": postgres.dsn, "REDIS_URL": redis_server.url, "API_URL": https_server.url}
    async with Toolset.from_file(file, env={**os.environ, **addresses}) as toolset:
        yield toolset


async def test_a_statement_of_the_file_takes_its_parameters(toolset: Toolset) -> None:
    result = await toolset.call("tables", {"pattern": "pg\\_cl%"})
    assert result.structured is not None
    assert [row["name"] for row in result.structured["rows"]] == ["pg_class"]
    assert not (await toolset.call("tables", {"pattern": "' or true --"})).structured["rows"]


async def test_a_statement_of_the_model_is_run_and_what_is_wrong_with_it_is_told(toolset: Toolset) -> None:
    result = await toolset.call("query", {"statement": "select generate_series(1, 1000) as n"})
    assert result.structured is not None
    assert (result.structured["row_count"], result.structured["truncated"]) == (100, True)
    wrong = await toolset.call("query", {"statement": "selec 1"})
    assert wrong.is_error
    assert "begins with SELEC" in wrong.text
    missing = await toolset.call("query", {"statement": "select * from nothing"})
    assert 'relation "nothing" does not exist (SQLSTATE 42P01, at character 15)' in missing.text


async def test_a_note_is_kept(toolset: Toolset) -> None:
    assert (await toolset.call("note", {"name": "one", "text": "a b\r\n"})).structured == {"result": True}
    assert (await toolset.call("read_note", {"name": "one"})).structured == {"results": ["a b\r\n", 3600]}
    assert "must match the pattern" in (await toolset.call("note", {"name": "../x", "text": ""})).text


async def test_an_order_is_sent(toolset: Toolset) -> None:
    result = await toolset.call("order", {"customer": 'a&"b'})
    assert not result.is_error, result.text
    assert json.loads(result.text) == {
        "text": 'an order of a&"b',
        "count": 1,
    }


async def test_what_reads_is_known_as_such(toolset: Toolset) -> None:
    assert {name: tool.plan.is_read_only for name, tool in toolset.tools.items()} == {
        "tables": True,
        "query": True,
        "note": False,
        "read_note": True,
        "order": False,
    }
