"""What code of the author's gives back, as a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from aiopool.telling import ToolFailure
from aiopool.toolserver._json import dumps, loads, plain, refuse


def as_text(value: Any) -> str:
    """Text as it is, all else as JSON. Raises `ToolFailure` for what has no form there."""
    return value if isinstance(value, str) else dumps(plain(value, _other))


def as_object(text: str) -> Mapping[str, Any] | None:
    """What clients get as structured content: the text as an object, if that is what it is."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = loads(text, refuse)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _other(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value), _other)
    if callable(dump := getattr(value, "model_dump", None)):  # pydantic's
        return plain(dump(), _other)
    if not any("__str__" in vars(each) for each in type(value).__mro__[:-1]):
        name = type(value).__name__
        raise ToolFailure(
            f"the tool's code returned a {name}, which JSON has no form for; let it return dicts and lists"
        )
    return str(value)
