"""Expand `${VAR}`, `${VAR:-default}` and `${VAR:?message}` in text; all else, `$1` and `$$` too, stays."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiopool.configfile import KeyPath, is_unicode

_START = re.compile(r"\$\{(?=[A-Za-z_])")
_NAME = re.compile(r"\w+", re.ASCII)
_BRACE = re.compile(r"\$\{|\}")


#: Stands for a value whose variables could not be expanded; what was wrong has been told.
BROKEN: Final = object()


class EnvError(ValueError):
    """A variable is not set, or not written as it must be; the message never holds a value."""


class EnvText(str):
    """Text that was one variable and nothing else, so that it may stand for a number or a yes/no."""

    __slots__ = ()


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace the variables in `text`.

    A default may hold variables in its turn; what a variable holds is never expanded.
    """
    parts: list[str] = []
    at, is_one = 0, False
    while start := _START.search(text, at):
        end = _closing_brace(text, start.end())
        parts += [text[at : start.start()], _value(text[start.end() : end], env)]
        is_one = start.start() == 0 and end == len(text) - 1
        at = end + 1
    expanded = "".join([*parts, text[at:]])
    if not is_unicode(expanded):  # a variable may hold any bytes
        raise EnvError("holds half a character (a lone surrogate), or bytes that are no UTF-8; write the whole one")
    return EnvText(expanded) if is_one else expanded


def _value(reference: str, env: Mapping[str, str]) -> str:
    match = _NAME.match(reference)
    assert match is not None  # _START looked ahead
    name, rest = match[0], reference[match.end() :]
    value = env.get(name)
    if rest.startswith(":-"):  # as in a shell, an empty variable counts as unset
        return value or expand(rest[2:], env)
    if rest.startswith(":?"):
        if not value:
            raise EnvError(f"the environment variable {name} is not set: {rest[2:].strip() or 'set it'}")
        return value
    if rest:
        raise EnvError(
            f"${{{name}…}} is not understood: write ${{{name}}}, ${{{name}:-default}} or ${{{name}:?message}}"
        )
    if value is None:
        raise EnvError(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
    return value


def _closing_brace(text: str, at: int) -> int:
    """Where the brace is that closes what was opened before `at`; variables inside are stepped over."""
    depth = 1
    for brace in _BRACE.finditer(text, at):
        depth += 1 if brace[0] == "${" else -1
        if depth == 0:
            return brace.start()
    raise EnvError("a ${ has no closing brace; write ${VAR}")


def expand_tree(value: Any, env: Mapping[str, str], path: KeyPath, refuse: Callable[[KeyPath, str], None]) -> Any:
    """Expand texts, in lists and tables too, into a copy; every problem goes to `refuse`."""
    if isinstance(value, str):
        try:
            return expand(value, env)
        except EnvError as exc:
            refuse(path, str(exc))
            return BROKEN
    if isinstance(value, Mapping):
        table = {key: expand_tree(item, env, (*path, str(key)), refuse) for key, item in value.items()}
        return BROKEN if any(item is BROKEN for item in table.values()) else table
    if isinstance(value, list):
        items = [expand_tree(item, env, (*path, i), refuse) for i, item in enumerate(value)]
        return BROKEN if any(item is BROKEN for item in items) else items
    return value
