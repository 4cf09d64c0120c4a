"""`HTTPClientPool` on a real HTTPS server."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from aiopool import embedded
from aiopool.adapters import http
from aiopool.adapters.http import HTTPClientPool
from aiopool.errors import PoolClosed, PoolTimeout


@pytest_asyncio.fixture
async def api(https_server: embedded.HTTPSServer) -> AsyncIterator[HTTPClientPool]:
    async with HTTPClientPool(https_server.url, verify=https_server.ssl_context) as pool:
        yield pool


async def ports(api: HTTPClientPool, times: int) -> set[int]:
    """Which connections requests came over: the server sees the client's port."""
    answers = await asyncio.gather(*(api.get("/echo") for _ in range(times)))
    return {answer.json()["client"][1] for answer in answers}


async def test_a_tool_posts_json_and_reads_json(api: HTTPClientPool) -> None:
    seen = (await api.post("/echo", json={"id": 1})).json()
    assert (seen["method"], seen["body"]) == ("POST", '{"id":1}')


async def test_every_method_is_at_hand(api: HTTPClientPool) -> None:
    for method in ("get", "post", "put", "patch", "delete", "options"):
        assert (await getattr(api, method)("/echo")).json()["method"] == method.upper()
    assert (await api.head("/")).headers["content-length"] == "200"
    assert (await api.request("TRACE", "/echo")).json()["method"] == "TRACE"


async def test_connections_are_reused(api: HTTPClientPool) -> None:
    assert len({port for _ in range(10) for port in await ports(api, 1)}) == 1
    assert api.stats()["size"] == 1


async def test_http_2_shares_one_connection_and_http_1_does_not(https_server: embedded.HTTPSServer) -> None:
    async with HTTPClientPool(https_server.url, verify=https_server.ssl_context) as api:
        assert (await api.get("/")).http_version == "HTTP/2"
        assert len(await ports(api, 20)) == 1
    async with HTTPClientPool(https_server.url, verify=https_server.ssl_context, http2=False) as api:
        assert (await api.get("/")).http_version == "HTTP/1.1"
        await asyncio.gather(*(api.get("/delay/300") for _ in range(5)))
        assert api.stats()["size"] > 1


async def test_limits_hold_and_stats_tell_what_is_there(https_server: embedded.HTTPSServer) -> None:
    async with HTTPClientPool(
        https_server.url,
        max_connections=3,
        max_keepalive=2,
        http2=False,
        verify=https_server.ssl_context,
        name="api",
    ) as api:
        assert (
            api.stats().items()
            >= {
                "name": "api",
                "size": 0,
                "available": 0,
                "in_use": 0,
                "waiting": 0,
                "min_size": 0,
                "max_size": 3,
            }.items()
        )
        running = asyncio.gather(*(api.get("/delay/300") for _ in range(5)))
        await asyncio.sleep(0.15)
        stats = api.stats()
        assert (stats["size"], stats["in_use"], stats["waiting"], stats["available"]) == (3, 3, 2, 0)
        assert {answer.status_code for answer in await running} == {200}
        stats = api.stats()
        assert (stats["in_use"], stats["waiting"]) == (0, 0)
        assert stats["available"] <= 2
        await asyncio.sleep(0.2)  # the one too many is closed politely
        assert api.stats()["size"] <= 2


async def test_a_caller_that_gets_no_connection_in_time_gets_a_pool_timeout(
    https_server: embedded.HTTPSServer,
) -> None:
    async with HTTPClientPool(
        https_server.url,
        max_connections=1,
        http2=False,
        timeout=httpx.Timeout(5, pool=0.1),
        verify=https_server.ssl_context,
    ) as api:
        running = asyncio.create_task(api.get("/delay/500"))
        await asyncio.sleep(0.1)
        told = r"in_use=1 waiting=1 max_size=1, waited 0\.\d\ds.*raise max_connections"
        with pytest.raises(PoolTimeout, match=told) as caught:
            await api.get("/")
        assert isinstance(caught.value, httpx.PoolTimeout)
        assert caught.value.waited >= 0.1
        assert caught.value.stats is not None
        assert caught.value.stats["waiting"] == 1
        assert (await running).status_code == 200


