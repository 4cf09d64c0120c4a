"""`http:` in a tool: one request, to a host that the file says."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiopool.configvalues import COUNT, FLAG, SECONDS, TABLE, TEXT, ValueType, one_of
from aiopool.manager import PoolManager
from aiopool.toolserver._http_content import JSON, Content, of_body, of_json
from aiopool.toolserver._http_extract import Step, read_path
from aiopool.toolserver._http_url import QueryValue, Url
from aiopool.toolserver.section import Section
from aiopool.toolserver.template import Template
from aiopool.toolserver.tool import MAX_BYTES, Head

if TYPE_CHECKING:
    from aiopool.toolserver._http_body import HttpBody

KEY = "http"
TOOL_KEYS: Mapping[str, ValueType] = {}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
NOT_IN_A_HEADER = re.compile(r"[^\x20-\x7e]")
#: They say how the message is sent, which is not for a file to say.
_OWN_HEADERS = frozenset(
    {"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "accept-encoding"}
)


def _method(value: Any) -> str:
    return str(one_of(*METHODS).parse(value.upper() if isinstance(value, str) else value))


def _query(value: Any) -> dict[str, QueryValue]:
    if not isinstance(value, Mapping):
        raise ValueError
    return {
        str(key): [_scalar(each) for each in item] if isinstance(item, list) else _scalar(item)
        for key, item in value.items()
    }


def _scalar(value: Any) -> Template:
    if isinstance(value, bool):
        return Template("true" if value else "false")
    if not isinstance(value, (str, int, float)):
        raise ValueError
    return Template(str(value))


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_key(key): _json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json(item) for item in value]
    if value is not None and not isinstance(value, (str, bool, int, float)):
        raise ValueError
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    return value


def _key(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


_KEYS: Mapping[str, ValueType] = {
    "method": ValueType(f"one of {', '.join(METHODS)}", _method),
    "url": TEXT,
    "query": ValueType("a table of texts, numbers, or lists of them", _query),
    "headers": TABLE,
    "body": TEXT,
    "json": ValueType("what JSON can hold (put dates, .nan and .inf into quotes)", _json),
    "timeout": SECONDS,
    "extract": TEXT,
    "extract_json": TEXT,
    "max_bytes": COUNT,
    "allow_private": FLAG,
}


@dataclass(frozen=True)
class HttpPlan:
    """A request, and what becomes of its answer."""

    method: str
    url: Url
    headers: Mapping[str, Template]
    content: Content | None
    #: Seconds from the request to the end of the answer.
    timeout: float
    extract: tuple[Step, ...] | None
    max_bytes: int
    #: Whether the host may have an address of a private network.
    allow_private: bool
    #: None: the one that all such tools share.
    pool: str | None
    is_read_only: bool

    def bind(self, tool: str, pools: PoolManager) -> HttpBody:
        from aiopool.toolserver._http_body import bind

        return bind(self, tool, pools)


def read(tool: Section, head: Head) -> HttpPlan | None:
    """What stands under `http`."""
    section = tool.section(KEY)
    section.refuse_unknown(
        _KEYS, {"params": "write `query:`", "data": "write `body:`", "verify": "write it on a pool of type http"}
    )
    values = section.read(_KEYS)
    if "url" not in section and isinstance(tool.data[KEY], Mapping):
        section.refuse("has no `url`; write one")
    url = _url(section, values)
    pool = head.pool
    if url is not None and url.host is None and pool is None:
        candidates = [name for name, kind in head.kinds.items() if kind == "http"]
        if len(candidates) == 1:
            pool = candidates[0]
        else:
            section.refuse("has no host: write one, or name a pool of type http with a `base_url` as `pool`", "url")
    headers = _headers(section, values)
    content = _content(section, values, headers)
    for key, templates in (
        ("url", url.templates() if url else ()),
        ("headers", headers.values()),
        ("body" if "body" in section else "json", content.templates() if content else ()),
    ):
        for problem in dict.fromkeys(
            each for template in templates for each in template.strangers(head.parameters.names)
        ):
            section.refuse(problem, key)
    method = values.get("method", "POST" if content else "GET")
    for key, least, most in (("timeout", 0.001, 86_400), ("max_bytes", 1, MAX_BYTES)):
        if key in values and not least <= values[key] <= most:
            section.refuse(f"must be from {least} to {most}", key)
    if url is None:
        return None
    return HttpPlan(
        method=method,
        url=url,
        headers=headers,
        content=content,
        timeout=values.get("timeout", head.timeout),
        extract=_path(section, values),
        max_bytes=values.get("max_bytes", MAX_BYTES),
        allow_private=values.get("allow_private", False),
        pool=pool,
        is_read_only=method in ("GET", "HEAD", "OPTIONS"),
    )


def _url(section: Section, values: Mapping[str, Any]) -> Url | None:
    for key in values.get("query", {}):
        if "{{" in key:
            section.refuse("has a placeholder in the name of a parameter, which the file must say", "query")
    if "url" not in values:
        return None
    try:
        return Url(values["url"], values.get("query", {}))
    except ValueError as exc:
        section.refuse(str(exc), "url")
        return None


def _headers(section: Section, values: Mapping[str, Any]) -> dict[str, Template]:
    headers = {name: Template(value) for name, value in values.get("headers", {}).items()}
    for name, template in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            section.refuse("holds what cannot be the name of a header", "headers")
        elif name.lower() in _OWN_HEADERS:
            section.refuse("is set by the client itself; leave it out", "headers", name)
        elif name.lower() in ("host", "content-type") and template.names:
            section.refuse("cannot have a placeholder: the file says it", "headers", name)
        elif NOT_IN_A_HEADER.search(template.render({})):
            section.refuse("holds a line break, or what is not visible ASCII, which no header can", "headers", name)
    return headers


def _content(section: Section, values: Mapping[str, Any], headers: dict[str, Template]) -> Content | None:
    """The body, and its type among the headers."""
    written = next((name for name in headers if name.lower() == "content-type"), None)
    media_type = headers.pop(written).text if written is not None else None
    content: Content | None = None
    if "body" in values and "json" in values:
        section.refuse("says what is sent, as `body` does; remove one of the two", "json")
    elif "json" in values:
        content = of_json(values["json"])
    elif "body" in values:
        try:
            content = of_body(values["body"], media_type)
        except ValueError as exc:
            section.refuse(str(exc), "body")
    if content is not None or media_type is not None:
        headers["Content-Type"] = Template(media_type or (content.media_type if content else JSON))
    return content


def _path(section: Section, values: Mapping[str, Any]) -> tuple[Step, ...] | None:
    if "extract" in values and "extract_json" in values:
        section.refuse("says the same as `extract`; remove one of the two", "extract_json")
    for key in ("extract", "extract_json"):
        if key in values:
            try:
                return read_path(values[key])
            except ValueError as exc:
                section.refuse(str(exc), key)
    return None
