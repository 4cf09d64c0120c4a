"""What a value in a configuration may be; a wrong one is never shown, as it may be secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from aiopool.envvars import EnvText


class Unfit(ValueError):
    """The value is not what was wanted; says what would be."""


class ValueType(NamedTuple):
    """`wanted` ends the sentence "must be …"; `parse` returns the value to use or raises `ValueError`."""

    wanted: str
    parse: Callable[[Any], Any]

    def __call__(self, value: Any) -> Any:
        try:
            return self.parse(value)
        except ValueError:
            raise Unfit(f"must be {self.wanted}, not {_kind(value)}") from None


def _kind(value: Any) -> str:
    if isinstance(value, EnvText):
        return "what the environment variable holds"
    if isinstance(value, str):
        if re.fullmatch(r"[+-]?[\d.]+[eE][+-]?\d+", value):
            return "text (as a number, YAML has it with a point and a sign: 1.0e+30)"
        return "text (leave out the quotes)" if re.fullmatch(r"[+-]?[\d.]+", value) else "this text"
    kinds = {bool: "true or false", int: "a number", float: "a number", dict: "a table", list: "a list"}
    return "nothing" if value is None else kinds.get(type(value), type(value).__name__)


_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(rf"(\d+(?:\.\d+)?)\s*({'|'.join(_UNITS)})\s*")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return str(value)  # an EnvText stays behind


def _count(value: Any) -> int:
    if isinstance(value, EnvText):
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError
    return value


def _number(value: Any) -> float:
    if isinstance(value, EnvText):
        return float(value)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, str) and re.fullmatch(rf"\s*(?:{_DURATION.pattern})+", value):
        return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(value))
    return _number(value)


def _flag(value: Any) -> bool:
    if isinstance(value, EnvText):
        value = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(value.lower())
    if not isinstance(value, bool):
        raise ValueError
    return value


def _table(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError
    return {_text(key): _text(item) for key, item in value.items()}


def _list(value: Any) -> list[str]:
    if not isinstance(value, (list, tuple)):
        raise ValueError
    return [_text(item) for item in value]


def _pair(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError
    return tuple(_list(value))


TEXT = ValueType("text (in quotes, if need be)", _text)
COUNT = ValueType("a whole number", _count)
NUMBER = ValueType("a number", _number)
SECONDS = ValueType('a number of seconds, or text such as "30s" or "1m30s"', _seconds)
FLAG = ValueType("true or false", _flag)
#: Headers and settings are text; `1` or `on` without quotes is something else in YAML.
TABLE = ValueType("a table of texts (put numbers into quotes)", _table)
LIST = ValueType("a list of texts", _list)
PAIR = ValueType("a list of two texts", _pair)


def either(*types: ValueType) -> ValueType:
    """The first of these that fits."""

    def parse(value: Any) -> Any:
        for each in types:
            try:
                return each.parse(value)
            except ValueError:
                continue
        raise ValueError

    return ValueType(", or ".join(each.wanted for each in types), parse)


def or_none(each: ValueType) -> ValueType:
    """That, or null; TOML and the environment have no null, so there the text "none" says it."""

    def parse(value: Any) -> Any:
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        return each.parse(value)

    return ValueType(f"{each.wanted}, or none", parse)


def one_of(*choices: str) -> ValueType:
    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError
        return str(value)

    return ValueType(f"one of {', '.join(choices)}", parse)
