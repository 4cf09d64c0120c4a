"""`aiopool serve --transport http`, as clients, probes and strangers meet it on the wire."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from mcp import Client

from aiopool import embedded
from aiopool.testing.proxy import FaultProxy
from aiopool.toolserver import readiness
from aiopool.toolserver.app import App
from aiopool.toolserver.guard import loopback
from aiopool.toolserver.listening import bind, warn_of_strangers
from tests.integration.mcp.test_server_calls import eventually, queries
from tests.integration.mcp.toolserving import MODES, TOOLS, serving, start, started_on_http, write_tools

pytestmark = pytest.mark.asyncio(loop_scope="module")

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@pytest.fixture(scope="module")
def served(postgres: embedded.PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    file = write_tools(tmp_path_factory.mktemp("tools"), "over_http")
    with started_on_http(file, postgres.dsn) as (_, address):
        yield address


def modern_call(host: str, tool: str, arguments: dict[str, Any]) -> bytes:
    """A whole request of the newer generation."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n"
        f"Mcp-Method: tools/call\r\nMcp-Name: {tool}\r\n\r\n"
    )
    return head.encode() + body


def say(address: str, request: bytes) -> bytes:
    """What the server answers to these bytes."""
    place = urlsplit(address)
    with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
        connection.sendall(request)
        return connection.recv(65536)


@pytest.mark.parametrize("mode", MODES)
async def test_tools_are_called_over_http(served: str, mode: str) -> None:
    async with Client(f"{served}/mcp", mode=mode) as client:
        assert (await client.call_tool("add", {"a": 2})).structured_content["rows"] == [{"sum": 3}]  # type: ignore[index]


async def test_ten_clients_share_the_pool(served: str, postgres: embedded.PostgresServer) -> None:
    async def work(number: int) -> list[Any]:
        async with Client(f"{served}/mcp", mode=MODES[number % 2]) as client:
            results = await asyncio.gather(*(client.call_tool("add", {"a": i, "b": number}) for i in range(5)))
        return [result.structured_content["rows"][0]["sum"] for result in results]  # type: ignore[index]

    assert await asyncio.gather(*map(work, range(10))) == [[i + number for i in range(5)] for number in range(10)]
    assert await queries(postgres.dsn, "over_http", "true") <= 5


async def test_health_readiness_and_metrics_are_told(served: str) -> None:
    async with httpx.AsyncClient(base_url=served) as http:
        assert (await http.get("/healthz")).text == "alive\n"
        ready = await http.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["ready"]
        assert ready.json()["pools"]["database"]["ready"]
        async with Client(f"{served}/mcp") as client:
            await client.call_tool("add", {"a": 1})
            await client.call_tool("add", {})
        metrics = (await http.get("/metrics")).text
        assert 'connection_pool_max_size{pool_name="database"} 5.0' in metrics
        assert 'mcp_tool_calls_total{outcome="error",tool="add"} 1.0' in metrics
        assert 'mcp_tool_call_duration_seconds_count{tool="add"}' in metrics
        assert (await http.get("/no/such/path")).status_code == 404


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET {path} HTTP/1.1\r\nHost: evil.example", 421),
        ("GET http://evil.example{path} HTTP/1.1\r\nHost: {host}", 400),
        ("GET http://{host}{path} HTTP/1.1\r\nHost: {host}", 400),
        ("GET {path} HTTP/1.1\r\nHost: {host}\r\nHost: {host}", 400),
        ("GET {path} HTTP/1.1\r\nHost: {host}\r\nHost: evil.example", 400),
        ("GET {path} HTTP/1.1", 400),
        ("GET {path} HTTP/1.0", 400),
        ("GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://evil.example", 403),
        ("GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: null", 403),
        ("GET {path} HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: {host}", 421),
    ],
)
async def test_strangers_are_turned_away_from_every_path(served: str, head: str, status: int) -> None:
    for path in ("/mcp", "/readyz", "/metrics", "/no/such/path"):
        request = head.format(path=path, host=urlsplit(served).netloc)
        answer = await asyncio.to_thread(say, served, f"{request}\r\n\r\n".encode())
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), (path, answer)


