"""`MCPSessionPool` on the MCP SDKs that it was not written for: mcp 1.x, and fastmcp's client.

uv run --isolated --no-default-groups --with "mcp==1.30.*" python tests/compat/mcp_sessions.py
uv run --isolated --no-default-groups --with fastmcp python tests/compat/mcp_sessions.py

Serves the same few things to each kind of session that the installed packages can make, and prints what holds.
"""

# ruff: noqa: T201
from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import uvicorn

from aiopool import PoolClosed, PoolConfig, PoolUnavailable
from aiopool.adapters.mcp import MCPSessionPool, SessionFactory, stdio, streamable_http

PLAIN = ("-S", str(Path(__file__).parents[1] / "integration" / "mcp" / "plain_server.py"))
#: Seconds: whoever waits for longer than that hangs.
PATIENCE = 20.0


class Peer:
    """A server over HTTP, made with the SDK that is installed."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"

    @contextmanager
    def running(self) -> Iterator[None]:
        server = uvicorn.Server(uvicorn.Config(self._app(), "127.0.0.1", self.port, log_level="critical"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        try:
            yield
        finally:
            server.should_exit = server.force_exit = True
            thread.join(timeout=10)

    def _app(self) -> Any:
        try:
            from mcp.server import MCPServer as Server
        except ImportError:
            from mcp.server.fastmcp import FastMCP as Server
        server = Server("peer")

        @server.tool()
        async def echo(text: str, delay: float = 0) -> str:
            """Says it again."""
            await asyncio.sleep(delay)
            return text

        return server.streamable_http_app()


def by_the_sdk(url: str | None) -> SessionFactory:
    """What users of mcp 1.x write."""
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamablehttp_client

    @asynccontextmanager
    async def session() -> AsyncIterator[Any]:
        parameters = StdioServerParameters(command=sys.executable, args=[*PLAIN])
        transport = stdio_client(parameters) if url is None else streamablehttp_client(url)
        async with transport as (read, write, *_), ClientSession(read, write) as session:
            await session.initialize()
            yield session

    return session


def by_fastmcp(url: str | None) -> SessionFactory:
    import fastmcp
    from fastmcp.client.transports import StdioTransport

    if url is not None:
        return lambda: fastmcp.Client(url)
    return lambda: fastmcp.Client(StdioTransport(sys.executable, [*PLAIN]))


def text(result: Any) -> str:
    return str(result.content[0].text)


class Checks:
    def __init__(self, peer: Peer, make: Callable[[str | None], SessionFactory]) -> None:
        self.peer = peer
        self.make = make

    def _pool(self, url: str | None, **settings: Any) -> MCPSessionPool:
        config = PoolConfig(max_size=2, unavailable_after=0, validate_after=0.3, **settings)
        return MCPSessionPool({"peer": self.make(url)}, config=config)

    async def calls_share_a_session_over_stdio(self) -> None:
        await self._calls_share_a_session(None)

    async def calls_share_a_session_over_http(self) -> None:
        with self.peer.running():
            await self._calls_share_a_session(self.peer.url)

    async def _calls_share_a_session(self, url: str | None) -> None:
        async with self._pool(url) as pool:
            calls = (pool.call_tool("peer", "echo", {"text": str(n), "delay": 0.1}) for n in range(30))
            assert [text(answer) for answer in await asyncio.gather(*calls)] == [str(n) for n in range(30)]
            assert pool.stats()["opened"] == 1

    async def timeouts_and_cancellations_cost_no_session(self) -> None:
        async with self._pool(None) as pool:
            await pool.call_tool("peer", "pid")
            slow: dict[str, Any] = {"text": "x", "delay": 0.5}
            (answer,) = await asyncio.gather(pool.call_tool("peer", "echo", slow, timeout=0.1), return_exceptions=True)
            assert isinstance(answer, TimeoutError), answer
            call = asyncio.create_task(pool.call_tool("peer", "echo", slow))
            await asyncio.sleep(0.1)
            call.cancel()
            await asyncio.wait([call])
            assert text(await pool.call_tool("peer", "echo", {"text": "y"})) == "y"
            assert pool.stats()["opened"] == 1

    async def a_server_that_is_killed_is_replaced(self) -> None:
        async with self._pool(None) as pool:
            pid = int(text(await pool.call_tool("peer", "pid")))
            call = asyncio.create_task(pool.call_tool("peer", "echo", {"text": "x", "delay": 10}))
            await asyncio.sleep(0.2)
            os.kill(pid, signal.SIGKILL)
            await asyncio.wait([call])
            assert call.exception() is not None
            await asyncio.sleep(0.5)
            assert int(text(await pool.call_tool("peer", "pid"))) != pid

    async def a_session_that_its_server_has_forgotten_is_replaced(self) -> None:
        async with self._pool(self.peer.url) as pool:
            for answer in "xy":
                with self.peer.running():
                    assert text(await pool.call_tool("peer", "echo", {"text": answer})) == answer

    async def a_server_that_is_away_is_told_by_the_reason(self) -> None:
        async with self._pool(self.peer.url) as pool:
            reason: object = None
            try:
                await pool.call_tool("peer", "echo", {"text": "x"})
            except PoolUnavailable as exc:
                reason = exc.__cause__
            assert not isinstance(reason, BaseExceptionGroup), reason
            assert "onnect" in str(reason), reason

    async def a_pool_that_closes_under_calls_leaves_nobody_waiting(self) -> None:
        with self.peer.running():
            for url in (None, self.peer.url):
                async with self._pool(url) as pool:
                    call = asyncio.create_task(pool.call_tool("peer", "echo", {"text": "x", "delay": 60}))
                    await asyncio.sleep(1)
                    await pool.close(timeout=0)
                    done, _ = await asyncio.wait([call], timeout=1)
                    assert done, "it waits"
                    assert isinstance(call.exception(), PoolClosed), call.exception()


def checks(peer: Peer) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
    def ours(url: str | None) -> SessionFactory:
        return stdio(sys.executable, *PLAIN) if url is None else streamable_http(url)

    kinds: dict[str, Callable[[str | None], SessionFactory]] = {"stdio and streamable_http": ours}
    if version("mcp").startswith("1."):
        kinds["ClientSession"] = by_the_sdk
    if installed("fastmcp"):
        kinds["fastmcp.Client"] = by_fastmcp
    for kind, make in kinds.items():
        suite = Checks(peer, make)
        for name in vars(Checks):
            if not name.startswith("_"):
                yield f"{kind}: {name.replace('_', ' ')}", getattr(suite, name)


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


async def run(check: Callable[[], Awaitable[None]], complaints: list[str]) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(str(context)))
    tasks, children = len(asyncio.all_tasks()), processes()
    async with asyncio.timeout(PATIENCE):
        await check()
    await asyncio.sleep(0.1)
    if len(asyncio.all_tasks()) > tasks:
        complaints.append(f"tasks are left: {asyncio.all_tasks()}")
    if processes() > children:
        complaints.append("processes are left")


def processes() -> int:
    return sum(len(each.read_text().split()) for each in Path("/proc/self/task").glob("*/children"))


def main() -> int:
    print(", ".join(f"{package} {installed(package)}" for package in ("mcp", "fastmcp") if installed(package)))
    logging.disable()  # the servers run in here
    failed = 0
    for name, check in checks(Peer()):
        complaints: list[str] = []
        try:
            asyncio.run(run(check, complaints))
        except Exception:
            complaints.append(traceback.format_exc())
        print(f"{'FAILED' if complaints else 'ok    '} {name}")
        for complaint in complaints:
            print(complaint)
        failed += bool(complaints)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
