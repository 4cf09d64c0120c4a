"""What runs in a worker: Python scripts, one after another, in one interpreter that keeps its connection.

    the server ◄── a socket: one line of JSON each way ──► this process ── runs ──► scripts
               ◄── pipes: what scripts print ────────────

Standard input, output and error belong to the scripts. When the server's end of the lifeline is gone, because it has
closed it or because it was killed, this process ends with all that it has started, whatever a script is doing.

`python -m aiopool.toolserver._worker FILE [ARG …]` runs one script and ends: so a bare `main` is run where there are
no workers.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from json import dumps, loads  # a script may put its own in their place
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NoReturn

from aiopool import script
from aiopool.errors import PoolError, PoolUnavailable
from aiopool.telling import ToolFailure, explain
from aiopool.toolserver._running import Loaded, Scripts, call, flush, give_input, show, status_of
from aiopool.toolserver._surroundings import OWN_THREADS, Surroundings
from aiopool.toolserver.output import as_text

#: How long a script may take to end by itself after SIGTERM, in seconds.
GRACE = 2.0
#: The exit status after SIGTERM, whether a script ran or not.
ENDED = 128 + signal.SIGTERM
#: Where a script's arguments by name stand, as JSON, when it is run without a worker.
ARGUMENTS = "AIOPOOL_ARGUMENTS"


class Worker:
    """Answers requests until there are no more."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lines = control.makefile("rb")
        self._threads = _Threads(thread_name_prefix=f"{OWN_THREADS} thread")
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(self._threads)
        self._scripts: defaultdict[str, Scripts] = defaultdict(Scripts)
        self._pid = os.getpid()
        self._is_ending = False
        self._variables: Mapping[str, str] = {}
        self._ran: ModuleType | None = None
        self._surroundings: Surroundings

    def serve(self) -> None:
        signal.signal(signal.SIGTERM, self._end)
        opening = next(self._requests(), None)
        if opening is None:
            return
        try:
            self._open(**opening)
        except Exception as exc:
            self._reply(_cause(exc))
            return
        self._surroundings = Surroundings()
        self._reply({"ready": self._pid})
        for request in self._requests():
            self._reply(self._call(request) if "file" in request else self._ping())
            if self._is_ending:
                raise SystemExit(ENDED)
            if script.current is not None:
                # After the answer, so that nobody waits for it.
                self._run(script.current.settle())

    def close(self) -> None:
        if script.current is not None:
            script.current.close()

    def _open(self, kind: str | None, url: str, options: Mapping[str, Any], variables: Mapping[str, str]) -> None:
        script.is_worker = True
        os.environ.update(variables)
        if kind is not None:
            session = script.Session(kind, url, options, self._loop)
            session.run(session.pool.open())
            script.current = session
        self._variables = variables

    def _ping(self) -> dict[str, Any]:
        try:
            if script.current is not None:
                self._run(script.current.ping())
        except Exception as exc:
            return {"ok": False, "error": type(exc).__name__}
        return {"ok": True}

    def _call(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if script.current is not None:
            self._run(asyncio.sleep(0))  # hear what its server has said meanwhile: good-bye, perhaps
        scripts = self._scripts[str(Path(request["file"]).parent)]
        scripts.modules.refresh()
        answer: dict[str, Any] = {"status": 0}
        with scripts.modules.in_use():
            try:
                self._enter(request)
                # In a context of its own: a decimal precision, for one, is a variable of that.
                answer |= copy_context().run(self._execute, scripts, request)
            except SystemExit as exc:
                answer["status"] = status_of(exc)
            except BaseException as exc:
                if _is_told(exc):
                    answer["error"] = explain(exc)
                show(exc)
                answer["status"] = 1
            if os.getpid() != self._pid:
                # A fork of the script's own has come to its end; there can be but one worker.
                flush()
                os._exit(answer["status"])
            return answer | self._leave()

    def _execute(self, scripts: Scripts, request: Mapping[str, Any]) -> dict[str, Any]:
        loaded = scripts.read(request["file"])
        if loaded.program.is_called(request["parameters"], request["extras"]):
            return self._call_main(scripts, loaded, request)
        self._ran = scripts.run(loaded)
        return {}

    def _call_main(self, scripts: Scripts, loaded: Loaded, request: Mapping[str, Any]) -> dict[str, Any]:
        assert loaded.program.main is not None
        main = scripts.main(loaded)
        try:
            value = call(main, loaded.program.main, request["arguments"], request["extras"])
            if loaded.program.main.is_async:
                value = self._run(value)
            if value is None:
                return {}
            raw = as_text(value).encode(errors="replace")
        except Exception as exc:
            return {"status": 1, "error": explain(exc)}
        limit = request["max_output"]
        return {"value": raw[:limit].decode(errors="ignore"), "size": len(raw)}

    def _enter(self, request: Mapping[str, Any]) -> None:
        environment = {**self._variables, **request["environment"]}
        path = [str(Path(request["file"]).parent)]
        path += filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
        self._surroundings.enter(environment, request["folder"], path)
        sys.argv = list(request["argv"])
        give_input(request["stdin"])

    def _leave(self) -> dict[str, Any]:
        """Nothing of this call is left for the next."""
        flush()
        if script.current is not None:
            script.current.take_back(from_all=True)
        if _tasks(self._loop):
            self._run(_end_tasks(self._loop))
        wear = self._surroundings.restore() or ("a thread" if self._threads.are_busy else None)
        wear = wear or ("its end" if self._is_ending else None)
        if self._ran is not None and wear is None:
            self._ran.__dict__.clear()  # files that it has not closed are closed by this
        self._ran = None
        return {"worn": wear} if wear else {}

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return script.drive(self._loop, work)

    def _requests(self) -> Iterator[dict[str, Any]]:
        while line := self._lines.readline():
            yield loads(line)

    def _reply(self, answer: dict[str, Any]) -> None:
        self._control.sendall(dumps(answer).encode() + b"\n")

    def _end(self, number: int, frame: FrameType | None) -> NoReturn:
        self._is_ending = True
        raise SystemExit(ENDED)


def _cause(error: Exception) -> dict[str, Any]:
    """What the driver raised when the pool could not connect."""
    cause = error.__cause__ if isinstance(error, PoolUnavailable) and error.__cause__ is not None else error
    return {"failed": f"{type(cause).__module__}.{type(cause).__qualname__}", "words": str(cause)}


def _is_told(error: BaseException) -> bool:
    """Whether there are better words for it than a traceback."""
    return isinstance(error, PoolError | ToolFailure) or type(error).__module__.startswith(("asyncpg.", "redis."))


class _Threads(ThreadPoolExecutor):
    """Those of the loop: to look up a host, or for `asyncio.to_thread`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._futures: set[Future[Any]] = set()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(function, *args, **kwargs)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    @property
    def are_busy(self) -> bool:
        return bool(self._futures)


async def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """As `asyncio.run` does."""
    if script.current is not None:
        await script.current.settle()  # they may be the driver's, which cancels a query on the server
    own = asyncio.current_task()
    left = [task for task in _tasks(loop) if task is not own]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=GRACE)


def _tasks(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    """Those that an async `main` has left behind; not the pool's."""
    return [task for task in asyncio.all_tasks(loop) if not task.get_name().startswith("aiopool ")]


def _hold_on(lifeline: int, parent: int) -> None:
    """Ends the process, and all that it has started, when its parent lets go or is gone."""
    # A fork of the parent would hold the other end open after its death, so its number is looked at as well.
    while os.getppid() == parent:
        try:
            if select.select([lifeline], [], [], 1.0)[0]:
                break
        except (OSError, ValueError):
            break
    with suppress(OSError):
        os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE)
    with suppress(OSError):
        os.killpg(0, signal.SIGKILL)


