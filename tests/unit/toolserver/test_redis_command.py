"""What a file may say under `redis:`, and which commands a tool may send."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aiopool.toolserver._redis_body import RedisBody
from aiopool.toolserver._redis_commands import DANGEROUS, UNFIT, refused
from tests.tool_bodies import plan_of, problem_of

PARAMETERS = [{"name": "key"}, {"name": "command"}, {"name": "seconds", "type": "number"}]


def problem(redis: Any) -> str:
    return problem_of({"redis": redis, "parameters": PARAMETERS}, "cache")


RIGHT = [
    ["GET", "cache:{{key}}"],
    ["get", "cache:{{key}}"],
    ["SETEX", "{{key}}", 60, "value"],
    [["GET", "a"], ["TTL", "a"]],
    {"command": ["KEYS", "a*"], "allow": ["KEYS"]},
    {"command": ["CONFIG", "GET", "maxmemory"], "allow": ["config  get"]},
    {"command": ["CONFIG", "{{command}}", "maxmemory"], "allow": ["CONFIG GET"]},
    {"command": ["{{command}}", "{{key}}"], "allow": ["GET", "TTL"]},
    {"command": ["CLIENT", "ID"], "allow": ["CLIENT ID"]},
    {"command": ["MEMORY", "USAGE", "{{key}}"], "allow": ["MEMORY USAGE"]},
    ["BLPOP", "queue", 5],
    ["BLPOP", "queue", "{{seconds}}"],
]


def test_a_command_is_a_list_of_words() -> None:
    for redis in RIGHT:
        assert problem(redis) == "", redis


REFUSED = [
    ("GET a", "redis: must be a list of words, such as [GET"),
    ([], "must be a list of words"),
    ([["GET", "a"], "b"], "must be a list of words"),
    (["GET", None], "must be a list of words"),
    (["GET", True], "must be a list of words"),
    ([[]], "must be a list of words"),
    (["GET a"], "the name of a command is one word"),
    ([""], "the name of a command is one word"),
    (["GET", "{{kye}}"], "{{kye}} is no parameter of this tool; did you mean 'key'?"),
    (["{{command}}", "a"], "would let the caller choose the command; write `allow:`"),
    (["FLUSHALL"], "FLUSHALL can harm or show the server and its data; if that is meant, write `allow: [FLUSHALL]`"),
    (["flushall"], "FLUSHALL can harm"),
    (["INFO", "{{key}}"], "INFO can harm or show the server"),
    (["ROLE"], "ROLE can harm or show the server"),
    (["MEMORY", "STATS"], "MEMORY can harm or show the server"),
    (["EVAL", "{{key}}", 0], "EVAL can harm"),
    (["CONFIG", "{{command}}"], "CONFIG can harm"),
    ({"command": ["CONFIG", "SET", "a", "b"], "allow": ["CONFIG GET"]}, "CONFIG can harm"),
    ({"command": ["MULTI"], "allow": ["MULTI"]}, "MULTI would change the connection for others"),
    ({"command": ["SELECT", 1], "allow": ["SELECT"]}, "SELECT would change the connection"),
    ({"command": ["SUBSCRIBE", "a"], "allow": ["SUBSCRIBE"]}, "SUBSCRIBE would change the connection"),
    ({"command": ["CLIENT", "REPLY", "OFF"], "allow": ["CLIENT"]}, "CLIENT would change the connection"),
    ({"command": ["CLIENT", "{{command}}"], "allow": ["CLIENT"]}, "CLIENT would change the connection"),
    (["BLPOP", "queue", 0], "BLPOP would wait for ever: give it a timeout under the tool's 30 s"),
    (["BLPOP", "queue", 60], "BLPOP would wait 60 s"),
    (["XREAD", "BLOCK", 0, "STREAMS", "a", "$"], "XREAD would wait for ever"),
    (["WAIT", 1, 0], "WAIT would wait for ever"),
    ([["BLPOP", "queue", 1], ["GET", "a"]], "BLPOP waits, and would hold up the commands beside it"),
    ({"commands": [["GET", "a"]]}, "commands: is not known here; write `command:` for one and for many"),
    ({"comand": ["GET", "a"]}, "did you mean 'command'?"),
    ({"allow": ["GET"]}, "has no `command`"),
    ({"command": ["GET", "a"], "timeout": 0}, "timeout: must be from 0.001 to 86400"),
]


def test_what_cannot_be_sent_is_told_with_its_remedy() -> None:
    for redis, told in REFUSED:
        assert told in problem(redis), redis


def test_no_command_that_does_harm_is_sent_by_its_name_alone() -> None:
    for name in DANGEROUS | UNFIT:
        assert refused([name], frozenset()) is not None
        assert refused([name.lower(), "x"], frozenset()) is not None
        assert refused([name], frozenset({"GET"}), is_open=True) is not None
        assert (refused([name, "LIST"], frozenset({name})) is None) == (name not in UNFIT), name


def test_a_tool_of_commands_that_read_says_so() -> None:
    assert plan_of({"redis": [["GET", "a"], ["ttl", "a"]]}, "cache").is_read_only
    assert not plan_of({"redis": [["GET", "a"], ["SET", "a", 1]]}, "cache").is_read_only
    open_tool = {"redis": {"command": ["{{c}}", "a"], "allow": ["GET"]}, "parameters": [{"name": "c"}]}
    assert not plan_of(open_tool, "cache").is_read_only


values = (
    st.text() | st.lists(st.text()) | st.integers() | st.sampled_from(['a" b', "a\r\nFLUSHALL\r\n", "{{key}}", "'"])
)


@given(values)
def test_an_argument_fills_one_word_and_no_other_whatever_it_holds(value: Any) -> None:
    tool = {"redis": ["SET", "cache:{{key}}", "{{key}}"], "parameters": [{"name": "key"}]}
    body = RedisBody(plan_of(tool, "cache"), None)  # type: ignore[arg-type]
    words = body._command(body._plan.commands[0], {"key": value})
    assert len(words) == 3
    assert words[0] == "SET"
    assert words[1].startswith("cache:")
    if isinstance(value, str):
        assert words[1:] == [f"cache:{value}", value]


@given(st.text(max_size=20))
def test_a_command_that_the_caller_chooses_is_one_of_those_that_are_allowed(name: str) -> None:
    problem = refused([name, "key"], frozenset({"GET", "CONFIG GET"}), is_open=True)
    assert (problem is None) == (name.upper() == "GET" and name.isascii())
