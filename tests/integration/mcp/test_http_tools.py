"""HTTP requests as tools, against real servers: what is sent, what comes back, and where they don't go."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from aiopool import embedded
from aiopool.adapters import _http_connect
from aiopool.adapters.http import HTTPClientPool
from aiopool.errors import PoolConfigError
from aiopool.manager import PoolManager
from aiopool.telling import ToolFailure, explain
from tests.tool_bodies import Called

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Peer:
    """A server that answers as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], str]] = []
        self.connections = 0
        self.answers: dict[str, bytes] = {}
        self.port = 0
        self.url = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, *lines = head.decode().strip().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
                body = (await reader.readexactly(int(headers.get("content-length", "0")))).decode()
                self.requests.append((line.rpartition(" ")[0], headers, body))
                answer = self.answers.get(line.split(" ")[1].partition("?")[0])
                if answer is None:
                    await asyncio.sleep(30)
                writer.write(answer or b"")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def answer(self, path: str, body: bytes | str = b"", status: str = "200 OK", **headers: str) -> None:
        content = body.encode() if isinstance(body, str) else body
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *lines, "", ""])
        self.answers[path] = head.encode() + content


@pytest_asyncio.fixture(loop_scope="module")
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    server = await asyncio.start_server(peer, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    peer.url = f"http://127.0.0.1:{peer.port}"
    yield peer
    server.close()


@pytest_asyncio.fixture(loop_scope="module")
async def pools() -> AsyncIterator[PoolManager]:
    manager = PoolManager()
    yield manager
    await manager.close_all()


PARAMETERS = [{"name": "id"}, {"name": "n", "type": "integer"}, {"name": "about", "type": "object"}]


def tool(pools: PoolManager, pool: str | None = None, **http: Any) -> Called:
    return Called({"http": http, "parameters": PARAMETERS}, pools, pool)


async def test_a_request_reaches_the_server_as_the_file_has_written_it(peer: Peer, pools: PoolManager) -> None:
    peer.answer("/orders/a%2Fb", '{"ok": true}', Content_Type="application/json")
    one = tool(
        pools,
        method="POST",
        url=f"{peer.url}/orders/{{{{id}}}}?x={{{{id}}}}",
        query={"n": "{{n}}"},
        headers={"X-Id": "<{{id}}>"},
        json={"id": "{{id}}", "about": "{{about}}"},
    )
    result = await one(id="a/b", n=5, about={"c": [1]})
    assert (result.text, result.structured, result.is_error) == ('{"ok": true}', {"ok": True}, False)
    ((line, headers, body),) = peer.requests
    assert line == "POST /orders/a%2Fb?x=a%2Fb&n=5"
    assert headers["x-id"] == "<a/b>"
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {"id": "a/b", "about": {"c": [1]}}


async def test_connections_are_kept_for_the_next_call_of_any_tool(peer: Peer, pools: PoolManager) -> None:
    peer.answer("/a", "a")
    peer.answer("/b", "b")
    one, other = tool(pools, url=f"{peer.url}/a"), tool(pools, url=f"{peer.url}/b")
    assert [(await each()).text for each in (one, other, one, other)] == ["a", "b", "a", "b"]
    assert peer.connections == 1
    assert pools.stats()["http-tools"]["in_use"] == 0


async def test_what_one_call_is_given_as_a_cookie_is_not_sent_with_the_next(peer: Peer, pools: PoolManager) -> None:
    peer.answer("/login", "in", Set_Cookie="session=somebody")
    for _ in range(2):
        await tool(pools, url=f"{peer.url}/login")()
    assert not any("cookie" in headers for _, headers, _ in peer.requests)


async def test_a_path_alone_is_sent_to_the_pool_s_own_server_with_its_headers(
    https_server: embedded.HTTPSServer, pools: PoolManager
) -> None:
    pools.register(
        "api", HTTPClientPool(https_server.url, verify=https_server.ssl_context, headers={"X-Key": "secret"})
    )
    result = await tool(pools, "api", url="/echo?a={{id}}", extract="headers.x-key")(id="b")
    assert result.text == "secret"
    elsewhere = "https://api.example.com/"
    with pytest.raises(PoolConfigError, match="sends to another host than the base_url of its pool 'api'"):
        tool(pools, "api", url=elsewhere)
    pools.register("bare", HTTPClientPool())
    with pytest.raises(PoolConfigError, match="a url without a host, and its pool 'bare' no base_url"):
        tool(pools, "bare", url="/a")


async def test_the_pool_s_own_parameters_and_the_tool_s_are_both_sent(peer: Peer, pools: PoolManager) -> None:
    peer.answer("/a", "a")
    pools.register("api", HTTPClientPool(peer.url, params={"key": "k"}))
    await tool(pools, "api", url="/a?b={{id}}")(id="c&d")
    assert peer.requests[-1][0] in ("GET /a?key=k&b=c%26d", "GET /a?b=c%26d&key=k")


# ------------------------------------------------------------------------------------------- answers


async def test_a_part_of_the_answer_is_enough(peer: Peer, pools: PoolManager) -> None:
    peer.answer("/a", '{"data": {"items": [{"name": "x"}, {"n": NaN, "m": 1e999}]}}')
    items = tool(pools, url=f"{peer.url}/a", extract_json="data.items[1]")
    assert (await items()).structured == {"n": "NaN", "m": "1e999"}
    assert (await tool(pools, url=f"{peer.url}/a", extract="data.items[0].name")()).text == "x"
    with pytest.raises(ToolFailure, match=r"no data.item: data is an object with items"):
        await tool(pools, url=f"{peer.url}/a", extract="data.item")()
    peer.answer("/b", "<html>", Content_Type="text/html")
    with pytest.raises(ToolFailure, match="no JSON to look into, but text/html"):
        await tool(pools, url=f"{peer.url}/b", extract="a")()


async def test_an_answer_that_is_an_error_is_one_with_its_status_and_what_it_says(
    peer: Peer, pools: PoolManager
) -> None:
    peer.answer("/a", "no such order" + "." * 5000, "404 Not Found")
    result = await tool(pools, url=f"{peer.url}/a", extract="a.b")()
    assert result.is_error
    assert result.text.startswith("HTTP 404 Not Found\nno such order...")
    assert len(result.text) < 2100
    peer.answer("/b", status="304 Not Modified")
    assert (await tool(pools, url=f"{peer.url}/b")()).text == "HTTP 304 Not Modified"
    peer.answer("/c", status="599 Whatever")
    assert (await tool(pools, url=f"{peer.url}/c")()).text == "HTTP 599"
    peer.answer("/d", status="204 No Content")
    empty = await tool(pools, url=f"{peer.url}/d")()
    assert (empty.text, empty.is_error) == ("HTTP 204 No Content", False)


async def test_an_answer_is_read_no_further_than_it_may_be_long(peer: Peer, pools: PoolManager) -> None:
    peer.answer("/a", "ä" * 1000)
    result = await tool(pools, url=f"{peer.url}/a", max_bytes=101)()
    assert result.text.startswith("ä" * 50 + "\n[truncated: these are the first 101 bytes")
    assert not result.is_error
    with pytest.raises(ToolFailure, match="more than 101 bytes, too many to look into"):
        await tool(pools, url=f"{peer.url}/a", max_bytes=101, extract="a")()
    assert (await tool(pools, url=f"{peer.url}/a", max_bytes=2000)()).text == "ä" * 1000


async def test_what_is_packed_is_unpacked_no_further_than_it_may_be_long(peer: Peer, pools: PoolManager) -> None:
    peer.answer("/small", gzip.compress(b"small"), Content_Encoding="gzip")
    assert (await tool(pools, url=f"{peer.url}/small")()).text == "small"
    peer.answer("/bomb", gzip.compress(b"\0" * 300_000_000, 9), Content_Encoding="gzip")
    result = await tool(pools, url=f"{peer.url}/bomb", max_bytes=1000)()
    assert "truncated" in result.text
    assert len(result.text) < 1200
    peer.answer("/broken", b"not packed", Content_Encoding="gzip")
    with pytest.raises(ToolFailure, match="as gzip, and it is none"):
        await tool(pools, url=f"{peer.url}/broken")()
    peer.answer("/other", b"x", Content_Encoding="br")
    with pytest.raises(ToolFailure, match="packed as br, which nobody asked for"):
        await tool(pools, url=f"{peer.url}/other")()


async def test_an_answer_that_is_no_text_is_told_by_its_type_and_size(peer: Peer, pools: PoolManager) -> None:
    peer.answer("/a", b"\x89PNG\xff", Content_Type="image/png")
    with pytest.raises(ToolFailure, match="no text, but 5 bytes of image/png"):
        await tool(pools, url=f"{peer.url}/a")()
    peer.answer("/b", "ä".encode("latin-1"), Content_Type="text/plain; charset=latin-1")
    assert (await tool(pools, url=f"{peer.url}/b")()).text == "ä"
    peer.answer("/c", "ä" * 100, Content_Type="text/plain; charset=utf-16")
    assert (await tool(pools, url=f"{peer.url}/c", max_bytes=101)()).text.startswith("꓃" * 50)
    for charset in ("punycode", "rot13", "base64", "nothing", "idna", "unicode_escape", "undefined", "\x7f"):
        peer.answer("/d", "-a" * 200_000, Content_Type=f"text/plain; charset={charset}")
        with pytest.raises(ToolFailure, match="no text, but 400000 bytes"):
            await tool(pools, url=f"{peer.url}/d")()


async def test_a_server_that_does_not_answer_is_left_in_time(peer: Peer, pools: PoolManager) -> None:
    with pytest.raises(ToolFailure, match=r"did not answer within 0.2 s"):
        await tool(pools, url=f"{peer.url}/silent", timeout=0.2)()
    assert pools.stats()["http-tools"]["in_use"] == 0


async def test_a_server_that_is_not_there_is_told_without_its_address(pools: PoolManager) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(Exception) as failure:
            await tool(pools, url=f"http://user:hunter2@127.0.0.1:{port}/")()
    assert "cannot be reached" in explain(failure.value)
    assert "hunter2" not in explain(failure.value)


# ------------------------------------------------------------------------------------------- where it does not go


async def test_redirects_are_followed_within_the_same_origin(peer: Peer, pools: PoolManager) -> None:
    peer.answer("/old", status="302 Found", Location="/new?a=b")
    peer.answer("/new", "here")
    assert (await tool(pools, url=f"{peer.url}/old", json={"a": 1})()).text == "here"
    (_, _, first), (line, headers, body) = peer.requests
    assert (first, line, body) == ('{"a": 1}', "GET /new?a=b", "")
    assert "content-type" not in headers
    peer.answer("/old", status="307 Temporary Redirect", Location=f"{peer.url}/new")
    await tool(pools, url=f"{peer.url}/old", json={"a": 1})()
    assert (peer.requests[-1][0], peer.requests[-1][2]) == ("POST /new", '{"a": 1}')


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1:1/",
        "//evil.example/",
        "https://127.0.0.1/",
        "http://localhost:{port}/new",
        "http://user:hunter2@evil.example/?hunter2",
    ],
)
async def test_no_redirect_leads_to_another_host(peer: Peer, pools: PoolManager, location: str) -> None:
    peer.answer("/old", status="302 Found", Location=location.format(port=peer.port))
    with pytest.raises(ToolFailure, match="and this tool follows none to another host") as failure:
        await tool(pools, url=f"{peer.url}/old", headers={"Authorization": "Bearer hunter2"})()
    assert "hunter2" not in str(failure.value)
    assert len(peer.requests) == 1


