"""Lines from a client: which are messages, and what is answered to those that are none."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.types import INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from aiopool.toolserver._json import loads
from aiopool.toolserver._jsonrpc import MAX_MESSAGE, NoMessage, TooLong, _request_id, read_lines, read_message
from aiopool.toolserver.output import as_object
from aiopool.toolserver.stdio import _as_line

LONG = "x" * (MAX_MESSAGE + 1)


def lines_of(folder: Path, data: bytes) -> list[bytes | TooLong]:
    (folder / "input").write_bytes(data)
    descriptor = os.open(folder / "input", os.O_RDONLY)
    try:
        return list(read_lines(descriptor))
    finally:
        os.close(descriptor)


def refused(line: bytes | TooLong) -> tuple[int, Any, str]:
    """Code, id and words of the answer."""
    with pytest.raises(NoMessage) as caught:
        read_message(line)
    answer = caught.value.answer
    return answer.error.code, answer.id, answer.error.message


def test_a_line_is_a_message_and_empty_ones_are_nothing(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, b'\n{"jsonrpc":"2.0","id":1,"method":"ping"}\r\n \n{"jsonrpc":"2.0","method":"a"}')
    messages = [read_message(line) for line in lines]
    assert [type(each) for each in messages] == [JSONRPCRequest, JSONRPCNotification]


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"s": LONG, "id": 5}},
        {"method": "tools/call", "params": {"id": 5, "s": LONG}, "jsonrpc": "2.0", "id": 7},
        {"params": {"id": 5, "s": {"s": LONG}}, "id": 7},
    ],
)
def test_a_line_that_is_too_long_is_answered_under_its_id_with_the_limit(tmp_path: Path, message: Any) -> None:
    after = b'{"jsonrpc":"2.0","id":8,"method":"ping"}'
    too_long, line = lines_of(tmp_path, json.dumps(message).encode() + b"\n" + after + b"\n")
    text = f"Invalid request: the message is longer than {MAX_MESSAGE} bytes; send less"
    assert refused(too_long) == (INVALID_REQUEST, 7, text)
    assert line == after


def test_a_line_of_just_the_limit_is_read(tmp_path: Path) -> None:
    head = b'{"jsonrpc":"2.0","id":"a","method":"'
    line = head + b"x" * (MAX_MESSAGE - len(head) - 2) + b'"}'
    (read,) = lines_of(tmp_path, line + b"\n")
    assert read == line
    assert len(line) == MAX_MESSAGE
    assert refused(*lines_of(tmp_path, line[:-2] + b'x"}\n'))[1] == "a"


@given(
    st.dictionaries(
        st.sampled_from(["id", "a", 'b"', "{", ',"id":4}']),
        st.recursive(
            st.integers() | st.text() | st.none() | st.sampled_from(['{"id":1}', ',"id":2}', "\\"]),
            lambda each: st.lists(each, max_size=2) | st.dictionaries(st.sampled_from(["id", "c"]), each, max_size=2),
            max_leaves=5,
        ),
        max_size=3,
    ),
    st.integers(0, 60),
    st.integers(1, 60),
)
def test_no_other_id_is_taken_for_that_of_a_message(message: dict[str, Any], head: int, tail: int) -> None:
    line = json.dumps(message).encode()
    found = _request_id(line[:head], line[-tail:])
    assert found is None or found == message["id"]


@pytest.mark.parametrize("number", ["null", "1.5", "true", "{}", "[1]", "1.0"])
def test_a_request_whose_id_can_be_none_is_answered(number: str) -> None:
    line = f'{{"jsonrpc":"2.0","id":{number},"method":"ping"}}'.encode()
    assert refused(line) == (INVALID_REQUEST, None, "Invalid request: an id must be a string or an integer")


def test_a_notification_may_speak_of_an_id() -> None:
    line = b'{"jsonrpc":"2.0","method":"a","params":{"id":1.5}}'
    assert isinstance(read_message(line), JSONRPCNotification)


def test_a_number_that_nobody_reads_is_answered_under_the_id_of_its_message() -> None:
    line = b'{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"n":%b}}' % (b"9" * 5000)
    assert refused(line) == (INVALID_REQUEST, "a", "Invalid request: a number has more than 4300 digits")


@pytest.mark.parametrize("line", [b"hello", b"\xff\xfe", b'{"id":1'])
def test_what_is_no_json_is_a_parse_error(line: bytes) -> None:
    assert refused(line) == (PARSE_ERROR, None, "Parse error: not one JSON-RPC message a line")


def test_an_answer_that_cannot_be_written_is_an_error_of_its_own() -> None:
    error = json.loads(_as_line(JSONRPCResponse(jsonrpc="2.0", id=5, result={"a": "\ud800"})))
    assert (error["id"], error["error"]["code"]) == (5, INTERNAL_ERROR)


def test_half_a_character_in_what_a_tool_gives_back_is_none_in_the_object() -> None:
    assert as_object(r'{"a": "\ud83d\ude00", "\udfff": 1}') == {"a": "\U0001f600", "?": 1}
    assert as_object(r'{"a": "\ud800", "b": 1e999}') is None
    assert loads(r'["\ud800"]') == ["?"]


def test_what_is_nested_too_deeply_is_answered_under_its_id() -> None:
    depth = 100_000
    line = b'{"jsonrpc":"2.0","id":3,"method":"a","params":{"a":%b%b}}' % (b"[" * depth, b"]" * depth)
    assert refused(line) == (INVALID_REQUEST, 3, "Invalid request: nested too deeply")
