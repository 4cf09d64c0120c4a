"""`read_file`: a file of pools and tools, checked as a whole: one run tells everything that is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from aiopool.configfile import Document, KeyPath, read_document, suggest
from aiopool.configvalues import NUMBER, SECONDS, TABLE, TEXT, Unfit, ValueType, either
from aiopool.envvars import expand_tree
from aiopool.errors import PoolConfigError
from aiopool.policies.outage import without_tracebacks
from aiopool.poolspec import SECTIONS, PoolSpec, pools_of, read_specs
from aiopool.toolserver.parameters import read_parameters
from aiopool.toolserver.remedies import FILE_REMEDIES, TOOL_REMEDIES
from aiopool.toolserver.section import Section
from aiopool.toolserver.settings import ServerSettings, read_settings
from aiopool.toolserver.tool import CALL_TIMEOUT, BodyReader, Head, Tool

#: The keys of a tool that say what it does, each read by the module of that name here, and the kind of pool that
#: such a tool may name (None: any).
BODIES: dict[str, str | None] = {"sql": "postgres", "redis": "redis", "http": "http", "python": None, "script": None}
#: Those that cannot do without.
_IN_NEED = ("sql", "redis")
#: A body's own timeout has better words for what happened than that of the call.
_GRACE = 5.0

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_FILE_KEYS = {"name": TEXT, "description": TEXT, "version": either(TEXT, NUMBER)}
_TOOL_KEYS = {
    "name": TEXT,
    "description": TEXT,
    "pool": TEXT,
    "timeout": SECONDS,
    "environment": ValueType("a table of texts (put yes, true and 1.10 into quotes)", lambda value: _texts(value)),
}


class BodyModule(Protocol):
    """What `sql.py` and its like export."""

    KEY: str
    TOOL_KEYS: Mapping[str, ValueType]
    read: BodyReader


@dataclass(frozen=True)
class ServerFile:
    """A file of pools and tools in which nothing is wrong."""

    name: str
    description: str | None
    version: str
    settings: ServerSettings
    #: In the order of the file.
    tools: Mapping[str, Tool]
    #: In the order of the file; those that lack an address are None, and for a listing all.
    pools: Mapping[str, Any]
    #: What the file says of them.
    specs: Mapping[str, PoolSpec]
    #: Where each tool stands in the document.
    places: Mapping[str, KeyPath] = field(repr=False)
    document: Document = field(repr=False)

    def refuse(self, tool: str, problem: str) -> None:
        """Note a problem with a tool on the document, to be raised with others."""
        self.document.refuse(self.places[tool], problem)


def read_file(
    source: str | os.PathLike[str] | Mapping[str, Any],
    env: Mapping[str, str] | None = None,
    *,
    embedded: bool = False,
    listing: bool = False,
) -> ServerFile:
    """Read a YAML or TOML file, or a mapping; raises `PoolConfigError` with every problem, its line and its remedy.

    `env` replaces the process's environment. With `embedded`, pools may lack an address; for a `listing` they may,
    too, and so may whatever else has a variable that is not set: such a tool can be shown, but not be called.
    """
    environment = os.environ if env is None else env
    try:
        document = read_document(source)
        try:
            return _Reading(document, environment, may_lack=embedded or listing, listing=listing).result()
        except RecursionError:
            document.fail("is nested too deeply; write it out flat")
    except PoolConfigError as exc:
        # A debugger shows what frames hold: here every value, and the environment.
        error = without_tracebacks(exc)
        error.__context__ = None
    raise error


class _Reading:
    def __init__(self, document: Document, env: Mapping[str, str], *, may_lack: bool, listing: bool) -> None:
        self._document = document
        self._env = env
        self._may_lack = may_lack
        self._listing = listing
        self._places: dict[str, KeyPath] = {}
        self._folder = Path(document.file).absolute().parent if document.file else Path.cwd()

    def result(self) -> ServerFile:
        document = self._document
        root = Section(document, (), document.data, self._env)
        root.refuse_unknown(
            dict.fromkeys([*SECTIONS, *(key for key in root.data if key.startswith("x-"))]), FILE_REMEDIES
        )
        own = root.read(_FILE_KEYS)
        settings = read_settings(root.section("server"))
        table = pools_of(document) if "pools" in root else {}
        pools = read_specs(document, table, self._env, may_lack_addresses=self._may_lack)
        for spec in pools.values():
            if not self._may_lack:
                spec.refuse_missing_address()
        tools = self._tools(root, {name: spec.kind.type if spec.kind else None for name, spec in pools.items()})
        if self._listing:
            self._overlook()
        # Its adapter may refuse what each key by itself allows. Building a pool opens nothing.
        built = {
            name: None if self._listing or spec.lacks_address or document.is_refused(("pools", name)) else spec.build()
            for name, spec in pools.items()
        }
        document.raise_if_refused()
        return ServerFile(
            name=own.get("name") or "aiopool",
            description=own.get("description"),
            version=str(own.get("version", "1.0.0")),
            settings=settings,
            tools=tools,
            pools=built,
            specs=pools,
            places=self._places,
            document=document,
        )

    def _overlook(self) -> None:
        """Forget what a listing does not need: bodies, and all that lacks variables, for one thing leads to another."""
        for path, data in _items(self._document.data):
            problems: list[object] = []
            expand_tree(data, self._env, path, lambda *problem, into=problems: into.append(problem))
            for part in [path] if problems else [(*path, key) for key in BODIES if path[0] == "tools"]:
                self._document.overlook(part)

    def _tools(self, root: Section, kinds: Mapping[str, str | None]) -> dict[str, Tool]:
        tools: dict[str, Tool] = {}
        if not root.data.get("tools") and isinstance(self._document.data, Mapping | None):
            root.refuse("has no tool; write one, such as `- {name: now, sql: select now()}`", "tools")
        for section in root.sections("tools"):
            tool = self._tool(section, kinds)
            if tool is None:
                continue
            if tool.name in tools:
                section.refuse("is the name of an earlier tool, too; give it another", "name")
            tools.setdefault(tool.name, tool)
            self._places.setdefault(tool.name, section.path)
        return tools

    def _tool(self, section: Section, kinds: Mapping[str, str | None]) -> Tool | None:
        values = section.read(_TOOL_KEYS)
        key = self._body_key(section)
        module = body_module(key) if key else None
        known = {*_TOOL_KEYS, "parameters", *BODIES, *(module.TOOL_KEYS if module else ())}
        section.refuse_unknown(dict.fromkeys(known), TOOL_REMEDIES)
        name = self._name(section, values)
        parameters = read_parameters(section)
        timeout = values.get("timeout")
        if timeout is not None and not 0 < timeout < float("inf"):
            section.refuse("must be more than 0 seconds, and finite", "timeout")
        pool = self._pool(section, key, values.get("pool"), kinds)
        if timeout is None:
            timeout = max(CALL_TIMEOUT, _own_timeout(section, key) + _GRACE)
        head = Head(
            name=name or "",
            parameters=parameters,
            pool=pool,
            pool_kind=kinds.get(pool) if pool is not None else None,
            kinds={each: kind for each, kind in kinds.items() if kind is not None},
            folder=self._folder,
            timeout=timeout,
            environment=values.get("environment", {}),
        )
        plan = module.read(section, head) if module else None
        if name is None:
            return None
        return Tool(name, values.get("description") or name, parameters, plan or _Unread(), timeout, pool)

    def _name(self, section: Section, values: Mapping[str, Any]) -> str | None:
        name = values.get("name")
        if name is None and "name" not in section:
            section.refuse("has no `name`; add one")
        elif name is not None and not _NAME.fullmatch(name):
            section.refuse("must be 1 to 128 ASCII letters, digits and _ - . only", "name")
            return None
        return name

    def _body_key(self, section: Section) -> str | None:
        """The key that says what the tool does; None, and a problem noted, if there is none or more than one."""
        written = [key for key in section.data if key in BODIES]
        if len(written) > 1:
            section.refuse(f"says what the tool does, as {written[0]} does; remove one of the two", written[1])
        elif not written:
            near = [key for key in section.data if key not in _TOOL_KEYS and "mean" in suggest(key, BODIES)]
            if not near:  # it is refused with a better word
                section.refuse(f"does nothing; write one of {', '.join(f'`{key}:`' for key in BODIES)}")
        elif not section.data[written[0]]:
            section.refuse("is empty; write what the tool does", written[0])
            return None
        return written[0] if len(written) == 1 else None

    def _pool(self, section: Section, key: str | None, name: str | None, kinds: Mapping[str, str | None]) -> str | None:
        """The name of the tool's pool: the one that it names, or the only one of the kind that it needs."""
        wanted = BODIES.get(key or "")
        if name is None:
            if key not in _IN_NEED or "pool" in section:
                return None
            fitting = [pool for pool, kind in kinds.items() if kind == wanted]
            if len(fitting) == 1:
                return fitting[0]
            if fitting:
                section.refuse(f"could use more than one pool; add `pool:` with one of {', '.join(fitting)}")
            elif None not in kinds.values():  # it may be meant, and is wrong itself
                section.refuse(f"needs a pool of type {wanted}; add one under `pools:`, and name it here as `pool:`")
            return None
        if name not in kinds:
            section.refuse(f"is no pool of this file{suggest(name, kinds) or '; add it under `pools:`'}", "pool")
            return None
        if kinds[name] is not None and wanted not in (None, kinds[name]):
            section.refuse(f"is a pool of type {kinds[name]}; a tool with `{key}:` needs one of type {wanted}", "pool")
            return None
        return name