async def test_a_timeout_bounds_a_request(https_server: embedded.HTTPSServer) -> None:
    async with HTTPClientPool(https_server.url, timeout=0.2, verify=https_server.ssl_context) as api:
        with pytest.raises(httpx.ReadTimeout):
            await api.get("/delay/5000")
        assert (await api.get("/delay/500", timeout=5)).status_code == 200


async def test_a_streamed_answer_holds_its_connection_until_the_end(api: HTTPClientPool) -> None:
    async with api.stream("GET", "/stream/100") as answer:
        assert answer.status_code == 200
        assert api.stats()["in_use"] == 1
        assert sum([len(piece) async for piece in answer.aiter_bytes()]) == 100 * 1024
    assert api.stats()["in_use"] == 0


async def test_other_keywords_mean_what_they_mean_to_httpx(https_server: embedded.HTTPSServer) -> None:
    async with HTTPClientPool(
        https_server.url,
        headers={"x-team": "till"},
        auth=("me", "secret"),
        verify=ssl.create_default_context(cafile=https_server.ca_file),
    ) as api:
        headers = (await api.get("/echo")).json()["headers"]
        assert headers["x-team"] == "till"
        assert headers["authorization"].startswith("Basic ")
        assert "secret" not in f"{api!r} {api.stats()}"


async def test_a_certificate_that_nobody_vouches_for_is_refused(https_server: embedded.HTTPSServer) -> None:
    async with HTTPClientPool(https_server.url) as api:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await api.get("/")


async def test_close_waits_for_running_requests_and_refuses_newcomers(https_server: embedded.HTTPSServer) -> None:
    api = HTTPClientPool(https_server.url, verify=https_server.ssl_context)
    running = asyncio.create_task(api.get("/delay/300"))
    await asyncio.sleep(0.1)
    closing = asyncio.create_task(api.close())
    await asyncio.sleep(0)
    with pytest.raises(PoolClosed, match="open"):
        await api.get("/")
    assert (await running).status_code == 200
    await closing
    await api.close()
    assert api.stats()["size"] == 0
    with pytest.raises(PoolClosed):
        async with api.stream("GET", "/"):
            pass
    async with api:
        assert (await api.get("/")).status_code == 200


async def test_close_ends_what_outlasts_the_deadline(https_server: embedded.HTTPSServer) -> None:
    api = HTTPClientPool(https_server.url, verify=https_server.ssl_context)
    running = asyncio.create_task(api.get("/delay/5000"))
    await asyncio.sleep(0.2)
    began = time.monotonic()
    await api.close(timeout=0.1)
    assert time.monotonic() - began < 4
    running.cancel()
    await asyncio.wait([running])


async def test_open_needs_no_server() -> None:
    async with HTTPClientPool("https://127.0.0.1:1") as api:
        assert api.stats()["size"] == 0


def test_clients_share_one_ssl_context_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    create = httpx.create_ssl_context
    monkeypatch.setattr(
        http.httpx, "create_ssl_context", lambda *args, **kw: made.append(create(*args, **kw)) or made[-1]
    )
    http.shared_ssl_context.cache_clear()
    for _ in range(3):
        HTTPClientPool(http2=False)
        HTTPClientPool()
    assert len(made) == 1
    assert http.shared_ssl_context() is made[0]


async def test_a_path_says_which_authorities_to_trust(https_server: embedded.HTTPSServer) -> None:
    async with HTTPClientPool(https_server.url, verify=str(https_server.ca_file)) as api:
        assert (await api.get("/")).http_version == "HTTP/2"


async def test_clients_that_share_a_context_may_offer_different_protocols_at_once(
    https_server: embedded.HTTPSServer,
) -> None:
    async with (
        HTTPClientPool(https_server.url, verify=https_server.ssl_context) as two,
        HTTPClientPool(https_server.url, verify=https_server.ssl_context, http2=False) as one,
    ):
        for _ in range(5):
            answers = await asyncio.gather(*(api.get("/delay/10") for api in (two, one, two, one)))
            assert [answer.http_version for answer in answers] == ["HTTP/2", "HTTP/1.1"] * 2
            await two.pool.drain()  # type: ignore[union-attr]
            await one.pool.drain()  # type: ignore[union-attr]
