"""Limits over several origins, and who gives way to whom."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from aiopool.adapters.http import HTTPClientPool
from aiopool.errors import PoolConfigError, PoolTimeout
from aiopool.events import Event, Opened
from tests.integration.http_peers import (
    HTTP1Connection,
    HTTP2Connection,
    http1_peer,
    http2_peer,
    http2_pool,
    serve_all,
    serve_all_2,
)


async def test_an_idle_connection_of_another_origin_gives_way() -> None:
    async with (
        http1_peer(serve_all) as one,
        http1_peer(serve_all) as two,
        HTTPClientPool(one.url(), max_connections=1, timeout=3) as api,
    ):
        for _ in range(3):
            assert (await api.get("/")).status_code == 200
            assert (await api.get(f"{two.url()}/")).status_code == 200
        assert api.stats()["size"] == 1
        assert len(one.connections) == len(two.connections) == 3


async def test_a_busy_origin_does_not_starve_another_at_the_limit() -> None:
    async def slowly(connection: HTTP1Connection) -> None:
        while await connection.request():
            await asyncio.sleep(0.01)
            connection.answer()

    async with (
        http1_peer(slowly) as busy,
        http1_peer(serve_all) as other,
        HTTPClientPool(busy.url(), max_connections=2, timeout=3) as api,
    ):
        is_over, served = False, 0

        async def load() -> None:
            nonlocal served
            while not is_over:
                await api.get("/")
                served += 1

        loads = [asyncio.create_task(load()) for _ in range(10)]
        await asyncio.sleep(0.1)
        before = served
        for _ in range(5):
            assert (await api.get(f"{other.url()}/")).status_code == 200
            assert api.stats()["size"] <= 2
        assert served - before < 5 * 20, "each should have come after those who were there, and none besides"
        is_over = True
        await asyncio.gather(*loads)


async def test_one_origin_takes_no_more_than_its_part_and_the_others_have_the_rest() -> None:
    async def slowly(connection: HTTP1Connection) -> None:
        while await connection.request():
            await asyncio.sleep(0.3)
            connection.answer()

    async with (
        http1_peer(slowly) as one,
        http1_peer(slowly) as two,
        HTTPClientPool(one.url(), max_connections=4, max_per_origin=3, timeout=httpx.Timeout(3, pool=0.1)) as api,
    ):
        running = [asyncio.create_task(api.get("/")) for _ in range(3)]
        await asyncio.sleep(0.1)
        with pytest.raises(PoolTimeout, match="raise max_connections or max_per_origin"):
            await api.get("/")
        assert (await api.get(f"{two.url()}/")).status_code == 200
        await asyncio.gather(*running)
        assert [stats["size"] for stats in api.origins().values()] == [3, 1]
        api.resize(max_size=2)
        await asyncio.sleep(0.05)
        assert api.stats()["size"] == 2
        api.resize(max_size=10)
        assert [stats["max_size"] for stats in api.origins().values()] == [3] * len(api.origins())
        with pytest.raises(PoolConfigError, match="max_per_origin=0"):
            HTTPClientPool(max_per_origin=0)


async def test_max_keepalive_counts_over_all_origins_and_origins_go_when_unused() -> None:
    async with (
        http1_peer(serve_all) as a,
        http1_peer(serve_all) as b,
        http1_peer(serve_all) as c,
        HTTPClientPool(max_keepalive=2, keepalive_expiry=0.3) as api,
    ):
        assert api.pool is None
        for peer in (a, b, c):
            await api.get(f"{peer.url()}/")
        await asyncio.sleep(0.05)
        assert set(api.origins()) == {b.url(), c.url()}
        assert api.stats()["available"] == 2
        await asyncio.sleep(0.5)
        assert api.origins() == {}
        stats = api.stats()
        assert (stats["opened"], stats["closed"], stats["acquired"], stats["size"]) == (3, 3, 3, 0)


async def test_an_origin_that_cannot_be_reached_is_forgotten() -> None:
    async with http1_peer(serve_all) as peer:
        url = peer.url()
    async with HTTPClientPool() as api:
        for _ in range(3):
            with pytest.raises(httpx.ConnectError):
                await api.get(url)
        assert api.origins() == {}
        assert api.stats()["open_failures"] == 3


async def test_callers_are_served_in_the_order_they_came() -> None:
    async def slowly(connection: HTTP1Connection) -> None:
        while await connection.request():
            await asyncio.sleep(0.005)
            connection.answer()

    async with http1_peer(slowly) as peer, HTTPClientPool(peer.url(), max_connections=1) as api:
        order: list[int] = []

        async def ask(number: int) -> None:
            await api.get("/")
            order.append(number)

        await asyncio.gather(*(ask(number) for number in range(30)))
        assert order == list(range(30))


async def test_a_place_that_comes_free_is_for_who_comes_next_though_the_first_to_ask_gave_up() -> None:
    async def slowly(connection: HTTP1Connection) -> None:
        while await connection.request():
            await asyncio.sleep(0.3)
            connection.answer()

    timeout = httpx.Timeout(2, pool=0.1)
    async with (
        http1_peer(slowly) as busy,
        http1_peer(serve_all) as other,
        HTTPClientPool(other.url(), max_connections=1, timeout=timeout) as api,
    ):
        running = asyncio.create_task(api.get(f"{busy.url()}/"))
        await asyncio.sleep(0.1)
        with pytest.raises(PoolTimeout):
            await api.get("/")
        await running
        for _ in range(3):
            assert (await api.get("/")).status_code == 200


async def test_a_connection_that_goes_but_still_serves_somebody_keeps_no_idle_one_from_giving_way() -> None:
    async def handle(connection: HTTP2Connection) -> None:
        await connection.start(max_concurrent_streams=2)

    async with (
        http2_peer(handle) as peer,
        http2_peer(serve_all_2) as other,
        http2_pool(peer, max_connections=2, timeout=3) as api,
    ):
        pool = api.pool
        assert pool is not None
        first, second, third = [await pool.acquire() for _ in range(3)]
        assert first.info is second.info is not third.info
        waiting = asyncio.create_task(api.get(f"{other.url()}/"))
        await asyncio.sleep(0.1)
        first.release()  # this connection goes, as soon as the second lease is back
        await asyncio.sleep(0.05)
        third.release()
        assert (await asyncio.wait_for(waiting, 2)).status_code == 200
        second.release()


async def test_resizing_moves_the_limit_over_all_origins() -> None:
    async def slowly(connection: HTTP1Connection) -> None:
        while await connection.request():
            await is_enough.wait()
            connection.answer()

    is_enough = asyncio.Event()
    async with (
        http1_peer(slowly) as one,
        http1_peer(serve_all) as two,
        HTTPClientPool(one.url(), max_connections=1) as api,
    ):
        slow, quick = (asyncio.create_task(api.get(f"{peer.url()}/")) for peer in (one, two))
        await asyncio.sleep(0.1)
        assert (api.stats()["size"], api.stats()["max_size"]) == (1, 1)
        api.resize(max_size=2)
        assert (await quick).status_code == 200
        is_enough.set()
        await slow
        assert (api.stats()["available"], api.stats()["max_size"]) == (2, 2)
        api.resize(max_size=1)
        await asyncio.sleep(0.05)
        assert api.stats()["size"] == 1
        with pytest.raises(PoolConfigError, match="max_size=0"):
            api.resize(max_size=0)
        assert api.stats()["max_size"] == 1


async def test_shrinking_closes_what_is_leased_at_several_origins_when_it_comes_back() -> None:
    async def slowly(connection: HTTP1Connection) -> None:
        while await connection.request():
            await asyncio.sleep(0.2)
            connection.answer()

    async with http1_peer(slowly) as one, http1_peer(slowly) as two, HTTPClientPool(max_connections=4) as api:
        running = [asyncio.create_task(api.get(f"{peer.url()}/")) for peer in (one, two) * 2]
        await asyncio.sleep(0.1)
        api.resize(max_size=2)
        assert api.stats()["size"] == 4
        await asyncio.gather(*running)
        await asyncio.sleep(0.05)
        assert api.stats()["size"] == 2
        with pytest.raises(PoolConfigError, match="base_url"):
            api.resize(min_size=1)


async def test_maintenance_is_done_at_every_origin() -> None:
    heard: list[Event] = []
    async with http1_peer(serve_all) as one, http1_peer(serve_all) as two, HTTPClientPool(one.url()) as api:
        unsubscribe = api.subscribe(heard.append)
        for peer in (one, two):
            await api.get(f"{peer.url()}/")
        assert {event.pool.name for event in heard if isinstance(event, Opened)} == {
            api.name,
            f"{api.name} {two.url()}",
        }
        assert await api.check() == 0
        assert api.stats()["size"] == 2

        await api.drain()
        await asyncio.sleep(0.05)
        assert api.stats()["closed_by"]["drained"] == 2

        await api.get(f"{two.url()}/")
        api.suspend()
        waiting = [asyncio.create_task(api.get(f"{peer.url()}/")) for peer in (one, two)]
        await asyncio.sleep(0.05)
        assert api.stats()["waiting"] == 2
        api.resume()
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]

        unsubscribe()
        count = len(heard)
        await api.get("/")
        assert len(heard) == count


async def test_a_timeout_that_is_no_number_is_told_as_the_pool_tells_it() -> None:
    async with http1_peer(serve_all) as peer, HTTPClientPool(peer.url()) as api:
        with pytest.raises(ValueError, match="timeout='5' is not allowed: it must be a number of seconds"):
            await api.get("/", timeout="5")
        assert (await api.get("/", timeout=5)).status_code == 200
