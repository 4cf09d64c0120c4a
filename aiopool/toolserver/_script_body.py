"""What a call of a script does: lend it a worker or a slot, run it, and make its output a result."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from aiopool.config import PoolConfig
from aiopool.telling import ToolFailure
from aiopool.toolserver._modules import signature
from aiopool.toolserver.addresses import Address
from aiopool.toolserver.environment import LONGEST, fits, inherited, of_arguments
from aiopool.toolserver.output import as_object
from aiopool.toolserver.program import Program
from aiopool.toolserver.script import PYTHON, ScriptPlan
from aiopool.toolserver.template import as_text
from aiopool.toolserver.tool import MAX_BYTES, Result
from aiopool.toolserver.worker import ARGUMENTS, STDERR_KEPT, Outcome, Worker, WorkerError, told
from aiopool.toolserver.workers import Slot, SlotPool, WorkerPool

logger = logging.getLogger("aiopool")

#: In bytes: what a result says beside the output.
_AROUND = 500
#: What is told of a script's complaints, in characters.
_TAIL = 2000
#: How often a call is given to another worker because the one that it had was dead already.
_TRIES = 3


class WorkerBody:
    """Runs a Python script in a worker of a pool."""

    def __init__(self, plan: ScriptPlan, tool: str, workers: WorkerPool) -> None:
        self._plan = plan
        self._tool = tool
        self._workers = workers
        self._environment = {**inherited(), **plan.environment}

    async def run(self, arguments: Mapping[str, Any]) -> Result:
        plan, program = self._plan, _program(self._plan)
        is_called = program.is_called(plan.parameters, plan.extras)
        request = {
            "file": plan.file,
            # By name nothing can be taken for an option.
            "argv": _argv(plan, arguments, guarded=not is_called),
            "arguments": arguments,
            "parameters": plan.parameters,
            "extras": plan.extras,
            "environment": {**self._environment, **of_arguments(arguments)},
            "folder": plan.folder,
            "stdin": None if plan.stdin is None else plan.stdin.render(arguments),
            "max_output": plan.max_output,
        }
        for tries_left in reversed(range(_TRIES)):
            lease = await self._workers.pool.acquire(_patience(plan, self._workers.config))
            worker = lease.connection
            try:
                outcome = await self._bounded(worker, request)
            except WorkerError:
                # It has ended before it was asked.
                lease.discard()
                if not tries_left:
                    raise
            except BaseException:
                lease.release()  # it is busy, so it is ended
                raise
            else:
                if worker.wear is None:
                    lease.release()
                else:
                    logger.debug("tool %r has left %s behind: its worker is replaced", self._tool, worker.wear)
                    lease.discard()
                return _result(outcome, plan, self._tool, _hiding(self._workers.address))
        raise AssertionError

    async def _bounded(self, worker: Worker, request: Mapping[str, Any]) -> Outcome:
        limit = asyncio.timeout(self._plan.timeout)
        try:
            async with limit:
                return await worker.run(request)
        except TimeoutError:
            if not limit.expired():
                raise
            raise _too_long(self._plan) from None


class ProcessBody:
    """Runs any program, in a process of its own."""

    def __init__(self, plan: ScriptPlan, tool: str, slots: SlotPool) -> None:
        self._plan = plan
        self._tool = tool
        self._slots = slots

    async def run(self, arguments: Mapping[str, Any]) -> Result:
        plan, address = self._plan, self._slots.address
        argv = self._command(arguments)
        environment = {**inherited(), **plan.environment, **of_arguments(arguments)}
        if address is not None:
            environment = {**address.variables, **environment}
        if self._calls_main():
            environment[ARGUMENTS] = json.dumps({"arguments": arguments, "extras": plan.extras}, ensure_ascii=False)
        for number, text in enumerate(argv):
            _refuse_unfit(f"argument {number} of the command", text)
        for name, text in environment.items():
            _refuse_unfit(f"the variable {name}", text)
        stdin = None if plan.stdin is None else plan.stdin.render(arguments)
        lease = await self._slots.pool.acquire(_patience(plan, self._slots.config))
        try:
            outcome = await self._run(lease.connection, argv, environment, stdin)
        finally:
            lease.release()  # a process that still runs makes the slot broken: it is ended
        return _result(outcome, plan, self._tool, _hiding(address))

    async def prepare(self) -> None:
        """Say so now if the program is not there."""
        if problem := missing_program(self._plan):
            logger.warning("tool %r: %s; its calls will fail", self._tool, problem)

    async def _run(self, slot: Slot, argv: list[str], env: Mapping[str, str], stdin: str | None) -> Outcome:
        plan = self._plan
        try:
            child = slot.start(argv, env, plan.folder, stdin)
        except OSError as exc:
            raise _not_started(plan, exc) from exc
        # A quick one has written all that it had to say by now.
        child.stdout.keep(plan.max_output)
        child.stderr.keep(STDERR_KEPT, keeps_end=True)
        await asyncio.wait((child.exited,), timeout=plan.timeout)
        if not child.exited.done():
            raise _too_long(plan)
        return Outcome(child.exited.result(), child.stdout.kept, child.stdout.size, child.stderr.kept)

    def _command(self, arguments: Mapping[str, Any]) -> list[str]:
        plan = self._plan
        if plan.shell is not None:
            for name in plan.shell.leading:
                _refuse_dash(plan, name, as_text(arguments.get(name)))
            for name in plan.shell.names:
                _refuse_unfit(f"argument {name}", as_text(arguments.get(name)))
            return [plan.command, "-c", plan.shell.command]
        if self._calls_main():
            assert plan.file is not None
            values = _argv(plan, arguments, guarded=False)[1:]
            return [sys.executable, "-P", "-m", "aiopool.toolserver._worker", plan.file, *values]
        if plan.file is not None:
            return [sys.executable, plan.file, *_argv(plan, arguments, guarded=True)[1:]]
        command = sys.executable if plan.command in PYTHON else plan.command
        return [command, *_argv(plan, arguments, guarded=True)]

    def _calls_main(self) -> bool:
        """Whether the file does nothing when it is run."""
        if self._plan.file is None:
            return False
        program = _program(self._plan)
        return program.main is not None and not program.has_guard


def missing_program(plan: object) -> str | None:
    """What is wrong with the program of a script, if it is not here or may not be run; None for any other plan."""
    if not isinstance(plan, ScriptPlan) or plan.command in PYTHON:
        return None
    path = plan.command if os.sep not in plan.command else os.path.join(plan.folder, plan.command)
    if shutil.which(path, path={**inherited(), **plan.environment}["PATH"]) is not None:
        return None
    return f"there is no program {plan.command!r} here that can be run; install it, or correct its name"


def _patience(plan: ScriptPlan, config: PoolConfig) -> float:
    """How long to wait for a worker or a slot: a pool that is exhausted should be told before the call's time is up."""
    patience = 0.9 * plan.call_timeout
    return patience if config.acquire_timeout is None else min(patience, config.acquire_timeout)


