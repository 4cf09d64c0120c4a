"""Serve a file anew when it changes, or on SIGHUP."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

logger = logging.getLogger("aiopool")

#: A change is acted on when nothing has changed for this long, in milliseconds: editors write in several steps.
DEBOUNCE = 100
#: How often to look anyway, in milliseconds: some file systems, and some mounts of containers, tell nothing.
LOOK_EVERY = 1000

#: What a file looks like from outside; None if there is none.
Signature = tuple[int, int, int] | None


def signature(file: str) -> Signature:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@asynccontextmanager
async def reloading(
    reload: Callable[[], Awaitable[None]], file: str, known: Signature, *, watch: bool
) -> AsyncIterator[None]:
    """Within the block, `reload` is called on SIGHUP, and with `watch` when the file is no longer the `known` one."""
    wanted = asyncio.Event()
    tasks = [asyncio.create_task(_reload_when(wanted, reload))]
    if watch:
        tasks.append(asyncio.create_task(_watch(file, known, wanted)))
    loop = asyncio.get_running_loop()
    # Where there is no SIGHUP, or this is not the main thread, the file is the only way.
    with suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
        loop.add_signal_handler(signal.SIGHUP, wanted.set)
    try:
        yield
    finally:
        with suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
            loop.remove_signal_handler(signal.SIGHUP)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _reload_when(wanted: asyncio.Event, reload: Callable[[], Awaitable[None]]) -> None:
    while await wanted.wait():
        wanted.clear()
        await reload()


async def _watch(file: str, known: Signature, wanted: asyncio.Event) -> None:
    """Watches the folder: editors put another file in the place of the old one, and Kubernetes another folder."""
    from watchfiles import awatch

    try:
        async for _ in awatch(
            os.path.dirname(file) or ".",
            watch_filter=None,
            step=DEBOUNCE,
            recursive=False,
            rust_timeout=LOOK_EVERY,
            yield_on_timeout=True,
        ):
            # While it is being replaced there may be none.
            if (now := signature(file)) is not None and now != known:
                known = now
                wanted.set()
    except (OSError, RuntimeError) as exc:
        logger.warning("%s cannot be watched (%s); send SIGHUP to have it read again", file, type(exc).__name__)
