"""Read a YAML or TOML file, or a mapping, knowing the line of every key, so that an error can name it."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from aiopool.errors import PoolConfigError

if TYPE_CHECKING:
    import yaml

#: Where a value stands: the keys and list positions that lead to it.
KeyPath = tuple[str | int, ...]

#: More values than any sane file has; aliases of aliases multiply (the "billion laughs").
_MAX_VALUES = 100_000


def suggest(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` if something known is close, else `; known are …`."""
    known = list(known)
    # With the case folded, 'Redis' finds 'redis'.
    close = difflib.get_close_matches(wrong.lower(), known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are: {', '.join(sorted(known))}" if known else ""


class Document:
    """Plain data, the line of each of its keys, and what was found wrong with it.

    Problems are collected, so that one run reports them all: `refuse` notes one, `raise_if_refused` raises
    `PoolConfigError` with all of them. What is noted must never hold a value that may be secret.
    """

    def __init__(self, data: Any, file: str | None = None, lines: Mapping[KeyPath, int] | None = None) -> None:
        self.data = data
        #: As the caller wrote it; None for a mapping.
        self.file = file
        self._lines = dict(lines or {})
        self._problems: list[tuple[int, KeyPath, str]] = []

    @property
    def source(self) -> str:
        return self.file or "the mapping"

    def line(self, path: KeyPath) -> int | None:
        """The line of the key, or of the closest known key around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path)

    def refuse(self, path: KeyPath, problem: str, *, line: int | None = None) -> None:
        """Note a problem; `problem` says what is wrong and what to do."""
        line = line or self.line(path)
        place = f"{self.file}:{line}: " if self.file and line else f"{self.file}: " if self.file else ""
        key = f"{show_path(path)}: " if path else ""
        self._problems.append((line or 0, path, f"{place}{key}{problem}"))

    def is_refused(self, path: KeyPath) -> bool:
        """Whether something is wrong with what stands there, or with a part of it."""
        return any(at[: len(path)] == path for _, at, _ in self._problems)

    def overlook(self, path: KeyPath) -> None:
        """Forget the problems with what stands there: it is not needed now."""
        self._problems = [problem for problem in self._problems if problem[1][: len(path)] != path]

    def fail(self, problem: str, line: int | None = None) -> NoReturn:
        """Raise `PoolConfigError` at once: with this problem there is nothing to read."""
        self._problems.clear()
        self.refuse((), problem, line=line)
        self.raise_if_refused()
        raise AssertionError("refused")

    def raise_if_refused(self) -> None:
        """Raise `PoolConfigError` with every problem noted, in the order of their lines."""
        # A key is looked at more than once.
        problems = list(dict.fromkeys(text for _, _, text in sorted(self._problems, key=lambda problem: problem[0])))
        if len(problems) > 1:
            problems.insert(0, f"{self.source} has {len(problems)} problems:")
        if problems:
            # `from None`: a parser's exception shows the line of text that it stumbled over.
            raise PoolConfigError("\n  ".join(problems)) from None


#: What slipped into the place of a key may be secret: an address, or `password hunter2:` and `{password:hunter2}`.
_NAME = re.compile(r"(?!(?i:pass\w*|pwd|secret|token|dsn|url) )[\w .-]{1,64}")


def is_unicode(text: str) -> bool:
    """Whether it can be sent: half a surrogate pair is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def show_path(path: KeyPath) -> str:
    """`pools.database.min_size`, `tools[0].name`."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
        else:
            shown += ("." if shown else "") + (step if _NAME.fullmatch(step) else _not_a_name(step))
    return shown


def _not_a_name(step: str) -> str:
    return "(an address)" if "://" in step else "(not a name)"


def read_document(source: str | os.PathLike[str] | Mapping[str, Any]) -> Document:
    """Read a file (`.yaml`, `.yml`, `.toml`) or wrap a mapping; what cannot be read raises `PoolConfigError`.

    Lesser faults, such as a key that is written twice, are noted on the document, to be raised with what its
    reader finds.
    """
    if isinstance(source, Mapping):
        return Document(source)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"a path or a mapping is needed, not {type(source).__name__}")
    file = os.fspath(source)
    if "://" in file or "\n" in file:
        raise PoolConfigError(
            "a path or a mapping is needed, not an address and not the text of a file; "
            "write the text to a file, or pass `yaml.safe_load(text)`"
        )
    readers = {".yaml": _read_yaml, ".yml": _read_yaml, ".toml": _read_toml}
    reader = readers.get(Path(file).suffix.lower())
    if reader is None:
        # What is no file may be anything.
        shown = file if os.path.exists(file) else "no such file"
        raise PoolConfigError(f"{shown}: the kind of file is told by its suffix; use .yaml, .yml or .toml")
    try:
        raw = Path(file).read_bytes()
    except OSError as exc:
        raise PoolConfigError(f"{file}: cannot be read ({exc.strerror}); check the path and its permissions") from exc
    document = Document(None, file)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        document.fail("is not UTF-8 text; save it as UTF-8", line)
    reader(text, document)
    return document


def _read_toml(text: str, document: Document) -> None:
    try:
        document.data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        at = re.search(r"line (\d+)", str(exc))
        # "At end of document" has no number.
        line = int(at[1]) if at else text.count("\n") + 1
        document.fail(f"is not valid TOML: {exc}", line)
    document._lines = dict(_toml_lines(text))


_TOML_KEY = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')"""
_TOML_LINE = re.compile(rf"\s*(?P<table>\[?\[)?\s*(?P<keys>{_TOML_KEY}(?:\s*\.\s*{_TOML_KEY})*)\s*(?:=|\])")


def _toml_lines(text: str) -> Iterable[tuple[KeyPath, int]]:
    """The line of each key, found by its looks: tomllib tells none.

    Keys inside inline tables get the line of the key around them, which is their own in nearly every file.
    """
    table: KeyPath = ()
    last: dict[KeyPath, int] = {}

    def settled(keys: KeyPath) -> KeyPath:
        """With the position of the last item behind each key that stands for a list of tables."""
        path: KeyPath = ()
        for key in keys:
            path = (*path, key)
            path = (*path, last[path]) if path in last else path
        return path

    for number, line in enumerate(text.splitlines(), 1):
        if match := _TOML_LINE.match(line):
            keys: KeyPath = tuple(key.strip("\"'") for key in re.findall(_TOML_KEY, match["keys"]))
            if match["table"] == "[[":
                path = (*settled(keys[:-1]), keys[-1])
                last[path] = last.get(path, -1) + 1
            if match["table"]:
                table, keys = settled(keys), ()
            yield table + keys, number


def _read_yaml(text: str, document: Document) -> None:
    try:
        import yaml
    except ImportError as exc:
        raise PoolConfigError(
            f"{document.file}: reading YAML needs PyYAML; run: pip install 'aiopool-core[cli]', or write TOML"
        ) from exc
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        document.data = None if node is None else _YamlReader(loader, document).value(node, ())
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else None
        document.fail(f"is not valid YAML: {_yaml_problem(exc)}", line)
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        document.fail("is not valid YAML: it holds a control character; remove it", line)
    except RecursionError:
        document.fail("is nested too deeply, or an alias holds itself; write it out flat")


def _yaml_problem(exc: yaml.MarkedYAMLError) -> str:
    """PyYAML's own words, without the line of text and the names that it would quote: they may be secret."""
    problem = f"{exc.context or ''} {exc.problem or ''}".strip()
    if re.search("alias|anchor|tag|constructor", problem):
        # A repr stands in double quotes if a single one is in it.
        problem = re.sub(r"""(['"]).*\1""", "'…'", problem, flags=re.DOTALL)
        return f"{problem}; put text that begins with & * ! into quotes; tags are not allowed"
    return problem


class _YamlReader:
    """Build plain data from YAML nodes, noting each key's line; refuse duplicate keys and tags."""

    def __init__(self, loader: yaml.SafeLoader, document: Document) -> None:
        self._loader = loader
        self._document = document
        self._values = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        import yaml

        self._values += 1
        if self._values > _MAX_VALUES:
            raise RecursionError
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self._item(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        raise yaml.constructor.ConstructorError(None, None, "found a tag", node.start_mark)

    def _item(self, node: yaml.Node, path: KeyPath) -> Any:
        self._document._lines[path] = node.start_mark.line + 1
        return self.value(node, path)

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        problem = "holds half a character (a lone surrogate); write the whole one"
        try:
            value = self._loader.construct_object(node)
            if not isinstance(value, str) or is_unicode(value):
                return value
        except (ValueError, KeyError, AttributeError):  # of what has a tag, such as !!bool
            # Not raised further: Python's message quotes the value.
            problem = "is not a valid number or date; put it into quotes"
        self._document.refuse(path, problem, line=node.start_mark.line + 1)
        return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[Any, Any]:
        self._refuse_duplicates(node, path)
        self._loader.flatten_mapping(node)  # puts what `<<` merges in front: own keys, being later, win
        data = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            self._document._lines[*path, str(key)] = key_node.start_mark.line + 1
            data[key] = self.value(value_node, (*path, str(key)))
        return data

    def _refuse_duplicates(self, node: yaml.MappingNode, path: KeyPath) -> None:
        first: dict[Any, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = self._key(key_node, path)
            if key in first:
                what = f"is written twice, first in line {first[key]}; remove one"
                # Without a value it is no key that was meant: in `{password: a,b,b}`.
                self._document.refuse((*path, str(key) if value_node.value else "(nothing)"), what, line=line)
            first.setdefault(key, line)

    def _key(self, node: yaml.Node, path: KeyPath) -> Any:
        import yaml

        if isinstance(node, yaml.ScalarNode):
            return node.value if node.tag == "tag:yaml.org,2002:merge" else self._scalar(node, path)
        raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", node.start_mark)
