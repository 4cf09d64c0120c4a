"""`sql:` in a tool: a statement with parameters that are bound, or one that the model writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiopool.configvalues import COUNT, FLAG, SECONDS, TEXT, ValueType
from aiopool.manager import PoolManager
from aiopool.toolserver._sql_rules import refused_in_file
from aiopool.toolserver._sql_text import numbered
from aiopool.toolserver.section import Section
from aiopool.toolserver.template import Template
from aiopool.toolserver.tool import MAX_BYTES, Head

if TYPE_CHECKING:
    from aiopool.toolserver._sql_body import SqlBody

KEY = "sql"
TOOL_KEYS: Mapping[str, ValueType] = {"read_only": FLAG, "max_rows": COUNT}
MAX_ROWS = 200

_KEYS: Mapping[str, ValueType] = {"query": TEXT, **TOOL_KEYS, "timeout": SECONDS, "max_bytes": COUNT}
_BOUNDS = {"max_rows": (1, 100_000), "timeout": (0.001, 86_400), "max_bytes": (1000, MAX_BYTES)}
#: Not the nested braces of an array in a literal, such as '{{1,2},{3,4}}'.
_PASTED = re.compile(r"\{\{\s*([A-Za-z_][\w.-]*)\s*\}\}")


@dataclass(frozen=True)
class SqlPlan:
    """A statement, and how it is run."""

    #: With `$1`, `$2` … for `names`.
    text: str
    names: tuple[str, ...]
    #: The parameter in which the model writes the statement; None if the file has it.
    written_in: str | None
    pool: str
    is_read_only: bool
    max_rows: int
    max_bytes: int
    #: Seconds for the statement.
    timeout: float
    #: Seconds for the call, the wait for a connection included.
    call_timeout: float

    def bind(self, tool: str, pools: PoolManager) -> SqlBody:
        from aiopool.toolserver._sql_body import SqlBody

        return SqlBody(self, tool, pools.get(self.pool))


def read(tool: Section, head: Head) -> SqlPlan | None:
    """What stands under `sql`: the statement, or a table with it as `query`."""
    values = tool.read(TOOL_KEYS)
    for key in values:
        _refuse_beyond(tool, key, values[key])
    if not isinstance(tool.data[KEY], (str, Mapping)):
        tool.refuse("must be a statement, or a table with it as `query`", KEY)
        return None
    if isinstance(tool.data[KEY], str):
        section, key = tool, KEY
        text = tool.read({KEY: TEXT}).get(KEY)
    else:
        section, key = tool.section(KEY), "query"
        section.refuse_unknown(_KEYS)
        own = section.read(_KEYS)
        for name in own:
            _refuse_beyond(section, name, own[name])
            if name in values:
                section.refuse("stands on the tool, too; remove one", name)
        values |= own
        text = own.get("query")
        if "query" not in section:
            section.refuse("has no `query`; write the statement there")
    if text is None or head.pool is None:
        return None
    written_in = Template(text).whole
    names: tuple[str, ...] = ()
    if written_in is not None:
        for problem in Template(text).strangers(head.parameters.names):
            section.refuse(problem, key)
        if head.parameters.schema["properties"].get(written_in, {}).get("type", "string") != "string":
            section.refuse(f"{{{{{written_in}}}}} is the statement, so that parameter must be of type string", key)
    else:
        for name in dict.fromkeys(_PASTED.findall(text)):
            section.refuse(
                f"values are bound to a statement, never pasted: write :{name} for {{{{{name}}}}}, without quotes", key
            )
        text, names, problems = numbered(text, head.parameters.names)
        for problem in filter(None, (*problems, refused_in_file(text))):
            section.refuse(problem, key)
    return SqlPlan(
        text=text,
        names=names,
        written_in=written_in,
        pool=head.pool,
        is_read_only=values.get("read_only", True),
        max_rows=values.get("max_rows", MAX_ROWS),
        max_bytes=values.get("max_bytes", MAX_BYTES),
        timeout=values.get("timeout", head.timeout),
        call_timeout=head.timeout,
    )


def _refuse_beyond(section: Section, key: str, value: Any) -> None:
    least, most = _BOUNDS.get(key, (value, value))
    if not least <= value <= most:
        section.refuse(f"must be from {least} to {most}", key)
