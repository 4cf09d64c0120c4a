"""`Tool`: what a client sees of a tool, and the body that does the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from aiopool.manager import PoolManager
from aiopool.toolserver.parameters import Parameters
from aiopool.toolserver.section import Section

#: How long a call may take that says nothing else: as long as Gantz gives a script.
CALL_TIMEOUT = 30.0
#: What a model can be given to read at once, in bytes.
MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Result:
    """What a call gives back: text for the model, the same as an object if it is one, and whether it failed."""

    text: str
    structured: Mapping[str, Any] | None = None
    is_error: bool = False


class Body(Protocol):
    """Does the work of one tool. Its arguments are complete and of the declared types."""

    async def run(self, arguments: Mapping[str, Any]) -> Result:
        """Raises whatever goes wrong: the toolset tells the model what it may know of it."""
        ...


@runtime_checkable
class Preparing(Protocol):
    """A body that looks at something once, when the pools are open: what is amiss it logs, or raises."""

    async def prepare(self) -> None: ...


class BodyPlan(Protocol):
    """A body as the file describes it: checked, but without its pools. Reading it has no effects."""

    #: Whether a call changes nothing anywhere; clients are told.
    is_read_only: bool

    def bind(self, tool: str, pools: PoolManager) -> Body:
        """The body on these pools; one that needs a pool of its own, of workers perhaps, registers it there."""
        ...


@dataclass(frozen=True)
class Head:
    """What a body may want to know of the tool that it belongs to, when it is read."""

    name: str
    parameters: Parameters
    #: The name of the pool in `pool:`, and the kind of it (`postgres`, `redis`, `http`); None without one.
    pool: str | None
    pool_kind: str | None
    #: The kinds of all pools of the file, by name.
    kinds: Mapping[str, str]
    #: The folder that relative paths start from: that of the file.
    folder: Path
    timeout: float
    #: `environment:` of the tool.
    environment: Mapping[str, str] = field(default_factory=dict)


class BodyReader(Protocol):
    """Reads what stands under a body's key, such as `sql:`; None, and problems noted, if it cannot be used.

    `tool` is the table of the tool, whose `data` has the key: text, a list or a table, as the body likes.
    `tool_keys` of the module that defines the reader are further keys of the tool that only it knows.
    """

    def __call__(self, tool: Section, head: Head) -> BodyPlan | None: ...


@dataclass(frozen=True)
class Tool:
    """One tool of the file."""

    name: str
    description: str
    parameters: Parameters
    plan: BodyPlan
    timeout: float = CALL_TIMEOUT
    #: The name of its pool, if it has one.
    pool: str | None = None
