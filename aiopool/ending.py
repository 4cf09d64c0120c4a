"""How a command ends: whatever happens, with a status and, if it is not 0, one line on stderr that says what to do.

1 for a failure, 128 and the signal's number after SIGINT (130) and SIGTERM (143).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

#: One Ctrl-C may arrive twice: from the terminal, and from a parent such as `uv run` that passes it on.
SAME_KEYSTROKE = 1.0


def fail(message: str, status: int = 1) -> NoReturn:
    """End with one line on stderr."""
    flush()
    with suppress(OSError):
        print(f"aiopool: {message}", file=sys.stderr, flush=True)  # noqa: T201
    sys.exit(status)


def flush() -> None:
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        # Nobody reads it any more, or there is no room; or the interpreter's own flush would complain again.
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Interruption:
    """SIGINT and SIGTERM, answered from the first moment to the last.

    While no event loop runs there is nothing to undo, and the process ends at once. While one runs, its main task
    is cancelled, so that every `async with` is left as ever. Whoever presses Ctrl-C again after that wants no
    more politeness: the process ends at once, and what it started (embedded servers) notices and follows.
    """

    def __init__(self) -> None:
        self._cancel: Callable[[], object] | None = None
        self._deadline: float | None = None
        self._by_force: Callable[[], object] = lambda: None
        self._status = 0
        self._since = 0.0

    def listen(self) -> None:
        # Not the loop's own handlers: these are there before it and after it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._answer)

    def run(
        self,
        work: Coroutine[Any, Any, object],
        deadline: float | None = None,
        by_force: Callable[[], object] = lambda: None,
    ) -> None:
        """`asyncio.run(work)`, which a signal ends; then this does not return.

        After `deadline` seconds it ends all the same. `by_force` is called before the process does; it may find
        nothing to do.
        """
        import asyncio

        self._deadline, self._by_force = deadline, by_force

        async def cancellable() -> None:
            task, loop = asyncio.current_task(), asyncio.get_running_loop()
            assert task is not None
            self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
            try:
                await work
            except BaseException:
                # Whatever comes of a cancellation, a driver's own exception perhaps, it is no failure.
                if not self._status:
                    raise
            finally:
                self._cancel = None
            if self._status:
                # At once: the loop's end might wait for a thread that looks up a host's name.
                self._exit()

        asyncio.run(cancellable())

    def _answer(self, number: int, frame: FrameType | None) -> None:
        again = self._status != 0
        if not again:
            self._status, self._since = 128 + number, time.monotonic()
        if self._cancel is None or (again and time.monotonic() - self._since > SAME_KEYSTROKE):
            self._exit()
        if not again:
            self._cancel()
            if self._deadline is not None:
                # A thread: what hangs may be the event loop.
                timer = threading.Timer(self._deadline, self._exit)
                timer.daemon = True
                timer.start()

    def _exit(self) -> NoReturn:
        with suppress(Exception):
            self._by_force()
        # RuntimeError: the signal came in the midst of a write to the same stream.
        with suppress(OSError, ValueError, AttributeError, RuntimeError):
            flush()
            if sys.stdout.isatty():
                # A live table hides the cursor.
                os.write(sys.stdout.fileno(), b"\x1b[?25h")
        with suppress(OSError):
            os.write(2, b"aiopool: stopped; nothing is left running\n")
        os._exit(self._status)


interruption = Interruption()
