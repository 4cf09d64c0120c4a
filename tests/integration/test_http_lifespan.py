"""Pools that are closed or dropped while requests run."""

from __future__ import annotations

import asyncio
import gc
import time
import warnings

import httpx
import pytest

from aiopool import embedded
from aiopool.adapters.http import HTTPClientPool
from aiopool.errors import PoolClosed, WrongLoop
from tests.integration.http_peers import (
    HTTP1Connection,
    http1_peer,
    serve_all,
)


async def test_close_fails_those_in_line_and_ends_what_runs_at_the_deadline() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        await connection.request()
        await asyncio.sleep(30)

    async with http1_peer(handle) as peer:
        api = HTTPClientPool(peer.url(), max_connections=1)
        tasks = [asyncio.create_task(api.get("/")) for _ in range(3)]
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await api.close(timeout=0.2)
        assert time.monotonic() - began < 10
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(error, PoolClosed) for error in errors[1:])
        assert isinstance(errors[0], (httpx.TransportError, PoolClosed))


async def test_an_answer_that_is_dropped_unread_costs_its_connection_and_warns() -> None:
    async with http1_peer(serve_all) as peer, HTTPClientPool(peer.url(), max_connections=1, timeout=3) as api:
        answer = await api.client.send(api.client.build_request("GET", "/"), stream=True)
        del answer
        with pytest.warns(ResourceWarning, match="dropped without being released"):
            gc.collect()
        assert (await api.get("/")).status_code == 200


async def test_a_pool_that_is_dropped_warns_and_closes_its_connections() -> None:
    async with http1_peer(serve_all) as peer:
        api = HTTPClientPool(peer.url())
        await api.get("/")
        del api
        with pytest.warns(ResourceWarning, match="was dropped without being closed"):
            gc.collect()
        async with asyncio.timeout(10):
            while peer.tasks:
                await asyncio.wait(set(peer.tasks))


async def test_a_close_from_another_loop_is_refused_and_changes_nothing() -> None:
    async with http1_peer(serve_all) as peer, HTTPClientPool(peer.url()) as api:
        await api.get("/")
        with pytest.raises(WrongLoop):
            await asyncio.to_thread(asyncio.run, api.close())
        assert (await api.get("/")).status_code == 200


def test_the_places_of_a_loop_that_ended_with_the_pool_open_are_free_on_the_next(
    https_server: embedded.HTTPSServer,
) -> None:
    api = HTTPClientPool(https_server.url, verify=https_server.ssl_context, max_connections=1, timeout=2)

    async def use() -> int:
        return (await api.get("/")).status_code

    async def use_again() -> int:
        await api.close()
        await api.open()
        try:
            return await use()
        finally:
            await api.close()

    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(use()) == 200
    loop.close()  # without a word to anybody, which asyncio.run() would not do
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        assert asyncio.run(use_again()) == 200
        gc.collect()
