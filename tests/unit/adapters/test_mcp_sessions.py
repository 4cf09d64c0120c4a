"""How many MCP sessions there are, whose they are and when they go; on sessions that are no more than that."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from aiopool import PoolClosed, PoolConfig, PoolConfigError, PoolNotFound, PoolTimeout, PoolUnavailable
from aiopool.adapters.mcp import DEFAULTS, MCPSessionPool, stdio, streamable_http
from tests.fakes import settle

who = contextvars.ContextVar("who", default="the builder")


class Unknown(Exception):
    """What a server says of a session that it has forgotten."""

    code, message = -32600, "Session not found"


class Client:
    def __init__(self, server, identity):
        self.server, self.identity = server, identity
        self.opened_by = who.get()
        self.calls, self.most_calls, self.forgets = 0, 0, 0
        self.is_silent = False
        self.ended = asyncio.Event()

    async def call_tool(self, name, arguments=None, *, raises=None):
        if self.forgets:
            self.forgets -= 1
            raise Unknown
        self.calls += 1
        self.most_calls = max(self.most_calls, self.calls)
        try:
            await asyncio.sleep(float(name))
        finally:
            self.calls -= 1
        if raises is not None:
            raise raises
        return self

    async def send_ping(self):
        if self.is_silent:
            await asyncio.Event().wait()


class Servers:
    """Factories by name, and what they have opened and closed."""

    def __init__(self):
        self.opened, self.open_now, self.peak = [], set(), 0
        self.opening, self.closing = 0.5, 0.5
        self.error = None

    def __getitem__(self, server):
        @asynccontextmanager
        async def session(identity):
            await asyncio.sleep(self.opening)
            if self.error is not None:
                raise self.error
            client = Client(server, identity)
            self.opened.append(client)
            self.open_now.add(client)
            self.peak = max(self.peak, len(self.open_now))
            try:
                async with asyncio.TaskGroup() as group:
                    dies = group.create_task(self._die(client))
                    yield client
                    dies.cancel()
            finally:
                await asyncio.sleep(self.closing)
                self.open_now.discard(client)

        return session

    async def _die(self, client):
        await client.ended.wait()
        raise ConnectionError("the server has ended")


@pytest.fixture
def servers():
    return Servers()


@pytest.fixture
async def make(servers):
    pools = []

    def make(*names, **settings):
        names = names or ("a", "b")
        pools.append(MCPSessionPool({name: servers[name] for name in names}, **settings))
        return pools[-1]

    yield make
    for pool in pools:
        await pool.close(timeout=0)
        assert (pool.stats()["size"], pool.stats()["in_use"]) == (0, 0)
    assert not servers.open_now


async def test_a_session_is_opened_once_for_all_who_want_it_at_once(make, servers):
    pool = make()
    servers.opening = 20
    clients = await asyncio.gather(*(pool.call_tool("a", "1") for _ in range(30)))
    assert set(clients) == set(servers.opened)
    assert len(servers.opened) == 1
    assert servers.opened[0].most_calls == 30


async def test_sessions_are_keyed_by_server_and_identity(make, servers):
    pool = make()
    clients = [await pool.call_tool(server, "0", identity=identity) for server in "ab" for identity in (None, "x", 7)]
    assert [(client.server, client.identity) for client in clients] == [
        (server, identity) for server in "ab" for identity in (None, "x", 7)
    ]
    assert len(set(clients)) == 6


async def test_no_identity_may_be_a_token(make):
    pool = make()
    for token in ("Bearer abc", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc"):
        with pytest.raises(ValueError, match="is a token") as caught:
            await pool.call_tool("a", "0", identity=token)
        assert token not in str(caught.value)


async def test_an_exclusive_server_is_called_by_one_at_a_time(make):
    pool = make(exclusive={"a"}, max_per_server=2)
    clients = await asyncio.gather(*(pool.call_tool("a", "1") for _ in range(6)))
    assert len(set(clients)) == 2
    assert all(client.most_calls == 1 for client in clients)


async def test_an_idle_session_gives_way_to_one_that_is_needed_elsewhere(make, servers):
    pool = make(max_sessions=2)
    first, second = await pool.call_tool("a", "0"), await pool.call_tool("b", "0")
    await asyncio.sleep(1)
    third = await pool.call_tool("a", "0", identity="x")
    await asyncio.sleep(1)
    assert servers.peak <= 2
    assert servers.open_now == {second, third}
    assert await pool.call_tool("b", "0") is second
    assert (await pool.call_tool("a", "0")) is not first


async def test_never_more_sessions_than_allowed_and_everybody_is_served(make, servers):
    pool = make("a", "b", "c", max_sessions=3, max_per_server=2, max_shares=2)
    calls = [pool.call_tool("abc"[n % 3], "0.1", identity=n % 5) for n in range(150)]
    await asyncio.gather(*calls)
    assert servers.peak == 3
    assert pool.stats()["acquired"] == 150


async def test_a_busy_session_gives_way_when_somebody_elsewhere_has_waited_for_longer(make, servers):
    pool = make(max_sessions=1)
    stop = asyncio.Event()

    async def keep_busy():
        while not stop.is_set():
            await pool.call_tool("a", "1")

    busy = [asyncio.create_task(keep_busy()) for _ in range(3)]
    await asyncio.sleep(5)
    async with asyncio.timeout(10):
        assert (await pool.call_tool("b", "0")).server == "b"
    stop.set()
    await asyncio.wait(busy)
    assert not any(task.exception() for task in busy)


async def test_who_waits_for_a_place_in_vain_is_told_so(make):
    pool = make(max_sessions=1)
    async with pool.session("a"):
        with pytest.raises(PoolTimeout, match="max_sessions=1 are in use for other servers") as caught:
            await pool.call_tool("b", "0", timeout=3)
        assert (caught.value.phase, caught.value.waited) == ("wait", 3)
    assert (await pool.call_tool("b", "0")).server == "b"


async def test_a_request_is_sent_once_more_if_its_session_was_unknown_and_only_once(make, servers):
    pool = make()
    first = await pool.call_tool("a", "0")
    first.forgets = 1
    second = await pool.call_tool("a", "0")
    assert second is not first
    second.forgets = 1

    async def forget(client):
        client.forgets = 1
        await client.call_tool("0")

    with pytest.raises(Unknown):
        await pool.call("a", forget)
    await asyncio.sleep(1)
    assert pool.stats()["closed_by"]["broken"] == 3


async def test_a_request_is_sent_once_more_if_its_session_had_ended_before(make, servers):
    pool = make()
    first = await pool.call_tool("a", "0")
    calls = []

    async def call(client, *, after):
        calls.append(client)
        await after()
        if client is first:
            raise BrokenPipeError
        return client

    async def nothing():
        pass

    second = await pool.call("a", lambda client: call(client, after=nothing))
    assert calls == [first, second]
    first = second
    with pytest.raises(BrokenPipeError):
        await pool.call("a", lambda client: call(client, after=lambda: asyncio.sleep(0)))
    assert calls[1:] == [second, second]

    async def always_ended(client):
        calls.append(client)
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await pool.call("a", always_ended)
    assert len(calls) == 5


async def test_timeouts_errors_and_cancellations_cost_no_session(make, servers):
    pool = make()
    with pytest.raises(TimeoutError):
        await pool.call_tool("a", "10", timeout=5)
    with pytest.raises(ValueError, match="of the tool"):
        await pool.call_tool("a", "0", raises=ValueError("of the tool"))
    with pytest.raises(TimeoutError):
        await pool.call_tool("a", "0", raises=TimeoutError())
    caller = asyncio.create_task(pool.call_tool("a", "10"))
    await asyncio.sleep(1)
    caller.cancel()
    await settle()
    await pool.call_tool("a", "0")
    assert len(servers.opened) == 1


@pytest.mark.parametrize("is_open", [False, True], ids=["at first", "later"])
async def test_a_caller_may_be_cancelled_at_every_step(make, servers, is_open):
    pool = make()
    for steps in range(1, 300):
        if is_open:
            await pool.call_tool("a", "0")
        else:
            await pool.drain()
        call = asyncio.create_task(pool.call_tool("a", "0.1"))
        for step in range(steps):
            await asyncio.sleep(0.04 if step % 4 == 3 else 0)
        is_done = not call.cancel()
        await asyncio.wait([call])
        assert pool.stats()["in_use"] == pool.stats()["waiting"] == 0
        if is_done:
            break
    assert is_done
    assert steps > 5
    assert (await pool.call_tool("a", "0")).server == "a"


async def test_a_closed_connection_costs_the_session(make, servers):
    pool = make()
    with pytest.raises(ConnectionResetError):
        await pool.call_tool("a", "0", raises=ConnectionResetError())
    await pool.call_tool("a", "0")
    assert len(servers.opened) == 2


async def test_a_call_whose_session_ends_is_told_even_if_its_client_never_says_so(make, servers):
    pool = make()
    calls = [asyncio.create_task(pool.call_tool("a", "1000")) for _ in range(3)]
    await asyncio.sleep(5)
    servers.opened[0].ended.set()
    await asyncio.wait(calls, timeout=3)
    for call in calls:
        assert isinstance(call.exception(), ConnectionError)
        assert str(call.exception().__cause__) == "the server has ended"
    assert pool.stats()["closed_by"]["lost"] == 1


async def test_a_silent_session_is_found_out_before_it_is_lent(make, servers):
    pool = make()
    first = await pool.call_tool("a", "0")
    first.is_silent = True
    await asyncio.sleep(DEFAULTS.validate_after + 1)
    assert await pool.call_tool("a", "0") is not first
    await asyncio.sleep(DEFAULTS.validate_timeout + 1)
    assert pool.stats()["closed_by"]["invalid"] == 1


async def test_sessions_that_nobody_uses_are_closed_and_forgotten(make, servers):
    pool = make()
    for n in range(5):
        await pool.call_tool("a", "0", identity=n)
    await asyncio.sleep(DEFAULTS.max_idle_time + 61)
    assert not servers.open_now
    await pool.call_tool("a", "0", identity="the next")
    assert len(pool._branches._branches) == 1
    assert (pool.stats()["opened"], pool.stats()["closed_by"]["idle"]) == (6, 5)


async def test_a_server_that_can_not_be_opened_is_told_with_its_reason(make, servers):
    pool = make(config=PoolConfig(unavailable_after=0))
    servers.error = ExceptionGroup("", [ExceptionGroup("", [ConnectionRefusedError()])])
    with pytest.raises(PoolUnavailable) as caught:
        await pool.call_tool("a", "0")
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


async def test_an_opening_that_hangs_is_given_up_and_no_place_is_lost(make, servers):
    pool = make(max_sessions=1, config=PoolConfig(open_timeout=5, unavailable_after=0))
    servers.opening = 1000
    with pytest.raises(PoolUnavailable) as caught:
        await pool.call_tool("a", "0")
    assert "open_timeout=5s" in str(caught.value.__cause__)
    servers.opening = 1
    await asyncio.sleep(20)
    assert (await pool.call_tool("b", "0")).server == "b"


async def test_a_server_is_replaced_and_no_other_session_is_touched(make, servers):
    pool = make()
    a, b = await pool.call_tool("a", "0"), await pool.call_tool("b", "0")
    long = asyncio.create_task(pool.call_tool("a", "5"))
    await settle()
    await pool.update("a", servers["another"])
    new = await pool.call_tool("a", "0")
    assert new.server == "another"
    assert await long is a
    assert await pool.call_tool("b", "0") is b
    await asyncio.sleep(2)
    assert servers.open_now == {new, b}


async def test_sessions_are_opened_in_the_context_of_the_builder_and_calls_run_in_that_of_the_caller(make):
    pool = make()

    async def call():
        who.set("a caller")
        return await pool.call("a", lambda client: asyncio.sleep(0, (client.opened_by, who.get())))

    assert await asyncio.create_task(call()) == ("the builder", "a caller")


async def test_close_waits_for_calls_refuses_newcomers_and_may_be_followed_by_open(make, servers):
    pool = make()
    call = asyncio.create_task(pool.call_tool("a", "3"))
    await asyncio.sleep(1)
    closing = asyncio.create_task(pool.close())
    await settle()
    with pytest.raises(PoolClosed):
        await pool.call_tool("a", "0")
    with pytest.raises(PoolClosed):
        await pool.open()
    await closing
    assert (await call).server == "a"
    await pool.open()
    assert (await pool.call_tool("a", "0")).server == "a"
    assert pool.stats()["opened"] == 2


async def test_calls_that_outlast_the_deadline_of_close_are_told_that_the_pool_is_closed(make):
    pool = make()
    call = asyncio.create_task(pool.call_tool("a", "300"))
    await asyncio.sleep(1)
    await pool.close(timeout=2)
    assert isinstance(call.exception(), PoolClosed)


async def test_figures_are_told_by_server_and_never_by_identity(make):
    pool = make(name="agents")
    for identity in ("alice@example.com", "bob@example.com"):
        await pool.call_tool("a", "0", identity=identity)
    assert {server: stats["size"] for server, stats in pool.servers().items()} == {"a": 2, "b": 0}
    assert (pool.stats()["name"], pool.stats()["max_size"], pool.stats()["size"]) == ("agents", 32, 2)
    assert "example.com" not in repr((pool, pool.stats(), pool.servers(), pool._branches._branches.values()))


async def test_an_unknown_server_is_told_with_a_suggestion(make):
    pool = make("files", "search")
    with pytest.raises(PoolNotFound, match="did you mean 'files'"):
        await pool.call_tool("file", "0")
    with pytest.raises(PoolNotFound):
        make("files", exclusive={"browser"})


@pytest.mark.parametrize(
    "settings",
    [
        {"max_sessions": 0},
        {"max_sessions": True},
        {"max_per_server": 0},
        {"max_shares": 0},
        {"max_per_server": 3, "config": PoolConfig(max_size=2)},
        {"max_shares": 3, "config": PoolConfig(max_shares=2)},
    ],
    ids=repr,
)
async def test_settings_that_can_not_be_are_refused_under_their_own_names(servers, settings):
    with pytest.raises(PoolConfigError, match=next(iter(settings))):
        MCPSessionPool({"a": servers["a"]}, **settings)


def test_what_is_no_mapping_of_servers_and_no_config_is_refused_with_what_to_write(servers):
    with pytest.raises(TypeError, match=r"servers is a NoneType: it must be a mapping of names to factories"):
        MCPSessionPool(None)
    with pytest.raises(TypeError, match="config is a int: it must be a PoolConfig, or None"):
        MCPSessionPool({"a": servers["a"]}, config=5)


@pytest.mark.parametrize("timeout", ["5", -1, float("nan")])
async def test_a_timeout_that_is_none_is_refused_before_anything_is_sent(make, servers, timeout):
    pool = make()
    with pytest.raises(PoolConfigError, match=f"timeout={timeout!r} is not allowed: it must be a number of seconds"):
        await pool.call_tool("a", "0", timeout=timeout)
    assert not servers.open_now


@pytest.mark.parametrize("server", ["https://example.com/mcp", SimpleNamespace(command="python")], ids=repr)
def test_what_is_no_factory_is_refused_with_what_to_write(server):
    with pytest.raises(TypeError, match=r"stdio\("):
        MCPSessionPool({"a": server})


async def test_a_factory_that_gives_no_context_manager_is_told(make):
    pool = MCPSessionPool({"a": lambda: 7})
    with pytest.raises(PoolUnavailable) as caught:
        await pool.call_tool("a", "0")
    assert "no async context manager" in str(caught.value.__cause__)
    await pool.close()


async def test_a_pool_that_was_dropped_says_so_and_ends_its_sessions(servers):
    pool = MCPSessionPool({"a": servers["a"]})
    await pool.call_tool("a", "0")
    with pytest.warns(ResourceWarning, match="dropped without being closed"):
        del pool
    await asyncio.sleep(5)
    assert not servers.open_now


async def test_the_pool_needs_no_sdk_and_its_factories_say_which_extra_brings_it(monkeypatch, servers):
    for module in ("mcp", "mcp.client.stdio", "mcp.client.streamable_http"):
        monkeypatch.setitem(sys.modules, module, None)
    for make_factory in (lambda: stdio("python", "server.py"), lambda: streamable_http("https://example.com/mcp")):
        with pytest.raises(ImportError, match=r"aiopool-core\[mcp\]"):
            make_factory()
    async with MCPSessionPool({"a": servers["a"]}) as pool:
        assert (await pool.call_tool("a", "0")).server == "a"


def test_what_a_factory_shows_holds_no_secret():
    pytest.importorskip("mcp")
    factories = [
        stdio("python", "server.py", "--token=s3cret", env={"TOKEN": "s3cret"}),
        streamable_http("https://user:s3cret@example.com/mcp?key=s3cret", headers={"Authorization": "s3cret"}),
    ]
    assert "s3cret" not in repr(factories)
