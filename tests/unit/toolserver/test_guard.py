"""Who may speak to the HTTP server: asked of the guard itself, header by header."""

from __future__ import annotations

from typing import Any

import pytest

from aiopool.configfile import Document
from aiopool.toolserver.guard import Guard, is_host, is_origin, loopback
from aiopool.toolserver.section import Section
from aiopool.toolserver.settings import read_settings

TOKEN = "s3cret-token"
Headers = list[tuple[str, str]]


async def ask(
    headers: Headers, path: str = "/mcp", method: str = "POST", scope_type: str = "http", **settings: Any
) -> int | None:
    """The status of a refusal; None if the request got through."""
    passed = False
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal passed
        passed = True

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {
        "type": scope_type,
        "path": path,
        "method": method,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }
    await Guard(app, **{"hosts": loopback(8000), **settings})(scope, receive, send)
    assert passed is not bool(sent)
    return None if passed else sent[0].get("status", 0)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "LocalHost:8000", "LOCALHOST:8000", "localhost:08000"]
)
async def test_the_names_of_this_machine_are_served(host: str) -> None:
    assert await ask([("Host", host)]) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost",
        "localhost:8001",
        "localhost:80000",
        "localhost:",
        "localhost:8000:8000",
        "localhost.evil.example:8000",
        "evil.example#localhost:8000",
        "evil.example/localhost:8000",
        "localhost:8000@evil.example",
        "user@localhost:8000",
        "localhost.:8000",
        " localhost:8000",
        "localhost:8000 ",
        "localhost:8000,evil.example",
        "::1:8000",
        "[::1]",
        "[::ffff:127.0.0.1]:8000",
        "[::1]evil.example:8000",
        "127.1:8000",
        "2130706433:8000",
        "0.0.0.0:8000",
        "",
        "*",
        "locälhost:8000",
    ],
)
async def test_no_other_host_is_served(host: str) -> None:
    assert await ask([("Host", host)]) == 421


@pytest.mark.parametrize("headers", [[], [("Host", "localhost:8000"), ("Host", "localhost:8000")]])
async def test_there_must_be_exactly_one_host(headers: Headers) -> None:
    assert await ask(headers) == 400


@pytest.mark.parametrize("path", ["http://localhost:8000/mcp", "http://evil.example/mcp", "*", "localhost:8000"])
async def test_a_target_must_be_a_path(path: str) -> None:
    assert await ask([("Host", "localhost:8000")], path=path) == 400


@pytest.mark.parametrize("path", ["/mcp", "/readyz", "/metrics", "/", "/no/such/path", "/healthz/", "//healthz"])
async def test_every_path_but_that_of_the_health_check_asks_for_the_host(path: str) -> None:
    assert await ask([("Host", "10.1.2.3:8000")], path=path) == 421
    assert await ask([("Host", "10.1.2.3:8000")], path="/healthz", method="GET") is None


async def test_a_host_without_a_port_stands_for_every_port_and_one_with_a_port_for_that() -> None:
    hosts = ["tools.example.com", "api.example.com:9000", "any.example.com:*", "Upper.Example.com"]
    for host, outcome in {
        "tools.example.com": None,
        "tools.example.com:1234": None,
        "api.example.com:9000": None,
        "api.example.com": 421,
        "api.example.com:9001": 421,
        "any.example.com:5": None,
        "upper.example.com": None,
        "a.tools.example.com": 421,
    }.items():
        assert await ask([("Host", host)], hosts=hosts) == outcome, host
    assert await ask([("Host", "localhost")], hosts=loopback(80)) is None


@pytest.mark.parametrize("origin", ["http://localhost:8000", "http://127.0.0.1:8000", "HTTP://[::1]:8000"])
async def test_pages_of_an_allowed_host_may_ask(origin: str) -> None:
    assert await ask([("Host", "localhost:8000"), ("Origin", origin)]) is None


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example",
        "http://localhost",
        "http://localhost:3000",
        "http://localhost:8000.evil.example",
        "http://evil.example:8000",
        "http://localhost:8000/path",
        "http://user@localhost:8000",
        "file://localhost:8000",
        "chrome-extension://localhost:8000",
        "localhost:8000",
        "http://localhost:8000 http://evil.example",
    ],
)
@pytest.mark.parametrize("path", ["/mcp", "/healthz", "/no/such/path"])
async def test_no_other_page_may_ask(origin: str, path: str) -> None:
    assert await ask([("Host", "localhost:8000"), ("Origin", origin)], path=path) == 403


