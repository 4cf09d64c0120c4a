"""Run the Python blocks of a Markdown page, one after the other, as a reader would who pastes them into one file.

A block may `await` at its top level. One that must not run stands after `<!-- not run: why -->`. What a page leaves
unsaid stands in a comment that readers don't see: `<!-- run: ... -->`. Run as `python run_page.py PAGE OLD=NEW …`;
each OLD, an address that stands in the text, is replaced by the NEW one of a real server.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK = re.compile(
    r"^(?:<!-- run:\n(?P<hidden>.*?)^-->$"
    r"|(?P<skip><!-- not run: [^\n]+ -->\n+)?(?P<indent>[ ]*)```python(?: [^\n]*)?\n(?P<code>.*?)^(?P=indent)```$)",
    re.MULTILINE | re.DOTALL,
)


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """The line that each begins on, and its code."""
    for match in _BLOCK.finditer(text):
        if match["skip"]:
            continue
        group = "hidden" if match["hidden"] is not None else "code"
        indent = match["indent"] or ""
        code = "".join(line.removeprefix(indent) for line in match[group].splitlines(keepends=True))
        yield text.count("\n", 0, match.start(group)) + 1, code


def run(page: Path, addresses: dict[str, str]) -> None:
    text = page.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "__main__"}
    with asyncio.Runner() as runner:
        for line, source in blocks(text):
            for old, new in addresses.items():
                source = source.replace(old, new)
            # As many empty lines before it as in the page, so that a traceback names the page's own line.
            code = compile(
                "\n" * (line - 1) + source, str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
            )
            if code.co_flags & inspect.CO_COROUTINE:
                runner.run(eval(code, names))
            else:
                exec(code, names)


if __name__ == "__main__":
    run(Path(sys.argv[1]), dict(pair.split("=", 1) for pair in sys.argv[2:]))
