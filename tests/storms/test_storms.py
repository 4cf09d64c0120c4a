"""The storms and the soak of `python -m tests.storms`, in short."""

from __future__ import annotations

import pytest

from aiopool import embedded
from aiopool.adapters.postgres import ResetMode
from tests.storms import backends
from tests.storms.attack import Tally, plans
from tests.storms.soak import SLACK, Pause, Soak, soak
from tests.storms.storm import storm


@pytest.mark.parametrize("reset", backends.RESET_MODES)
async def test_cancelled_queries_cost_postgresql_no_connection_and_nobody_an_answer(
    postgres: embedded.PostgresServer, reset: ResetMode
) -> None:
    found = await storm(backends.postgres(postgres, reset), queries=1200, seed=1)
    assert found.complaints == []


@pytest.mark.parametrize("batching", [False, True], ids=["exclusive", "batching"])
async def test_cancelled_commands_cost_redis_no_slot_and_nobody_an_answer(
    redis_server: embedded.RedisServer, batching: bool
) -> None:
    found = await storm(backends.redis(redis_server, batching=batching), queries=1200, seed=1)
    assert found.complaints == []


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
async def test_cancelled_requests_cost_no_slot_and_nobody_an_answer(
    https_server: embedded.HTTPSServer, http2: bool
) -> None:
    found = await storm(backends.http(https_server, http2=http2), queries=600, seed=1)
    assert found.complaints == []


async def test_descriptors_tasks_and_memory_are_flat_under_mixed_load(
    postgres: embedded.PostgresServer, redis_server: embedded.RedisServer, https_server: embedded.HTTPSServer
) -> None:
    mixed = [
        backends.postgres(postgres, "session"),
        backends.redis(redis_server),
        *(backends.http(https_server, http2=http2) for http2 in (False, True)),
    ]
    found = await soak(mixed, seconds=4, seed=1)
    assert found.complaints() == []
    assert found.tally.cancelled > 0


async def test_the_same_seed_plans_the_same_storm() -> None:
    async def way(nonce: int) -> int:
        return nonce

    def planned(seed: int) -> list[object]:
        endless = plans([way], seed, spared=0.2)
        return [next(endless) for _ in range(100)]

    assert planned(1) == planned(1) != planned(2)


@pytest.mark.parametrize("field", ["descriptors", "tasks", "blocks", "resident"])
def test_a_soak_complains_of_what_grows_with_the_queries(field: str) -> None:
    def pause(number: int, each: float) -> Pause:
        counts = {"descriptors": 10, "tasks": 3, "blocks": 100_000, "resident": 50_000_000}
        counts[field] += int(number * each)
        return Pause(number * 10_000, counts["descriptors"], counts["tasks"], counts["blocks"], counts["resident"])

    bounds = {"descriptors": 0, "tasks": 0, "blocks": 10_000 / 20 + SLACK / 8, "resident": 1_000_000 + 2**23 / 8}
    flat, leaky = bounds[field], max(1.0, bounds[field] * 1.1)
    assert Soak(Tally(), [pause(n, flat) for n in range(12)]).complaints() == []
    (complaint,) = Soak(Tally(), [pause(n, leaky) for n in range(12)]).complaints()
    assert complaint.startswith(f"{field} grew by")
