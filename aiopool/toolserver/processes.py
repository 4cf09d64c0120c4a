"""`Child`: a process that is started for a tool, what it writes, and its end with all that it has started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from tempfile import TemporaryFile
from typing import IO

#: How long a process may take to end by itself after SIGTERM, in seconds, before it is killed.
GRACE = 2.0
#: A process that is killed and still there after so long, in seconds, is stuck in the kernel.
_VANISHES = 5.0
_CHUNK = 65536
_LARGEST_PIPE = 2**20


class Capture:
    """One stream of a child's output, read as it comes and kept up to a limit: a child never waits for us for long."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)
        self._kept = bytearray()
        self._limit = 0
        self._keeps_end = False
        #: How much was written, or was since `begin`, in bytes.
        self.size = 0
        loop.add_reader(self._reading, self._read)

    def keep(self, limit: int, *, keeps_end: bool = False) -> None:
        """Keep the first, or the last, `limit` bytes of what is yet to be read, written already or not."""
        self._limit, self._keeps_end = limit, keeps_end

    def begin(self, limit: int, *, keeps_end: bool = False) -> None:
        """Keep so much of what is written from now on; what came before belongs to nobody."""
        self._limit = 0
        self.drain()
        self._kept.clear()
        self.size = 0
        self.keep(limit, keeps_end=keeps_end)

    def drain(self) -> None:
        """Take what has been written by now: no more than a pipe holds, for somebody may write on and on."""
        for _ in range(_LARGEST_PIPE // _CHUNK):
            if self._reading < 0 or self._read() < _CHUNK:
                break

    @property
    def kept(self) -> bytes:
        return bytes(self._kept)

    @property
    def is_cut(self) -> bool:
        return self.size > self._limit

    def _read(self) -> int:
        try:
            data = os.read(self._reading, _CHUNK)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self.close()
            return 0
        self.size += len(data)
        if self._keeps_end:
            self._kept += data
            del self._kept[: -self._limit or None]
        elif (room := self._limit - len(self._kept)) > 0:
            self._kept += data[:room]
        return len(data)

    def started(self) -> None:
        """The child has its copy of the end that it writes to, and ours must not keep the stream open."""
        os.close(self.writing)

    def close(self) -> None:
        if self._reading >= 0:
            self._loop.remove_reader(self._reading)
            os.close(self._reading)
            self._reading = -1


#: The groups of all children that run.
_groups: set[int] = set()


def kill_all() -> None:
    """Kill every child with its group, from whatever thread: for a process that has no time left to end in order."""
    for group in list(_groups):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


class Child:
    """Leads a session and a process group of its own, so that what it starts ends with it.

    Raises `OSError` if it cannot be started. `exited` is done when it has ended, with its status, negative for a
    signal; by then the rest of its group is killed, and all that was written is in `stdout` and `stderr`.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        stdin: str | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = loop.create_future()
        self.stdout, self.stderr = Capture(loop), Capture(loop)
        try:
            with _input(stdin) as given:
                self._popen = subprocess.Popen(
                    argv,
                    env=env,
                    cwd=cwd,
                    stdin=given,
                    stdout=self.stdout.writing,
                    stderr=self.stderr.writing,
                    pass_fds=pass_fds,
                    start_new_session=True,
                )
        except BaseException:
            self.stdout.close()
            self.stderr.close()
            raise
        finally:
            self.stdout.started()
            self.stderr.started()
        self.pid = self._popen.pid
        _groups.add(self.pid)
        self._pidfd = _watch(self.pid, loop, self._ended)

    def terminate(self) -> None:
        """Ask it to end, with its group."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, with its group."""
        self._signal(signal.SIGKILL)

    async def end(self, grace: float = GRACE) -> None:
        """Give it `grace` seconds to end by itself, then kill it. A cancellation kills it at once."""
        try:
            await asyncio.wait((self.exited,), timeout=grace)
        finally:
            self.kill()
        await asyncio.wait((self.exited,), timeout=_VANISHES)

    def _signal(self, number: int) -> None:
        # Until it is waited for, nobody else can have its number.
        if self._popen.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _ended(self) -> None:
        if self._popen.returncode is not None:
            return
        self.kill()  # what it has left behind, which would hold the streams open
        _groups.discard(self.pid)
        status = self._popen.wait()
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        for stream in (self.stdout, self.stderr):
            stream.drain()
            stream.close()
        if not self.exited.done():
            self.exited.set_result(status)


def _watch(pid: int, loop: asyncio.AbstractEventLoop, ended: object) -> int | None:
    """Calls `ended` on the loop when the process has ended; not waited for, it keeps its number until then."""
    try:
        pidfd: int = os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, or forbidden in a container
        threading.Thread(target=_wait, args=(pid, loop, ended), daemon=True).start()
        return None
    loop.add_reader(pidfd, ended)  # type: ignore[arg-type]
    return pidfd


def _wait(pid: int, loop: asyncio.AbstractEventLoop, ended: object) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(ended)  # type: ignore[arg-type]


def _input(text: str | None) -> IO[bytes]:
    """A file without a name, or nothing: a pipe would have to be written to while the process runs."""
    if text is None:
        return open(os.devnull, "rb")
    file = TemporaryFile()  # noqa: SIM115 - whoever starts the process closes it
    file.write(text.encode())
    file.seek(0)
    return file