async def test_the_token_is_asked_for_on_every_path(postgres: embedded.PostgresServer, tmp_path: Path) -> None:
    async with serving(write_tools(tmp_path, "token"), postgres.dsn) as current:
        app = App(current, hosts=loopback(8000), token="s3cret")
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as http:
            for path in ("/mcp", "/healthz", "/readyz", "/metrics", "/no/such/path"):
                refused = await http.post(path, json=INITIALIZE, headers=ACCEPT)
                assert refused.status_code == 401
                assert refused.headers["WWW-Authenticate"].startswith("Bearer")
            http.headers["Authorization"] = "Bearer s3cret"
            assert (await http.get("/readyz")).status_code == 200
            assert (await http.get("/no/such/path")).status_code == 404


async def test_pages_of_an_allowed_origin_get_what_browsers_ask_for(
    postgres: embedded.PostgresServer, tmp_path: Path
) -> None:
    page = "https://chat.example.com"
    async with serving(write_tools(tmp_path, "cors"), postgres.dsn) as current:
        app = App(current, hosts=loopback(8000), origins=[page], token="s3cret")
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as http:
            headers = {"Origin": page, "Access-Control-Request-Method": "POST"}
            asked = await http.options("/mcp", headers=headers | {"Access-Control-Request-Headers": "authorization"})
            assert asked.status_code == 200
            assert asked.headers["Access-Control-Allow-Origin"] == page
            assert (await http.options("/mcp", headers=headers | {"Origin": "https://evil.example"})).status_code == 403


async def test_a_pool_that_cannot_lend_is_not_ready_and_tells_no_address(
    postgres: embedded.PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "TIMEOUT", 0.1)
    monkeypatch.setattr(readiness, "FRESH_FOR", 0.0)
    file = write_tools(tmp_path, "ready", text=TOOLS.replace("max_size: {max_size}", "max_size: 1, backoff_max: 0.1"))
    async with FaultProxy.before(postgres.dsn) as proxy, serving(file, proxy.url) as current:
        transport = httpx.ASGITransport(app=App(current, hosts=loopback(8000)))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as http:

            async def is_ready() -> bool:
                return (await http.get("/readyz")).status_code == 200

            async def is_down() -> bool:
                return (await http.get("/readyz")).status_code == 503

            async with current.pools["database"].connection():
                assert await is_ready(), "it lends to somebody else"
            proxy.reset()
            proxy.refuse()
            await eventually(is_down)
            told = (await http.get("/readyz")).text
            assert json.loads(told)["pools"]["database"]["ready"] is False
            assert str(proxy.port) not in told
            assert (await http.get("/healthz")).status_code == 200
            proxy.pass_through()
            await eventually(is_ready)


