"""What a warm worker saves: the tool of `gantz.yaml`, in a process for each call and in a pool of workers.

python examples/gantz/compare.py [CALLS]        # starts servers of its own, or uses DATABASE_URL and REDIS_URL
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from aiopool.toolserver.toolset import Toolset

FILE = Path(__file__).with_name("gantz.yaml")


def in_mode(mode: str) -> dict[str, Any]:
    """The file, with `mode:` added to its script."""
    data: dict[str, Any] = yaml.safe_load(FILE.read_text())
    data["tools"][0]["script"] |= {"mode": mode, "working_dir": str(FILE.parent)}
    del data["pools"]["redis"]
    return data


async def measure(calls: int) -> dict[str, list[float]]:
    """Milliseconds of each call, by mode. The two take turns, so that what else the machine does hits both."""
    times: dict[str, list[float]] = {"exec": [], "worker": []}
    async with (
        Toolset.from_file(in_mode("exec"), embedded=True) as processes,
        Toolset.from_file(in_mode("worker"), embedded=True) as workers,
    ):
        for _ in range(calls):
            for mode, tools in (("exec", processes), ("worker", workers)):
                began = time.perf_counter()
                result = await tools.call("query_database", {"query": "select 1 as one"})
                times[mode].append((time.perf_counter() - began) * 1000)
                assert result.structured == {"rows": [{"one": 1}], "row_count": 1}, result
    return times


def table(times: dict[str, list[float]]) -> str:
    lines = ["| mode | median | 95th percentile |", "|---|---|---|"]
    for mode, each in times.items():
        lines.append(f"| {mode} | {statistics.median(each):.2f} ms | {statistics.quantiles(each, n=20)[-1]:.2f} ms |")
    ratio = statistics.median(times["exec"]) / statistics.median(times["worker"])
    return "\n".join([*lines, "", f"A call in a worker takes 1/{ratio:.0f} of the time."])


if __name__ == "__main__":
    print(table(asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 40))))