async def test_two_origins_are_one_too_many() -> None:
    origin = ("Origin", "http://localhost:8000")
    assert await ask([("Host", "localhost:8000"), origin, origin]) == 403


async def test_origins_may_be_allowed_by_name() -> None:
    origins = ["https://chat.example.com", "http://localhost:6274/", "app://desk"]
    for origin, outcome in {
        "https://chat.example.com": None,
        "https://chat.example.com:443": None,
        "http://chat.example.com": 403,
        "http://localhost:6274": None,
        "app://desk": None,
        "null": 403,
    }.items():
        assert await ask([("Host", "localhost:8000"), ("Origin", origin)], origins=origins) == outcome, origin


@pytest.mark.parametrize("path", ["/mcp", "/healthz", "/readyz", "/metrics", "/no/such/path"])
async def test_every_path_asks_for_the_token(path: str) -> None:
    host = ("Host", "localhost:8000")
    assert await ask([host], path=path, token=TOKEN) == 401
    assert await ask([host, ("Authorization", f"Bearer {TOKEN}")], path=path, token=TOKEN) is None


@pytest.mark.parametrize(
    ("credentials", "outcome"),
    [
        ([f"bearer {TOKEN}"], None),
        ([f"Bearer  {TOKEN}"], None),
        ([f"Bearer {TOKEN}x"], 401),
        ([f"Bearer {TOKEN[:-1]}"], 401),
        ([f"Bearer {TOKEN.upper()}"], 401),
        ([TOKEN], 401),
        ([f"Basic {TOKEN}"], 401),
        (["Bearer"], 401),
        (["Bearer "], 401),
        ([""], 401),
        (["Bearer tökén"], 401),
        ([f"Bearer {TOKEN}", f"Bearer {TOKEN}"], 401),
        ([f"Bearer {TOKEN}", "Bearer other"], 401),
    ],
)
async def test_the_token_is_taken_in_one_form(credentials: list[str], outcome: int | None) -> None:
    headers = [("Host", "localhost:8000"), *(("Authorization", each) for each in credentials)]
    assert await ask(headers, token=TOKEN) == outcome


async def test_a_browser_may_ask_beforehand_without_the_token_if_its_page_is_allowed() -> None:
    asked = [("Host", "localhost:8000"), ("Access-Control-Request-Method", "POST")]
    settings = {"origins": ["https://chat.example.com"], "token": TOKEN, "method": "OPTIONS"}
    assert await ask([*asked, ("Origin", "https://chat.example.com")], **settings) is None
    assert await ask([*asked, ("Origin", "https://evil.example")], **settings) == 403
    assert await ask(asked, **settings) == 401
    assert await ask([*asked, ("Origin", "https://chat.example.com")], **{**settings, "method": "POST"}) == 401


@pytest.mark.parametrize(
    ("text", "as_host", "as_origin"),
    [
        ("tools.example.com", True, False),
        ("Tools.example.com:8000", True, False),
        ("[::1]:*", True, False),
        ("*", True, True),
        ("https://tools.example.com", False, True),
        ("http://localhost:6274/", False, True),
        ("https://tools.example.com/path", False, False),
        ("*.example.com", False, False),
        ("two words", False, False),
        ("", False, False),
    ],
)
def test_what_may_stand_in_the_lists_of_a_file_is_what_can_be_sent(text: str, as_host: bool, as_origin: bool) -> None:
    assert (is_host(text), is_origin(text)) == (as_host, as_origin)
    noted = {}
    for key in ("allowed_hosts", "allowed_origins"):
        document = Document({key: [text]})
        read_settings(Section(document, (), document.data, {}))
        noted[key] = document._problems
    assert [not problems for problems in noted.values()] == [as_host, as_origin]


async def test_there_are_no_web_sockets() -> None:
    headers = [("Host", "localhost:8000"), ("Authorization", f"Bearer {TOKEN}")]
    assert await ask(headers, scope_type="websocket", token=TOKEN) == 0
