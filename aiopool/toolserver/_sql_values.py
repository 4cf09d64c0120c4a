"""JSON values as the parameters of a statement: what asyncpg wants for the types that the server has told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from aiopool.telling import ToolFailure
from aiopool.toolserver.template import as_text

_TRUTH = {
    **dict.fromkeys(("true", "t", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "off", "0"), False),
}


def _text(value: Any) -> str:
    text = as_text(value)
    if "\0" in text:
        raise ValueError("holds the character U+0000, which no text in PostgreSQL can hold")
    text.encode()  # a lone surrogate is no text
    return text


def _integer(bits: int, *, is_signed: bool = True) -> Callable[[Any], int]:
    most = (1 << (bits - is_signed)) - 1
    least = -most - 1 if is_signed else 0

    def convert(value: Any) -> int:
        is_written = isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,19}\s*", value)
        if is_written or (isinstance(value, float) and value.is_integer()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("must be a whole number")
        if not least <= value <= most:
            raise ValueError(f"must be from {least} to {most}")
        return value

    return convert


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("must be a number")
    try:
        return float(value)
    except ValueError:
        raise ValueError("must be a number") from None


def _numeric(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("must be a number")
    try:
        return Decimal(str(value).strip())
    except InvalidOperation:
        raise ValueError("must be a number") from None


def _truth(value: Any) -> bool:
    known = value if isinstance(value, bool) else _TRUTH.get(as_text(value).strip().lower())
    if known is None:
        raise ValueError("must be true or false")
    return known


def _json(value: Any) -> str:
    """Text is JSON already, as it would be in SQL; all else becomes JSON."""
    if not isinstance(value, str):
        return _text(json.dumps(value, ensure_ascii=False))
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError('must be JSON (a text needs its quotes: "\\"text\\"")') from None
    return _text(value)


def _moment(value: Any, *, is_aware: bool) -> datetime:
    """What has no offset is UTC, and so is what is stored without one."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError("must be a time such as 2026-01-31T12:00:00Z") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return moment if is_aware else moment.astimezone(UTC).replace(tzinfo=None)


def _date(value: Any) -> date:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError("must be a date such as 2026-01-31") from None


def _time(value: Any, *, is_aware: bool) -> time:
    try:
        clock = time.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError("must be a time of day such as 12:30:00") from None
    return clock.replace(tzinfo=clock.tzinfo or UTC) if is_aware else clock.replace(tzinfo=None)


def _interval(value: Any) -> timedelta:
    try:
        return timedelta(seconds=_float(value))
    except ValueError:  # NaN, too
        raise ValueError("must be a number of seconds") from None


def _uuid(value: Any) -> UUID:
    try:
        return UUID(value)
    except (TypeError, AttributeError, ValueError):
        raise ValueError("must be a UUID") from None


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(r"\\x(?:[0-9A-Fa-f]{2})*", value):
        raise ValueError(r"must be bytes in hexadecimal, as in \x00ff")
    return bytes.fromhex(value[2:])


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "int2": _integer(16),
    "int4": _integer(32),
    "int8": _integer(64),
    "oid": _integer(32, is_signed=False),
    "float4": _float,
    "float8": _float,
    "numeric": _numeric,
    "bool": _truth,
    **dict.fromkeys(("text", "varchar", "bpchar", "name", "citext", "unknown", "xml"), _text),
    "json": _json,
    "jsonb": _json,
    "date": _date,
    "timestamp": lambda value: _moment(value, is_aware=False),
    "timestamptz": lambda value: _moment(value, is_aware=True),
    "time": lambda value: _time(value, is_aware=False),
    "timetz": lambda value: _time(value, is_aware=True),
    "interval": _interval,
    "uuid": _uuid,
    "bytea": _bytes,
}


def as_parameter(value: Any, type_name: str, name: str) -> Any:
    """An argument of the tool as a parameter of that type; raises `ToolFailure` if it cannot be one.

    Types that are not known here get the value as it is.
    """
    try:
        return _converted(value, type_name)
    except OverflowError:
        problem = "is beyond all bounds"
    except ValueError as exc:
        problem = "is no text that can be sent" if isinstance(exc, UnicodeError) else str(exc)
    raise ToolFailure(f"argument {name} is for a value of type {type_name}: it {problem}")


def misfit(name: str, type_name: str) -> ToolFailure:
    """For a value that the driver refuses in its turn."""
    if type_name.removesuffix("[]") in _CONVERTERS:
        return ToolFailure(f"argument {name} is for a value of type {type_name}: it does not fit into one")
    return ToolFailure(
        f"argument {name} is of type {type_name}, which takes no such value: in the statement, write "
        f":{name}::text::{type_name}"
    )


def _converted(value: Any, type_name: str) -> Any:
    if value is None:
        return None
    if type_name.endswith("[]"):
        if not isinstance(value, list):
            raise ValueError("must be an array")
        element = type_name.removesuffix("[]")
        is_nested = not element.startswith("json")  # in an array of JSON, an array is an element
        return [_converted(item, type_name if is_nested and isinstance(item, list) else element) for item in value]
    convert = _CONVERTERS.get(type_name)
    return value if convert is None else convert(value)
