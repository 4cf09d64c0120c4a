"""Many callers, random misfortune, and what must hold all the same."""

import asyncio
import gc
import random
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from aiopool import PoolError, PoolTimeout
from tests.fakes import Backend, Step, now, release_all, settle, take, timed


class Chaos:
    """A pool under callers and operators who do as the dice say; the same seed says the same."""

    def __init__(self, make_pool, seed):
        self.dice = random.Random(seed)
        self.max_size = self.dice.randint(1, 6)
        min_size = self.dice.randint(0, self.max_size)
        self.shares = self.dice.choice([1, 1, 3])
        with_sessions = self.dice.random() < 0.3
        self.backend = Backend(limit=lambda: self.max_size)
        self.calm = False
        self.pool = make_pool(
            self.backend,
            factory=self.session if with_sessions else self.open,
            destroyer=None if with_sessions else self.backend.close,
            validator=self.validate,
            resetter=self.reset if self.dice.random() < 0.5 else None,
            aborter=self.backend.abort if not with_sessions and self.dice.random() < 0.5 else None,
            min_size=min_size,
            max_size=self.max_size,
            validate_after=self.dice.choice([0, 0.5, None]),
            max_shares=self.shares,
            max_hold=self.dice.choice([None, 2]),
            leak_after=self.dice.choice([None, 0.3]),
            max_uses=self.dice.choice([None, 3]),
            max_lifetime=self.dice.choice([None, 5]),
            max_idle=self.dice.choice([None, max(1, min_size)]),
            max_opening=self.dice.choice([None, 1, 2]),
            max_waiting=self.dice.choice([None, 20]),
            health_check_interval=1,
            max_idle_time=2,
            open_timeout=1,
            validate_timeout=0.5,
            reset_timeout=0.5,
            close_timeout=0.5,
            unavailable_after=self.dice.choice([None, 1]),
            backoff_max=0.5,
        )

    def misfortune(self, slow=0.05):
        """Mostly quick and fine."""
        luck = 1.0 if self.calm else self.dice.random()
        if luck < 0.03:
            return Step(hang=True)
        if luck < 0.05:
            return Step(hang=True, ignore_cancel=0.3)
        if luck < 0.15:
            return Step(delay=self.dice.random() * slow, error=OSError("misfortune"))
        return Step(delay=self.dice.choice([0, self.dice.random() * slow]))

    def plan(self):
        self.backend.opens = self.misfortune()
        # One that ignores its cancellation outlives `close_timeout`, and then the pool no longer counts it.
        self.backend.closes = replace(self.misfortune(), ignore_cancel=0)

    async def open(self):
        self.plan()
        return await self.backend.open()

    @asynccontextmanager
    async def session(self):
        self.plan()
        async with self.backend.session() as connection:
            yield connection

    async def validate(self, connection):
        await self.misfortune().run()
        return self.calm or self.dice.random() < 0.9

    async def reset(self, connection):
        assert not connection.holders, "reset while leased"
        connection.holders.add("reset")
        try:
            await self.misfortune(0.01).run()
        finally:
            connection.holders.discard("reset")

    async def caller(self, name):
        await asyncio.sleep(self.dice.random() * 20)
        with suppress(PoolError, OSError, LookupError):
            lease = await self.pool.acquire(timeout=self.dice.choice([0, 0.05, 1, 10]))
            connection = lease.connection
            assert "reset" not in connection.holders, "lent in the middle of a reset"
            assert len(connection.holders) < self.shares, "lent twice"
            assert not connection.closed, "lent although closed"
            connection.holders.add(name)
            try:
                async with lease:
                    await asyncio.sleep(self.dice.choice([0, 0.01, 0.1, 0.5, 3]))
                    # The claim ends with the holder's last statement, just before the release.
                    connection.holders.discard(name)
                    match self.dice.randrange(10):
                        case 0:
                            raise ConnectionResetError
                        case 1:
                            raise LookupError
                        case 2:
                            lease.discard()
            finally:
                connection.holders.discard(name)

    async def operator(self):
        for _ in range(25):
            await asyncio.sleep(self.dice.random())
            match self.dice.randrange(6):
                case 0:
                    await self.pool.drain(over=self.dice.choice([0, 1]))
                case 1:
                    await self.pool.check()
                case 2:
                    self.pool.suspend()
                    await asyncio.sleep(0.1)
                    self.pool.resume()
                case 3:
                    self.max_size = self.dice.randint(max(1, self.pool.stats()["min_size"]), 6)
                    self.pool.resize(max_size=self.max_size)
                case _:
                    self.check_gauges()

    def check_gauges(self):
        stats = self.pool.stats()
        gauges = {key: stats[key] for key in ("size", "available", "in_use", "opening", "waiting")}
        assert all(value >= 0 for value in gauges.values()), gauges
        assert stats["available"] + stats["in_use"] <= stats["size"] * self.shares, gauges
        assert len(self.backend.live) <= stats["size"] + stats["opening"], gauges
        assert self.backend.opening <= stats["opening"], gauges
        assert stats["opened"] - stats["closed"] == stats["size"], stats

    def start(self, callers):
        tasks = [asyncio.create_task(self.caller(name)) for name in range(callers)]
        tasks.append(asyncio.create_task(self.operator()))
        return tasks

    async def run(self, callers):
        tasks = self.start(callers)
        loop = asyncio.get_running_loop()
        for task in self.dice.sample(tasks[:-1], callers // 3):
            loop.call_later(self.dice.random() * 21, task.cancel)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError), repr(result)
        self.calm = True
        self.pool.resume()
        await asyncio.sleep(5)
        # Retirement by age goes on, so an opening may happen to be under way.
        for _ in range(200):
            if not self.pool.stats()["opening"]:
                break
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("seed", range(16))
async def test_no_misfortune_breaks_the_invariants(make_pool, seed):
    chaos = Chaos(make_pool, seed)
    await chaos.run(callers=300)
    chaos.check_gauges()
    pool, backend = chaos.pool, chaos.backend
    stats = pool.stats()
    assert (stats["in_use"], stats["waiting"], stats["opening"]) == (0, 0, 0)
    assert backend.violations == []
    # Nothing was lost: as many as ever can be held at once.
    callers = [take(pool, timeout=5) for _ in range(chaos.max_size * chaos.shares)]
    await asyncio.gather(*callers)
    assert pool.stats()["in_use"] == chaos.max_size * chaos.shares
    await release_all(callers)
    await pool.close(timeout=5)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    stats = pool.stats()
    assert sum(stats["closed_by"].values()) == stats["closed"] == stats["opened"]
    backend.assert_nothing_is_left()