async def test_redirects_come_to_an_end(peer: Peer, pools: PoolManager) -> None:
    peer.answer("/old", status="302 Found", Location="/old")
    with pytest.raises(ToolFailure, match="redirected 6 times"):
        await tool(pools, url=f"{peer.url}/old")()


@pytest.mark.parametrize("host", ["2130706433", "0x7f.0.0.1", "127.1"])
async def test_an_address_in_disguise_is_judged_by_what_it_stands_for(
    peer: Peer, pools: PoolManager, host: str
) -> None:
    peer.answer("/a", "reached")
    with pytest.raises(ToolFailure, match="leads to a private network") as failure:
        await tool(pools, url=f"http://{host}:{peer.port}/a")()
    assert "allow_private: true" in str(failure.value)
    assert peer.connections == 0
    assert (await tool(pools, url=f"http://{host}:{peer.port}/a", allow_private=True)()).text == "reached"


async def test_an_address_that_no_client_can_read_is_refused_before_it_is_used(pools: PoolManager) -> None:
    with pytest.raises(PoolConfigError, match="tool 'tool' has a url whose host cannot be read"):
        tool(pools, url="http://0177.0.0.1/a")


async def test_a_name_is_judged_by_the_address_that_is_dialled(
    peer: Peer, pools: PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.answer("/a", "reached")
    asked: list[str] = []
    addresses = ["127.0.0.1", "::ffff:127.0.0.1"]

    def resolve(host: Any, port: Any, *_: Any, **__: Any) -> Any:
        asked.append(host)
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = f"http://rebound.example.com:{peer.port}/a"
    one = tool(pools, url=url)
    for _ in range(2):
        with pytest.raises(ToolFailure, match="leads to a private network"):
            await one()
    assert peer.connections == 0
    assert len(asked) == 2
    pools.register("api", HTTPClientPool(f"http://rebound.example.com:{peer.port}"))
    with pytest.raises(ToolFailure, match="leads to a private network"):
        await tool(pools, "api", url="/a")()
    pools.register("other", HTTPClientPool(f"http://rebound.example.com:{peer.port}"))
    assert (await tool(pools, "other", url="/a", allow_private=True)()).text == "reached"
    addresses[:] = ["127.0.0.1", "8.8.8.8"]
    monkeypatch.setattr(_http_connect, "_attempt", lambda info, local: asyncio.sleep(0, info[4][0]))
    sock: Any = await _http_connect.connect("rebound.example.com", 80, must_be_public=True)
    assert sock == "8.8.8.8"


async def test_localhost_and_addresses_that_the_file_names_are_meant(peer: Peer, pools: PoolManager) -> None:
    peer.answer("/a", "reached")
    for host in ("127.0.0.1", "localhost"):
        assert (await tool(pools, url=f"http://{host}:{peer.port}/a")()).text == "reached"
