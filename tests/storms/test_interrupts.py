"""Ctrl-C in the middle of a storm, again and again."""

from __future__ import annotations

import asyncio
import re

from aiopool import embedded
from tests.storms import census, child

TRIALS = 5
#: What asyncpg leaves for the loop to tell if it is cancelled while it asks the server for TLS.
ASYNCPG_CONNECTING = re.compile(
    r"Future exception was never retrieved\nfuture: <.*'unexpected connection_lost\(\) call'.*>\n"
    r"ConnectionError: unexpected connection_lost\(\) call\n"
)

SCRIPT = """
from tests.storms import census

async def work(pool):
    for nonce in range(10**9):
        assert await ask(pool, nonce, rnd.randrange(2)) == nonce

async def main(presses):
    for delay in presses:
        timers.append(threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)))
        timers[-1].start()
    async with make(kind, address) as pool:
        await asyncio.gather(*(work(pool) for _ in range(20)))

rnd = random.Random({seed})
for trial in range({trials}):
    timers = []
    began = time.monotonic()
    try:
        asyncio.run(main([rnd.random() * 0.2 for _ in range({presses})]))
    except KeyboardInterrupt:
        pass
    for timer in timers:
        try:
            timer.join()
        except KeyboardInterrupt:
            pass
    took = time.monotonic() - began
    gc.collect()
    if trial == 0:
        descriptors = census.descriptors()
    print(took < 10, census.descriptors() - descriptors)
"""


async def test_an_interrupt_at_any_moment_ends_a_storm_in_order_and_in_silence(
    kind: str, server: embedded.Server
) -> None:
    script = SCRIPT.format(seed=1, trials=TRIALS, presses=1)
    run = await asyncio.to_thread(child.run, kind, server, script)
    assert (run.stdout.split("\n")[:-1], ASYNCPG_CONNECTING.sub("", run.stderr)) == (["True 0"] * TRIALS, "")
    assert await census.eventually(lambda: child.is_gone(server))


async def test_an_impatient_second_interrupt_hangs_nothing_and_leaves_nothing(
    kind: str, server: embedded.Server
) -> None:
    """It is raised wherever the program is, as Python does, so some task or other of a driver may complain."""
    script = SCRIPT.format(seed=2, trials=TRIALS, presses=2)
    run = await asyncio.to_thread(child.run, kind, server, script)
    assert run.stdout.split("\n")[:-1] == ["True 0"] * TRIALS, run.stderr[-3000:]
    assert await census.eventually(lambda: child.is_gone(server))
