"""`script:` in a tool: a program, with the arguments of the call as its own, in a process or in a warm worker."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiopool.configvalues import COUNT, FLAG, SECONDS, TEXT, ValueType, one_of
from aiopool.manager import PoolManager
from aiopool.toolserver._programs import judge
from aiopool.toolserver.environment import clashes, variable
from aiopool.toolserver.program import Program
from aiopool.toolserver.section import Section
from aiopool.toolserver.shelltext import ShellText
from aiopool.toolserver.template import Template
from aiopool.toolserver.tool import MAX_BYTES, Body, Head

if TYPE_CHECKING:
    from aiopool.toolserver.workers import SlotPool, WorkerPool

KEY = "script"
TOOL_KEYS: Mapping[str, ValueType] = {}

#: Names for the interpreter that this runs in: so it works in a virtual environment, too.
PYTHON = ("python", "python3")
#: What an argument for its connection may be called in `main`, beside the name of the pool.
_CONNECTION = "connection"


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError
    return [_scalar(item) for item in value]


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise ValueError
    return str(value)


_KEYS: Mapping[str, ValueType] = {
    "command": TEXT,
    "args": ValueType("a list of texts, one for each argument", _texts),
    "working_dir": TEXT,
    "timeout": SECONDS,
    "mode": one_of("worker", "exec"),
    "stdin": TEXT,
    "max_output": COUNT,
    "allow_dash": FLAG,
}
_REMEDIES = {
    "env": "write `environment:` on the tool",
    "environment": "write it on the tool, beside `script:`",
    "cwd": "write `working_dir:`",
    "file": "write `command: python` and `args: [file, …]`",
    "pool": "write it on the tool, beside `script:`",
}


@dataclass(frozen=True, repr=False)
class ScriptPlan:
    """A program, and how it is run."""

    #: The program and its arguments; of a `shell:` text only the shell.
    command: str
    args: tuple[Template, ...]
    shell: ShellText | None
    #: The Python file that runs, if it is one.
    file: str | None
    #: A worker is lent for each call, or a slot.
    is_worker: bool
    #: Whose numbers bound how many run at once, and whose server they talk to.
    pool: str | None
    #: Nothing but scripts uses it.
    is_pool_ours: bool
    parameters: tuple[str, ...]
    folder: str
    environment: Mapping[str, str]
    stdin: Template | None
    #: Seconds that the program may run; None: as long as the call.
    timeout: float | None
    #: Seconds for the call.
    call_timeout: float
    #: Bytes.
    max_output: int
    allows_dash: bool
    #: Parameters of which a dash in front is no option: they are numbers.
    numbers: frozenset[str]
    is_read_only: bool = False

    @property
    def extras(self) -> tuple[str, ...]:
        """What `main` may call its connection."""
        return () if self.pool is None else (_CONNECTION, self.pool)

    def bind(self, tool: str, pools: PoolManager) -> Body:
        from aiopool.toolserver._script_body import ProcessBody, WorkerBody

        if self.is_worker:
            return WorkerBody(self, tool, self._workers(pools))
        return ProcessBody(self, tool, self._slots(pools))

    def _workers(self, pools: PoolManager) -> WorkerPool:
        from aiopool.toolserver.workers import WorkerPool, pool_beside

        return pool_beside(WorkerPool, "workers", self.pool, pools, takes_its_place=self.is_pool_ours)

    def _slots(self, pools: PoolManager) -> SlotPool:
        from aiopool.toolserver.workers import SlotPool, pool_beside

        return pool_beside(SlotPool, "slots", self.pool, pools, takes_its_place=self.is_pool_ours)


def read(tool: Section, head: Head) -> ScriptPlan | None:
    """What stands under `script`."""
    section = tool.section(KEY)
    section.refuse_unknown({**_KEYS, "shell": TEXT}, _REMEDIES)
    values = section.read(_KEYS)
    if not 0 < values.get("timeout", 1) < inf:
        section.refuse("must be more than 0 seconds", "timeout")
    if not 0 < values.get("max_output", 1) <= MAX_BYTES:
        section.refuse(f"must be from 1 to {MAX_BYTES}, which is as much as a result may hold", "max_output")
    if head.pool_kind not in (None, "postgres", "redis"):
        tool.refuse(f"is of type {head.pool_kind}, which a script can't use; leave it out", "pool")
    for name, value in head.environment.items():
        _refuse_variable(tool, name, value)
    for one, other in clashes(head.parameters.names):
        tool.refuse(f"{one!r} and {other!r} would be in the same environment variable; rename one", "parameters")
    return _Reading(section, head, values).plan()


class _Reading:
    def __init__(self, section: Section, head: Head, values: dict[str, Any]) -> None:
        self._section = section
        self._head = head
        self._values = values
        self._shell = self._read_shell()
        self._args = tuple(Template(text) for text in values.get("args", ()))
        self._stdin = Template(values["stdin"]) if "stdin" in values else None

    def plan(self) -> ScriptPlan | None:
        section, head, values = self._section, self._head, self._values
        command = self._command()
        for key, template in self._templates():
            for problem in template.strangers(head.parameters.names):
                section.refuse(problem, *key)
        folder = self._folder()
        if command is None or folder is None:
            return None
        self._refuse_parts_of_code(command)
        is_python = self._shell is None and command in PYTHON
        file = self._file(folder) if is_python and self._args else None
        is_worker = self._is_worker(is_python, file)
        if file is not None:
            self._check(file)
        return ScriptPlan(
            command=command,
            args=self._args,
            shell=self._shell,
            file=file,
            is_worker=is_worker,
            pool=head.pool,
            is_pool_ours=head.pool is not None and _is_for_scripts(section, head.pool, head.kinds),
            parameters=head.parameters.names,
            folder=folder,
            environment={**self._mentioned(), **head.environment},
            stdin=self._stdin,
            timeout=values.get("timeout"),
            call_timeout=head.timeout,
            max_output=values.get("max_output", MAX_BYTES),
            allows_dash=values.get("allow_dash", False),
            numbers=self._numbers(),
        )

    def _refuse_parts_of_code(self, command: str) -> None:
        """A whole argument may be code, if the author says so; text around a value is code that the value changes."""
        words = [command, *(template.text for template in self._args)]
        for number, template in enumerate(self._args):
            names = template.names - self._numbers()
            if names and template.whole is None and judge(words[: number + 1], template.begun):
                for name in sorted(names):
                    reads = f"let it read the environment variable {variable(name)}"
                    self._section.refuse(f"{{{{{name}}}}} would be a part of the code; {reads}", "args", number)

    def _numbers(self) -> frozenset[str]:
        properties = self._head.parameters.schema["properties"]
        return frozenset(name for name, each in properties.items() if each.get("type") in ("integer", "number"))

    def _templates(self) -> Iterator[tuple[tuple[str | int, ...], Template]]:
        yield from ((("args", number), template) for number, template in enumerate(self._args))
        if self._stdin is not None:
            yield ("stdin",), self._stdin
        if self._shell is not None:
            yield ("shell",), Template(self._shell.text)

    def _read_shell(self) -> ShellText | None:
        """As it stands: `${VAR}` is for the shell, or else a secret would be seen in the list of processes."""
        text = self._section.data.get("shell")
        if text is None and "shell" not in self._section:
            return None
        if not isinstance(text, str) or not text.strip():
            self._section.refuse("must be text, a command for the shell", "shell")
            return None
        shell = ShellText(text, self._numbers())
        for problem in shell.problems:
            self._section.refuse(problem, "shell")
        return shell

    def _mentioned(self) -> dict[str, str]:
        """The variables of the server that the author wrote into the shell's text."""
        text = self._shell.text if self._shell else ""
        names = re.findall(r"\$\{?([A-Za-z_]\w*)", text)
        return {name: self._section.env[name] for name in names if name in self._section.env}

    def _command(self) -> str | None:
        section, command = self._section, self._values.get("command")
        if "shell" in section:
            if "args" in section:
                section.refuse("means nothing beside `shell:`, which has its arguments in it; remove one", "args")
            return command or "/bin/sh"
        if command is None:
            if "command" not in section:
                section.refuse("has neither `command:` nor `shell:`; write one")
            return None
        if Template(command).names:
            section.refuse(
                "holds a placeholder: what is run is for the file to say; write the command itself", "command"
            )
            return None
        if not command.strip() or (" " in command and not Path(command).exists() and shutil.which(command) is None):
            section.refuse("must be a program alone; write its arguments under `args:`, one by one", "command")
            return None
        return str(command)

    def _folder(self) -> str | None:
        given = self._values.get("working_dir")
        if given is None:
            return str(self._head.folder)
        if Template(given).names:
            self._section.refuse("holds a placeholder: where it runs is for the file to say", "working_dir")
            return None
        for base in (self._head.folder, Path.cwd()):
            if (folder := base / Path(given).expanduser()).is_dir():
                return str(folder)
        self._section.refuse(f"is no folder below {self._head.folder}; create it, or correct the path", "working_dir")
        return None

    def _file(self, folder: str) -> str | None:
        """The Python file; None, and a problem noted, if it is not there, and None if what runs is no file."""
        first = self._args[0]
        if first.names:
            self._section.refuse("holds a placeholder: what is run is for the file to say", "args", 0)
            return None
        if first.text.startswith("-"):
            return None
        for base in (folder, str(self._head.folder), str(Path.cwd())):
            if (path := Path(base, first.text)).is_file():
                return str(path.absolute())
        self._section.refuse(f"there is no such file below {folder}; create it, or correct the path", "args", 0)
        return None

    def _is_worker(self, is_python: bool, file: str | None) -> bool:
        mode = self._values.get("mode")
        if mode == "worker" and file is None and not self._section.document.is_refused(self._section.path):
            self._section.refuse("only a Python file runs in a worker: `command: python`, `args: [file, …]`", "mode")
        return file is not None and (mode == "worker" or (mode is None and self._head.pool is not None))

    def _check(self, file: str) -> None:
        head, extras = self._head, () if self._head.pool is None else (_CONNECTION, self._head.pool)
        try:
            program = Program.read(file)
        except SyntaxError as exc:
            self._section.refuse(f"is not valid Python in its line {exc.lineno}; correct it", "args", 0)
        except OSError as exc:
            self._section.refuse(f"cannot be read ({exc.strerror}); check its permissions", "args", 0)
        else:
            if program.is_called(head.parameters.names, extras) and (
                problem := program.problem(head.parameters.names, extras)
            ):
                self._section.refuse(f"its main() {problem}", "args", 0)


def _refuse_variable(tool: Section, name: str, value: str) -> None:
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        tool.refuse("is no name of an environment variable; write letters, digits and _", "environment", name)
    elif "\0" in value:
        tool.refuse("holds a null character, which no environment variable can", "environment", name)
    elif Template(value).names:
        tool.refuse(
            "placeholders are not filled in here; each argument is in a variable AIOPOOL_ARG_…", "environment", name
        )


def _is_for_scripts(section: Section, pool: str, kinds: Mapping[str, str]) -> bool:
    """Whether no other tool of the file takes connections from it, by its name or because it is the one that fits."""
    data = section.document.data
    tools = data.get("tools") if isinstance(data, Mapping) else None
    others = [each for each in tools or () if isinstance(each, Mapping) and KEY not in each]
    needed = {"sql": "postgres", "redis": "redis"}
    return not any(
        each["pool"] == pool if "pool" in each else kinds.get(pool) in (needed.get(key) for key in each)
        for each in others
    )
