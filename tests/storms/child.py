"""Programs in a process of their own, under a watchdog.

A child may be killed, interrupted, forked, or end with everything open, and must never hang: the watchdog ends it
and shows where each of its threads stood.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

from aiopool import embedded
from tests.storms import servers

KINDS = ("postgres", "redis", "http1", "http2")
ROOT = Path(__file__).resolve().parents[2]
#: Seconds; each of these programs takes one or two, where nothing else is done.
WATCHDOG = 60

PREAMBLE = """
import asyncio, faulthandler, gc, logging, os, random, signal, sys, threading, time
# In debug mode asyncio tells of each step that is slow, and on a busy machine any may be.
logging.getLogger("asyncio").addFilter(lambda record: not record.msg.startswith("Executing "))
faulthandler.dump_traceback_later({watchdog}, exit=True)
if os.environ.get("TESTS_LOOP") == "uvloop":
    import uvloop
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
from aiopool import ForkedPool, PoolClosed, PoolConfig, PoolError, WrongLoop
from tests.storms.pools import ask, make
kind, address = sys.argv[1:3]
"""


def address_of(server: embedded.Server) -> str:
    """Where that server is, and for HTTPS whom to trust, in one word."""
    if isinstance(server, embedded.PostgresServer):
        return server.dsn
    if isinstance(server, embedded.RedisServer):
        return server.url
    assert isinstance(server, embedded.HTTPSServer)
    return f"{server.url}#{server.ca_file}"


async def connections(server: embedded.Server) -> int:
    """Those that children have to that server."""
    if isinstance(server, embedded.PostgresServer):
        return await servers.postgres_backends(server.dsn, "child")
    if isinstance(server, embedded.RedisServer):
        return await servers.redis_clients(server.url)
    assert isinstance(server, embedded.HTTPSServer)
    return servers.https_connections(server) or 0


async def is_gone(server: embedded.Server) -> bool:
    """Whether no connection of a child is left there."""
    return await connections(server) == 0


def run(kind: str, server: embedded.Server, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The script has the pool's `kind` and `address` for `make`, and `ask`. Blocks: use a thread in a coroutine."""
    program = PREAMBLE.format(watchdog=WATCHDOG) + textwrap.dedent(script)
    command = [sys.executable, *options, "-c", program, kind, address_of(server)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )
    try:
        stdout, stderr = process.communicate(timeout=WATCHDOG + 5)
    finally:
        # With what it has forked, which its own watchdog does not watch.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, process.wait(), stdout, stderr)
