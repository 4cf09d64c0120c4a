"""A request on a pooled connection, and its answer, as much of it as a model can be given."""

from __future__ import annotations

import asyncio
import codecs
import zlib
from collections.abc import Mapping
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl
from weakref import WeakKeyDictionary

import httpx

from aiopool.adapters._http_public import NotPublic
from aiopool.adapters.http import HTTPClientPool
from aiopool.errors import PoolConfigError
from aiopool.manager import PoolManager
from aiopool.policies.outage import family
from aiopool.telling import ToolFailure
from aiopool.toolserver._http_extract import follow
from aiopool.toolserver._http_url import is_named_privately
from aiopool.toolserver._json import dumps, loads
from aiopool.toolserver.http import NOT_IN_A_HEADER
from aiopool.toolserver.template import Template
from aiopool.toolserver.tool import MAX_BYTES, Result

if TYPE_CHECKING:
    from aiopool.toolserver.http import HttpPlan

#: The pool of all tools that name none.
SHARED = "http-tools"
MAX_REDIRECTS = 5
#: In bytes: what a result says beside the answer.
AROUND = 500
#: What is told of the body of an answer that is an error, in characters.
EXCERPT = 2000

_NOT_FOR_TEXTS = frozenset({"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined"})
_PORTS = {"http": 80, "https": 443}


#: Hosts that some tool may reach at private addresses, through that pool.
_allowed: WeakKeyDictionary[HTTPClientPool, set[str]] = WeakKeyDictionary()


def bind(plan: HttpPlan, tool: str, pools: PoolManager) -> HttpBody:
    """The body on its pool, or on the one that all such tools share, which is registered for the first of them."""
    if plan.pool is None:
        if SHARED not in pools:
            # What one call is given as a cookie must not be sent with the next, which is somebody else's.
            jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
            pools.register(SHARED, HTTPClientPool(name=SHARED, cookies=jar))
        pool: HTTPClientPool = pools.get(SHARED)
    else:
        pool = pools.get(plan.pool)
    base = pool.client.base_url
    if not plan.url.origin and not base.host:
        raise PoolConfigError(f"tool {tool!r} has a url without a host, and its pool {plan.pool!r} no base_url")
    try:
        server = httpx.URL(plan.url.origin) if plan.url.origin else base
    except httpx.InvalidURL:
        # Its words would quote the address.
        raise PoolConfigError(f"tool {tool!r} has a url whose host cannot be read") from None
    if base.host and _origin(server) != _origin(base):
        raise PoolConfigError(
            f"tool {tool!r} sends to another host than the base_url of its pool {plan.pool!r}, whose headers and login "
            "are not meant for that; leave `pool` out, or write the path alone as its url"
        )
    host = server.raw_host.decode()
    allowed = _allowed.setdefault(pool, set())
    if plan.allow_private or is_named_privately(host):
        allowed.add(host)
    pool.transport.public_hosts.add(host)
    pool.transport.public_hosts -= allowed
    return HttpBody(plan, pool)