class _Unread:
    """The body of a tool that is only shown."""

    is_read_only = False

    def bind(self, tool: str, pools: object) -> Any:
        raise RuntimeError(f"tool {tool!r} was read for a listing only")


def body_module(key: str) -> BodyModule:
    """The module that reads what stands under this key."""
    return cast(BodyModule, import_module(f"aiopool.toolserver.{key}"))


def _own_timeout(section: Section, key: str | None) -> float:
    """`timeout` in the body itself, if it has one that can be read; its reader complains if not."""
    body = section.data.get(key) if key else None
    if not isinstance(body, Mapping) or "timeout" not in body:
        return 0.0
    try:
        seconds = SECONDS(expand_tree(body["timeout"], section.env, (), lambda *_: None))
    except Unfit:
        return 0.0
    return float(seconds) if 0 < seconds < float("inf") else 0.0


def _items(data: Any) -> Iterator[tuple[KeyPath, Any]]:
    """What a file consists of: what stands at its top, each pool, each tool."""
    sections = data if isinstance(data, Mapping) else {}
    yield from (((key,), sections.get(key)) for key in ("server", *_FILE_KEYS))
    if isinstance(pools := sections.get("pools"), Mapping):
        yield from ((("pools", str(name)), keys) for name, keys in pools.items())
    if isinstance(tools := sections.get("tools"), list):
        yield from ((("tools", number), tool) for number, tool in enumerate(tools))


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError
    # Of a whole number it is clear how it was written, nearly always.
    texts: dict[str, str] = TABLE.parse({key: str(item) if type(item) is int else item for key, item in value.items()})
    return texts
