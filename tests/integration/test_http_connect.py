"""Hosts with several addresses, and connects that are cancelled."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from aiopool.adapters._http_connect import connect
from aiopool.adapters.http import HTTPClientPool
from tests.integration.http_peers import http1_peer, serve_all
from tests.stopwatch import Stopwatch

NAME = "several.test"


@pytest.fixture(autouse=True)
def resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Knows one name more than the system's, that of two addresses of this machine."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        hosts = ("127.0.0.2", "127.0.0.1") if host == NAME else (host,)
        return [info for host in hosts for info in resolve(host, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """Of 127.0.0.2, where no connect ends: its queue is full, and nobody accepts."""
    with socket.create_server(("127.0.0.2", 0), backlog=0) as server:
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            with suppress(BlockingIOError):
                caller.connect(server.getsockname())
        time.sleep(0.05)
        yield server.getsockname()[1]
        for caller in callers:
            caller.close()


async def test_an_address_that_refuses_costs_nothing() -> None:
    async with http1_peer(serve_all) as peer, HTTPClientPool(f"http://{NAME}:{peer.port}") as api:
        with Stopwatch() as watch:
            assert (await api.get("/")).status_code == 200
        assert watch.seconds < 0.2


async def test_an_address_that_does_not_answer_costs_a_moment(deaf_port: int) -> None:
    async with http1_peer(serve_all, port=deaf_port), HTTPClientPool(f"http://{NAME}:{deaf_port}") as api:
        began = time.monotonic()
        assert (await api.get("/")).status_code == 200
        assert 0.2 < time.monotonic() - began < 4


async def test_a_host_that_refuses_at_every_address_is_an_error_of_the_first() -> None:
    async with http1_peer(serve_all) as peer:
        port = peer.port
    with pytest.raises(ConnectionRefusedError):
        await connect(NAME, port)


async def test_a_connect_that_is_cancelled_at_any_moment_leaves_no_socket(deaf_port: int) -> None:
    async with http1_peer(serve_all) as peer:
        for port in (peer.port, deaf_port):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                for turns in range(14):
                    connecting = asyncio.create_task(connect(NAME, port))
                    await asyncio.sleep(0.005)  # a thread looks the name up
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    connecting.cancel()
                    await asyncio.wait((connecting,))
                    if not connecting.cancelled():
                        connecting.result().close()
                    del connecting
                    await asyncio.sleep(0.001)
                gc.collect()
            assert [str(warning.message) for warning in caught if warning.category is ResourceWarning] == []
