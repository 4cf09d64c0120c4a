"""`redis:` in a tool: one command, or several in one round trip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiopool.configvalues import LIST, SECONDS, ValueType
from aiopool.manager import PoolManager
from aiopool.toolserver._redis_commands import READING, blocks, refused, waits_too_long
from aiopool.toolserver.section import Section
from aiopool.toolserver.template import Template
from aiopool.toolserver.tool import Head

if TYPE_CHECKING:
    from aiopool.toolserver._redis_body import RedisBody

KEY = "redis"
TOOL_KEYS: Mapping[str, ValueType] = {}


def _commands(value: Any) -> list[list[str]]:
    """One command, or a list of commands; a number, of seconds perhaps, is taken as it looks."""
    if not isinstance(value, list) or not value:
        raise ValueError
    commands = value if all(isinstance(each, list) for each in value) else [value]
    return [[_word(word) for word in command] for command in commands if command] or _fail()


def _word(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError
    return str(value)


def _fail() -> Any:
    raise ValueError


_COMMANDS = ValueType('a list of words, such as [GET, "cache:{{key}}"], or a list of such lists', _commands)
_KEYS: Mapping[str, ValueType] = {"command": _COMMANDS, "allow": LIST, "timeout": SECONDS}


@dataclass(frozen=True)
class RedisPlan:
    """Commands, word by word: whatever an argument holds, it fills its word and no other."""

    commands: tuple[tuple[Template, ...], ...]
    #: Whether there is one answer, or a list of them.
    is_single: bool
    allow: frozenset[str]
    pool: str
    #: Seconds for the commands, and for the call, the wait for a connection included.
    timeout: float
    is_read_only: bool

    def bind(self, tool: str, pools: PoolManager) -> RedisBody:
        from aiopool.toolserver._redis_body import RedisBody

        return RedisBody(self, pools.get(self.pool))


def read(tool: Section, head: Head) -> RedisPlan | None:
    """What stands under `redis`: a command, a list of commands, or a table with either as `command`."""
    values: dict[str, Any] = {}
    if isinstance(tool.data[KEY], Mapping):
        section, key = tool.section(KEY), "command"
        section.refuse_unknown(_KEYS, {"commands": "write `command:` for one and for many"})
        values = section.read(_KEYS)
        written: Any = section.data.get(key)
        if key not in section:
            section.refuse("has no `command`; write one, such as [GET, some-key]")
    else:
        section, key = tool, KEY
        written = tool.data[KEY]
        values["command"] = tool.read({KEY: _COMMANDS}).get(KEY)
    allow = frozenset(" ".join(name.split()).upper() for name in values.get("allow", ()))
    timeout = values.get("timeout", head.timeout)
    if not 0.001 <= timeout <= 86_400:
        section.refuse("must be from 0.001 to 86400", "timeout")
    lists: list[list[str]] | None = values.get("command")
    if lists is None or head.pool is None:
        return None
    commands = tuple(tuple(map(Template, command)) for command in lists)
    is_single = not isinstance(written[0], list)
    for command in commands:
        problems = [problem for word in command for problem in word.strangers(head.parameters.names)]
        for problem in (*problems, *_problems(command, allow, timeout, is_single=is_single)):
            section.refuse(problem, key)
    return RedisPlan(
        commands=commands,
        is_single=is_single,
        allow=allow,
        pool=head.pool,
        timeout=timeout,
        is_read_only=all(command[0].text.upper() in READING for command in commands),
    )


def is_open(command: tuple[Template, ...], allow: frozenset[str]) -> bool:
    """Whether what is called depends on an argument, and not on the file alone."""
    names_of_two = {name.split()[0] for name in allow if " " in name}
    return bool(command[0].names) or (
        command[0].text.upper() in names_of_two and len(command) > 1 and bool(command[1].names)
    )


def _problems(command: tuple[Template, ...], allow: frozenset[str], timeout: float, *, is_single: bool) -> list[str]:
    """What the file alone tells of a command."""
    if is_open(command, allow):
        if not allow:
            return [
                f"{command[0].text} would let the caller choose the command; write `allow:` with those that are meant"
            ]
        return []
    words = [word.text for word in command]
    if problem := refused(words, allow):
        return [problem]
    if not is_single and blocks(words):
        return [f"{words[0].upper()} waits, and would hold up the commands beside it; make it a tool of its own"]
    if not any(word.names for word in command) and (problem := waits_too_long(words, timeout)):
        return [problem]
    return []
