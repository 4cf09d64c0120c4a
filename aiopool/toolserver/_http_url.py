"""An address with placeholders, where an argument fills a place and can make none: no host, no path, no parameter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from aiopool.telling import ToolFailure
from aiopool.toolserver.template import Template, as_text

_ABSOLUTE = re.compile(r"(?P<scheme>[^/?#]*?)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)
_CONTROL = re.compile(r"[\0-\x20\x7f]")

QueryValue = Template | list[Template]


class Url:
    """What stands under `url:` and `query:`. Raises `ValueError` with what is wrong, without a word of the address."""

    def __init__(self, text: str, query: Mapping[str, QueryValue]) -> None:
        self.origin, rest = _split(text)
        if _CONTROL.search(re.sub(r"\{\{.*?\}\}", "", rest)):
            raise ValueError("holds a space or a control character; write a space as %20")
        if "#" in rest:
            raise ValueError("has a #, and what follows it is never sent; leave it out, or write it as %23")
        path, _, own_query = rest.partition("?")
        self._segments = [Template(segment) for segment in path.split("/")]
        self._own_query = [_split_pair(pair) for pair in own_query.split("&")]
        self._query = dict(query)

    @property
    def host(self) -> str | None:
        """None if the pool says it."""
        return urlsplit(self.origin).hostname if self.origin else None

    def templates(self) -> Iterator[Template]:
        yield from self._segments
        yield from (template for _, template in self._own_query)
        for value in self._query.values():
            yield from value if isinstance(value, list) else [value]

    def render(self, arguments: Mapping[str, Any]) -> str:
        path = "/".join(_segment(segment, arguments) for segment in self._segments)
        query = "&".join(pair for pair in self._pairs(arguments) if pair)
        return f"{self.origin}{path}{f'?{query}' if query else ''}"

    def _pairs(self, arguments: Mapping[str, Any]) -> Iterator[str]:
        """A parameter whose argument was not given is left out; a list gives one for each item."""
        for before, template in self._own_query:
            if template.whole is None:  # encoded by the author, but for the values
                yield before + template.render(arguments, _quoted)
            else:
                yield from (before + item for item in _items(arguments.get(template.whole)))
        for key, value in self._query.items():
            for template in value if isinstance(value, list) else [value]:
                given = arguments.get(template.whole) if template.whole is not None else template.render(arguments)
                yield from (f"{_quoted(key)}={item}" for item in _items(given))


def is_named_privately(host: str) -> bool:
    """Whether the name itself says that the host is a private one, or which one it is, so that nobody is deceived.

    Numbers that only look like no address (`0x7f.1`, `2130706433`) are names here, and judged by what they stand for.
    """
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return True


def _split(text: str) -> tuple[str, str]:
    if text.startswith("/") and not text.startswith("//"):
        return "", text
    match = _ABSOLUTE.fullmatch(text)
    if match is None or match["scheme"].lower() not in ("http", "https"):
        is_open = "{{" in text.partition("/")[0]
        raise ValueError(
            "cannot have a placeholder before its path: the file says where requests go"
            if is_open
            else "must begin with https:// or http://, or with / for a path on the `base_url` of the pool"
        )
    if "{{" in match["authority"]:
        raise ValueError("cannot have a placeholder in its host or port: the file says where requests go")
    origin = f"{match['scheme'].lower()}://{match['authority']}"
    try:
        is_right = bool(urlsplit(origin).hostname) and urlsplit(origin).port != 0
    except ValueError:
        is_right = False
    if not is_right or _CONTROL.search(origin) or "\\" in origin:
        raise ValueError("has a host or port that cannot be read; write it as https://host:port/path")
    return origin, match["rest"] if match["rest"].startswith("/") else f"/{match['rest']}"


def _split_pair(pair: str) -> tuple[str, Template]:
    """What stands before the value, and the value; all of it as a value if the name has a placeholder."""
    name, sign, value = pair.partition("=")
    return ("", Template(pair)) if "{{" in name else (name + sign, Template(value))


def _items(given: Any) -> list[str]:
    return [_quoted(as_text(item)) for item in (given if isinstance(given, list) else [given]) if item is not None]


def _quoted(value: str) -> str:
    return quote(value, safe="")


def _segment(segment: Template, arguments: Mapping[str, Any]) -> str:
    """One part of a path. Its argument must not lead to another: servers differ in how often they decode, and when."""
    if not segment.names:
        return segment.text
    value = segment.render(arguments)
    names = ", ".join(sorted(segment.names))
    if not value:
        raise ToolFailure(f"argument {names} is a part of the address, and must not be empty")
    decoded = value
    for _ in range(3):
        decoded = unquote(decoded)
        if re.search(r"[\0-\x1f\x7f]", decoded):
            raise ToolFailure(f"argument {names} is a part of the address, and must not hold control characters")
        if any(part.partition(";")[0].strip() in (".", "..") for part in re.split(r"[/\\]", decoded)):
            raise ToolFailure(f"argument {names} is a part of the address, and must not hold a path with . or .. in it")
    return segment.render(arguments, _quoted)
