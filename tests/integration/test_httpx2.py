"""Clients of httpx2 on our connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from aiopool import PoolTimeout
from aiopool.adapters.httpx2 import HTTPX2Transport
from aiopool.embedded import HTTPSServer
from tests.integration.http_peers import HTTP1Connection, http1_peer, serve_all


@pytest.mark.parametrize("http2", [True, False], ids=["HTTP/2", "HTTP/1.1"])
async def test_a_client_of_httpx2_works_as_ever_and_its_connections_are_ours(
    https_server: HTTPSServer, http2: bool
) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    transport = HTTPX2Transport(https_server.ssl_context, http2=http2)
    async with httpx2.AsyncClient(transport=transport, base_url=https_server.url) as client:
        answer = await client.post("/echo", json={"id": 1})
        assert answer.json()["method"] == "POST"
        assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert (await client.post("/echo", content=parts())).json()["body"] == "one two"
        async with client.stream("GET", "/stream/3") as answer:
            assert len([line async for line in answer.aiter_raw()]) >= 1
        assert all(r.status_code == 200 for r in await asyncio.gather(*(client.get("/") for _ in range(20))))
        assert transport.stats()["acquired"] == 23
        assert transport.stats()["in_use"] == 0
    assert transport.stats()["size"] == 0


async def test_errors_are_those_of_httpx2() -> None:
    async def cut(connection: HTTP1Connection) -> None:
        while line := await connection.request():
            if "cut" in line:
                connection.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort")
                connection.close()
            elif "slow" in line:
                await asyncio.sleep(5)

    async with http1_peer(serve_all) as gone:
        pass
    limits = httpx2.Limits(max_connections=1)
    async with (
        http1_peer(cut) as peer,
        httpx2.AsyncClient(transport=HTTPX2Transport(limits=limits), timeout=httpx2.Timeout(0.2, read=0.5)) as client,
    ):
        with pytest.raises(httpx2.ConnectError):
            await client.get(gone.url())
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get(f"{peer.url()}/cut")
        slow = asyncio.create_task(client.get(f"{peer.url()}/slow"))
        await asyncio.sleep(0.05)
        with pytest.raises(httpx2.PoolTimeout) as caught:
            await client.get(f"{peer.url()}/")
        assert isinstance(caught.value, PoolTimeout)
        with pytest.raises(httpx2.ReadTimeout):
            await slow


async def test_a_whole_body_is_sent_again_on_a_kept_connection_that_turned_out_dead() -> None:
    async def once(connection: HTTP1Connection) -> None:
        await connection.request()
        connection.answer()
        if connection.number == 0:
            await connection.request()
            connection.reset()
        else:
            await serve_all(connection)

    async with http1_peer(once) as peer, httpx2.AsyncClient(transport=HTTPX2Transport()) as client:
        await client.put(peer.url(), content=b"one")
        assert (await client.put(peer.url(), content=b"two")).status_code == 200
        assert len(peer.connections) == 2
