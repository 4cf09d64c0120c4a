"""Servers that fall silent, or read nothing."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from aiopool.adapters.http import HTTPClientPool
from tests.integration.http_peers import (
    HTTP1Connection,
    HTTP2Connection,
    http1_peer,
    http2_peer,
    http2_pool,
    serve_all,
    serve_all_2,
)
from tests.stopwatch import Stopwatch


@pytest.mark.parametrize("version", [1, 2])
async def test_silence_ends_in_a_read_timeout_and_the_next_request_gets_another_connection(version: int) -> None:
    async def handle_1(connection: HTTP1Connection) -> None:
        if connection.number == 0:
            await connection.request()
            await asyncio.sleep(30)
        await serve_all(connection)

    async def handle_2(connection: HTTP2Connection) -> None:
        if connection.number == 0:
            await connection.start()
            await connection.next()
            await asyncio.sleep(30)
        await serve_all_2(connection)

    serving = http1_peer(handle_1) if version == 1 else http2_peer(handle_2)
    async with serving as peer, HTTPClientPool(peer.url(), http1=version == 1, max_connections=1, timeout=5) as api:
        with pytest.raises(httpx.ReadTimeout):
            await api.get("/", timeout=0.2)
        assert (await api.get("/")).status_code == 200
        assert api.stats()["size"] == 1


async def test_a_slow_answer_does_not_cost_its_neighbours_the_connection() -> None:
    async def handle(connection: HTTP2Connection) -> None:
        await connection.start()
        slow = await connection.next()
        while stream := await connection.next():
            if stream != slow:
                connection.reply(stream)

    async with http2_peer(handle) as peer, http2_pool(peer, max_connections=1) as api:
        slow = asyncio.create_task(api.get("/slow", timeout=0.3))
        await asyncio.sleep(0.1)
        for _ in range(10):
            assert (await api.get("/")).status_code == 200
        with pytest.raises(httpx.ReadTimeout):
            await slow
        assert (await api.get("/")).status_code == 200
        assert len(peer.connections) == 1


async def test_a_server_that_never_ends_its_handshake_is_a_connect_timeout() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        await asyncio.sleep(30)

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url("https"), timeout=0.2) as api:
        began = time.monotonic()
        with pytest.raises(httpx.ConnectTimeout):
            await api.get("/")
        assert time.monotonic() - began < 5


async def test_a_server_that_reads_nothing_is_a_write_timeout() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(30)

    timeout = httpx.Timeout(5, write=0.2)
    async with http1_peer(handle) as peer, HTTPClientPool(peer.url(), timeout=timeout) as api:
        with pytest.raises(httpx.WriteTimeout):
            await api.post("/", content=b"x" * 50_000_000)


async def test_an_idle_http_2_connection_is_pinged_before_it_is_lent() -> None:
    async with http2_peer(serve_all_2) as peer, http2_pool(peer) as api:
        await api.get("/")
        assert await api.pool.check() == 0  # type: ignore[union-attr]
        assert peer.connections[0].pings == 1
        await asyncio.sleep(1.1)
        await api.get("/")
        assert peer.connections[0].pings == 2


async def test_silence_on_one_stream_is_noticed_while_the_others_talk() -> None:
    async def handle(connection: HTTP2Connection) -> None:
        await connection.start()
        silent = await connection.next()
        while stream := await connection.next():
            connection.h2.increment_flow_control_window(10)  # for all streams
            if stream != silent:
                connection.reply(stream)

    async with http2_peer(handle) as peer, http2_pool(peer) as api:
        with Stopwatch() as watch:
            silent = asyncio.create_task(api.get("/", timeout=0.3))
            await asyncio.sleep(0)
            while not silent.done() and watch.seconds < 2:
                await api.get("/")
                await asyncio.sleep(0.02)
            with pytest.raises(httpx.ReadTimeout):
                await silent
        assert watch.seconds < 0.6
