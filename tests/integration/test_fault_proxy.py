"""`FaultProxy` between real sockets: what established connections and newcomers see in each mode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from aiopool.testing import FaultProxy
from tests.stopwatch import Stopwatch

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    """Before a server that answers each line with the same line."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(line)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1")
    async with server, FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    await asyncio.sleep(0.01)  # the transports end


async def connect(proxy: FaultProxy) -> Stream:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def say(stream: Stream, line: str, within: float = 10.0) -> str:
    reader, writer = stream
    writer.write(f"{line}\n".encode())
    async with asyncio.timeout(within):
        return (await reader.readline()).decode().strip()


async def hangs(stream: Stream, line: str) -> bool:
    try:
        await say(stream, line, within=0.1)
    except TimeoutError:
        return True
    return False


async def read_as_a_newcomer(proxy: FaultProxy) -> bytes:
    reader, writer = await connect(proxy)
    try:
        return await reader.read()
    finally:
        writer.close()


async def end(*streams: Stream) -> None:
    for _, writer in streams:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in streams), return_exceptions=True)


async def test_it_passes_everything_on_and_counts(proxy: FaultProxy) -> None:
    stream = await connect(proxy)
    assert [await say(stream, word) for word in ("a", "b", "c")] == ["a", "b", "c"]
    assert (proxy.connections, proxy.sent) == (1, 3)
    big = "x" * 50_000
    assert await say(stream, big) == big
    stream[1].write_eof()
    assert await stream[0].read() == b"", "a half-closed connection is passed on as such"
    await end(stream)


@pytest.mark.parametrize("mode", ["black_hole", "silence"])
async def test_established_ones_carry_nothing_and_are_not_told_and_go_on_after(proxy: FaultProxy, mode: str) -> None:
    stream, leaver = await connect(proxy), await connect(proxy)
    await say(stream, "before")
    await say(leaver, "before")
    getattr(proxy, mode)()
    sent = proxy.sent
    assert await hangs(stream, "during")
    leaver[1].write_eof()
    await asyncio.sleep(0.02)
    assert not leaver[0].at_eof()
    assert proxy.sent == sent
    proxy.pass_through()
    assert (await stream[0].readline()) == b"during\n"
    assert await leaver[0].read() == b""
    await end(stream, leaver)


@pytest.mark.parametrize("mode", ["refuse", "reset"])
async def test_what_was_held_up_is_lost_with_its_connection(proxy: FaultProxy, mode: str) -> None:
    stream = await connect(proxy)
    await say(stream, "before")
    proxy.silence()
    assert await hangs(stream, "during")
    sent = proxy.sent
    getattr(proxy, mode)()
    with suppress(ConnectionError):
        assert await stream[0].read() == b""
    assert proxy.sent == sent
    await end(stream)


async def test_a_black_hole_leaves_newcomers_in_connect_until_it_is_mended(proxy: FaultProxy) -> None:
    proxy.black_hole()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await connect(proxy)
    async with asyncio.timeout(10):
        began = time.monotonic()
        waiting = asyncio.create_task(connect(proxy))
        await asyncio.sleep(0.1)
        proxy.pass_through()
        stream = await waiting
    assert time.monotonic() - began > 0.9, "the second SYN comes after a second"
    assert await say(stream, "after") == "after"
    await end(stream)


async def test_silence_accepts_newcomers_and_answers_them_after_the_mend(proxy: FaultProxy) -> None:
    proxy.silence()
    stream = await connect(proxy)
    assert await hangs(stream, "during")
    proxy.pass_through()
    assert (await stream[0].readline()) == b"during\n"
    await end(stream)


async def test_refuse_closes_established_ones_and_refuses_newcomers(proxy: FaultProxy) -> None:
    stream = await connect(proxy)
    await say(stream, "before")
    port = proxy.port
    proxy.refuse()
    assert await stream[0].read() == b""
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            await connect(proxy)
    proxy.pass_through()
    assert proxy.port == port
    newcomer = await connect(proxy)
    assert await say(newcomer, "after") == "after"
    await end(stream, newcomer)


