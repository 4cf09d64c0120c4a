"""`python:` in a tool: a function of the author's, called in this process with the arguments by their names."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiopool.configvalues import TEXT, ValueType
from aiopool.manager import PoolManager
from aiopool.toolserver._modules import is_own, signature
from aiopool.toolserver.program import Main
from aiopool.toolserver.section import Section
from aiopool.toolserver.tool import Head

if TYPE_CHECKING:
    from aiopool.toolserver._python_body import PythonBody

KEY = "python"
TOOL_KEYS: Mapping[str, ValueType] = {}

_KEYS: Mapping[str, ValueType] = {"function": TEXT}
_NAME = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_][\w.]*)")

#: The files of the modules that were imported for tools, as they were then, and the names of those modules.
_files: dict[str, object] = {}
_names: set[str] = set()


@dataclass(frozen=True)
class PythonPlan:
    """A function, and what it wants."""

    function: Callable[..., Any]
    outline: Main
    #: The parameter that gets the connection; None if it wants none.
    connection: str | None
    pool: str | None
    is_read_only: bool = False

    def bind(self, tool: str, pools: PoolManager) -> PythonBody:
        from aiopool.toolserver._python_body import PythonBody

        if self.pool is not None:
            pools.get(self.pool)
        return PythonBody(self, tool, pools)


def read(tool: Section, head: Head) -> PythonPlan | None:
    """What stands under `python`: `module:function`, or a table with it as `function`."""
    if isinstance(tool.data[KEY], Mapping):
        section, key = tool.section(KEY), "function"
        section.refuse_unknown(_KEYS)
        name = section.read(_KEYS).get("function")
        if "function" not in section:
            section.refuse("has no `function`; write it as `module:function`")
    else:
        section, key = tool, KEY
        name = tool.read({KEY: TEXT}).get(KEY)
    if name is None:
        return None
    match = _NAME.fullmatch(name)
    if match is None:
        section.refuse("must be a module and a function in it, as `module:function`", key)
        return None
    found, problem = _find(match[1], match[2], head.folder)
    if problem is None:
        outline = _outline(found)
        extras = () if head.pool is None else ("connection", head.pool)
        wanted = next((each for each in extras if each in outline.names and each not in head.parameters.names), None)
        given = {*head.parameters.names, *([wanted] if wanted else ())}
        problem = f"{match[2]}() {why}" if (why := outline.problem(given)) else None
        if problem and "connection" in outline.required and head.pool is None:
            problem = f"{match[2]}() takes a connection, and the tool has no `pool:` to take it from; write one"
        if problem is None:
            return PythonPlan(found, outline, wanted, head.pool if wanted else None)
    section.refuse(problem, key)
    return None


def _find(module: str, name: str, folder: Path) -> tuple[Any, str | None]:
    """The function, or why there is none."""
    try:
        found: Any = _import(module, str(folder))
    except BaseException as exc:
        if not isinstance(exc, Exception | SystemExit):
            raise
        if isinstance(exc, ModuleNotFoundError) and exc.name and module.startswith(exc.name):
            return (
                None,
                f"there is no module {exc.name!r} below {folder}, nor installed; correct the name",
            )
        # Its words may hold a secret; its class and place don't.
        return None, f"importing {module} fails with {type(exc).__name__}{_place(exc)}; correct it"
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            functions = ", ".join(each for each, value in vars(found).items() if inspect.isfunction(value)) or "none"
            return None, f"module {module} has no function {part!r}; it has: {functions}"
    if not callable(found) or inspect.isgeneratorfunction(found) or inspect.isasyncgenfunction(found):
        return None, f"{name} is no function that returns: it is a {type(found).__name__} or has a `yield` in it"
    return found, None


def _import(module: str, folder: str) -> Any:
    """The module as it is now: if one that was imported for tools has changed, all of them are imported anew.

    So they are for a file in another folder, where the same names mean other modules. Code of an earlier reading goes
    on with the modules that it has.
    """
    if sys.path[0] != folder or any(signature(file) != known for file, known in _files.items()):
        for name in _names:
            sys.modules.pop(name, None)
        _names.clear()
        _files.clear()
        importlib.invalidate_caches()
    if sys.path[0] != folder:
        sys.path.insert(0, folder)  # as it is for `python file`
    before = set(sys.modules)
    try:
        return importlib.import_module(module)
    finally:
        for name in sys.modules.keys() - before:
            if is_own(name, sys.modules[name]) and (file := getattr(sys.modules[name], "__file__", None)):
                _names.add(name)
                _files[file] = signature(file)


def _place(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f" in line {error.lineno} of {Path(error.filename or '?').name}"
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    return "" if frames is None else f" in line {frames.tb_lineno} of {Path(frames.tb_frame.f_code.co_filename).name}"


def _outline(function: Any) -> Main:
    """What it takes, as far as anybody can say."""
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return Main((), (), (), takes_any=True, is_async=is_async)
    by_name = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    return Main(
        positional=tuple(each.name for each in parameters if each.kind is each.POSITIONAL_ONLY),
        required=tuple(each.name for each in by_name if each.default is each.empty),
        optional=tuple(each.name for each in by_name if each.default is not each.empty),
        takes_any=any(each.kind is each.VAR_KEYWORD for each in parameters),
        is_async=is_async,
    )
