"""What the page on the tool server says, held against the code."""

from __future__ import annotations

from pathlib import Path

from mcp.server.streamable_http_manager import DEFAULT_MAX_SESSIONS, DEFAULT_SESSION_IDLE_TIMEOUT
from mcp.server.transport_security import DEFAULT_MAX_REQUEST_BODY_SIZE

from aiopool.toolserver import _jsonrpc, current, readiness, server, serving, webserver

PAGE = " ".join((Path(__file__).resolve().parents[3] / "docs" / "mcp" / "tool-server.md").read_text("utf-8").split())


def test_the_bounds_on_the_page_are_those_of_the_code():
    assert DEFAULT_MAX_REQUEST_BODY_SIZE == _jsonrpc.MAX_MESSAGE == 4 * 1024 * 1024
    minutes = DEFAULT_SESSION_IDLE_TIMEOUT // 60
    assert (
        f"Bounds: 4 MiB for a request, {server.MAX_CALLS:,} calls under way at once, {webserver.MAX_CONNECTIONS} "
        f"connections, {DEFAULT_MAX_SESSIONS:,} sessions, each closed after {minutes} minutes"
    ) in PAGE


def test_the_times_on_the_page_are_those_of_the_code():
    assert serving.GRACE == 4
    assert "have four seconds to end" in PAGE
    assert serving.DEADLINE == 9
    assert "What has not ended after nine seconds" in PAGE
    assert current.RETIRE_AFTER == 60
    assert current.MAX_RETIRING == 3
    assert "what still runs after a minute, or three changes later, is cancelled" in PAGE
    assert readiness.TIMEOUT == readiness.FRESH_FOR == 1
    assert "can lend a connection within a second" in PAGE
