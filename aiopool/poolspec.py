"""The `pools` section of a configuration: which keys a pool may have, and the pool that they describe.

pools:
  database:             # its kind is told by the name, or by `type: postgres`
    dsn: ${MY_DSN}      # unset: DATABASE_URL
    max_size: 20        # any field of PoolConfig
    reset: transaction  # any keyword of the adapter that text can express
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from aiopool.config import PoolConfig
from aiopool.configfile import Document, KeyPath, read_document, suggest
from aiopool.configvalues import COUNT, NUMBER, SECONDS, TEXT, Unfit, ValueType, or_none
from aiopool.envvars import BROKEN, expand_tree
from aiopool.errors import PoolConfigError
from aiopool.poolkinds import KINDS, Kind

#: Top-level keys; all but `pools` belong to the tool server. `x-…` is the author's own, for anchors.
SECTIONS = ("name", "description", "version", "server", "pools", "tools")
EXAMPLE = "write a pool under it, such as `database: {max_size: 10}`"

_TYPES: dict[Any, ValueType] = {
    int: COUNT,
    int | None: or_none(COUNT),
    float: SECONDS,
    float | None: or_none(SECONDS),
    str | None: or_none(TEXT),
}
_CONFIG = {name: _TYPES[hint] for name, hint in get_type_hints(PoolConfig).items()} | {"lifetime_jitter": NUMBER}


def read_pools(source: str | os.PathLike[str] | Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    """Build the pools that a file or a mapping describes; raise `PoolConfigError` with all that is wrong."""
    document = read_document(source)
    specs = read_specs(document, _section(document), env)
    for spec in specs.values():
        spec.refuse_missing_address()
    document.raise_if_refused()
    pools = {name: spec.build() for name, spec in specs.items()}
    document.raise_if_refused()
    return pools


def read_specs(
    document: Document, section: Mapping[Any, Any], env: Mapping[str, str], *, may_lack_addresses: bool = False
) -> dict[str, PoolSpec]:
    """Check every pool of the section; problems are noted, but for an address that is missing.

    With `may_lack_addresses`, one whose variables are not set is missing, too.
    """
    specs = [PoolSpec(document, name, keys, env, may_lack_addresses) for name, keys in section.items()]
    return {spec.name: spec for spec in specs}


def _section(document: Document) -> Mapping[Any, Any]:
    """What stands under `pools`; nothing, and a problem noted, if that is no table with something in it."""
    data = document.data
    if not data:
        document.refuse((), f"is empty; write `pools:` and {EXAMPLE}")
        return {}
    if not isinstance(data, Mapping):
        document.refuse((), "must be a table of keys and values, with `pools:` among the keys")
        return {}
    if document.file is None and not set(SECTIONS) & set(data) and all(isinstance(v, Mapping) for v in data.values()):
        return data  # a mapping of pools, without the rest of a file around it
    unknown = [str(key) for key in data if key not in SECTIONS and not str(key).startswith("x-")]
    for key in unknown:
        document.refuse((key,), f"is not known here{suggest(key, SECTIONS)}")
    if "pools" in data:
        return pools_of(document)
    if not unknown:  # one of them may be meant
        document.refuse((), f"has no `pools:`; add it and {EXAMPLE}")
    return {}


def pools_of(document: Document) -> Mapping[Any, Any]:
    """The table under the key `pools`, which is there; nothing, and a problem noted, if it is none or empty."""
    section = document.data["pools"]
    if section and isinstance(section, Mapping):
        return section
    problem = "must be a table of pools by name" if section else "has no pool"
    document.refuse(("pools",), f"{problem}; {EXAMPLE}")
    return {}


class PoolSpec:
    """One pool of the section: checked when it is made, built afterwards."""

    def __init__(
        self, document: Document, name: Any, keys: Any, env: Mapping[str, str], may_lack_address: bool = False
    ) -> None:
        self.name = str(name)
        #: None: wrong, and told.
        self.kind: Kind | None = None
        #: Its address is to come from somewhere else.
        self.lacks_address = False
        self._document = document
        self._path: KeyPath = ("pools", self.name)
        self._keys: dict[str, Any] = {}
        if not isinstance(name, str) or not name:
            self._refuse("a pool's name must be text; put it into quotes")
        elif "://" in name:
            self._refuse("a pool's name is told in log lines and metrics, and cannot be an address")
        elif not isinstance(keys or {}, Mapping):
            self._refuse("must be a table of settings, or nothing at all")
        else:
            problems: list[tuple[KeyPath, str]] = []
            self._keys = {
                str(key): expand_tree(value, env, (*self._path, str(key)), lambda *problem: problems.append(problem))
                for key, value in (keys or {}).items()
            }
            self.kind = kind = self._find_kind()
            if kind and may_lack_address and kind.variable:
                unset = [key for key in kind.address_keys if self._keys.get(key) is BROKEN]
                self._keys = {key: value for key, value in self._keys.items() if key not in unset}
                problems = [(path, problem) for path, problem in problems if path[2] not in unset]
            for path, problem in problems:
                document.refuse(path, problem)
            if kind:
                self._config, self._options = self._read(kind)
                self._address = self._find_address(kind, env)

    @property
    def secret(self) -> str:
        """What must not be told of it: its password, or the whole address if it is not clear where that stands."""
        address, password = self._address or "", self._keys.get("password") or ""
        try:
            parts = urlsplit(address)
        except ValueError:
            return f"{address} {password}"
        is_clear = bool(parts.netloc) and "@" not in address.replace(parts.netloc, "", 1)
        return f"{parts.password or '' if is_clear else address} {password}"

    def refuse_missing_address(self) -> None:
        """Note a missing address as a problem."""
        if self.lacks_address:
            assert self.kind is not None
            key = self.kind.address_keys[0]
            self._refuse(f"has no address; set the environment variable {self.kind.variable}, or write `{key}:`")

    def build(self, address: str | None = None) -> Any:
        """The pool, at this address if it has none; None, and a problem noted, if its adapter refuses."""
        assert self.kind is not None
        try:
            # A pool that is built again gets keywords of its own.
            return self.kind.build(self.name, self._address or address, self._config, dict(self._options))
        except (PoolConfigError, ImportError) as exc:
            # Both say what to do, and never show a value.
            self._refuse(str(exc), self._key_of(exc))
        except Exception as exc:
            # A driver's message may quote the address, password and all.
            self._refuse(f"its driver refuses these settings ({type(exc).__name__}); check the address first")
        return None

    def _refuse(self, problem: str, key: str | None = None) -> None:
        self._document.refuse(self._path if key is None else (*self._path, key), problem)

    def _find_kind(self) -> Kind | None:
        stated = self._keys.get("type")
        if "type" in self._keys:
            kind = KINDS.get(stated) if isinstance(stated, str) else None
            if kind is None and stated is not BROKEN:
                hint = suggest(stated, KINDS) if isinstance(stated, str) else ""
                self._refuse(f"must be one of {', '.join(KINDS)}{hint if 'mean' in hint else ''}", "type")
            return kind
        kind = next((kind for kind in KINDS.values() if kind.is_meant_by(self.name)), None)
        if kind is None:
            self._refuse(f"its name does not tell what kind of pool it is; add `type:` with one of {', '.join(KINDS)}")
        return kind

    def _read(self, kind: Kind) -> tuple[PoolConfig | None, dict[str, Any]]:
        """Check every key; return the PoolConfig, if any field of it is set, and the adapter's keywords."""
        fields: dict[str, Any] = {}
        options: dict[str, Any] = {}
        known = {name: each for name, each in _CONFIG.items() if kind.fields is None or name in kind.fields}
        types = {"type": TEXT, **dict.fromkeys(kind.address_keys, TEXT), **kind.options, **known}
        for key, value in self._keys.items():
            if key not in types:
                self._refuse_key(
                    kind, key, "; it means nothing there, remove it" if key in _CONFIG else suggest(key, types)
                )
            elif value is not BROKEN and key != "type":
                try:
                    # A mapping in Python may hold objects, such as an SSL context, for the driver to judge.
                    fits = key in kind.options and self._document.file is None and not _is_plain(value)
                    checked = value if fits else types[key](value)
                except Unfit as exc:
                    self._refuse(str(exc), key)
                else:
                    (fields if key in _CONFIG else options)[key] = checked
        for key in kind.address_keys:
            options.pop(key, None)
        return self._configure(kind, fields, options), options

    def _refuse_key(self, kind: Kind, key: str, hint: str) -> None:
        if self._keys[key] is None and "known are" in hint:
            # In `{password: hunter,2}` the 2 is such a key.
            line = self._document.line((*self._path, key))
            self._document.refuse(
                self._path, "has a key without a value; put text that holds commas into quotes", line=line
            )
        else:
            self._refuse(f"is not known for a pool of type {kind.type}{hint}", key)

    def _configure(self, kind: Kind, fields: dict[str, Any], options: dict[str, Any]) -> PoolConfig | None:
        # Two names for one thing: the adapter's keyword and PoolConfig's field.
        for option, name in kind.same_as.items():
            if option in options:
                value = options.pop(option)
                if fields.setdefault(name, value) != value:
                    self._refuse(f"says the same as {name}, but differs from it; remove one", option)
        if not fields:
            return None
        try:
            return PoolConfig(**{"max_size": kind.max_size, **fields})
        except PoolConfigError as exc:
            self._refuse(str(exc), self._key_of(exc))
            return None

    def _find_address(self, kind: Kind, env: Mapping[str, str]) -> str | None:
        given = [key for key in kind.address_keys if self._keys.get(key) is not None]
        if len(given) > 1:
            self._refuse(f"says the same as {given[0]}; remove one", given[1])
        if given:
            address = self._keys[given[0]]
            if address == "":
                self._refuse("is empty", given[0])
            return str(address)
        if kind.variable is None or any(key in self._keys for key in kind.place_keys):
            return None
        self.lacks_address = not env.get(kind.variable)
        return env.get(kind.variable)

    def _key_of(self, exc: Exception) -> str | None:
        """The key for the field that a PoolConfigError begins with, as in `min_size=5 is not allowed …`."""
        if not (match := re.match(r"(\w+)=", str(exc))):
            return None
        same_as = self.kind.same_as if self.kind else {}
        names = [match[1], *(option for option, name in same_as.items() if name == match[1])]
        return next((name for name in names if name in self._keys), None)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, list, Mapping))
