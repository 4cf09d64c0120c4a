"""Sessions over streamable HTTP: what they share and what they never do, and servers that go away and come back."""

import asyncio
import contextvars
import socket
import threading
import time
from contextlib import asynccontextmanager, closing, contextmanager

import pytest

pytest.importorskip("mcp")

import httpx2
import uvicorn
from mcp.server import MCPServer

from aiopool import PoolClosed, PoolConfig, PoolUnavailable
from aiopool.adapters.mcp import MCPSessionPool, streamable_http

QUICK = PoolConfig(max_size=2, open_timeout=10, close_timeout=2, unavailable_after=0, validate_after=0.2)
tenant = contextvars.ContextVar("tenant", default="nobody")


class Peer:
    """An MCP server on a port of its own, in a thread; it remembers what came, and gives everybody a cookie."""

    def __init__(self):
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self.calls = 0
        self.requests = []

    @contextmanager
    def running(self):
        mcp = MCPServer("peer", version="1")

        @mcp.tool()
        async def count(delay: float = 0) -> int:
            """How often it was called."""
            self.calls += 1
            await asyncio.sleep(delay)
            return self.calls

        app = mcp.streamable_http_app()

        async def remembering(scope, receive, send):
            headers = dict(scope.get("headers", ()))

            async def send_with_cookie(message):
                if message["type"] == "http.response.start":
                    who = headers.get(b"x-who", b"")
                    message["headers"] = [*message["headers"], (b"set-cookie", b"login=" + who)]
                await send(message)

            if scope["type"] == "http":
                self.requests.append({**headers, "peer": scope["client"]})
            await app(scope, receive, send_with_cookie)

        config = uvicorn.Config(remembering, "127.0.0.1", self.port, log_level="critical", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
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
            assert not thread.is_alive()


async def eventually(condition, within=10.0):
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.01)


@pytest.fixture
def peer():
    return Peer()


@asynccontextmanager
async def pool_of(peer, *, config=QUICK, **settings):
    async with MCPSessionPool({"peer": streamable_http(peer.url, **settings)}, config=config) as pool:
        yield pool


def value(result):
    return result.structured_content["result"]


async def test_identities_share_connections_but_no_session_no_header_and_no_cookie(peer):
    with peer.running():
        async with pool_of(peer, headers=lambda who: {"x-who": who}) as pool:
            for _ in range(2):
                for who in ("alice", "bob", "carol"):
                    await pool.call_tool("peer", "count", identity=who)
            assert pool.stats()["opened"] == 3
    assert {request[b"x-who"] for request in peer.requests} == {b"alice", b"bob", b"carol"}
    cookies = [(each[b"x-who"], each[b"cookie"]) for each in peer.requests if b"cookie" in each]
    assert cookies
    assert all(cookie == b"login=" + who for who, cookie in cookies)
    assert len({each["peer"] for each in peer.requests}) < 3


async def test_a_password_in_an_address_is_sent_and_never_told(peer, caplog):
    caplog.set_level("DEBUG")
    factory = streamable_http(peer.url.replace("//", "//user:s3cret@"))
    async with MCPSessionPool({"peer": factory}, config=QUICK) as pool:
        with pytest.raises(PoolUnavailable) as caught:
            await pool.call_tool("peer", "count")
        with peer.running():
            await asyncio.sleep(0.3)
            await pool.call_tool("peer", "count")
        assert "s3cret" not in repr((factory, pool, caught.value, caught.value.__cause__)) + caplog.text
    assert {each[b"authorization"] for each in peer.requests} == {b"Basic dXNlcjpzM2NyZXQ="}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_server_may_be_restarted_between_calls_and_no_call_runs_twice(peer, mode):
    async with pool_of(peer, mode=mode) as pool:
        with peer.running():
            assert value(await pool.call_tool("peer", "count")) == 1
        with peer.running():
            assert value(await pool.call_tool("peer", "count")) == 2
            assert value(await pool.call_tool("peer", "count")) == 3
            assert peer.calls == 3


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_server_that_is_away_is_told_by_the_reason_and_found_again(peer, mode):
    async with pool_of(peer, mode=mode) as pool:
        for _ in range(2):
            with pytest.raises(PoolUnavailable) as caught:
                await pool.call_tool("peer", "count")
            assert isinstance(caught.value.__cause__, httpx2.ConnectError)
        with peer.running():
            await asyncio.sleep(0.3)
            assert value(await pool.call_tool("peer", "count")) == 1
        await asyncio.sleep(0.3)  # so that it is asked whether it answers
        with pytest.raises(PoolUnavailable):
            await pool.call_tool("peer", "count")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_server_that_goes_away_under_calls_leaves_no_caller_waiting(peer, mode):
    async with pool_of(peer, mode=mode) as pool:
        with peer.running():
            calls = [asyncio.create_task(pool.call_tool("peer", "count", {"delay": 30})) for _ in range(10)]
            await eventually(lambda: peer.calls == 10)
        done, waiting = await asyncio.wait(calls, timeout=10)
        assert not waiting
        assert all(call.exception() is not None for call in done)


async def test_a_call_runs_in_the_context_of_its_caller_and_a_session_is_opened_in_that_of_the_pool(peer):
    class ByTenant(httpx2.Auth):
        def auth_flow(self, request):
            request.headers["x-tenant"] = tenant.get()
            yield request

    async def as_tenant(name):
        tenant.set(name)
        await pool.call_tool("peer", "count")

    with peer.running():
        async with pool_of(peer, auth=ByTenant()) as pool:
            for name in ("alice", "bob"):
                await asyncio.create_task(as_tenant(name))
    called = [each[b"x-tenant"] for each in peer.requests if each.get(b"mcp-method") == b"tools/call"]
    others = {each[b"x-tenant"] for each in peer.requests if each.get(b"mcp-method") == b"server/discover"}
    assert called == [b"alice", b"bob"]
    assert others == {b"nobody"}


async def test_a_pool_that_closes_under_calls_says_so(peer):
    with peer.running():
        async with pool_of(peer) as pool:
            call = asyncio.create_task(pool.call_tool("peer", "count", {"delay": 30}))
            await eventually(lambda: peer.calls)
            await pool.close(timeout=0)
            with pytest.raises(PoolClosed):
                await call


async def test_a_server_that_never_answers_is_given_up():
    async def swallow(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    config = PoolConfig(open_timeout=0.3, unavailable_after=0)
    async with server, MCPSessionPool({"mute": streamable_http(url)}, config=config) as pool:
        with pytest.raises(PoolUnavailable) as caught:
            await pool.call_tool("mute", "count")
        assert "open_timeout=0.3s" in str(caught.value.__cause__)