class HttpBody:
    """Sends the request of a plan."""

    def __init__(self, plan: HttpPlan, pool: HTTPClientPool) -> None:
        self._plan = plan
        self._pool = pool

    async def run(self, arguments: Mapping[str, Any]) -> Result:
        plan = self._plan
        url = plan.url.render(arguments)
        headers = _headers(plan.headers, arguments)
        content = plan.content.render(arguments) if plan.content is not None else None
        try:
            async with asyncio.timeout(plan.timeout):
                return await self._send(url, headers, content)
        except TimeoutError as exc:
            raise ToolFailure(f"the HTTP server did not answer within {plan.timeout:g} s") from exc
        except httpx.TransportError as exc:
            if not any(isinstance(each, NotPublic) for each in family(exc)):
                raise
            raise ToolFailure(
                "the host's name leads to a private network, where this tool may not send; if it is meant to, write "
                "`allow_private: true` into the tool"
            ) from exc

    async def _send(self, url: str, given: dict[str, str], content: bytes | None) -> Result:
        method: str = self._plan.method
        headers: Mapping[str, str] = given
        # Else httpx would put the pool's own parameters in the place of ours.
        address, _, query = url.partition("?") if self._pool.client.params else (url, "", "")
        params = parse_qsl(query, keep_blank_values=True) or None
        for _ in range(MAX_REDIRECTS + 1):
            async with self._pool.stream(
                method,
                address,
                params=params,
                headers=headers,
                content=content,
                timeout=self._plan.timeout,
                follow_redirects=False,
            ) as response:
                following = response.next_request
                if following is None:
                    return await self._told(response)
                if _origin(following.url) != _origin(response.request.url):
                    raise ToolFailure(
                        f"the server answered {response.status_code}, a redirect to {_shown(following.url)}, and this "
                        "tool follows none to another host: write the address that is meant into its `url`"
                    )
            headers = dict(following.headers)
            if following.method != method:
                method, content = following.method, None
                headers.pop("content-type", None)
            address, params = str(following.url), None
        raise ToolFailure(f"the server redirected {MAX_REDIRECTS + 1} times, and was left")

    async def _told(self, response: httpx.Response) -> Result:
        plan = self._plan
        body, is_cut = await _read(response, min(plan.max_bytes, MAX_BYTES - AROUND))
        media_type = response.headers.get("content-type", "")
        text = _decoded(body, response.charset_encoding, is_cut=is_cut)
        status = f"HTTP {response.status_code} {_phrase(response.status_code)}".rstrip()
        if not 200 <= response.status_code < 300:
            excerpt = "" if text is None else text[:EXCERPT] + "…" * (len(text) > EXCERPT)
            return Result(f"{status}\n{excerpt}".rstrip(), is_error=True)
        if text is None:
            what = f"at least {len(body)}" if is_cut else str(len(body))
            raise ToolFailure(f"the answer is no text, but {what} bytes of {media_type[:100] or 'an unknown type'}")
        if plan.extract is not None:
            if is_cut:
                raise ToolFailure(
                    f"the answer has more than {plan.max_bytes} bytes, too many to look into: ask for less"
                )
            try:
                value = follow(plan.extract, loads(text))
            except ValueError as exc:
                raise ToolFailure(
                    f"the answer is no JSON to look into, but {media_type[:100] or 'of no type'}"
                ) from exc
            return Result(value if isinstance(value, str) else dumps(value), value if isinstance(value, dict) else None)
        if is_cut:
            return Result(f"{text}\n[truncated: these are the first {len(body)} bytes of the answer; ask for less]")
        try:
            value = loads(text)
        except ValueError:
            value = None
        return Result(text or status, value if isinstance(value, dict) else None)


def _headers(templates: Mapping[str, Template], arguments: Mapping[str, Any]) -> dict[str, str]:
    """One whose argument was not given is left out. Encodings are those that can be read bit by bit."""
    headers = {"Accept-Encoding": "gzip"}
    for name, template in templates.items():
        if template.whole is not None and arguments.get(template.whole) is None:
            continue
        value = template.render(arguments).strip(" ")
        if NOT_IN_A_HEADER.search(value):
            raise ToolFailure(
                f"argument {', '.join(sorted(template.names))} is sent in the header {name}, which holds visible ASCII "
                "characters and spaces only"
            )
        headers[name] = value
    return headers


async def _read(response: httpx.Response, most: int) -> tuple[bytes, bool]:
    """The body, and whether it was cut; never more of it than that, however well it is packed."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip"):
        raise ToolFailure(f"the server sends its answer packed as {encoding[:40]}, which nobody asked for")
    unpack = zlib.decompressobj(47) if "gzip" in encoding else None
    body = b""
    try:
        async for piece in response.aiter_raw():
            left = most + 1 - len(body)
            body += unpack.decompress(piece, left) if unpack is not None else piece[:left]
            if len(body) > most:
                return body[:most], True
    except zlib.error:
        raise ToolFailure("the server sends its answer as gzip, and it is none") from None
    return body, False


def _decoded(body: bytes, charset: str | None, *, is_cut: bool) -> str | None:
    """As text; None if it is none, or in no encoding that texts are sent in: some take quadratic time."""
    try:
        codec = codecs.lookup(charset or "utf-8").name
        return None if codec in _NOT_FOR_TEXTS else body.decode(codec)
    except UnicodeDecodeError as exc:
        is_through_a_character = is_cut and exc.start >= len(body) - 4
        return _decoded(body[: exc.start], charset, is_cut=False) if is_through_a_character else None
    except (UnicodeError, LookupError):
        return None


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else ""


def _origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host, url.port or _PORTS.get(url.scheme)


def _shown(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.host}" + (f":{url.port}" if url.port else "")
