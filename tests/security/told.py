"""Everything that is told while something happens: log lines, warnings, output, and what errors and objects say."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import os
import pickle
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

import aiopool
from aiopool import PoolError, PoolManager
from tests.security.secret import Secret

OURS = str(Path(aiopool.__file__).parent) + os.sep


class Told:
    """Everything that was told."""

    def __init__(self) -> None:
        #: What was told, and where first.
        self.lines: dict[str, str] = {}

    def add(self, place: str, text: str) -> None:
        self.lines.setdefault(text, place)

    def assert_nothing_of(self, secret: Secret) -> None:
        leaks = [(place, part, text) for text, place in self.lines.items() if (part := secret.told_in(text))]
        assert not leaks, f"of {secret.raw!r}, " + "\n".join(
            [f"{leaks[0][0]} tells {leaks[0][1]!r}:\n{leaks[0][2]}", *(f"{place} tells too" for place, *_ in leaks[1:])]
        )

    def thing(self, thing: object) -> None:
        """How any object shows itself."""
        place = type(thing).__name__
        self.add(f"str of {place}", str(thing))
        self.add(f"repr of {place}", repr(thing))

    def pool(self, pool: Any) -> None:
        """A pool from outside: itself, its figures, its place in a manager and its metrics."""
        self.thing(pool)
        for part in ("pool", "client", "config"):
            self.thing(getattr(pool, part, None))
        self.add("stats()", json.dumps(pool.stats()))
        registry = CollectorRegistry()
        manager = PoolManager(registry=registry)
        manager.register("pool", pool)
        manager.update_metrics()
        self.thing(manager)
        self.add("manager.stats()", json.dumps(manager.stats()))
        self.add("metrics", generate_latest(registry).decode())

    def event(self, event: Any) -> None:
        """To be subscribed to a pool."""
        self.thing(event)
        if (error := getattr(event, "error", None)) is not None:
            self.error(error)

    def error(self, error: BaseException, *, with_locals: bool = True) -> None:
        """An error with all that hangs on it; `with_locals`: what a debugger or Sentry shows of our frames, too."""
        self.add("traceback", "".join(traceback.format_exception(error)))
        for each in _chain(error):
            self.thing(each)
            self.add("notes", "\n".join(getattr(each, "__notes__", ())))
            if isinstance(each, PoolError):
                self._copies(each)
            if with_locals:
                self._locals(each)

    def _copies(self, error: PoolError) -> None:
        pickled = pickle.dumps(error)
        self.add("pickle", pickled.decode("latin-1"))
        for again in (pickle.loads(pickled), copy.copy(error)):
            assert type(again) is type(error)
            self.thing(again)
            self.add("attributes", repr(vars(again)))

    def _locals(self, error: BaseException) -> None:
        for frame, line in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename.startswith(OURS):
                for name, value in frame.f_locals.items():
                    self.add(f"{name} in {frame.f_code.co_qualname}, line {line}", f"{value!r}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, its causes, contexts and parts."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        each = pending.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            pending += [each.__cause__, each.__context__]
            pending += each.exceptions if isinstance(each, BaseExceptionGroup) else ()


class _Handler(logging.Handler):
    def __init__(self, told: Told) -> None:
        super().__init__(logging.NOTSET)
        self._told = told
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._told.add(f"logger {record.name}", self.format(record))


@contextlib.contextmanager
def listening() -> Iterator[Told]:
    """Hear what is logged on any logger at any level, warned of, printed, or raised where nobody can catch it."""
    told = Told()
    root, handler = logging.getLogger(), _Handler(told)
    level, hook = root.level, sys.unraisablehook
    out, err = io.StringIO(), io.StringIO()
    root.addHandler(handler)
    root.setLevel(logging.NOTSET)
    sys.unraisablehook = lambda args: told.error(args.exc_value) if args.exc_value else None
    try:
        with (
            warnings.catch_warnings(record=True) as warned,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            warnings.simplefilter("always")
            yield told
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        sys.unraisablehook = hook
        told.add("stdout", out.getvalue())
        told.add("stderr", err.getvalue())
        for warning in warned:
            told.add("warning", str(warning.message))
