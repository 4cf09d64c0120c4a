"""The rows of a result as JSON: so many, and so many bytes, with a word on what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date, datetime
from typing import Any

import asyncpg

from aiopool.toolserver._json import dumps, loads, plain
from aiopool.toolserver.tool import Result

#: In bytes: what the result says beside its rows.
AROUND = 500
#: Rows that are fetched first, before it is known how large they are, and the most that are fetched at once.
FIRST, BATCH = 32, 500


class Rows:
    """Takes rows until there are enough; then `result` is what the model gets."""

    def __init__(self, columns: Iterable[Any], max_rows: int, max_bytes: int) -> None:
        self._columns: dict[str, Callable[[Any], Any]] = {}
        uses: Counter[str] = Counter()
        for column in columns:
            name = column.name
            while name in self._columns:  # columns of one name must not hide each other
                uses[column.name] += 1
                name = f"{column.name}_{uses[column.name] + 1}"
            self._columns[name] = _converter(column.type.name)
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._bytes = AROUND
        self._rows: list[dict[str, Any]] = []
        self._texts: list[str] = []
        self._notice: str | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def wanted(self) -> int:
        """So many at once: one more than are shown, but no more than will probably fit."""
        most = self._max_rows + 1 - len(self._rows)
        if not self._rows:
            return min(most, FIRST)
        room = (self._max_bytes - self._bytes) * len(self._rows) // self._bytes
        return min(most, room + 1, BATCH)

    def take(self, record: Iterable[Any]) -> bool:
        """Whether another row is wanted."""
        if len(self._rows) == self._max_rows:
            self._notice = f"only the first {self._max_rows} rows are shown, there are more: select fewer, or aggregate"
            return False
        row = {name: convert(value) for (name, convert), value in zip(self._columns.items(), record, strict=True)}
        text = dumps(row)
        self._bytes += len(text.encode()) + 2
        if self._bytes > self._max_bytes:
            shown = f"only the first {len(self._rows)} rows are shown" if self._rows else "no row is shown"
            self._notice = (
                f"{shown}, more would be over {self._max_bytes} bytes: select fewer rows or columns, or parts of "
                "them, as with left(column, 1000)"
            )
            return False
        self._rows.append(row)
        self._texts.append(text)
        return True

    def result(self) -> Result:
        rest = {"row_count": len(self._rows), "truncated": self._notice is not None}
        told = {**rest, "notice": self._notice} if self._notice is not None else rest
        rows = ",\n".join(self._texts)
        return Result(f'{{"rows": [{rows}], {dumps(told)[1:]}', {"rows": self._rows, **told})


def of_command(status: str) -> Result:
    """Of a statement that has no rows: `UPDATE 3` has changed three."""
    last = status.rpartition(" ")[2]
    outcome = {"rows": [], "row_count": int(last) if last.isdigit() else 0, "truncated": False, "status": status}
    return Result(dumps(outcome), outcome)


def _converter(type_name: str) -> Callable[[Any], Any]:
    if type_name in ("json", "jsonb", "json[]", "jsonb[]"):
        return _parsed
    if type_name in ("char", "char[]"):  # a single byte, as in the catalogs
        return lambda value: plain(value, lambda other: other.decode("latin-1"))
    if type_name in ("date", "timestamp", "timestamptz"):
        return _in_time
    return lambda value: plain(value, _other)


def _other(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if isinstance(value, asyncpg.Range):
        return _range(value)
    if isinstance(value, asyncpg.BitString):
        return value.as_string().replace(" ", "")
    return str(value)


def _range(value: Any) -> str:
    if value.isempty:
        return "empty"
    lower, upper = ("" if bound is None else str(plain(bound, _other)) for bound in (value.lower, value.upper))
    return f"{'[' if value.lower_inc else '('}{lower},{upper}{']' if value.upper_inc else ')'}"


def _in_time(value: Any) -> Any:
    if isinstance(value, date):  # a datetime is one
        moment = value.replace(tzinfo=None) if isinstance(value, datetime) else value
        if moment in (date.max, datetime.max):
            return "infinity"
        if moment in (date.min, datetime.min):
            return "-infinity"
    return plain(value, _other)


def _parsed(value: Any) -> Any:
    """JSON that asyncpg gives as text; what cannot be read or followed stays text."""
    if isinstance(value, list):
        return [_parsed(item) for item in value]
    if not isinstance(value, str):
        return plain(value, _other)
    try:
        return loads(value)
    except ValueError:
        return value
