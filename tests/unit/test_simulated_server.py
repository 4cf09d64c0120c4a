"""A server in memory that goes wrong as it is told to, and alike for the same seed."""

import asyncio

import pytest

from aiopool import ConnectionPool, PoolConfig
from aiopool.testing import Faults, SimulatedServer, run
from tests.fakes import now, timed


async def test_without_faults_all_goes_well_and_quickly():
    server = SimulatedServer()
    start = now()
    connection = await server.connect()
    await connection.query(0.5)
    assert await server.validate(connection)
    await server.reset(connection)
    await server.close(connection)
    assert 0.5 <= now() - start <= 0.5 + 5 * 0.01
    assert (server.opened, list(server.connections)) == (1, [])


@pytest.mark.parametrize("kind", ["opens", "checks", "resets", "queries", "closes"])
async def test_each_kind_of_call_fails_as_often_as_it_is_told(kind):
    server = SimulatedServer(seed=kind)
    calls = {
        "opens": lambda _: server.connect(),
        "checks": server.validate,
        "resets": server.reset,
        "queries": lambda connection: connection.query(),
        "closes": server.close,
    }
    connections = [await server.connect() for _ in range(400)]
    setattr(server, kind, Faults(fail=0.25))
    outcomes = [(await timed(calls[kind](connection)))[1] for connection in connections]
    assert 60 <= sum(isinstance(outcome, ConnectionError) for outcome in outcomes) <= 140


async def test_a_call_that_hangs_ends_with_its_caller():
    server = SimulatedServer(opens=Faults(hang=1.0))
    elapsed, error = await timed(asyncio.wait_for(server.connect(), 7))
    assert (elapsed, type(error)) == (7, TimeoutError)


async def test_slowness_and_stubbornness_take_the_time_they_were_given():
    server = SimulatedServer(seed=1, opens=Faults(slow=1.0, slowness=9.0))
    elapsed, _ = await timed(server.connect())
    assert 0.01 < elapsed <= 9
    server.opens = Faults(hang=1.0, ignore_cancel=1.0, slowness=9.0)
    opening = asyncio.create_task(server.connect())
    await asyncio.sleep(1)
    opening.cancel()
    elapsed, connection = await timed(opening)
    assert connection in server.connections
    assert elapsed <= 9


async def test_a_server_that_goes_down_takes_its_connections_along():
    server = SimulatedServer()
    connection = await server.connect()
    server.go_down()
    with pytest.raises(ConnectionRefusedError):
        await server.connect()
    with pytest.raises(ConnectionResetError):
        await connection.query()
    assert not await server.validate(connection)
    server.come_back()
    assert await server.validate(await server.connect())
    server.go_down("hang")
    elapsed, _ = await timed(asyncio.wait_for(server.connect(), 60))
    assert elapsed == pytest.approx(60)


async def test_a_query_that_is_cut_short_leaves_its_connection_out_of_step():
    server = SimulatedServer()
    connection = await server.connect()
    await timed(asyncio.wait_for(connection.query(5), 1))
    assert connection.is_out_of_step
    assert not await server.validate(connection)


def story(seed):
    async def main():
        server = SimulatedServer(seed, opens=Faults(fail=0.3), queries=Faults(slow=0.3, fail=0.2))
        told = []
        config = PoolConfig(min_size=0, max_size=3, acquire_timeout=1)
        async with ConnectionPool(server.connect, config, validator=server.validate, destroyer=server.close) as pool:

            async def caller(number):
                try:
                    async with pool.acquire() as connection:
                        await connection.query(0.05)
                    told.append((number, connection.number, round(now(), 6)))
                except (ConnectionError, TimeoutError) as exc:
                    told.append((number, type(exc).__name__, round(now(), 6)))

            await asyncio.gather(*(caller(number) for number in range(20)))
        assert list(server.connections) == []
        return told

    return run(main(), seed=seed)


def test_the_same_seed_tells_the_same_story_of_a_pool():
    assert story(3) == story(3)
    assert len({str(story(seed)) for seed in range(5)}) == 5
