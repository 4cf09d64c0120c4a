"""Under a plain httpx client, beside proxies, and on other loops."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from aiopool.adapters.http import HTTPClientPool, HTTPTransport
from aiopool.errors import PoolTimeout
from tests.integration.http_peers import (
    HTTP1Connection,
    http1_peer,
    http2_peer,
    http2_pool,
    serve_all,
    serve_all_2,
)


async def test_the_transport_serves_a_plain_httpx_client() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        while await connection.request():
            await asyncio.sleep(0.3)
            connection.answer()

    limits = httpx.Limits(max_connections=1)
    async with http1_peer(handle) as peer:
        async with httpx.AsyncClient(
            transport=HTTPTransport(limits=limits), timeout=httpx.Timeout(5, pool=0.1)
        ) as client:
            running = asyncio.create_task(client.get(peer.url()))
            await asyncio.sleep(0.1)
            with pytest.raises(httpx.PoolTimeout) as caught:
                await client.get(peer.url())
            assert isinstance(caught.value, PoolTimeout)
            assert caught.value.request.url.host == "127.0.0.1"
            assert (await running).extensions["http_version"] == b"HTTP/1.1"
        with pytest.raises(RuntimeError):
            await client.get(peer.url())
        with pytest.raises(httpx.UnsupportedProtocol):
            async with httpx.AsyncClient(transport=HTTPTransport()) as client:
                await client.get("ftp://127.0.0.1/")


async def test_a_proxy_is_httpxs_own_business() -> None:
    async with (
        http1_peer(serve_all) as proxy,
        HTTPClientPool("http://nowhere.invalid", proxy=proxy.url()) as api,
    ):
        assert (await api.get("/page")).status_code == 200
        assert proxy.connections[0].requests == ["get http://nowhere.invalid/page http/1.1"]
        assert api.stats()["opened"] == 0


async def test_a_mounted_transport_serves_its_addresses_and_ours_the_others() -> None:
    ours = HTTPTransport()
    async with (
        http1_peer(serve_all) as proxy,
        http1_peer(serve_all) as peer,
        httpx.AsyncClient(
            transport=ours, mounts={"http://nowhere.invalid": httpx.AsyncHTTPTransport(proxy=proxy.url())}
        ) as client,
    ):
        assert (await client.get("http://nowhere.invalid/page")).status_code == 200
        assert (await client.get(peer.url())).status_code == 200
        assert proxy.connections[0].requests == ["get http://nowhere.invalid/page http/1.1"]
        assert {origin: stats["opened"] for origin, stats in ours.origins().items()} == {peer.url(): 1}


def test_it_runs_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def run() -> None:
        async with http1_peer(serve_all) as peer, HTTPClientPool(peer.url()) as api:
            assert (await api.get("/")).status_code == 200
        async with http2_peer(serve_all_2) as peer, http2_pool(peer) as api:
            assert (await api.get("/")).status_code == 200

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def test_close_waits_for_requests_through_a_proxy_too() -> None:
    async def slowly(connection: HTTP1Connection) -> None:
        await connection.request()
        await asyncio.sleep(0.2)
        connection.answer()

    async with http1_peer(slowly) as proxy:
        api = HTTPClientPool("http://nowhere.invalid", proxy=proxy.url())
        running = asyncio.create_task(api.get("/page"))
        await asyncio.sleep(0.1)
        await asyncio.gather(api.close(timeout=None), api.close(timeout=None))
        assert running.done()
        assert (await running).status_code == 200