def serve(control: int, lifeline: int) -> None:
    for descriptor in (control, lifeline):
        os.set_inheritable(descriptor, False)
    watch = threading.Thread(
        target=_hold_on, args=(lifeline, os.getppid()), name=f"{OWN_THREADS} lifeline", daemon=True
    )
    watch.start()
    worker = Worker(socket.socket(fileno=control))
    try:
        worker.serve()
    except (BrokenPipeError, ConnectionResetError):
        pass  # nobody is there to hear it
    finally:
        worker.close()


def run_once(file: str, *values: str) -> int:
    """One script, in a process of its own: its `main`, by the names of the arguments; returns the exit status."""
    sys.argv = [file, *values]
    sys.path.insert(0, str(Path(file).parent))
    scripts = Scripts()
    try:
        loaded = scripts.read(os.path.abspath(file))
        outline = loaded.program.main
        if outline is None or ARGUMENTS not in os.environ:
            raise ToolFailure(f"only a tool has arguments for its main(): run `python {file}`")
        request = loads(os.environ.pop(ARGUMENTS))
        value = call(scripts.main(loaded), outline, request["arguments"], request["extras"])
        if outline.is_async:
            value = asyncio.run(value)
        if value is not None:
            print(as_text(value))  # noqa: T201
    except Exception as exc:
        if _is_told(exc):
            print(explain(exc), file=sys.stderr)  # noqa: T201
        else:
            show(exc)
        return 1
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(int(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.exit(run_once(*sys.argv[1:]))