async def test_bodies_that_are_too_large_or_no_json_rpc_are_refused_and_do_no_harm(served: str) -> None:
    modern = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}
    bodies: list[bytes] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"jsonrpc": "2.0"}',
        b'{"jsonrpc": "1.0", "id": 1, "method": "tools/list"}',
        b'{"jsonrpc": "2.0", "id": {"a": 1}, "method": "tools/list"}',
        b'{"jsonrpc": "2.0", "id": 1, "method": 7}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": []}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": null}}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "\\ud800"}',
        b"\xff\xfe\x00",
        b'[{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}]',
    ]
    async with httpx.AsyncClient(base_url=served, timeout=20) as http:
        for headers in (ACCEPT, ACCEPT | modern):
            for body in bodies:
                answer = await http.post("/mcp", content=body, headers=headers)
                assert 400 <= answer.status_code < 500, (body[:50], answer.status_code, answer.text[:200])
            large = await http.post("/mcp", content=b" " * 5_000_000, headers=headers)
            assert large.status_code == 413
        refused = await http.post("/mcp", json=INITIALIZE, headers={"Accept": "text/html"})
        assert refused.status_code == 406
        for method in ("PUT", "PATCH", "HEAD", "TRACE"):
            assert 400 <= (await http.request(method, "/mcp")).status_code < 500
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        assert (await http.get("/mcp", headers=upgrade | {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="})).is_error
        async with Client(f"{served}/mcp") as client:
            assert not (await client.call_tool("add", {"a": 1})).is_error


async def test_a_client_that_is_killed_in_mid_call_leaves_no_query(
    served: str, postgres: embedded.PostgresServer
) -> None:
    place = urlsplit(served)
    program = "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])));"
    client = subprocess.Popen(  # noqa: ASYNC220
        [
            sys.executable,
            "-c",
            f"{program} s.sendall(sys.stdin.buffer.read()); s.recv(1)",
            str(place.hostname),
            str(place.port),
        ],
        stdin=subprocess.PIPE,
    )
    assert client.stdin is not None
    client.stdin.write(modern_call(place.netloc, "nap", {"seconds": 25}))
    client.stdin.close()

    async def runs() -> bool:
        return await queries(postgres.dsn, "over_http") == 1

    async def ended() -> bool:
        return await queries(postgres.dsn, "over_http") == 0

    await eventually(runs)
    client.kill()
    client.wait()
    await eventually(ended)


async def test_sigterm_lets_calls_end_for_a_moment_and_leaves_nothing(
    postgres: embedded.PostgresServer, tmp_path: Path
) -> None:
    async def work(address: str, mode: str) -> None:
        with suppress(BaseExceptionGroup):  # its connections end, and what it does about that is its own affair
            async with Client(f"{address}/mcp", mode=mode) as client:
                short, long = (asyncio.create_task(client.call_tool("nap", {"seconds": each})) for each in (1, 60))
                results[mode] = (await short).is_error, (await long).content[0].text  # type: ignore[union-attr]

    async def run() -> bool:
        return await queries(postgres.dsn, "sigterm") == 4

    async def ended() -> bool:
        return await queries(postgres.dsn, "sigterm", "true") == 0

    results: dict[str, tuple[bool, str]] = {}
    with started_on_http(write_tools(tmp_path, "sigterm"), postgres.dsn, bounds="serving.GRACE = 3") as (
        server,
        address,
    ):
        working = [asyncio.create_task(work(address, mode)) for mode in MODES]
        await eventually(run)
        server.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.wait, 10) == 143
        await asyncio.gather(*working)
        assert server.stderr is not None
        assert "Traceback" not in server.stderr.read()
    assert [results[mode][0] for mode in MODES] == [False, False]
    assert all("cancelled" in results[mode][1] for mode in MODES)
    await eventually(ended)


async def test_a_port_in_use_is_one_line_and_status_1(
    served: str, postgres: embedded.PostgresServer, tmp_path: Path
) -> None:
    port = str(urlsplit(served).port)
    process = start(write_tools(tmp_path, "in_use"), postgres.dsn, "--transport", "http", "--port", port)
    _, err = await asyncio.to_thread(process.communicate, None, 20)
    assert process.returncode == 1
    assert err == (
        f"aiopool: serve: cannot listen on 127.0.0.1:{port} (Address already in use); "
        "choose another with --port, where 0 is any free one, or --host\n"
    )


@pytest.mark.parametrize(("host", "warnings"), [("0.0.0.0", 2), ("127.0.0.1", 0), ("localhost", 0)])
async def test_strangers_on_the_network_are_warned_of(
    host: str, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    with bind(host, 0) as listener:
        warn_of_strangers(listener, has_hosts=False, has_token=False)
        assert [key for key in ("server.token", "server.allowed_hosts") if key in caplog.text] == [
            "server.token",
            "server.allowed_hosts",
        ][:warnings]
        caplog.clear()
        warn_of_strangers(listener, has_hosts=True, has_token=True)
        assert not caplog.text
