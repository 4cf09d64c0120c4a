"""The command `aiopool`: which commands there are, and how each of them ends.

Whatever happens, a command ends with a status and, if it is not 0, one line on stderr that says what to do:
1 for a failure, 128 and the signal's number after SIGINT (130) and SIGTERM (143). What a command needs is
imported when it is run, so that neither a missing extra nor an early Ctrl-C ends in a traceback.
"""

# No `from __future__ import annotations`: typer reads them, and here they name what only a function has imported.

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import StrEnum
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import typer

#: One Ctrl-C may arrive twice: from the terminal, and from a parent such as `uv run` that passes it on.
SAME_KEYSTROKE = 1.0


class Transport(StrEnum):
    """How `serve` talks to its clients."""

    STDIO = "stdio"
    HTTP = "http"


def main() -> NoReturn:
    """The entry point."""
    interruption.listen()
    # Where a character cannot be shown, a question mark is better than a traceback.
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        app = _app()
    except ModuleNotFoundError as exc:
        if exc.name not in ("typer", "click", "rich"):
            raise
        fail(f'{exc.name} is not installed; run: pip install "aiopool-core[all]"')
    app()
    sys.exit()


def _app() -> "typer.Typer":
    from typing import Annotated

    import rich  # noqa: F401
    import typer

    app = typer.Typer(
        name="aiopool",
        help="aiopool: asyncio-native pooling. Create once, reuse always.",
        no_args_is_help=True,
        add_completion=False,
        # A failure is told in one line; a fault of ours deserves a traceback without the values of variables.
        pretty_exceptions_enable=False,
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            from aiopool import __version__

            typer.echo(f"aiopool {__version__}")
            raise typer.Exit

    # With a callback, a lone command keeps its name.
    @app.callback()
    def everything(
        version: Annotated[
            bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
        ] = False,
    ) -> None: ...

    @app.command()
    def demo(
        calls: Annotated[
            int, typer.Option(min=1, max=100_000, help="Calls each way, pooled and unpooled, against each server.")
        ] = 300,
        concurrency: Annotated[int, typer.Option(min=1, max=100, help="Calls under way at once.")] = 10,
        as_json: Annotated[bool, typer.Option("--json", help="Write the results to stdout as JSON.")] = False,
        debug: Annotated[bool, typer.Option("--debug", help="Show the traceback if something fails.")] = False,
    ) -> None:
        """See what pooling saves on this machine: PostgreSQL, Redis and HTTPS, with and without pools.

        It starts the three servers, which need no set-up and leave nothing behind.

        Set DATABASE_URL or REDIS_URL to use servers of yours: they are only read.
        """
        from aiopool.adapters import hush
        from aiopool.demo import Failure, run

        try:
            interruption.run(run(calls, concurrency, as_json=as_json))
        except Exception as exc:
            # A Failure has weighed its words; the driver's error behind it may quote the address.
            told = exc.__cause__ if isinstance(exc, Failure) else exc
            if told is not None:
                hush(told, *map(os.environ.get, ("DATABASE_URL", "REDIS_URL", "PGPASSWORD")))
            if debug:
                raise
            if isinstance(exc, Failure):
                fail(f"demo: {exc}")
            if isinstance(exc, BrokenPipeError):
                # The reader of a pipe, such as `head`, has seen enough.
                flush()
                sys.exit(1)
            fail(f"demo: {type(exc).__name__}: {' '.join(str(exc).split())}; for more, add --debug")

    @app.command()
    def serve(
        file: Annotated[str, typer.Argument(help="The file of pools and tools, YAML or TOML.")],
        transport: Annotated[
            Transport, typer.Option(help="stdio for a client that starts it, http for many clients.")
        ] = Transport.STDIO,
        host: Annotated[str | None, typer.Option(help="Where to listen; instead of the file's, or 127.0.0.1.")] = None,
        port: Annotated[
            int | None,
            typer.Option(min=0, max=65535, help="Instead of the file's, or 8000; 0 is any free one, told on stderr."),
        ] = None,
        embedded: Annotated[
            bool, typer.Option("--embedded", help="Start servers for pools without an address.")
        ] = False,
        reload: Annotated[
            bool, typer.Option(help="Serve the file anew when it changes; SIGHUP does so anyway.")
        ] = True,
    ) -> None:
        """Serve the tools of a file to MCP clients, over stdio or HTTP."""
        from aiopool.toolserver.serving import DEADLINE, Failure, kill_children, serve

        work = serve(file, transport.value, host=host, port=port, embedded=embedded, reload=reload)
        try:
            interruption.run(work, deadline=DEADLINE, by_force=kill_children)
        except Failure as exc:
            fail(f"serve: {exc}")

    from aiopool.toolserver import commands

    commands.register(app)
    return app


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
