"""Messages of JSON-RPC, one a line, as they come from a client; and what is answered to those that are none."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from mcp.types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    RequestId,
    jsonrpc_message_adapter,
)

#: As much as the SDK takes over HTTP, in bytes.
MAX_MESSAGE = 4 * 1024 * 1024
#: More digits than Python makes a number of.
_ENDLESS = re.compile(rb"[0-9]{4301}")
_CHUNK = 64 * 1024
#: Of either end of a longer line, in bytes: clients write the id before all that may be long, or at the very end.
_KEPT = 4096


class TooLong(NamedTuple):
    """The ends of a line that is longer than `MAX_MESSAGE`."""

    head: bytes
    tail: bytes


class NoMessage(ValueError):
    """The line is no message; `answer` is for whoever has written it."""

    def __init__(self, code: int, text: str, number: Any = None) -> None:
        super().__init__(text)
        is_id = isinstance(number, int | str) and not isinstance(number, bool)
        error = ErrorData(code=code, message=text)
        self.answer = JSONRPCError(jsonrpc="2.0", id=number if is_id else None, error=error)


def read_message(line: bytes | TooLong) -> JSONRPCMessage:
    """Raises `NoMessage`, with the id if there is one, for somebody may wait for the answer."""
    if isinstance(line, TooLong):
        text = f"Invalid request: the message is longer than {MAX_MESSAGE} bytes; send less"
        raise NoMessage(INVALID_REQUEST, text, _request_id(*line))
    try:
        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        message = None
    # With an id it wants an answer, and is a notification for the sole reason that the id can be none.
    if message is not None and not (isinstance(message, JSONRPCNotification) and b'"id"' in line):
        return message
    try:
        data = json.loads(line, parse_int=_integer)
    except RecursionError:
        raise NoMessage(INVALID_REQUEST, "Invalid request: nested too deeply", _request_id(line, line)) from None
    except ValueError:
        raise NoMessage(PARSE_ERROR, "Parse error: not one JSON-RPC message a line") from None
    number = data.get("id") if isinstance(data, dict) else None
    if message is None:
        problem = "a number has more than 4300 digits" if _ENDLESS.search(line) else "not a JSON-RPC message"
        raise NoMessage(INVALID_REQUEST, f"Invalid request: {problem}", number)
    if "id" in data:
        raise NoMessage(INVALID_REQUEST, "Invalid request: an id must be a string or an integer", number)
    return message


def read_lines(descriptor: int) -> Iterator[bytes | TooLong]:
    """The lines that are not empty; of those that are too long no more is kept than their ends."""
    line, size = bytearray(), 0
    while chunk := _read(descriptor):
        for number, piece in enumerate(chunk.split(b"\n")):
            if number:  # a line break before it
                if line.strip():
                    yield _line(line, size)
                line, size = bytearray(), 0
            line += piece
            size += len(piece)
            if size > MAX_MESSAGE:
                del line[_KEPT:-_KEPT]
    if line.strip():
        yield _line(line, size)


def _line(line: bytearray, size: int) -> bytes | TooLong:
    return bytes(line) if size <= MAX_MESSAGE else TooLong(bytes(line[:_KEPT]), bytes(line[-_KEPT:]))


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except OSError:
        return b""


_MEMBER = re.compile(r'\s*[{,]\s*"((?:[^"\\]|\\.)*)"\s*:\s*')
#: As the last member of the whole; one that is nested would have two braces behind it.
_LAST_ID = re.compile(r'[{,]\s*"id"\s*:\s*(-?\d+|"(?:[^"\\]|\\.)*")\s*\}\s*\Z')


def _request_id(head: bytes, tail: bytes) -> RequestId | None:
    """The id of a message that is not read as a whole, if it is the message's own for certain."""
    text, at = head.decode(errors="replace"), 0
    decoder = json.JSONDecoder(parse_int=_integer)
    while member := _MEMBER.match(text, at):
        try:
            value, at = decoder.raw_decode(text, member.end())
        except (ValueError, RecursionError):
            break
        if member[1] == "id" and at < len(text):  # else it may go on
            return value  # type: ignore[no-any-return]
    last = _LAST_ID.search(tail.decode(errors="replace"))
    try:
        return last and json.loads(last[1], parse_int=_integer)
    except ValueError:
        return None


def _integer(digits: str) -> int | None:
    try:
        return int(digits)
    except ValueError:  # more of them than Python reads
        return None
