"""The body of a request: JSON that stays JSON whatever is put in, a form that stays a form, or text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

from aiopool.telling import ToolFailure
from aiopool.toolserver._json import loads, refuse
from aiopool.toolserver.template import Template

JSON = "application/json"
#: A string of JSON, or a placeholder outside of one.
_STRING_OR_HOLE = re.compile(r'"(?:[^"\\]|\\.)*"|\{\{\s*[A-Za-z_][\w.-]*\s*\}\}', re.ASCII | re.DOTALL)
_HOLE = "\0hole"
_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Hole:
    """A place in JSON for an argument as it is: a number stays a number, an object an object."""

    template: Template

    @property
    def name(self) -> str:
        return str(self.template.whole)


@dataclass(frozen=True)
class JsonContent:
    """JSON with holes, and with placeholders in its texts."""

    tree: Any
    media_type: str = JSON

    def templates(self) -> Iterator[Template]:
        return _templates(self.tree)

    def render(self, arguments: Mapping[str, Any]) -> bytes:
        if isinstance(self.tree, Hole) and isinstance(text := arguments.get(self.tree.name), str):
            # The whole body in one argument: who writes that writes JSON.
            try:
                loads(text, refuse)
            except ValueError:
                raise ToolFailure(f"argument {self.tree.name} is the body of the request, and must be JSON") from None
            return text.encode()
        return json.dumps(_filled(self.tree, arguments), ensure_ascii=False, allow_nan=False).encode()


@dataclass(frozen=True)
class TextContent:
    """Anything else, its values escaped as its type wants it."""

    template: Template
    media_type: str
    #: Raises `ValueError` for what cannot be one.
    as_value: Callable[[str], str]

    def templates(self) -> Iterator[Template]:
        yield self.template

    def render(self, arguments: Mapping[str, Any]) -> bytes:
        try:
            return self.template.render(arguments, self.as_value).encode()
        except ValueError as exc:
            raise ToolFailure(f"argument {', '.join(sorted(self.template.names))} {exc}") from None


Content = JsonContent | TextContent


def of_json(value: Any) -> JsonContent:
    """Of what stands under `json:`; a text that is one placeholder is a hole."""
    return JsonContent(_tree(value, holes=True))


def of_body(text: str, media_type: str | None) -> Content:
    """Of what stands under `body:`; `ValueError` with what is wrong with it.

    In JSON, a placeholder between quotes is a text, or a part of one, and one without quotes is a hole.
    """
    is_json = media_type is None or re.search(r"[/+]json\b", media_type, re.IGNORECASE)
    if not is_json:
        assert media_type is not None
        template = Template(text)
        as_value = str if template.whole is not None or not template.names else _escaping(media_type)
        if as_value is None:
            raise ValueError(
                "cannot have placeholders in a text of this type, where a value could be more than one: write `json:`, "
                "a form (application/x-www-form-urlencoded), XML or text/plain, or one placeholder as the whole body"
            )
        return TextContent(template, media_type, as_value)
    marked = _STRING_OR_HOLE.sub(
        lambda match: match[0] if match[0].startswith('"') else json.dumps({_HOLE: match[0]}), text
    )
    try:
        tree = loads(marked, refuse)
    except ValueError:
        raise ValueError(
            "is no JSON, which it must be unless `headers` has another Content-Type, such as text/plain"
        ) from None
    return JsonContent(_tree(tree, holes=False), media_type or JSON)


def _tree(value: Any, *, holes: bool) -> Any:
    if isinstance(value, Mapping):
        if list(value) == [_HOLE]:
            return Hole(Template(value[_HOLE]))
        return {_text(str(key)): _tree(item, holes=holes) for key, item in value.items()}
    if isinstance(value, list):
        return [_tree(item, holes=holes) for item in value]
    if not isinstance(value, str):
        return value
    template = Template(value)
    return Hole(template) if holes and template.whole is not None else _text(value)


def _text(text: str) -> Any:
    template = Template(text)
    return template if template.names or template.strangers(()) else text


def _templates(tree: Any) -> Iterator[Template]:
    if isinstance(tree, Template):
        yield tree
    elif isinstance(tree, Hole):
        yield tree.template
    elif isinstance(tree, dict):
        for key, item in tree.items():
            yield from _templates(key)
            yield from _templates(item)
    elif isinstance(tree, list):
        for item in tree:
            yield from _templates(item)


def _filled(tree: Any, arguments: Mapping[str, Any]) -> Any:
    """An argument that was not given leaves its key out of an object, and is null elsewhere."""
    if isinstance(tree, Template):
        return tree.render(arguments)
    if isinstance(tree, Hole):
        return arguments.get(tree.name)
    if isinstance(tree, dict):
        return {
            _filled(key, arguments): _filled(item, arguments)
            for key, item in tree.items()
            if not (isinstance(item, Hole) and arguments.get(item.name) is None)
        }
    if isinstance(tree, list):
        return [_filled(item, arguments) for item in tree]
    return tree


def _escaping(media_type: str) -> Callable[[str], str] | None:
    """What makes any text a value in a body of that type; None if nobody knows."""
    kind = media_type.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return lambda value: quote(value, safe="")
    if kind.endswith(("/xml", "+xml", "/html")):
        return _escaped
    return str if kind == "text/plain" else None


def _escaped(value: str) -> str:
    if _NOT_IN_XML.search(value):
        raise ValueError("holds a control character, which XML has no form for")
    return escape(value, {'"': "&quot;", "'": "&apos;"})