def _program(plan: ScriptPlan) -> Program:
    assert plan.file is not None
    try:
        return _read(plan.file, signature(plan.file))
    except SyntaxError as exc:
        raise ToolFailure(f"the script {Path(plan.file).name} is not valid Python in its line {exc.lineno}") from exc
    except OSError as exc:
        raise ToolFailure(f"the script {Path(plan.file).name} cannot be read: {exc.strerror}") from exc


@lru_cache(maxsize=256)
def _read(file: str, _: object) -> Program:
    return Program.read(file)


def _argv(plan: ScriptPlan, arguments: Mapping[str, Any], *, guarded: bool) -> list[str]:
    """One argument for each element, whatever is in it."""
    argv: list[str] = []
    for template in plan.args:
        text = template.render(arguments)
        # What has text of the author's in front can't become an option, nor what stands after `--`.
        if guarded and template.names and template.text.lstrip().startswith("{{"):
            _refuse_dash(plan, ", ".join(sorted(template.names)), text)
        guarded = guarded and template.text != "--"
        argv.append(text)
    return argv


def _refuse_dash(plan: ScriptPlan, name: str, text: str) -> None:
    if text.startswith("-") and not plan.allows_dash and name not in plan.numbers:
        raise ToolFailure(
            f"argument {name} begins with a dash, which the program could take for an option; begin it with "
            "something else"
        )


def _refuse_unfit(name: str, text: str) -> None:
    if not fits(text):
        problem = "holds a null character" if "\0" in text else f"is longer than {LONGEST} bytes"
        raise ToolFailure(f"{name} {problem}, which cannot be passed to a program")


def _not_started(plan: ScriptPlan, exc: OSError) -> ToolFailure:
    program = Path(plan.command).name
    if exc.errno == errno.E2BIG:
        return ToolFailure("the arguments are too long together to be passed to a program; pass less")
    return ToolFailure(f"{program!r} cannot be run on this server: {os.strerror(exc.errno or 0)}")


def _too_long(plan: ScriptPlan) -> ToolFailure:
    return ToolFailure(f"the script ran longer than {plan.timeout:g} s and was stopped; let it do less")


def _hiding(address: Address | None) -> Callable[[str], str]:
    return str if address is None else address.hide


def _result(outcome: Outcome, plan: ScriptPlan, tool: str, hide: Callable[[str], str]) -> Result:
    stderr = hide(outcome.stderr.decode(errors="replace")).strip()
    if outcome.error is not None or outcome.status != 0:
        if stderr and outcome.error is not None:
            logger.warning("tool %r: %s", tool, stderr[-_TAIL:])
        return Result(hide(_complaint(outcome, stderr)), is_error=True)
    if stderr:
        logger.info("tool %r wrote to its standard error: %s", tool, stderr[-_TAIL:])
    if outcome.value is not None:
        text, size, kept = outcome.value, outcome.value_size, len(outcome.value.encode())
    else:
        text, size, kept = _decoded(outcome.stdout), outcome.stdout_size, len(outcome.stdout)
    text = hide(text)
    if size > kept:
        if len(raw := text.encode(errors="replace")) > (most := MAX_BYTES - _AROUND):  # it would be cut once more
            text, kept = raw[:most].decode(errors="ignore"), min(kept, most)
        notice = f"[truncated: these are the first {kept} of {size} bytes; ask for less]"
        return Result(f"{text}\n{notice}")
    return Result(text, structured=as_object(text))


def _complaint(outcome: Outcome, stderr: str) -> str:
    if outcome.error is not None:
        return outcome.error
    said = stderr or _decoded(outcome.stdout)
    tail = f"…{said[-_TAIL:]}" if len(said) > _TAIL else said
    return f"the script ended with {told(outcome.status)}{f':{chr(10)}{tail}' if tail else ' and said nothing'}"


def _decoded(raw: bytes) -> str:
    return raw.decode(errors="replace").rstrip("\r\n")
