"""`Program`: a Python file that is a tool, and whether its `main` is called or the file is run."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

from aiopool.configfile import suggest


@dataclass(frozen=True)
class Main:
    """The parameters of a script's `main`."""

    positional: tuple[str, ...]
    required: tuple[str, ...]
    optional: tuple[str, ...]
    takes_any: bool
    is_async: bool

    @property
    def names(self) -> tuple[str, ...]:
        return self.required + self.optional

    def completed(self, arguments: Mapping[str, Any], others: Collection[str] = ()) -> dict[str, Any]:
        """With None for what the caller has left out and it has no default for; `others` come from elsewhere."""
        return {**{name: None for name in self.required if name not in others}, **arguments}

    def problem(self, given: Collection[str]) -> str | None:
        """Why it cannot be called with exactly these keywords."""
        if self.positional:
            return f"takes {self.positional[0]!r} by its position only; remove the / from its parameters"
        for name in self.required:
            if name not in given:
                return f"takes {name!r}, which is no parameter of this tool{suggest(name, given)}"
        for name in sorted(given):
            if name not in self.names and not self.takes_any:
                return f"does not take the parameter {name!r} of this tool{suggest(name, self.names)}"
        return None


@dataclass(frozen=True)
class Program:
    """A script as its text shows it, without running it; raises `SyntaxError` or `OSError`.

    A `main` that takes the tool's parameters is called with them; any other file is run from top to bottom, as
    `python file` would.
    """

    path: str
    code: CodeType
    main: Main | None
    #: Whether the file does something by itself when it is run: it says `if __name__ == "__main__"`.
    has_guard: bool

    @classmethod
    def read(cls, path: str) -> Program:
        source = Path(path).read_bytes()
        try:
            tree = ast.parse(source, path)
            code = compile(tree, path, "exec", dont_inherit=True)
        except ValueError as exc:  # null bytes
            raise SyntaxError(str(exc)) from None
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        main = next((node for node in functions if node.name == "main"), None)
        return cls(path, code, _main(main) if main else None, any(map(_is_guard, tree.body)))

    def is_called(self, parameters: Collection[str], extras: Collection[str]) -> bool:
        """Whether `main` is called with these parameters; `extras` are given to it if it asks for them."""
        if self.main is None:
            return False
        return not self.has_guard or (bool(self.main.names) and self.problem(parameters, extras) is None)

    def problem(self, parameters: Collection[str], extras: Collection[str]) -> str | None:
        """Why `main` cannot be called with them."""
        if self.main is None:
            return None
        return self.main.problem({*parameters, *(name for name in extras if name in self.main.names)})


def _main(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Main:
    arguments = node.args
    plain = [each.arg for each in arguments.args]
    has_default = len(plain) - len(arguments.defaults)
    keywords = list(zip((each.arg for each in arguments.kwonlyargs), arguments.kw_defaults, strict=True))
    return Main(
        positional=tuple(each.arg for each in arguments.posonlyargs),
        required=(
            *plain[:has_default],
            *(name for name, default in keywords if default is None),
        ),
        optional=(*plain[has_default:], *(name for name, default in keywords if default is not None)),
        takes_any=arguments.kwarg is not None,
        is_async=isinstance(node, ast.AsyncFunctionDef),
    )


def _is_guard(node: ast.stmt) -> bool:
    """`if __name__ == "__main__":`"""
    return isinstance(node, ast.If) and any(
        isinstance(each, ast.Name) and each.id == "__name__" for each in ast.walk(node.test)
    )
