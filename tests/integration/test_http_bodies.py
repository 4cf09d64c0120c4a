"""Requests and answers: however long, in whatever pieces, and however oddly they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from aiopool.adapters.http import HTTPClientPool
from tests.integration.http_peers import (
    HTTP1Connection,
    HTTP2Connection,
    http1_peer,
    http2_peer,
    http2_pool,
    serve_all_2,
)


async def test_large_bodies_go_both_ways_under_flow_control() -> None:
    async def handle(connection: HTTP2Connection) -> None:
        await connection.start()
        stream = await connection.next()
        connection.h2.send_headers(stream, [(":status", "200")])
        body = connection.bodies[stream]
        while body:
            room = min(connection.h2.local_flow_control_window(stream), 16384, len(body))
            if room:
                connection.h2.send_data(stream, body[:room], end_stream=room == len(body))
                body = body[room:]
                connection.flush()
            await asyncio.sleep(0 if room else 0.001)

    body = bytes(range(256)) * 20_000
    async with http2_peer(handle) as peer, http2_pool(peer) as api:
        assert (await api.post("/", content=body)).content == body


@pytest.mark.parametrize("version", [1, 2])
async def test_a_body_may_be_sent_as_it_is_made(https_server: Any, version: int) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(100):
            await asyncio.sleep(0)
            yield f"{number},".encode()

    async with HTTPClientPool(https_server.url, verify=https_server.ssl_context, http2=version == 2) as api:
        answer = await api.post("/echo", content=pieces())
        assert answer.json()["body"] == "".join(f"{number}," for number in range(100))
        assert answer.http_version == ("HTTP/2" if version == 2 else "HTTP/1.1")


async def test_a_slow_reader_holds_up_itself_alone(https_server: Any) -> None:
    async with (
        HTTPClientPool(https_server.url, verify=https_server.ssl_context, max_connections=1) as api,
        api.stream("GET", "/bytes/30000000") as answer,
    ):
        await asyncio.sleep(0.3)
        for _ in range(20):
            assert len((await api.get("/bytes/200000")).content) == 200_000
        assert api.stats()["size"] == 1
        assert sum([len(piece) async for piece in answer.aiter_bytes()]) == 30_000_000


async def test_an_answer_that_comes_before_the_whole_request_ends_the_sending() -> None:
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 1000
            await asyncio.sleep(0.001)

    async def handle(connection: HTTP2Connection) -> None:
        await connection.start()
        await asyncio.sleep(0.1)
        connection.reply(1, b"too large", status="413")
        await connection.next()

    async with http2_peer(handle) as peer, http2_pool(peer) as api:
        answer = await api.post("/", content=pieces())
        assert (answer.status_code, answer.text) == (413, "too large")
        assert 0 < sent < 1000
        await asyncio.sleep(0.05)
        assert peer.connections[0].resets == [1]


@pytest.mark.parametrize(
    ("head", "headers", "body", "seen"),
    [
        ("HTTP/1.1 204 No Content", {"content_length": "0"}, b"", b""),
        ("HTTP/1.1 200 OK", {"transfer_encoding": "chunked"}, b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", b"abcde"),
        ("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK", {}, b"hints", b"hints"),
        ("HTTP/1.0 200 OK", {}, b"old", b"old"),
    ],
)
async def test_every_way_to_end_an_answer_is_understood(
    head: str, headers: dict[str, str], body: bytes, seen: bytes
) -> None:
    async def handle(connection: HTTP1Connection) -> None:
        while await connection.request():
            given = dict(headers)
            if "transfer_encoding" in given:
                connection.writer.write(f"{head}\r\ntransfer-encoding: chunked\r\n\r\n".encode() + body)
            else:
                connection.answer(body, head, **given)
            if head.startswith("HTTP/1.0"):
                return

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url()) as api:
        for _ in range(3):
            assert (await api.get("/")).content == seen


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        await connection.request()
        connection.writer.write(b"HTTP/1.1 200 OK\r\nx: y\r\n\r\nall that there is")

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url()) as api:
        assert (await api.get("/")).text == "all that there is"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000,
    ],
)
async def test_an_answer_that_makes_no_sense_is_a_protocol_error(nonsense: bytes) -> None:
    async def handle(connection: HTTP1Connection) -> None:
        await connection.request()
        connection.writer.write(nonsense)

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url()) as api:
        with pytest.raises(httpx.RemoteProtocolError):
            await api.get("/")
        await asyncio.sleep(0.05)
        assert api.stats()["size"] == 0


async def test_words_that_nobody_asked_for_end_a_connection() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        await connection.request()
        connection.answer()
        await asyncio.sleep(0.05)
        connection.answer(b"poison")
        await asyncio.sleep(30)

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url()) as api:
        for _ in range(2):
            assert (await api.get("/")).text == "ok"
            await asyncio.sleep(0.15)
            assert api.stats()["size"] == 0


async def test_an_answer_left_early_gives_its_connection_back_if_little_is_missing() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        while line := await connection.request():
            missing = 1000 if "little" in line else 1_000_000
            connection.writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {missing}\r\n\r\n".encode())
            await asyncio.sleep(0.1)
            connection.writer.write(b"x" * missing)

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url(), max_connections=1) as api:
        for _ in range(3):
            async with api.stream("GET", "/little") as answer:
                assert answer.status_code == 200
        assert len(peer.connections) == 1
        for _ in range(2):
            async with api.stream("GET", "/much") as answer:
                assert answer.status_code == 200
        assert (await api.get("/little")).status_code == 200
        assert len(peer.connections) == 3


async def test_words_that_follow_an_answer_end_its_connection_while_it_is_still_being_read() -> None:
    ended = asyncio.Event()

    async def handle(connection: HTTP1Connection) -> None:
        await connection.request()
        connection.answer(b"ok")
        await asyncio.sleep(0.05)
        connection.writer.write(b"x" * 1_000_000)
        with suppress(ConnectionError):
            await connection.reader.read()
        ended.set()

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url()) as api, api.stream("GET", "/") as answer:
        await asyncio.wait_for(ended.wait(), 10)
        assert await answer.aread() == b"ok"


async def test_streams_that_have_ended_are_forgotten() -> None:
    async with http2_peer(serve_all_2) as peer, http2_pool(peer) as api:
        for _ in range(15):
            await asyncio.gather(*(api.get("/") for _ in range(80)))
        assert api.pool is not None
        async with api.pool.acquire() as wire:
            assert len(wire._h2._closed_streams) <= 1000  # type: ignore[attr-defined]
        assert len(peer.connections) == 1
