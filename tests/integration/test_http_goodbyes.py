"""Servers that go away: at once, politely, or between two requests."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import httpx
import pytest

from aiopool.adapters.http import HTTPClientPool, HTTPTransport
from tests.integration.http_peers import (
    HTTP1Connection,
    HTTP2Connection,
    http1_peer,
    http2_peer,
    http2_pool,
    serve_all,
)


async def test_streams_that_a_goaway_leaves_out_are_sent_again_and_the_others_end() -> None:
    async def handle(connection: HTTP2Connection) -> None:
        await connection.start()
        if connection.number > 0:
            while stream := await connection.next():
                connection.reply(stream, b"second")
            return
        streams = [await connection.next() for _ in range(4)]
        connection.goaway(last_stream_id=streams[1])
        await asyncio.sleep(0.05)
        for stream in streams[:2]:
            connection.reply(stream, b"first")

    async with http2_peer(handle) as peer, http2_pool(peer, max_connections=2) as api:
        answers = await asyncio.gather(*(api.post("/", content=b"not idempotent") for _ in range(4)))
        assert sorted(answer.text for answer in answers) == ["first", "first", "second", "second"]
        assert (await api.get("/")).text == "second"
        assert len(peer.connections) == 2


async def test_a_goaway_and_the_answers_in_one_packet_are_read_alike() -> None:
    async def handle(connection: HTTP2Connection) -> None:
        await connection.start()
        streams = [await connection.next() for _ in range(2)]
        connection.goaway(last_stream_id=streams[1])
        for stream in streams:
            connection.reply(stream)

    async with http2_peer(handle) as peer, http2_pool(peer) as api:
        answers = await asyncio.gather(api.get("/"), api.get("/"))
        assert [answer.status_code for answer in answers] == [200, 200]


async def test_a_refused_stream_is_sent_again_whatever_its_method() -> None:
    async def handle(connection: HTTP2Connection) -> None:
        await connection.start()
        refused = await connection.next()
        connection.h2.reset_stream(refused, error_code=7)
        connection.flush()
        while stream := await connection.next():
            connection.reply(stream, connection.bodies[stream])

    async with http2_peer(handle) as peer, http2_pool(peer, max_connections=1) as api:
        assert (await api.post("/", content=b"order")).text == "order"
        assert len(peer.connections) == 1


async def test_a_server_that_refuses_every_stream_is_asked_three_times() -> None:
    refused = 0

    async def handle(connection: HTTP2Connection) -> None:
        nonlocal refused
        await connection.start()
        while stream := await connection.next():
            refused += 1
            connection.h2.reset_stream(stream, error_code=7)
            connection.flush()

    async with http2_peer(handle) as peer, http2_pool(peer) as api:
        with pytest.raises(httpx.RemoteProtocolError, match="REFUSED_STREAM"):
            await api.get("/")
        assert refused == 3


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_kept_connection_that_turns_out_dead_costs_a_get_nothing_and_a_post_an_error(end: str) -> None:
    async def handle(connection: HTTP1Connection) -> None:
        await connection.request()
        connection.answer()
        if connection.number < 2:
            await connection.request()
            getattr(connection, end)()
        else:
            await serve_all(connection)

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url(), max_connections=1) as api:
        await api.get("/")
        assert (await api.get("/again")).status_code == 200
        assert [len(connection.requests) for connection in peer.connections] == [2, 1]
        with pytest.raises(httpx.TransportError):
            await api.post("/order", content=b"1")
        assert (await api.post("/order", content=b"1")).status_code == 200


async def test_a_server_that_always_dies_is_asked_twice_and_no_more() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        if connection.number == 0:
            await connection.request()
            connection.answer()
        await connection.request()
        connection.reset()

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url(), max_connections=1) as api:
        await api.get("/")
        with pytest.raises(httpx.TransportError):
            await api.get("/")
        assert len(peer.connections) == 2


@pytest.mark.parametrize("version", [1, 2])
async def test_idle_connections_that_died_are_noticed(version: int) -> None:
    async def handle_1(connection: HTTP1Connection) -> None:
        await connection.request()
        connection.answer()
        await connection.writer.drain()

    async def handle_2(connection: HTTP2Connection) -> None:
        await connection.start()
        connection.reply(await connection.next())
        await connection.writer.drain()
        connection.close()

    serving = http1_peer(handle_1) if version == 1 else http2_peer(handle_2)
    # On a slow machine a second connection would be opened beside the first, and stay.
    settings = {"http1": version == 1, "http2": version == 2, "max_connections": 1}
    async with serving as peer, HTTPClientPool(peer.url(), **settings) as api:
        for _ in range(3):
            assert (await api.post("/")).status_code == 200
            for _ in range(200):
                if api.stats()["size"] == 0:
                    break
                await asyncio.sleep(0.01)
            assert api.stats()["size"] == 0


async def test_a_connection_closed_by_agreement_is_no_error() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        await connection.request()
        connection.answer(connection="close")

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url(), max_connections=1) as api:
        for _ in range(3):
            assert (await api.post("/")).text == "ok"
        assert len(peer.connections) == 3
        assert api.stats()["closed_by"]["broken"] == 0


async def test_refused_connections_fail_at_once_and_recovery_is_seen_soon() -> None:
    async with http1_peer(serve_all) as peer:
        url = peer.url()
    async with HTTPClientPool(url) as api:
        began = time.monotonic()
        with pytest.raises(httpx.ConnectError):
            await api.get("/")
        assert time.monotonic() - began < 4
        async with http1_peer(serve_all, port=peer.port), asyncio.timeout(10):
            while True:
                try:
                    assert (await api.get("/")).status_code == 200
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.05)


async def test_a_stream_that_is_reset_in_the_packet_of_its_padded_data_costs_its_neighbours_nothing() -> None:
    async def handle(connection: HTTP2Connection) -> None:
        await connection.start()
        broken, whole = await connection.next(), await connection.next()
        connection.h2.send_headers(broken, [(":status", "200")])
        connection.h2.send_data(broken, b"half", pad_length=9)
        connection.h2.reset_stream(broken, error_code=2)
        connection.flush()
        await asyncio.sleep(0.05)
        connection.reply(whole)

    async with http2_peer(handle) as peer, http2_pool(peer) as api:
        broken, whole = await asyncio.gather(api.get("/broken"), api.get("/whole"), return_exceptions=True)
        assert isinstance(broken, httpx.RemoteProtocolError)
        assert isinstance(whole, httpx.Response), repr(whole)


async def test_a_connection_that_was_closed_while_the_loop_was_busy_costs_a_post_nothing() -> None:
    def serve(server: socket.socket) -> None:
        for _ in range(2):
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    with socket.create_server(("127.0.0.1", 0)) as server:
        serving = threading.Thread(target=serve, args=(server,))
        serving.start()
        async with HTTPClientPool(f"http://127.0.0.1:{server.getsockname()[1]}") as api:
            for _ in range(2):
                assert (await api.post("/", content=b"order")).status_code == 200
                time.sleep(0.1)  # noqa: ASYNC251
        serving.join()


async def test_a_client_that_is_closed_under_a_streamed_answer_does_not_blame_the_server() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        await connection.request()
        connection.answer(b"abc", content_length="100")
        await connection.request()

    async with http1_peer(handle) as peer:
        async with httpx.AsyncClient(transport=HTTPTransport()) as client:
            answer = await client.send(client.build_request("GET", peer.url()), stream=True)
        with pytest.raises(httpx.ReadError, match="closed on this side"):
            await answer.aread()
