"""Requests cancelled at random moments: nobody gets another's answer, nobody else gets an error, nothing is left."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter

import pytest

from aiopool import embedded
from aiopool.adapters.http import HTTPClientPool

REQUESTS = int(os.environ.get("STORM_REQUESTS", "600"))


async def ask(api: HTTPClientPool, nonce: str, dice: random.Random) -> None:
    """One of three kinds of request, whose answer nobody else could get."""
    kind = dice.randrange(3)
    if kind == 0:
        body = nonce * dice.choice([1, 100, 20_000])
        echoed = (await api.post("/echo", content=body)).json()["body"]
        assert echoed == body
    elif kind == 1:
        assert (await api.get("/echo", params={"nonce": nonce})).json()["query"] == f"nonce={nonce}"
    else:
        size = dice.choice([10, 3_000, 300_000]) + int(nonce)
        async with api.stream("GET", f"/bytes/{size}") as answer:
            assert sum([len(piece) async for piece in answer.aiter_bytes()]) == size


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_cancellations_at_random_moments_cost_nobody_else_anything(
    https_server: embedded.HTTPSServer, http2: bool
) -> None:
    dice = random.Random(REQUESTS)
    descriptors, tasks = len(os.listdir("/proc/self/fd")), asyncio.all_tasks()
    outcomes: Counter[str] = Counter()
    # HTTP/1.1 has no room for more at once; the others would mostly be cancelled in the line.
    at_once = asyncio.Semaphore(120 if http2 else 15)

    async def caller(number: int, api: HTTPClientPool) -> None:
        async with at_once:
            asking = asyncio.create_task(ask(api, str(number), random.Random(number)))
            if number % 2:
                await asyncio.sleep(dice.random() ** 3 * 0.3)
                asking.cancel()
            await asyncio.wait((asking,))
            if asking.cancelled():
                outcomes["cancelled"] += 1
            else:
                outcomes[repr(asking.exception())] += 1

    async with HTTPClientPool(
        https_server.url, verify=https_server.ssl_context, http2=http2, max_connections=10, timeout=60
    ) as api:
        await asyncio.gather(*(caller(number, api) for number in range(REQUESTS)))
        assert outcomes.keys() <= {"cancelled", "None"}
        assert outcomes["cancelled"] > REQUESTS / 50
        assert outcomes["None"] >= REQUESTS / 2
        stats = api.stats()
        assert (stats["in_use"], stats["waiting"], stats["leaks"], stats["open_failures"]) == (0, 0, 0, 0)
        # A connection may go with an exchange that was cancelled half-way, but HTTP/2 has no need of that.
        assert stats["closed"] - stats["closed_by"]["idle"] <= (0 if http2 else outcomes["cancelled"])
        answers = await asyncio.gather(*(api.get("/delay/20") for _ in range(100)))
        assert all(answer.status_code == 200 for answer in answers)
    stats = api.stats()
    assert (stats["size"], stats["opened"]) == (0, stats["closed"])
    assert asyncio.all_tasks() == tasks
    assert len(os.listdir("/proc/self/fd")) == descriptors
