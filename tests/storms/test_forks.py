"""A pool in a forked child says so, and its parent does not notice."""

from __future__ import annotations

from aiopool import embedded
from tests.storms import child


def test_a_child_forked_in_the_middle_of_queries_is_refused_and_the_parent_gets_its_answers(
    kind: str, server: embedded.Server
) -> None:
    run = child.run(
        kind,
        server,
        """
        async def main():
            async with make(kind, address) as pool:
                await asyncio.gather(*(ask(pool, n, 20) for n in range(5)))
                opened = pool.stats()["opened"]
                jobs = [asyncio.create_task(ask(pool, n, 200)) for n in range(8)]
                await asyncio.sleep(0.05)
                pid = os.fork()
                if pid == 0:
                    try:
                        for call in (lambda: ask(pool, 1), pool.open, pool.check, pool.drain):
                            try:
                                await call()
                            except ForkedPool as error:
                                assert pool.name in str(error)
                            else:
                                print("not refused")
                        await pool.close()
                        print("refused", flush=True)
                    finally:
                        os._exit(0)
                await asyncio.to_thread(os.waitpid, pid, 0)
                print(await asyncio.gather(*jobs) == list(range(8)), pool.stats()["opened"] - opened)
                print(await asyncio.gather(*(ask(pool, n) for n in range(20))) == list(range(20)))
        asyncio.run(main())
        """,
    )
    assert run.stdout.split() == ["refused", "True", "0", "True"], run.stderr[-2000:]


def test_a_worker_of_multiprocessing_is_refused_on_a_loop_of_its_own_and_may_have_a_pool_of_its_own(
    kind: str, server: embedded.Server
) -> None:
    run = child.run(
        kind,
        server,
        """
        import multiprocessing

        async def use_own():
            async with make(kind, address) as own:
                return await ask(own, 7)

        def work(answers):
            try:
                asyncio.run(ask(pool, 1))
            except ForkedPool as error:
                answers.put(str(error))
            answers.put(asyncio.run(use_own()))

        pool = make(kind, address)
        with asyncio.Runner() as runner:
            runner.run(pool.open())
            print(runner.run(ask(pool, 5)))
            context = multiprocessing.get_context("fork")
            answers = context.Queue()
            worker = context.Process(target=work, args=(answers,))
            worker.start()
            told, own = answers.get(timeout=10), answers.get(timeout=10)
            worker.join(10)
            print(pool.name in told and "fork" in told, own, worker.exitcode)
            print(runner.run(ask(pool, 6)))
            runner.run(pool.close())
        """,
    )
    assert run.stdout.split() == ["5", "True", "7", "0", "6"], run.stderr[-2000:]


def test_a_child_that_frees_the_pool_it_inherited_does_not_deafen_the_parent(
    kind: str, server: embedded.Server
) -> None:
    run = child.run(
        kind,
        server,
        """
        pool = make(kind, address)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(pool.open())
        print(loop.run_until_complete(ask(pool, 5)))
        opened = pool.stats()["opened"]
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            del pool
            gc.collect()
            os._exit(0)
        os.waitpid(pid, 0)
        print(loop.run_until_complete(asyncio.wait_for(ask(pool, 8), 3)), pool.stats()["opened"] - opened)
        loop.run_until_complete(pool.close())
        loop.close()
        """,
    )
    assert run.stdout.split() == ["5", "8", "0"], run.stderr[-2000:]


def test_a_lease_that_a_child_inherited_may_be_released_there(postgres: embedded.PostgresServer) -> None:
    run = child.run(
        "postgres",
        postgres,
        """
        async def main():
            async with make(kind, address) as pool:
                lease = await pool.connection()
                pid = os.fork()
                if pid == 0:
                    lease.release()
                    os._exit(0)
                await asyncio.to_thread(os.waitpid, pid, 0)
                print(pool.stats()["in_use"], await lease.connection.fetchval("select 7"))
                lease.release()
        asyncio.run(main())
        """,
    )
    assert run.stdout.split() == ["1", "7"], run.stderr[-2000:]
