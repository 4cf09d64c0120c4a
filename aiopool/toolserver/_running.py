"""Running a Python script inside of a process that goes on: its file from top to bottom, or its `main`."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from types import ModuleType
from typing import Any

from aiopool import script
from aiopool.toolserver._modules import Modules, signature
from aiopool.toolserver.program import Main, Program


@dataclass
class Loaded:
    """A script as it was read last."""

    program: Program
    signature: object
    #: Of a script whose `main` is called: run once, and again when it or what it imports has changed.
    module: ModuleType | None = None
    generation: int = -1


@dataclass
class Scripts:
    """Those of one folder, and what they import."""

    modules: Modules = field(default_factory=Modules)
    _loaded: dict[str, Loaded] = field(default_factory=dict)

    def read(self, file: str) -> Loaded:
        """Raises `SyntaxError` or `OSError`."""
        now, loaded = signature(file), self._loaded.get(file)
        if loaded is None or loaded.signature != now:
            self._loaded[file] = loaded = Loaded(Program.read(file), now)
        return loaded

    def run(self, loaded: Loaded) -> ModuleType:
        """From top to bottom, as `python file` does; returns what is left of it."""
        return _execute("__main__", loaded.program)

    def main(self, loaded: Loaded) -> Any:
        """Its `main`. Unlike the globals of a file that is run, those around it are kept from call to call."""
        if loaded.module is None or loaded.generation != self.modules.generation:
            loaded.module, loaded.generation = _execute("__script__", loaded.program), self.modules.generation
        sys.modules["__script__"] = loaded.module
        return loaded.module.main


def _execute(name: str, program: Program) -> ModuleType:
    module = ModuleType(name)
    module.__file__ = program.path
    sys.modules[name] = module
    exec(program.code, module.__dict__)
    return module


def call(main: Any, outline: Main, arguments: Mapping[str, Any], extras: Collection[str]) -> Any:
    """Its result, which for an async one is a coroutine; `extras` are names for the connection."""
    wanted = [name for name in extras if name in outline.names and name not in arguments]
    arguments = outline.completed(arguments, wanted)
    if outline.is_async:
        return _call_async(main, arguments, wanted)
    if not wanted:
        return main(**arguments)
    with script.connection() as lent:
        return main(**arguments, **dict.fromkeys(wanted, lent))


async def _call_async(main: Any, arguments: Mapping[str, Any], wanted: Collection[str]) -> Any:
    if not wanted:
        return await main(**arguments)
    async with script.connection() as lent:
        return await main(**arguments, **dict.fromkeys(wanted, lent))


def status_of(exit_: SystemExit) -> int:
    """As Python ends with."""
    if exit_.code is None or isinstance(exit_.code, int):
        return (exit_.code or 0) & 0xFF
    with suppress(Exception):
        print(exit_.code, file=sys.stderr)  # noqa: T201
    return 1


def show(error: BaseException) -> None:
    """The traceback, without the frames that the script knows nothing of."""
    frames = error.__traceback__
    while (
        frames is not None
        and frames.tb_next is not None
        and frames.tb_frame.f_globals.get("__package__") == __package__
    ):
        frames = frames.tb_next
    with suppress(Exception):
        sys.excepthook(type(error), error.with_traceback(frames), frames)


def flush() -> None:
    for stream in (sys.stdout, sys.__stdout__, sys.stderr, sys.__stderr__):
        with suppress(Exception):
            stream.flush()  # type: ignore[union-attr]


def give_input(text: str | None) -> None:
    """What the script reads from standard input; nothing, if it is None."""
    if text is None:
        descriptor = os.open(os.devnull, os.O_RDONLY)
    else:
        with TemporaryFile() as file:
            file.write(text.encode())
            file.seek(0)
            descriptor = os.dup(file.fileno())
    if descriptor:
        os.dup2(descriptor, 0)
        os.close(descriptor)
    os.set_inheritable(0, True)
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