async def test_reset_resets_established_ones_and_newcomers(proxy: FaultProxy) -> None:
    stream = await connect(proxy)
    await say(stream, "before")
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        await stream[0].read()
    with pytest.raises(ConnectionError):
        await read_as_a_newcomer(proxy)
    proxy.pass_through()
    after = await connect(proxy)
    assert await say(after, "after") == "after"
    await end(stream, after)


async def test_trickle_is_slow_for_everybody_and_ends_at_once(proxy: FaultProxy) -> None:
    stream = await connect(proxy)
    await say(stream, "before")
    proxy.trickle(bytes_per_second=50)
    newcomer = await connect(proxy)
    began = time.monotonic()
    with Stopwatch() as watch:
        for each in stream, newcomer:
            assert await say(each, "123456789", within=10) == "123456789"
    # Ten bytes there; the first byte of the answer comes with the last of them, and nine more follow.
    assert time.monotonic() - began > 0.6
    assert watch.seconds < 1.6
    proxy.trickle()
    assert await hangs(stream, "12345")
    proxy.pass_through()
    assert await asyncio.wait_for(stream[0].readline(), 10) == b"12345\n"
    await end(stream, newcomer)


@pytest.mark.parametrize("first", ["pass_through", "black_hole", "refuse", "reset", "silence", "trickle"])
@pytest.mark.parametrize("second", ["pass_through", "black_hole", "refuse", "reset", "silence", "trickle"])
async def test_any_mode_follows_any_other(proxy: FaultProxy, first: str, second: str) -> None:
    stream = await connect(proxy)
    await say(stream, "before")
    getattr(proxy, first)()
    await asyncio.sleep(0)
    getattr(proxy, second)()
    await asyncio.sleep(0)
    proxy.pass_through()
    newcomer = await connect(proxy)
    assert await say(newcomer, "after") == "after"
    if {"refuse", "reset"} & {first, second}:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await stream[0].readexactly(1)
    else:
        assert await say(stream, "after") == "after"
    await end(stream, newcomer)


async def test_a_server_that_is_not_there_is_a_connection_that_ends() -> None:
    async with FaultProxy("127.0.0.1", 1) as proxy:
        stream = await connect(proxy)
        assert await stream[0].read() == b""
        await end(stream)


async def test_leaving_it_leaves_no_task_and_frees_the_port(proxy: FaultProxy) -> None:
    async with FaultProxy(*proxy._target) as outer:
        stream, silent = await connect(outer), await connect(outer)
        await say(stream, "before")
        outer.black_hole()
    with pytest.raises(ConnectionRefusedError):
        await connect(outer)
    assert not [task for task in asyncio.all_tasks() if "FaultProxy" in repr(task)]
    await end(stream, silent)


def test_a_url_keeps_all_but_its_host() -> None:
    proxy = FaultProxy.before("postgresql://user:p%40ss@db.example/orders?sslmode=disable")
    with pytest.raises(RuntimeError, match="async with"):
        proxy.url
    proxy.port = 4711
    assert proxy.url == "postgresql://user:p%40ss@127.0.0.1:4711/orders?sslmode=disable"
    with pytest.raises(ValueError, match=r"scheme://host:port") as refused:
        FaultProxy.before("mongodb://me:secret@host/db")
    assert "secret" not in str(refused.value)
    with pytest.raises(ValueError, match="bytes_per_second=0 must be above 0"):
        proxy.trickle(0)


def test_no_piece_of_a_password_is_told_where_the_url_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="percent-encode") as caught:
        FaultProxy.before("postgresql://user:swordfish#x@host/database")
    assert "swordfish" not in str(caught.value)
    assert caught.value.__suppress_context__
