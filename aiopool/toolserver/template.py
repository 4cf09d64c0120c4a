"""`Template`: text with `{{parameter}}` placeholders, filled in one pass."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiopool.configfile import suggest

#: `{{.Names}}` and `{{json .}}` are no placeholders: shell commands hand them to programs such as docker.
_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][\w.-]*)\s*\}\}", re.ASCII)
#: What other template languages would take for a condition or a loop, and would come out as it stands.
_STATEMENT = re.compile(r"\{\{[-~]?\s*(?:[#/^]|(?:if|else|end|range|with|each|unless|for)\b)")


class Template:
    """Text with placeholders. What is put in is never looked at again: a value that holds `{{x}}` stays as it is."""

    def __init__(self, text: str) -> None:
        self.text = text
        #: The parameters it names.
        self.names = frozenset(_PLACEHOLDER.findall(text))
        match = _PLACEHOLDER.fullmatch(text.strip())
        #: The parameter that is the whole text; None if there is more, or less.
        self.whole: str | None = match[1] if match else None
        #: What stands before its first placeholder.
        self.begun = _PLACEHOLDER.split(text, maxsplit=1)[0]

    def render(self, arguments: Mapping[str, Any], quote: Callable[[str], str] = str) -> str:
        """The text with every placeholder replaced by its argument, each passed through `quote`."""
        return _PLACEHOLDER.sub(lambda match: quote(as_text(arguments.get(match[1]))), self.text)

    def strangers(self, known: Iterable[str]) -> list[str]:
        """A problem for each placeholder that names no parameter."""
        known = tuple(known)
        problems = [
            f"{{{{{name}}}}} is no parameter of this tool{suggest(name, known)}"
            for name in sorted(self.names - set(known))
        ]
        # `{{end}}` may be somebody's parameter, and else it has just been told.
        if any(not _PLACEHOLDER.match(self.text, found.start()) for found in _STATEMENT.finditer(self.text)):
            problems.append("holds a condition or a loop, which templates here don't know; write it in a script")
        return problems


def as_text(value: Any) -> str:
    """An argument as text: text as it is, nothing as nothing, all else as JSON writes it."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)
