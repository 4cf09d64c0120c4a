"""A TCP connection to a host that may have several addresses: they are tried beside one another (RFC 8305)."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from ipaddress import ip_address
from typing import Any

from aiopool.adapters._http_public import NotPublic, is_public

#: The next address is tried beside the others after so many seconds.
HAPPY_EYEBALLS_DELAY = 0.25

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]


async def connect(
    host: str, port: int, local_address: str | None = None, *, must_be_public: bool = False
) -> socket.socket:
    """The socket of whichever address answers first; `OSError` of the first one tried if none does.

    With `must_be_public`, addresses of private networks are left out; `NotPublic` if there are no others. What is
    judged is what is dialled, so a name cannot mean something else a moment later.

    asyncio's own race leaves its winner to the garbage collector when it is cancelled; uvloop has none.
    """
    untried = await _addresses(host, port)
    if must_be_public:
        untried = [info for info in untried if is_public(info[4][0])]
        if not untried:
            raise NotPublic(f"{host} has no address outside of private networks")
    if len(untried) == 1:
        return await _attempt(untried[0], local_address)
    running: set[asyncio.Task[socket.socket]] = set()
    errors: list[BaseException] = []
    try:
        while untried or running:
            if untried:
                running.add(asyncio.create_task(_attempt(untried.pop(0), local_address)))
            delay = HAPPY_EYEBALLS_DELAY if untried else None
            done, _ = await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                running.discard(attempt)
                if (error := attempt.exception()) is None:
                    running |= done - {attempt}
                    return attempt.result()
                errors.append(error)
        raise errors[0]
    finally:
        for attempt in running:
            attempt.cancel()
            attempt.add_done_callback(_close_unwanted)


async def _addresses(host: str, port: int) -> list[AddressInfo]:
    """The families take turns, so that one that is broken costs one delay."""
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    else:
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    seen: Counter[int] = Counter()

    def turn(info: AddressInfo) -> int:
        seen[info[0]] += 1
        return seen[info[0]]

    return sorted(found, key=turn)


async def _attempt(info: AddressInfo, local_address: str | None) -> socket.socket:
    family, kind, protocol, _, address = info
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        if local_address is not None:
            sock.bind((local_address, 0))
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _close_unwanted(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
