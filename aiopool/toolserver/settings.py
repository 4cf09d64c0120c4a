"""`server:` of a file: how its tools are served."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from aiopool.configvalues import COUNT, LIST, TEXT, ValueType
from aiopool.toolserver.guard import is_host, is_origin
from aiopool.toolserver.section import Section


@dataclass(frozen=True)
class ServerSettings:
    """`server:` of the file."""

    host: str = "127.0.0.1"
    port: int = 8000
    #: Beside the loopback's own; None: not written.
    allowed_hosts: tuple[str, ...] | None = None
    allowed_origins: tuple[str, ...] | None = None
    token: str | None = field(default=None, repr=False)


def read_settings(section: Section) -> ServerSettings:
    """What stands there; problems are noted."""
    section.refuse_unknown(KEYS)
    values = section.read(KEYS)
    for key, (is_fit, example) in _LISTS.items():
        if key in values:
            values[key] = tuple(values[key])
            for number, text in enumerate(values[key]):
                if not is_fit(text):
                    section.refuse(f"is nothing that a client would send; write it as {example}", key, number)
    return ServerSettings(**values)


_LISTS = {
    "allowed_hosts": (is_host, "tools.example.com, or with its port"),
    "allowed_origins": (is_origin, "https://chat.example.com, or with its port"),
}


def _port(value: Any) -> int:
    port: int = COUNT.parse(value)
    if not 0 <= port <= 65_535:
        raise ValueError
    return port


def _header(value: Any) -> str:
    text: str = TEXT.parse(value)
    # Empty, it would let everybody in.
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError
    return text


KEYS = {
    "host": TEXT,
    "port": ValueType("a port, 0 to 65535", _port),
    "allowed_hosts": LIST,
    "allowed_origins": LIST,
    "token": ValueType("text that a header can hold: visible ASCII, without spaces", _header),
}
