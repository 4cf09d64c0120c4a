"""A path into JSON, `data.items[0].name`, as Gantz has it; one that leads nowhere says where it ended."""

from __future__ import annotations

import re
from typing import Any

from aiopool.telling import ToolFailure

_STEP = re.compile(r"(?P<dot>^|\.)(?P<name>[^.\[\]]+)|\[(?P<number>[0-9]+)\]")

Step = str | int
_NOTHING = object()


def read_path(text: str) -> tuple[Step, ...]:
    """The steps of a path; `ValueError` with what is wrong with it."""
    steps: list[Step] = []
    at = 0
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or (match["dot"] == "" and at > 0):
            raise ValueError(f"cannot be read at character {at + 1}: write it like data.items[0].name")
        steps.append(match["name"] if match["name"] is not None else int(match["number"]))
        at = match.end()
    if not steps or steps[0] == "$":
        raise ValueError("must begin with the name of a key, or [0]: write it like data.items[0].name")
    return tuple(steps)


def follow(path: tuple[Step, ...], value: Any) -> Any:
    """What stands there; `ToolFailure` if the path leads nowhere."""
    for number, step in enumerate(path):
        found = _at(value, step)
        if found is _NOTHING:
            here = _shown(path[:number]) if number else "the answer"
            raise ToolFailure(f"the answer has no {_shown(path)}: {here} is {_kind(value)}")
        value = found
    return value


def _at(value: Any, step: Step) -> Any:
    if isinstance(value, dict) and isinstance(step, str):
        return value.get(step, _NOTHING)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return _NOTHING


def _shown(path: tuple[Step, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        keys = [key[:40] for key in list(value)[:20]] + ["…"] * (len(value) > 20)
        return f"an object with {', '.join(keys)}" if keys else "an object without keys"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "null" if value is None else {str: "a text", bool: "true or false"}.get(type(value), "a number")
