"""`stdio`: sessions with MCP servers that are processes of ours, none of which outlives its session."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from errno import ENOENT
from pathlib import Path
from typing import Any, TextIO

import anyio

from aiopool.adapters._mcp_client import connected, sdk

_KEEPER = str(Path(__file__).with_name("_mcp_keeper.py"))
#: Seconds for a keeper to tell how the server has ended, when our end of the pipes says that it has.
_LAST_WORDS = 0.3


class StdioFactory:
    """What `stdio` returns: called, it is a session to be entered."""

    def __init__(
        self,
        argv: tuple[str, ...],
        env: dict[str, str] | None,
        cwd: str | os.PathLike[str] | None,
        errlog: TextIO | None,
        client: dict[str, Any],
    ) -> None:
        self._argv = argv
        self._env = env
        self._cwd = cwd
        self._errlog = errlog
        self._client = client

    def __call__(self) -> AbstractAsyncContextManager[Any]:
        return self._session()

    def __repr__(self) -> str:
        return f"<stdio {os.path.basename(self._argv[0])!r}>"  # the arguments and the environment may hold secrets

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Any]:
        with Keeper(self._argv[0]) as keeper:
            async with anyio.create_task_group() as watch:
                watch.start_soon(keeper.watch)
                async with connected(self._transport(keeper), self._client) as client:
                    yield client
                watch.cancel_scope.cancel()

    @asynccontextmanager
    async def _transport(self, keeper: Keeper) -> AsyncIterator[Any]:
        stdio = sdk("mcp.client.stdio")
        self._look_for_command()
        argv = [sys.executable, "-I", "-S", _KEEPER, *self._argv]
        parameters = stdio.StdioServerParameters(command=argv[0], args=argv[1:], env=self._env, cwd=self._cwd)
        async with AsyncExitStack() as stack:
            with keeper.meets(self._errlog) as socket_of_keeper:
                streams = await stack.enter_async_context(stdio.stdio_client(parameters, errlog=socket_of_keeper))
            try:
                yield streams
            except Exception:
                await keeper.last_words()
                raise
            finally:
                keeper.dismiss()

    def _look_for_command(self) -> None:
        command, path = self._argv[0], (self._env or os.environ).get("PATH", os.environ.get("PATH"))
        if os.sep not in command and shutil.which(command, path=path) is None:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), command)


def stdio(
    command: str | os.PathLike[str],
    *args: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    errlog: TextIO | None = None,
    **client: Any,
) -> StdioFactory:
    """Sessions with a server that is started for each of them; a factory for `MCPSessionPool`.

    `env` is added to the few variables that the SDK passes on. What the server writes to its standard error goes to
    `errlog`, or to ours. `client` are keywords of `mcp.Client`, such as `mode` (of `ClientSession` with mcp 1.x).

    The server ends with its session: its standard input is closed, as the protocol has it; then it is told to end,
    then it is killed, and whatever it has started after it. So it ends, too, if the process that uses it is killed
    with -9. (What has left its process group is found on Linux only.) If it ends by itself, its session is lost at
    once. Needs `mcp`, 1.24 or newer, and a POSIX system.
    """
    sdk("mcp.client.stdio")  # takes a second the first time, and here rather than in the event loop
    words = (os.fspath(command), *(os.fspath(each) for each in args))
    return StdioFactory(words, None if env is None else dict(env), cwd, errlog, client)


class Keeper:
    """Our end of the socket to the process that is the server's parent: see `_mcp_keeper`."""

    def __init__(self, command: str) -> None:
        self._command = os.path.basename(command)
        self._loop = asyncio.get_running_loop()
        self._ours, self._its = socket.socketpair()
        self._ours.setblocking(False)
        self._heard = b""
        self._pid: int | None = None
        #: Why the server is no more.
        self._ended: asyncio.Future[Exception] = self._loop.create_future()
        #: If the server ends now, its session does.
        self._is_needed = True

    def __enter__(self) -> Keeper:
        self._loop.add_reader(self._ours, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        """If the server still runs, it is the keeper who sees to it."""
        self._loop.remove_reader(self._ours)
        self._ours.close()
        self._its.close()

    @contextmanager
    def meets(self, errlog: TextIO | None) -> Iterator[socket.socket]:
        """What it is to be given as its standard error; it learns by that where the server's is to go."""
        socket.send_fds(self._ours, [b"."], [_descriptor(errlog)])
        try:
            yield self._its
        finally:
            self._its.close()

    async def watch(self) -> None:
        """Raises when the server has ended that was needed."""
        await asyncio.wait((self._ended,))
        if self._is_needed:
            raise self._ended.result()

    def dismiss(self) -> None:
        """From now on the server is the keeper's alone, and has a few seconds left, whatever becomes of our task.

        A cancellation in the midst of what the SDK does to end it would end that instead.
        """
        self._is_needed = False
        with suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)

    async def last_words(self) -> None:
        with anyio.move_on_after(_LAST_WORDS, shield=True):
            await asyncio.wait((self._ended,))

    def _hear(self) -> None:
        try:
            heard = self._ours.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        *lines, self._heard = (self._heard + heard).split(b"\n")
        for line in lines:
            what, _, number = line.decode().partition(" ")
            if what == "keeper":
                self._pid = int(number)
            elif what == "failed":
                self._end(OSError(int(number), os.strerror(int(number)), self._command))
            elif what == "ended":
                manner = f"with exit code {number}" if int(number) >= 0 else f"by signal {-int(number)}"
                self._end(ConnectionError(f"the MCP server {self._command!r} has ended {manner}"))
        if not heard:
            self._loop.remove_reader(self._ours)
            self._lost()

    def _lost(self) -> None:
        if not self._ended.done() and self._pid is not None:
            # Somebody has killed it. The number is no other's as long as one of its group lives.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)
        self._end(ConnectionError(f"the MCP server {self._command!r} was killed"))

    def _end(self, reason: Exception) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)


def _descriptor(errlog: TextIO | None) -> int:
    if errlog is not None:
        return errlog.fileno()
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # a notebook's, or none
        return 2
