"""What drivers return, as JSON can say it: exactly, or as text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

#: Greater ones are rounded by the many readers of JSON that have floating-point numbers only (RFC 8259, 6).
GREATEST_EXACT = 2**53
#: Only an escape can be half of a pair.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
#: Deeper values become text: what comes after us, clients included, may refuse to follow.
DEEPEST = 64


def plain(value: Any, other: Callable[[Any], Any] = str, depth: int = 0) -> Any:
    """The value, made of what JSON has; `other` says what becomes of bytes, and of what is not known here.

    Whole numbers that not every reader can hold, decimal ones and such as NaN become text; times are in ISO 8601.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if abs(value) <= GREATEST_EXACT else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else "NaN" if math.isnan(value) else f"{'-' * (value < 0)}Infinity"
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else str(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return duration(value)
    if depth >= DEEPEST:
        return str(value)
    if isinstance(value, Mapping) or hasattr(value, "items"):
        return {_key(key, other): plain(item, other, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, other, depth + 1) for item in value]
    if isinstance(value, (set, frozenset)):
        items = [plain(item, other, depth + 1) for item in value]
        return sorted(items, key=dumps)
    return other(value)


def dumps(value: Any) -> str:
    """As JSON that everybody reads: without NaN, and readable as it is."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def loads(text: str, unknown: Callable[[str], Any] = str) -> Any:
    """What a text of JSON says, as far as JSON can say it again; `ValueError` if it is none, or nested too deep.

    `unknown` says what becomes of NaN, Infinity and numbers beyond all bounds.
    """

    def read(number: str) -> Any:
        return value if math.isfinite(value := float(number)) else unknown(number)

    try:
        value = json.loads(text, parse_float=read, parse_constant=unknown)
    except RecursionError:
        raise ValueError("is nested too deep") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())
        ]
        if not level:
            # With `?` for each half of a surrogate pair: no client could be sent one.
            return json.loads(dumps(value).encode(errors="replace")) if _HALF.search(text) else value
    raise ValueError("is nested too deep")


def refuse(number: str) -> Any:
    """Raises `ValueError`."""
    raise ValueError(f"{number} is no number of JSON")


def duration(value: timedelta) -> str:
    """In ISO 8601: `P1DT3600.5S`. All of it has one sign."""
    sign, value = ("-", -value) if value < timedelta() else ("", value)
    fraction = f".{value.microseconds:06}".rstrip("0") if value.microseconds else ""
    return f"{sign}P{value.days}DT{value.seconds}{fraction}S"


def _key(key: Any, other: Callable[[Any], Any]) -> str:
    told = plain(key, other)
    return told if isinstance(told, str) else dumps(told)
