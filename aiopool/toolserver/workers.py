"""`WorkerPool`: warm interpreters that run scripts, each of which keeps its own connection from call to call.

A child process can't use a connection of its parent's. So the workers are what is pooled: one is lent for each call,
and with it the connection that it has. `SlotPool` is for what can't run in a worker: it bounds how many run at once.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import TypeVar, cast

from aiopool.adapters.face import PoolFace
from aiopool.config import PoolConfig
from aiopool.manager import PoolManager
from aiopool.policies.broken import says_hopeless
from aiopool.pool import ConnectionPool
from aiopool.toolserver.addresses import Address, address_of
from aiopool.toolserver.processes import GRACE, Child
from aiopool.toolserver.warden import Warden
from aiopool.toolserver.worker import Worker, start


class WorkerPool(PoolFace[Worker]):
    """Interpreters in the place of connections: as many as the pool's numbers say, each with one connection.

    `async with workers.acquire() as worker: outcome = await worker.run(request)`. One whose call was not waited for is
    ended, and its place is free when it is gone.
    """

    def __init__(self, name: str, config: PoolConfig, address: Address | None) -> None:
        self.address = address
        # An interpreter takes a processor while it starts.
        opening = os.cpu_count() if config.max_opening is None else config.max_opening
        self.config = replace(config, max_opening=opening, max_shares=1)
        self.pool = ConnectionPool(
            self._open,
            self.config,
            validator=Worker.is_well,
            aborter=Worker.abort,
            is_broken=lambda worker, _: worker.is_busy,
            is_fatal=_judge(address),
            name=name,
        )

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Worker]:
        worker = start()
        try:
            await worker.connect(self.address)
            worker.child.exited.add_done_callback(lambda _: self.pool.evict(worker))
            yield worker
        finally:
            await worker.end()


def _judge(address: Address | None) -> Callable[[BaseException], bool]:
    """Whether connecting again can't help, as the adapter of the workers' pool says."""
    if address is None:
        return says_hopeless
    if address.kind == "postgres":
        from aiopool.adapters._asyncpg import is_fatal
    else:
        from aiopool.adapters._redispy import is_fatal
    return is_fatal


class Slot:
    """The right to run one process."""

    def __init__(self, warden: Warden) -> None:
        self.child: Child | None = None
        self._warden = warden

    def start(self, argv: Sequence[str], env: Mapping[str, str], cwd: str, stdin: str | None) -> Child:
        """Raises `OSError` if it can't be started."""
        self._warden.be_there()
        self.child = child = Child(argv, env=env, cwd=cwd, stdin=stdin)
        self._warden.watch(child)
        return child

    @property
    def is_busy(self) -> bool:
        return self.child is not None and not self.child.exited.done()

    def abort(self) -> None:
        if self.child is not None:
            self.child.terminate()

    async def end(self) -> None:
        if self.child is not None:
            await self.child.end(GRACE)


class SlotPool(PoolFace[Slot]):
    """Bounds how many processes run at once. A slot is free again when its process is gone, and its children."""

    def __init__(self, name: str, config: PoolConfig, address: Address | None) -> None:
        self.address = address
        self.config = replace(config, min_size=0, max_opening=None, max_lifetime=None, max_uses=None, max_shares=1)
        self._warden = Warden()
        self.pool = ConnectionPool(
            self._open, self.config, aborter=Slot.abort, is_broken=lambda slot, _: slot.is_busy, name=name
        )

    async def close(self, timeout: float | None = 10) -> None:
        try:
            await super().close(timeout)
        finally:
            await self._warden.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Slot]:
        slot = Slot(self._warden)
        try:
            yield slot
        finally:
            await slot.end()


P = TypeVar("P", WorkerPool, SlotPool)

#: For scripts without a pool: as many at once as any pool has.
_ALONE = "scripts"


def pool_beside(kind: type[P], label: str, name: str | None, pools: PoolManager, *, takes_its_place: bool) -> P:
    """The workers, or slots, of a pool: one for all tools that name it, with its numbers, and registered with it.

    With `takes_its_place` it stands under the pool's own name, as nobody in this process would use its connections.
    """
    own_name = f"{_ALONE if name is None else name}.{label}"
    for known in (name, own_name):
        if known is not None and known in pools and isinstance(pools.get(known), kind):
            return cast(P, pools.get(known))
    if name is None:
        made = kind(own_name, PoolConfig(min_size=0), None)
        pools.register(own_name, made)
        return made
    given = pools.get(name)
    is_original = not isinstance(given, WorkerPool | SlotPool)
    made = kind(name, given.config, address_of(given) if is_original else given.address)
    if takes_its_place and is_original:
        pools.replace(name, made)
    else:
        pools.register(own_name, made)
    return made
