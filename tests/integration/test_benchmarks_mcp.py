"""The benchmark of MCP tools: everybody answers, through a real client. How fast anything is, is not tested."""

from __future__ import annotations

import pytest

from aiopool import embedded
from benchmarks import mcp
from benchmarks.mcp import handlers, scripts, served
from tests.integration.test_benchmarks import Watched
from tests.integration.test_benchmarks_on_servers import is_judged, names


@pytest.mark.parametrize(
    ("part", "everybody"),
    [(mcp._handlers, handlers.CONTESTANTS), (mcp._scripts, scripts.CONTESTANTS)],
    ids=["handlers", "scripts"],
)
async def test_tools_in_this_process_are_compared(
    part: object, everybody: tuple[type, ...], postgres: embedded.PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp, "TASKS", (1,))
    monkeypatch.setattr(mcp, "SCRIPT_TASKS", (1,))
    run = Watched()
    await part(run, postgres.dsn)  # type: ignore[operator]
    run.check()
    (comparison,) = run.results
    assert names(comparison) == [kind.name for kind in everybody]
    assert is_judged(comparison)


async def test_sessions_over_http_are_compared(
    postgres: embedded.PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp, "TASKS", (1,))
    run = Watched()
    await mcp._sessions_over_http(run, postgres.dsn)
    run.check()
    assert all(is_judged(comparison) for comparison in run.results)


@pytest.mark.parametrize("kind", [served.Ours, served.ByHand], ids=["ours", "by hand"])
async def test_a_server_over_stdio_answers_and_ends(
    kind: type[served.Served], postgres: embedded.PostgresServer
) -> None:
    client = kind(postgres.dsn, "stdio")
    await client.open()
    try:
        await client.call()
    finally:
        await client.close()
