"""What a server allows, and changes while it runs."""

from __future__ import annotations

import asyncio
import ssl

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


async def test_the_servers_limit_of_streams_holds_and_may_rise_and_fall() -> None:
    most = {0: 0}
    release = asyncio.Event()

    async def handle(connection: HTTP2Connection) -> None:
        await connection.start(max_concurrent_streams=2)
        held: list[int] = []

        async def answer() -> None:
            await release.wait()
            while held:
                connection.reply(held.pop())

        answering = asyncio.create_task(answer())
        while stream := await connection.next():
            held.append(stream)
            most[connection.number] = max(most.get(connection.number, 0), len(held))
            if release.is_set():
                connection.reply(held.pop())
        answering.cancel()

    async with http2_peer(handle) as peer, http2_pool(peer, max_connections=1) as api:
        running = [asyncio.create_task(api.get("/")) for _ in range(10)]
        await asyncio.sleep(0.1)
        assert (most[0], api.stats()["in_use"], api.stats()["waiting"]) == (2, 2, 8)
        peer.connections[0].settings(max_concurrent_streams=5)
        await asyncio.sleep(0.1)
        assert (most[0], api.stats()["in_use"]) == (5, 5)
        peer.connections[0].settings(max_concurrent_streams=3)
        await asyncio.sleep(0.1)
        running[0].cancel()
        await asyncio.sleep(0.1)
        assert (most[0], api.stats()["in_use"], api.stats()["waiting"]) == (5, 4, 5)
        release.set()
        await asyncio.gather(*running[1:])
        assert api.stats()["available"] == 3
        assert peer.connections[0].resets == [1]


async def test_a_connection_that_is_being_made_is_shared_by_all_who_wait_for_one() -> None:
    async def handle(connection: HTTP2Connection) -> None:
        await asyncio.sleep(0.1)  # it counts as open when the server has told its settings
        await serve_all_2(connection)

    async with http2_peer(handle) as peer, http2_pool(peer) as api:
        await asyncio.gather(*(api.get("/") for _ in range(100)))
        assert len(peer.connections) == api.stats()["opened"] == 1


async def test_a_server_that_speaks_http_1_only_gives_everybody_a_connection() -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    server_context.set_alpn_protocols(["http/1.1"])
    context = ssl.create_default_context()
    authority.configure_trust(context)

    async def handle(connection: HTTP1Connection) -> None:
        while await connection.request():
            await asyncio.sleep(0.2)
            connection.answer()

    async with (
        http1_peer(handle, server_context) as peer,
        HTTPClientPool(peer.url("https"), verify=context, max_connections=10) as api,
    ):
        answers = await asyncio.gather(*(api.get("/") for _ in range(20)))
        assert {answer.http_version for answer in answers} == {"HTTP/1.1"}
        stats = api.stats()
        assert stats["size"] == stats["available"] > 3
