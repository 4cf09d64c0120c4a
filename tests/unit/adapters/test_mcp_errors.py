"""What an exception says of an MCP session, whichever SDK it comes from."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import anyio
import pytest

from aiopool import PoolTimeout
from aiopool.adapters._mcp_errors import is_answer, leaf, says_lost, says_not_run


class MCPError(Exception):
    """As in mcp 2.x, and in 1.x, where it is called McpError."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.error = SimpleNamespace(code=code, message=message, data=None)


class NetworkError(Exception):
    """As in httpx and httpx2."""


class ConnectError(NetworkError):
    pass


NetworkError.__module__ = "httpx2"

SERVES = [
    None,
    TimeoutError(),
    asyncio.CancelledError(),
    ValueError("isError"),
    MCPError(-32001, "Request 'tools/call' timed out"),
    MCPError(408, "Timed out while waiting for response to ClientRequest. Waited 1.0 seconds."),
    MCPError(-32602, "Unknown tool: x"),
    MCPError(-32603, "Internal server error"),
    MCPError(-32000, "SSE stream ended without a response"),
    MCPError(-32000, "a server's own"),
    PoolTimeout("of another pool"),
]
LOST = [
    MCPError(-32000, "Connection closed"),
    ConnectionResetError(),
    BrokenPipeError(),
    EOFError(),
    anyio.ClosedResourceError(),
    anyio.BrokenResourceError(),
    ConnectError(),
]
UNKNOWN_SESSION = [
    MCPError(-32600, "Session not found"),
    MCPError(-32600, "Session terminated"),
    MCPError(32600, "Session terminated"),
    MCPError(-32000, "Session not found"),
    MCPError(-32001, "Session not found"),
    MCPError(-32000, "Bad Request: No valid session ID provided"),
]


def forms(error: BaseException) -> list[BaseException]:
    """By itself, in a group in a group, and as a cause."""
    caused = RuntimeError()
    caused.__cause__ = error
    return [error, BaseExceptionGroup("", [BaseExceptionGroup("", [ValueError(), error])]), caused]


@pytest.mark.parametrize("error", SERVES, ids=repr)
def test_a_session_serves_on_after(error: BaseException | None) -> None:
    assert not any(map(says_lost, forms(error) if error is not None else [None]))


@pytest.mark.parametrize("error", LOST + UNKNOWN_SESSION, ids=repr)
def test_a_session_is_lost_with(error: BaseException) -> None:
    assert all(map(says_lost, forms(error)))


@pytest.mark.parametrize("error", UNKNOWN_SESSION, ids=repr)
def test_a_request_has_not_run_if_its_session_is_unknown(error: BaseException) -> None:
    assert all(map(says_not_run, forms(error)))


@pytest.mark.parametrize("error", [*SERVES[1:], *LOST], ids=repr)
def test_a_request_may_have_run_with_all_else(error: BaseException) -> None:
    assert not any(map(says_not_run, forms(error)))


def test_what_another_pool_raised_says_nothing_of_this_session() -> None:
    error = PoolTimeout("no connection")
    error.__cause__ = ConnectionResetError()
    assert not says_lost(error)


def test_a_group_is_told_by_the_leaf_that_tells_most() -> None:
    closed, refused = MCPError(-32000, "Connection closed"), ConnectionRefusedError()
    assert leaf(ExceptionGroup("", [ExceptionGroup("", [closed]), refused])) is refused
    assert leaf(ExceptionGroup("", [ExceptionGroup("", [closed])])) is closed
    assert leaf(BaseExceptionGroup("", [asyncio.CancelledError(), closed])) is closed
    assert leaf(BaseExceptionGroup("", [KeyboardInterrupt(), closed])) is closed
    cancelled = BaseExceptionGroup("", [asyncio.CancelledError()])
    assert leaf(cancelled) is cancelled
    assert leaf(refused) is refused


def test_an_error_of_the_server_is_an_answer_and_the_clients_own_timeout_is_none() -> None:
    assert is_answer(MCPError(-32601, "Method not found"))
    assert not is_answer(MCPError(-32001, "Request 'ping' timed out"))
    assert not is_answer(TimeoutError())
