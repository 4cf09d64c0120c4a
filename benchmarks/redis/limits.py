"""What can be had without a pool: a connection for each task, and a program in C that does nothing else."""

from __future__ import annotations

import asyncio
import csv
import shutil
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from benchmarks.load import Load
from benchmarks.redis.client import KEY, VALUE, Client
from benchmarks.results import Kind, Sample
from benchmarks.servers import CONNECTIONS


class Dedicated(Client):
    """As many tasks as connections, so that nobody waits."""

    name = "dedicated connections"
    kind = Kind.FLOOR
    most_tasks = CONNECTIONS

    async def open(self) -> None:
        import redis.asyncio as redis

        self._idle: list[Any] = [
            redis.Redis.from_url(self.url, single_connection_client=True) for _ in range(CONNECTIONS)
        ]
        for client in self._idle:
            await client.initialize()

    async def close(self) -> None:
        await self._idle[0].delete(KEY)
        for client in self._idle:
            await client.aclose()

    async def call(self) -> None:
        client = self._idle.pop()
        try:
            await client.set(KEY, VALUE)
            await client.get(KEY)
        finally:
            self._idle.append(client)


@dataclass
class Reported(Load):
    """What somebody else has measured."""

    figures: Sample | None = None

    def sample(self) -> Sample | None:
        return self.figures


class RedisBenchmark(Client):
    """Redis's own program, with a connection for each task; its figures are of a SET and of a GET."""

    name = "redis-benchmark"
    kind = Kind.FLOOR
    package = "not from PyPI: `apt install redis-tools` has it"
    _requests = 20_000

    async def open(self) -> None:
        found = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
        if found is None:
            raise FileNotFoundError("redis-benchmark is not on the PATH: on Debian it is in redis-tools")
        address = urlsplit(self.url)
        if address.password:
            raise ValueError("every process would see the server's password on its command line")
        self._command = [found, "-h", str(address.hostname), "-p", str(address.port or 6379), "-d", str(len(VALUE))]

    async def close(self) -> None:
        import redis.asyncio as redis

        async with redis.Redis.from_url(self.url) as client:
            await client.delete("key:__rand_int__")

    async def call(self) -> None:
        raise NotImplementedError("it has tasks of its own")

    async def load(self, tasks: int, seconds: float) -> Load:
        """`seconds` long, as far as can be told from the time before."""
        options = ["-c", str(tasks), "-n", str(self._requests), "-t", "set,get", "--csv"]
        process = await asyncio.create_subprocess_exec(*self._command, *options, stdout=asyncio.subprocess.PIPE)
        try:
            output, _ = await asyncio.wait_for(process.communicate(), 60)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            return Reported([], errors=Counter({f"exit code {process.returncode}": 1}))
        rows = list(csv.DictReader(output.decode().splitlines()))
        each = [1 / float(row["rps"]) for row in rows]
        self._requests = max(1000, round(seconds / sum(each)))
        return Reported(
            [],
            figures={
                "rate": 1 / sum(each),
                "p50": sum(float(row["p50_latency_ms"]) for row in rows),
                "p99": sum(float(row["p99_latency_ms"]) for row in rows),
                "max": sum(float(row["max_latency_ms"]) for row in rows),
            },
        )
