"""`Section`: one table of a file, of which every key is known, of the right type, and told by its line if it is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aiopool.configfile import Document, KeyPath, suggest
from aiopool.configvalues import Unfit, ValueType
from aiopool.envvars import BROKEN, expand_tree


class Section:
    """What stands at `path` of a document. Whatever is wrong is noted on the document; what is read is what is right.

    Environment variables are expanded in what is read, and only there.
    """

    def __init__(self, document: Document, path: KeyPath, data: Any, env: Mapping[str, str]) -> None:
        self.document = document
        self.path = path
        self.env = env
        self.data: Mapping[str, Any] = {}
        if isinstance(data, Mapping):
            self.data = {str(key): value for key, value in data.items()}
        elif data is not None:
            self.refuse("must be a table of keys and values")

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def refuse(self, problem: str, *keys: str | int) -> None:
        """Note a problem with this table, or with what stands under `keys` in it; it never quotes a value."""
        self.document.refuse((*self.path, *keys), problem)

    def read(self, known: Mapping[str, ValueType]) -> dict[str, Any]:
        """The values of these keys, as far as they are there and fit."""
        values: dict[str, Any] = {}
        for key, value_type in known.items():
            if key not in self.data:
                continue
            value = expand_tree(self.data[key], self.env, (*self.path, key), self.document.refuse)
            if value is BROKEN:
                continue
            try:
                values[key] = value_type(value)
            except Unfit as exc:
                self.refuse(str(exc), key)
        return values

    def refuse_unknown(self, known: Mapping[str, Any], remedies: Mapping[str, str] | None = None) -> None:
        """Note every key that is not among `known`; `remedies` says of some what to write instead."""
        for key in self.data:
            if key not in known:
                remedy = (remedies or {}).get(key)
                self.refuse(f"is not known here{f'; {remedy}' if remedy else suggest(key, known)}", key)

    def section(self, key: str) -> Section:
        """The table under a key; an empty one, and a problem noted, if it is none."""
        return Section(self.document, (*self.path, key), self.data.get(key), self.env)

    def sections(self, key: str) -> Iterator[Section]:
        """The tables of the list under a key; what is no table there is noted, and left out."""
        items = self.data.get(key)
        if items is not None and not isinstance(items, list):
            self.refuse("must be a list", key)
            return
        for number, item in enumerate(items or ()):
            section = Section(self.document, (*self.path, key, number), item, self.env)
            if item is None or isinstance(item, Mapping):
                yield section