@pytest.mark.parametrize("seed", range(16))
async def test_closing_amid_misfortune_leaves_nothing(make_pool, seed):
    chaos = Chaos(make_pool, seed)
    tasks = chaos.start(callers=300)
    await asyncio.sleep(chaos.dice.random() * 22)
    began = now()
    timeout = chaos.dice.choice([0, 0.2, 5])
    await chaos.pool.close(timeout=timeout)
    # Closing and what ignores its cancellation come after the deadline.
    assert now() - began <= timeout + 2
    chaos.backend.assert_nothing_is_left()
    assert asyncio.all_tasks() - set(tasks) == {asyncio.current_task()}
    stats = chaos.pool.stats()
    assert sum(stats["closed_by"].values()) == stats["closed"] == stats["opened"]
    assert stats["size"] == stats["in_use"] == stats["waiting"] == stats["opening"] == 0
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert result is None or isinstance(result, PoolError), repr(result)


@pytest.mark.parametrize("seed", range(3))
async def test_random_cancellations_cost_no_capacity(make_pool, seed):
    dice = random.Random(seed)
    backend = Backend(opens=Step(delay=0.005), resets=Step(delay=0.001))
    pool = make_pool(backend, max_size=4, resetter=backend.reset if seed else None)

    async def client():
        async with pool.acquire(timeout=5):
            for _ in range(dice.randint(0, 4)):
                await asyncio.sleep(dice.choice([0, 0.001]))

    clients = []
    for _ in range(1500):
        clients.append(asyncio.create_task(client()))
        if dice.random() < 0.6:
            for _ in range(dice.randint(0, 3)):
                await asyncio.sleep(dice.choice([0, 0, 0.0005]))
            dice.choice(clients[-20:]).cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    callers = [take(pool, timeout=5) for _ in range(4)]
    await asyncio.gather(*callers)
    assert pool.stats()["in_use"] == pool.stats()["size"] == 4
    await release_all(callers)


@pytest.mark.parametrize("step", [0, 0.0001], ids=["one deadline", "many deadlines"])
async def test_thirty_thousand_waiters_that_time_out_leave_no_trace(make_pool, step):
    pool = make_pool(Backend(), max_size=1)
    lease = await pool.acquire()
    gc.collect()
    before = sum(isinstance(thing, asyncio.Future) for thing in gc.get_objects())
    began = time.process_time()
    waiters = [asyncio.create_task(timed(pool.acquire(timeout=1 + i * step))) for i in range(30_000)]
    await settle(3)
    assert pool.stats()["waiting"] == 30_000
    results = await asyncio.gather(*waiters)
    assert time.process_time() - began < 30
    assert {type(error) for _, error in results} == {PoolTimeout}
    assert pool.stats()["waiting"] == 0
    assert pool.stats()["timeouts"] == 30_000
    del waiters, results
    await settle(3)
    gc.collect()
    assert sum(isinstance(thing, asyncio.Future) for thing in gc.get_objects()) <= before + 5
    next_one = take(pool)
    await settle()
    lease.release()
    (await next_one).release()


async def test_a_saturated_pool_recovers_when_the_load_falls(make_pool):
    pool = make_pool(Backend(opens=Step(delay=0.1)), max_size=10)

    async def request():
        async with pool.acquire(timeout=2):
            await asyncio.sleep(1)

    async def load(seconds, rate):
        tasks = []
        for _ in range(int(seconds * rate)):
            tasks.append(asyncio.create_task(timed(request())))
            await asyncio.sleep(1 / rate)
        return [isinstance(result, PoolTimeout) for _, result in await asyncio.gather(*tasks)]

    assert any(await load(20, 20))
    start = now()
    late = await load(20, 8)
    assert now() > start
    assert not any(late[len(late) // 2 :])
