"""Pools and leases that are forgotten: a warning each, and nothing is left on the server."""

from __future__ import annotations

import asyncio

import pytest

from aiopool import embedded
from tests.storms import census, child


async def test_a_pool_that_is_dropped_warns_and_takes_its_connections_along(kind: str, server: embedded.Server) -> None:
    run = await asyncio.to_thread(
        child.run,
        kind,
        server,
        """
        import warnings
        async def main():
            pool = make(kind, address)
            await asyncio.gather(*(ask(pool, n, 20) for n in range(5)))
            await asyncio.sleep(0.05)
            before = census.descriptors()
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                name = pool.name
                del pool
                gc.collect()
                await asyncio.sleep(0.2)
                gc.collect()
            print(any(name in str(w.message) and "without being closed" in str(w.message) for w in told))
            print(before - census.descriptors() >= 1, len(asyncio.all_tasks()))
        from tests.storms import census
        asyncio.run(main())
        """,
    )
    assert run.stdout.split() == ["True", "True", "1"], run.stderr[-2000:]
    assert await census.eventually(lambda: child.is_gone(server))


async def test_a_program_that_ends_with_the_pool_open_ends(kind: str, server: embedded.Server) -> None:
    run = await asyncio.to_thread(
        child.run,
        kind,
        server,
        """
        pool = make(kind, address)
        async def main():
            await pool.open()
            kept.append(asyncio.create_task(ask(pool, 1, 1500)))
            print(await ask(pool, 3))
        kept = []
        asyncio.run(main())
        """,
        "-W",
        "always",
    )
    assert (run.returncode, run.stdout) == (0, "3\n"), run.stderr[-2000:]
    assert "Traceback" not in run.stderr
    assert await census.eventually(lambda: child.is_gone(server))


@pytest.mark.parametrize("how", ["in the loop", "in another thread", "after the loop"])
async def test_a_lease_that_is_dropped_warns_and_gives_its_slot_back(
    postgres: embedded.PostgresServer, how: str
) -> None:
    run = await asyncio.to_thread(
        child.run,
        "postgres",
        postgres,
        f"""
        import warnings
        kept = []
        pool = make(kind, address, min_size=1, max_size=1)
        def drop():
            kept.clear()
            gc.collect()
        async def main():
            kept.append(await pool.connection())
            if {how!r} == "in the loop":
                drop()
            elif {how!r} == "in another thread":
                await asyncio.to_thread(drop)
            else:
                return
            print(await asyncio.wait_for(ask(pool, 7), 5), pool.stats()["closed_by"]["lost"])
            await pool.close()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            asyncio.run(main())
            drop()
        print(sum("a lease of pool" in str(w.message) for w in told))
        """,
    )
    expected = ["1"] if how == "after the loop" else ["7", "1", "1"]
    assert run.stdout.split() == expected, run.stderr[-2000:]
    assert await census.eventually(lambda: child.is_gone(postgres))
