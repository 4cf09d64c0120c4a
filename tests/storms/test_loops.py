"""Loops that end with the pool open, pools that change loops, and two loops at once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from aiopool import PoolConfig, WrongLoop, embedded
from aiopool.adapters.postgres import DatabasePool
from tests.storms import census, child, pools


async def test_a_loop_that_ended_with_the_pool_open_can_be_followed_by_close_and_another(
    kind: str, server: embedded.Server
) -> None:
    run = await asyncio.to_thread(
        child.run,
        kind,
        server,
        """
        import anyio

        async def bounded(pool):
            with anyio.move_on_after(10):
                await ask(pool, 1, 300)

        def nothing(pool): return []
        def a_query(pool): return [ask(pool, 1, 300)]
        def a_cancel_scope(pool): return [bounded(pool)]
        def callers_in_the_line(pool): return [ask(pool, n, 300) for n in range(9)]

        async def main(pool, left):
            await pool.open()
            await ask(pool, 1)
            kept.extend(asyncio.create_task(work) for work in left(pool))
            await asyncio.sleep(0.1)

        async def again(pool):
            try:
                await ask(pool, 2)
            except (WrongLoop, PoolClosed) as error:
                print(type(error).__name__, end=" ")
            await pool.close()
            await pool.open()
            print(await ask(pool, 7), end=" ")
            await pool.close()

        for left in (nothing, a_query, a_cancel_scope, callers_in_the_line):
            kept, pool = [], make(kind, address)
            asyncio.run(main(pool, left))
            asyncio.run(again(pool))
            print(pool.stats()["size"], pool.stats()["in_use"])
        """,
    )
    assert (run.stdout.splitlines(), run.stderr) == (["WrongLoop 7 0 0"] * 4, "")
    assert await census.eventually(lambda: child.is_gone(server))


async def test_a_lease_may_outlive_its_loop(postgres: embedded.PostgresServer) -> None:
    run = await asyncio.to_thread(
        child.run,
        "postgres",
        postgres,
        """
        pool = make(kind, address)
        async def main():
            await pool.open()
            return await pool.connection()
        async def again():
            lease.release()
            await pool.close()
            await pool.open()
            print(await ask(pool, 7))
            await pool.close()
        lease = asyncio.run(main())
        asyncio.run(again())
        print(pool.stats()["size"], pool.stats()["opened"] - pool.stats()["closed"])
        """,
    )
    assert (run.stdout.split(), run.stderr) == (["7", "0", "0"], "")
    assert await census.eventually(lambda: child.is_gone(postgres))


async def test_one_pool_serves_one_loop_after_the_other(kind: str, server: embedded.Server) -> None:
    run = await asyncio.to_thread(
        child.run,
        kind,
        server,
        """
        pool = make(kind, address)
        async def main(n):
            async with pool:
                print(*await asyncio.gather(*(ask(pool, n * 10 + k) for k in range(3))))
        for n in range(3):
            asyncio.run(main(n))
        """,
        "-X",
        "dev",
    )
    assert (run.stdout, run.stderr) == ("0 1 2\n10 11 12\n20 21 22\n", "")


def test_two_loops_in_two_threads_keep_to_their_own_pools(kind: str, server: embedded.Server) -> None:
    address = child.address_of(server)
    made: dict[int, Any] = {}
    told: list[object] = []
    both = threading.Barrier(2, timeout=10)

    async def main(n: int) -> None:
        async with pools.make(kind, address) as pool:
            made[n] = pool
            answers = await asyncio.gather(*(pools.ask(pool, n * 1000 + k) for k in range(40)))
            told.append(answers == [n * 1000 + k for k in range(40)])
            await asyncio.to_thread(both.wait)
            for call in (lambda: pools.ask(made[1 - n], 1), made[1 - n].close):
                with pytest.raises(WrongLoop):
                    await call()
            await asyncio.to_thread(both.wait)

    threads = [threading.Thread(target=asyncio.run, args=(main(n),)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert told == [True, True]
    assert all(pool.stats()["opened"] == pool.stats()["closed"] > 0 for pool in made.values())


def test_a_clean_run_says_nothing_in_development_mode(kind: str, server: embedded.Server) -> None:
    run = child.run(
        kind,
        server,
        """
        async def main():
            asyncio.get_running_loop().slow_callback_duration = 10
            async with make(kind, address) as pool:
                await asyncio.gather(*(ask(pool, n) for n in range(50)))
                tasks = [asyncio.create_task(ask(pool, n, 200)) for n in range(10)]
                await asyncio.sleep(0.05)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                assert await ask(pool, 3) == 3
        asyncio.run(main())
        gc.collect()
        """,
        "-X",
        "dev",
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


async def test_descriptors_don_t_add_up_over_many_loops(postgres: embedded.PostgresServer) -> None:
    def storm() -> int:
        async def main() -> None:
            async with DatabasePool(postgres.dsn, PoolConfig(min_size=2, max_size=8)) as db:
                tasks = [asyncio.create_task(db.fetchval("select pg_sleep(0.01)")) for _ in range(60)]
                await asyncio.sleep(0.03)
                for task in tasks[::2]:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(main())
        return census.descriptors()

    counts = [await asyncio.to_thread(storm) for _ in range(4)]
    assert counts[-1] <= counts[0]
