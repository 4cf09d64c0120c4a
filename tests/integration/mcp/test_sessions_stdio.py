"""Sessions with servers that are processes: what they start, share, survive and leave behind."""

import asyncio
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

pytest.importorskip("mcp")

from mcp import Client, StdioServerParameters

from aiopool import PoolClosed, PoolConfig, PoolTimeout, PoolUnavailable
from aiopool.adapters.mcp import MCPSessionPool, stdio
from tests.storms import census

PLAIN = str(Path(__file__).with_name("plain_server.py"))
QUICK = PoolConfig(max_size=2, open_timeout=10, close_timeout=2, unavailable_after=0)


def plain(*manners):
    return stdio(sys.executable, "-S", PLAIN, *manners)


def text(result):
    return result.content[0].text


def lives(pid):
    """A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def children():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


async def eventually(condition, within=10.0):
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
async def nothing_is_left():
    tasks, fds, processes = len(asyncio.all_tasks()), census.descriptors(), children()
    yield
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
    await eventually(lambda: children() == processes)
    await eventually(lambda: census.descriptors() <= fds)


@asynccontextmanager
async def pool_of(server=None, **settings):
    async with MCPSessionPool({"plain": server or plain()}, config=settings.pop("config", QUICK), **settings) as pool:
        yield pool


async def pid_of(pool, **how):
    return int(text(await pool.call_tool("plain", "pid", **how)))


async def test_many_calls_share_one_process_that_was_started_once():
    async with pool_of() as pool:
        results = await asyncio.gather(
            *(pool.call_tool("plain", "echo", {"text": str(n), "delay": 0.05}) for n in range(30))
        )
        assert [text(result) for result in results] == [str(n) for n in range(30)]
        assert (pool.stats()["opened"], pool.stats()["size"]) == (1, 1)


async def test_two_identities_never_share_a_session():
    async with pool_of() as pool:
        pids = [await pid_of(pool, identity=who) for who in ("alice", "bob", "alice", None)]
        assert pids[0] == pids[2]
        assert len(set(pids)) == 3


async def test_an_exclusive_server_serves_one_caller_at_a_time():
    async with pool_of(exclusive={"plain"}) as pool, pool.session("plain") as one, pool.session("plain") as other:
        assert one is not other
        with pytest.raises(PoolTimeout):
            await pool.call_tool("plain", "pid", timeout=0.1)


async def test_a_timeout_a_cancellation_and_an_error_of_a_tool_cost_no_session():
    async with pool_of() as pool:
        pid = await pid_of(pool)
        with pytest.raises(TimeoutError) as caught:
            await pool.call_tool("plain", "echo", {"text": "x", "delay": 1}, timeout=0.05)
        assert not isinstance(caught.value, PoolTimeout)
        call = asyncio.create_task(pool.call_tool("plain", "echo", {"text": "x", "delay": 1}))
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await pool.call_tool("plain", "no such tool")).is_error
        assert await pid_of(pool) == pid


async def test_a_server_that_dies_while_idle_is_never_lent():
    async with pool_of() as pool:
        pid = await pid_of(pool)
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: pool.stats()["size"] == 0)
        assert await pid_of(pool) != pid
        assert pool.stats()["closed_by"]["lost"] == 1


async def test_a_server_that_dies_under_a_call_fails_that_call_and_no_other():
    async with pool_of() as pool:
        pid = await pid_of(pool)
        call = asyncio.create_task(pool.call_tool("plain", "echo", {"text": "x", "delay": 5}))
        await asyncio.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Exception, match=r"(?i)connection closed|ended"):
            await call
        assert await pid_of(pool) != pid


async def test_a_call_that_ends_its_server_is_not_sent_again():
    async with pool_of() as pool:
        with pytest.raises(Exception, match=r"(?i)connection closed|ended"):
            await pool.call_tool("plain", "exit", {"code": 3})
        assert pool.stats()["opened"] == 1


async def test_if_the_keeper_is_killed_the_server_and_its_children_go_with_it():
    async with pool_of() as pool:
        pid = await pid_of(pool)
        child = int(text(await pool.call_tool("plain", "child", {"detached": False})))
        keeper = os.getpgid(pid)
        assert keeper != pid
        os.kill(keeper, signal.SIGKILL)
        await eventually(lambda: not lives(pid) and not lives(child))
        await eventually(lambda: pool.stats()["size"] == 0)
        assert await pid_of(pool) != pid


async def test_at_close_a_server_goes_with_its_children_even_if_none_of_them_will():
    async with pool_of(plain("deaf")) as pool:
        pids = [await pid_of(pool)]
        for detached in (False, True):
            pids.append(int(text(await pool.call_tool("plain", "child", {"detached": detached}))))
        assert all(map(lives, pids))
    assert not any(map(lives, pids))


async def test_a_pool_that_closes_under_calls_says_so():
    async with pool_of() as pool:
        await pid_of(pool)
        call = asyncio.create_task(pool.call_tool("plain", "echo", {"text": "x", "delay": 20}))
        await asyncio.sleep(0.05)
        await pool.close(timeout=0)
        with pytest.raises(PoolClosed):
            await call
        with pytest.raises(PoolClosed):
            await pid_of(pool)


async def test_a_pool_waits_for_the_calls_that_run_when_it_closes():
    async with pool_of() as pool:
        await pid_of(pool)
        call = asyncio.create_task(pool.call_tool("plain", "echo", {"text": "x", "delay": 0.2}))
        await asyncio.sleep(0.05)
    assert text(await call) == "x"


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        (["no-such-command-anywhere"], FileNotFoundError),
        (["/no/such/command"], FileNotFoundError),
        (["/"], PermissionError),
        (["sh", "-c", "exit 3"], ConnectionError),
    ],
    ids=["unknown", "missing", "folder", "exits"],
)
async def test_a_command_that_can_not_serve_is_told_with_its_reason(command, cause):
    async with pool_of(stdio(*command)) as pool:
        with pytest.raises(PoolUnavailable) as caught:
            await pool.call_tool("plain", "pid")
        reason = caught.value.__cause__
        assert isinstance(reason, cause), reason
        assert not isinstance(reason, BaseExceptionGroup)
        if cause is ConnectionError:
            assert "has ended with exit code 3" in str(reason)


async def test_a_server_that_never_answers_is_given_up():
    async with pool_of(plain("mute"), config=PoolConfig(open_timeout=0.3, unavailable_after=0)) as pool:
        with pytest.raises(PoolUnavailable) as caught:
            await pool.call_tool("plain", "pid")
        assert "open_timeout=0.3s" in str(caught.value.__cause__)


async def test_a_pool_may_close_in_the_midst_of_giving_up_servers_that_will_not_end():
    arguments = ["-S", PLAIN, "mute", "deaf"]
    servers = {
        "kept": stdio(sys.executable, *arguments),
        "by the SDK": lambda: Client(StdioServerParameters(command=sys.executable, args=arguments)),
    }
    pool = MCPSessionPool(servers, config=PoolConfig(open_timeout=0.3, close_timeout=1))
    calls = [asyncio.create_task(pool.call_tool(server, "pid")) for server in servers]
    await asyncio.sleep(0.8)
    await pool.close(timeout=0)
    assert all(isinstance(call.exception(), PoolClosed | PoolUnavailable) for call in calls)


async def test_a_server_that_has_stopped_keeps_nobody_waiting_and_is_replaced():
    config = PoolConfig(max_size=1, validate_after=0.1, validate_timeout=0.3, close_timeout=1)
    async with pool_of(config=config) as pool:
        pid = await pid_of(pool)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            await pool.call_tool("plain", "pid", timeout=0.2)
        await asyncio.sleep(0.2)
        assert await pid_of(pool) != pid
        assert not lives(pid)


@pytest.mark.parametrize("step", range(0, 90, 15))
async def test_a_caller_may_be_cancelled_at_any_moment_of_opening_and_calling(step):
    async with pool_of() as pool:
        caller = asyncio.create_task(pool.call_tool("plain", "pid"))
        for _ in range(step):
            await asyncio.sleep(0.002)
        caller.cancel()
        await asyncio.wait([caller])
        assert await pid_of(pool)
        assert pool.stats()["in_use"] == 0


PARENT = """
import asyncio, sys
from aiopool.adapters.mcp import MCPSessionPool, stdio
from tests.storms import census

async def main():
    async with MCPSessionPool({"plain": stdio(sys.executable, "-S", sys.argv[1], "deaf")}) as pool:
        for tool, arguments in (("pid", {}), ("child", {"detached": False}), ("child", {"detached": True})):
            print((await pool.call_tool("plain", tool, arguments)).content[0].text, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_no_process_outlives_a_parent_that_is_killed():
    pipe = asyncio.subprocess.PIPE
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, PLAIN, stdout=pipe)
    try:
        pids = [int(await parent.stdout.readline()) for _ in range(3)]
        assert all(map(lives, pids))
    finally:
        parent.kill()
        await parent.communicate()
    await eventually(lambda: not any(map(lives, pids)), within=10)
