"""`python -m tests.storms.mcp_sessions`: callers by the thousand on sessions whose servers are killed at random.

Each caller calls, is cancelled or gives up; meanwhile servers, and the keepers that are their parents, are killed with
-9. No caller may hang or see anything but what the pool tells, and nothing may be left: no process, descriptor or task.
"""

# ruff: noqa: T201
from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from operator import le
from pathlib import Path
from typing import Annotated, Any

import typer
from mcp import Client, StdioServerParameters

from aiopool import PoolConfig, PoolError
from aiopool.adapters.mcp import MCPSessionPool, stdio
from tests.storms.census import descriptors, eventually, tasks

SERVER = str(Path(__file__).parents[1] / "integration" / "mcp" / "plain_server.py")
CONFIG = PoolConfig(max_size=2, validate_after=0.5, unavailable_after=5, acquire_timeout=30)
#: A caller who is neither served nor refused for so long hangs.
PATIENCE = 90.0


def children(pid: int | str = "self") -> list[int]:
    try:
        return [
            int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
        ]
    except OSError:
        return []


def census() -> tuple[int, int, int]:
    return tasks(), len(children()), descriptors()


def killed(random: random.Random, others: set[int]) -> bool:
    """One of the servers, or its keeper; not the `others`, such as a database that the tests share."""
    if not (keepers := [child for child in children() if child not in others]):
        return False
    keeper = random.choice(keepers)
    pid = random.choice([keeper, *children(keeper)])
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def by_itself() -> Client:
    """A session as the SDK makes it, without a keeper."""
    return Client(StdioServerParameters(command=sys.executable, args=["-S", SERVER]))


class Storm:
    def __init__(
        self, callers: int, servers: int, rounds: int, kills_per_second: float, seed: int, *, kept: bool = True
    ) -> None:
        self.random = random.Random(seed)
        self.callers = callers
        self.servers = [f"server-{n}" for n in range(servers)]
        self.rounds = rounds
        self.kills_per_second = kills_per_second
        self.factory = stdio(sys.executable, "-S", SERVER) if kept else by_itself
        self.outcomes: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.kills = 0
        #: Children of this process that are not ours.
        self.others: set[int] = set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.complaints.append(f"the loop was told: {context}"))
        before, self.others = census(), set(children())
        async with MCPSessionPool(dict.fromkeys(self.servers, self.factory), config=CONFIG) as pool:
            killer = asyncio.create_task(self._kill())
            callers = [asyncio.create_task(self._call(pool, n)) for n in range(self.callers)]
            _, hanging = await asyncio.wait(callers, timeout=PATIENCE)
            killer.cancel()
            await asyncio.wait([killer])
            if hanging:
                self.complaints.append(f"{len(hanging)} callers hang")
            await asyncio.sleep(1)  # so that whoever is still idle is asked whether it lives
            for server in self.servers:
                try:
                    await pool.call_tool(server, "echo", {"text": "after the storm"}, timeout=30)
                except Exception as exc:
                    self.complaints.append(f"{server} does not serve after the storm: {exc!r}")
            stats = pool.stats()
            if stats["in_use"] or stats["waiting"]:
                self.complaints.append(f"leases are left: {stats}")
        self.stats = pool.stats()
        if not await eventually(lambda: all(map(le, census(), before))):
            self.complaints.append(f"(tasks, processes, descriptors): {census()} are left, of {before} before")

    async def _kill(self) -> None:
        while True:
            await asyncio.sleep(self.random.expovariate(self.kills_per_second))
            self.kills += killed(self.random, self.others)

    async def _call(self, pool: MCPSessionPool, number: int) -> None:
        for turn in range(self.rounds):
            server, text = self.random.choice(self.servers), f"{number}-{turn}"
            delay = self.random.choice([0, 0, 0.01, 0.1])
            identity = self.random.choice([None, None, "alice", "bob"])
            manner = self.random.choice(["waits", "waits", "gives up", "is cancelled"])
            timeout = self.random.uniform(0.01, 1.0) if manner == "gives up" else None
            call = asyncio.create_task(
                pool.call_tool(server, "echo", {"text": text, "delay": delay}, identity=identity, timeout=timeout)
            )
            if manner == "is cancelled":
                await asyncio.sleep(self.random.uniform(0, 0.5))
                call.cancel()
            await asyncio.wait([call])
            self.outcomes[self._judge(call, text, may_be_cancelled=manner == "is cancelled")] += 1

    def _judge(self, call: asyncio.Task[Any], text: str, *, may_be_cancelled: bool) -> str:
        if call.cancelled():
            if not may_be_cancelled:
                self.complaints.append("a caller was cancelled by somebody else")
            return "cancelled"
        error = call.exception()
        if error is None:
            if (answer := call.result().content[0].text) != text:
                self.complaints.append(f"asked {text}, was answered {answer}")
            return "answered"
        is_told = isinstance(error, (PoolError, ConnectionError, TimeoutError)) or "Connection closed" in str(error)
        if not is_told:
            self.complaints.append(f"a caller saw {error!r}")
        return type(error).__name__


def main(
    callers: Annotated[int, typer.Option(help="At once.", min=1)] = 1000,
    servers: Annotated[int, typer.Option(min=1)] = 5,
    rounds: Annotated[int, typer.Option(help="Calls of each caller.", min=1)] = 10,
    kills_per_second: Annotated[float, typer.Option(min=0.01)] = 5.0,
    seed: int = 1,
    kept: Annotated[bool, typer.Option(help="Servers have keepers, as with `stdio`, or the SDK alone.")] = True,
) -> None:
    """Kill the servers of an MCPSessionPool under its callers, and look at what is left."""
    storm = Storm(callers, servers, rounds, kills_per_second, seed, kept=kept)
    began = time.monotonic()
    asyncio.run(storm.run())
    outcomes = ", ".join(f"{count} {what}" for what, count in storm.outcomes.most_common())
    print(f"{callers} callers, {servers} servers, {storm.kills} kills, {time.monotonic() - began:.1f} s: {outcomes}")
    print(f"opened {storm.stats['opened']}, closed {storm.stats['closed_by']}")
    for complaint, count in Counter(storm.complaints).most_common():
        print(f"{count} x {complaint}")
    if storm.complaints:
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
