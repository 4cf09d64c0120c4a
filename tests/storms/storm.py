"""A storm: thousands of queries, most of them cancelled at a random moment in one of several ways, and what is left.

Afterwards the pool must be as it was, its server must have no connection more than the pool has, and this process no
task and no descriptor more than before.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from tests.storms import census, servers
from tests.storms.attack import Tally, Way, plans

#: More than any pool here has connections, so that queries are cancelled in the line, too.
CALLERS = 40
SPARED = 0.2
#: Seconds. What is reset or closed in the background is done within the bounds of one reset and one close.
CALM = 10.0


class Pool(Protocol):
    """What the faces of all pools have."""

    async def __aenter__(self) -> Any: ...
    async def __aexit__(self, *exc: Any) -> Any: ...
    def stats(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Backend:
    """What a storm must know of a pool and of the server behind it."""

    title: str
    pool: Pool
    ways: Sequence[Way]
    #: The connections of this pool as its server counts them; None where nobody can tell.
    connections: Callable[[], Awaitable[int | None]]
    #: Those of them that the server takes for busy: in a transaction, subscribed, in the middle of an answer.
    busy: Callable[[], Awaitable[int]] = servers.none
    #: The connections of a pool that opens all at its start; None for one that opens them when they are needed.
    size: int | None = None
    #: Of a pool that has a `size`: whether a cancelled query may cost its connection.
    may_reopen: bool = False

    def is_calm(self) -> bool:
        """Whether the pool is at rest, with all its connections ready."""
        stats = self.pool.stats()
        is_full = self.size is None or stats["size"] == stats["available"] == self.size
        return is_full and bool(stats["in_use"] == stats["waiting"] == stats["opening"] == 0)

    def figures(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.pool.stats().items() if key != "name")


@dataclass
class Storm:
    """What happened in a storm, what was left, and what is wrong with it."""

    title: str
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    opened: int = 0
    size: int = 0
    on_server: int | None = None
    descriptors: int = 0
    tasks: int = 0
    complaints: list[str] = field(default_factory=list)

    def demand(self, holds: bool, complaint: str) -> None:
        if not holds:
            self.complaints.append(complaint)


async def storm(backend: Backend, *, queries: int, seed: int) -> Storm:
    """Raises `TimeoutError` if the queries don't end in many times the time that they should take."""
    found = Storm(backend.title)
    tally = found.tally
    descriptors, tasks = census.descriptors(), census.tasks()
    loop, noise = asyncio.get_running_loop(), Counter[str]()
    loop.set_exception_handler(lambda _, context: noise.update([f"{context['message']}: {context.get('exception')!r}"]))
    began = time.monotonic()
    async with backend.pool:
        planned = islice(plans(backend.ways, seed, spared=SPARED), queries)
        async with asyncio.timeout(60 + queries / 50), asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(tally.attack(planned))
        found.seconds = time.monotonic() - began
        await _look_at_the_pool(backend, found)
    found.complaints += tally.complaints()
    found.demand(tally.cancelled > queries / 4 < tally.right, "too few were cancelled, or answered, to prove anything")
    await _look_at_what_is_left(backend, found, descriptors, tasks)
    gc.collect()  # an exception that nobody has asked for is told when its future is freed
    loop.set_exception_handler(None)
    found.complaints += [f"{count} times told by the loop: {message}" for message, count in noise.items()]
    return found


async def _look_at_the_pool(backend: Backend, found: Storm) -> None:
    found.demand(await census.eventually(backend.is_calm, CALM), f"the pool is not full again: {backend.figures()}")
    is_at_rest = await census.eventually(lambda: _is(backend.busy(), 0))
    found.demand(is_at_rest, "the server takes connections of a calm pool for busy")
    count = 3 * int(backend.pool.stats()["max_size"])
    for way in backend.ways:
        answers = await asyncio.gather(*(way(-n) for n in range(1, count + 1)), return_exceptions=True)
        is_right = answers == [-n for n in range(1, count + 1)]
        found.demand(is_right, f"{way.__name__}, asked {count} times after the storm, got {answers[:3]}, …")
    found.demand(
        await census.eventually(backend.is_calm, CALM), f"the pool is not full at the end: {backend.figures()}"
    )
    agree = await census.eventually(lambda: _is(backend.connections(), backend.pool.stats()["size"], None))
    stats = backend.pool.stats()
    found.size, found.opened, found.on_server = stats["size"], stats["opened"], await backend.connections()
    found.demand(agree, f"the pool has {found.size} connections, and the server {found.on_server} of them")
    if backend.size is not None and not backend.may_reopen:
        found.demand(found.opened == backend.size, f"cancellations cost connections: {found.opened} were opened")


async def _look_at_what_is_left(backend: Backend, found: Storm, descriptors: int, tasks: int) -> None:
    await census.eventually(lambda: census.descriptors() <= descriptors and census.tasks() <= tasks)
    found.descriptors, found.tasks = census.descriptors() - descriptors, census.tasks() - tasks
    found.demand(found.descriptors <= 0, f"{found.descriptors} descriptors more than before are open")
    found.demand(found.tasks <= 0, f"{found.tasks} tasks more than before are there")
    is_gone = await census.eventually(lambda: _is(backend.connections(), 0, None))
    found.demand(is_gone, f"the server has {await backend.connections()} connections of a pool that is closed")


async def _is(asked: Awaitable[int | None], *allowed: int | None) -> bool:
    return await asked in allowed
