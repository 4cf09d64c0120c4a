"""`Warden`: sees to it that no process of a tool outlives the server, however that ends."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from aiopool.toolserver.environment import inherited
from aiopool.toolserver.processes import GRACE, Child


class Warden:
    """A small process that is told of every other and ends those that are left; started for the first of them."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._pipe = -1

    def be_there(self) -> None:
        """Before the first of them is started, or there would be a moment in which nobody knows of it."""
        if self._child is None or self._child.exited.done():
            self._let_go()
            self._start()

    def watch(self, child: Child) -> None:
        self._tell(f"+{child.pid}")
        child.exited.add_done_callback(lambda _: self._tell(f"-{child.pid}"))

    async def close(self) -> None:
        """It ends when nobody tells it anything any more."""
        self._let_go()
        if self._child is not None:
            await self._child.end(2 * GRACE)
            self._child = None

    def _start(self) -> None:
        reading, self._pipe = os.pipe()
        program = str(Path(__file__).with_name("_warden.py"))
        try:
            self._child = Child(
                [sys.executable, "-I", "-S", program, str(reading)], env=inherited(), cwd="/", pass_fds=(reading,)
            )
        finally:
            os.close(reading)

    def _tell(self, line: str) -> None:
        if self._pipe >= 0:
            with suppress(OSError):
                os.write(self._pipe, f"{line}\n".encode())

    def _let_go(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
