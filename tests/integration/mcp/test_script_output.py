"""What a process writes is what its caller gets."""

from __future__ import annotations

import asyncio
import os

from aiopool.toolserver.processes import Child


def ended() -> Child:
    """One that has written all, and ended, before anybody has read a word."""
    child = Child(["sh", "-c", "echo early; echo complaint >&2"], env={"PATH": os.defpath}, cwd="/")
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    return child


async def test_what_a_quick_process_wrote_before_anybody_looked_is_kept() -> None:
    child = ended()
    child.stdout.keep(100)
    child.stderr.keep(4, keeps_end=True)
    assert await asyncio.wait_for(child.exited, 5) == 0
    assert (child.stdout.kept, child.stdout.size, child.stdout.is_cut) == (b"early\n", 6, False)
    assert (child.stderr.kept, child.stderr.size, child.stderr.is_cut) == (b"int\n", 10, True)


async def test_what_was_written_before_a_beginning_is_not() -> None:
    child = ended()
    child.stdout.begin(100)
    assert await asyncio.wait_for(child.exited, 5) == 0
    assert (child.stdout.kept, child.stdout.size) == (b"", 0)
