"""The command `aiopool`: which commands there are.

What a command needs is imported when it is run, so that neither a missing extra nor an early Ctrl-C ends in a
traceback.
"""

# No `from __future__ import annotations`: typer reads them, and here they name what only a function has imported.

import os
import sys
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

from aiopool.ending import fail, flush, interruption

if TYPE_CHECKING:
    import typer


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
