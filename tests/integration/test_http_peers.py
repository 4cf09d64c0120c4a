"""`HTTPClientPool` and servers that go away, change their minds, fall silent or answer oddly."""

from __future__ import annotations

import asyncio
import gc
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from aiopool.adapters.http import HTTPClientPool, HTTPTransport
from aiopool.errors import PoolClosed, PoolConfigError, PoolTimeout, WrongLoop
from tests.integration.http_peers import HTTP1Connection, HTTP2Connection, Peer, http1_peer, http2_peer


def http2_pool(peer: Peer, **settings: Any) -> HTTPClientPool:
    """Without TLS there is no ALPN: the client knows beforehand."""
    return HTTPClientPool(peer.url(), http1=False, **{"timeout": 5, **settings})


async def serve_all(connection: HTTP1Connection) -> None:
    while await connection.request():
        connection.answer()


async def serve_all_2(connection: HTTP2Connection) -> None:
    await connection.start()
    while stream := await connection.next():
        connection.reply(stream)


# ------------------------------------------------------------------------------------------- a server goes away


async def test_streams_that_a_goaway_leaves_out_are_sent_again_and_the_others_end() -> None:
    async def handle(connection: HTTP2Connection) -> None:
        await connection.start()
        if connection.number > 0:
            while stream := await connection.next():
                connection.reply(stream, b"second")
            return
        streams = [await connection.next() for _ in range(4)]
        connection.goaway(last_stream_id=streams[1])
        await asyncio.sleep(0.05)
        for stream in streams[:2]:
            connection.reply(stream, b"first")

    async with http2_peer(handle) as peer, http2_pool(peer, max_connections=2) as api:
        answers = await asyncio.gather(*(api.post("/", content=b"not idempotent") for _ in range(4)))
        assert sorted(answer.text for answer in answers) == ["first", "first", "second", "second"]
        assert (await api.get("/")).text == "second"
        assert len(peer.connections) == 2


async def test_a_goaway_and_the_answers_in_one_packet_are_read_alike() -> None:
    async def handle(connection: HTTP2Connection) -> None:
        await connection.start()
        streams = [await connection.next() for _ in range(2)]
        connection.goaway(last_stream_id=streams[1])
        for stream in streams:
            connection.reply(stream)

    async with http2_peer(handle) as peer, http2_pool(peer) as api:
        answers = await asyncio.gather(api.get("/"), api.get("/"))
        assert [answer.status_code for answer in answers] == [200, 200]


async def test_a_refused_stream_is_sent_again_whatever_its_method() -> None:
    async def handle(connection: HTTP2Connection) -> None:
        await connection.start()
        refused = await connection.next()
        connection.h2.reset_stream(refused, error_code=7)
        connection.flush()
        while stream := await connection.next():
            connection.reply(stream, connection.bodies[stream])

    async with http2_peer(handle) as peer, http2_pool(peer, max_connections=1) as api:
        assert (await api.post("/", content=b"order")).text == "order"
        assert len(peer.connections) == 1


async def test_a_server_that_refuses_every_stream_is_asked_three_times() -> None:
    refused = 0

    async def handle(connection: HTTP2Connection) -> None:
        nonlocal refused
        await connection.start()
        while stream := await connection.next():
            refused += 1
            connection.h2.reset_stream(stream, error_code=7)
            connection.flush()

    async with http2_peer(handle) as peer, http2_pool(peer) as api:
        with pytest.raises(httpx.RemoteProtocolError, match="REFUSED_STREAM"):
            await api.get("/")
        assert refused == 3


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_kept_connection_that_turns_out_dead_costs_a_get_nothing_and_a_post_an_error(end: str) -> None:
    async def handle(connection: HTTP1Connection) -> None:
        await connection.request()
        connection.answer()
        if connection.number < 2:
            await connection.request()
            getattr(connection, end)()
        else:
            await serve_all(connection)

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url(), max_connections=1) as api:
        await api.get("/")
        assert (await api.get("/again")).status_code == 200
        assert [len(connection.requests) for connection in peer.connections] == [2, 1]
        with pytest.raises(httpx.TransportError):
            await api.post("/order", content=b"1")
        assert (await api.post("/order", content=b"1")).status_code == 200


async def test_a_server_that_always_dies_is_asked_twice_and_no_more() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        if connection.number == 0:
            await connection.request()
            connection.answer()
        await connection.request()
        connection.reset()

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url(), max_connections=1) as api:
        await api.get("/")
        with pytest.raises(httpx.TransportError):
            await api.get("/")
        assert len(peer.connections) == 2


@pytest.mark.parametrize("version", [1, 2])
async def test_idle_connections_that_died_are_noticed(version: int) -> None:
    async def handle_1(connection: HTTP1Connection) -> None:
        await connection.request()
        connection.answer()
        await connection.writer.drain()

    async def handle_2(connection: HTTP2Connection) -> None:
        await connection.start()
        connection.reply(await connection.next())
        await connection.writer.drain()
        connection.close()

    serving = http1_peer(handle_1) if version == 1 else http2_peer(handle_2)
    async with serving as peer, HTTPClientPool(peer.url(), http1=version == 1, http2=version == 2) as api:
        for _ in range(3):
            assert (await api.post("/")).status_code == 200
            await asyncio.sleep(0.05)
            assert api.stats()["size"] == 0


async def test_a_connection_closed_by_agreement_is_no_error() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        await connection.request()
        connection.answer(connection="close")

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url(), max_connections=1) as api:
        for _ in range(3):
            assert (await api.post("/")).text == "ok"
        assert len(peer.connections) == 3
        assert api.stats()["closed_by"]["broken"] == 0


async def test_refused_connections_fail_at_once_and_recovery_is_seen_soon() -> None:
    async with http1_peer(serve_all) as peer:
        url = peer.url()
    async with HTTPClientPool(url) as api:
        began = time.monotonic()
        with pytest.raises(httpx.ConnectError):
            await api.get("/")
        assert time.monotonic() - began < 1
        async with http1_peer(serve_all, port=peer.port), asyncio.timeout(3):
            while True:
                try:
                    assert (await api.get("/")).status_code == 200
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.05)


# --------------------------------------------------------------------------------------- a server falls silent


@pytest.mark.parametrize("version", [1, 2])
async def test_silence_ends_in_a_read_timeout_and_the_next_request_gets_another_connection(version: int) -> None:
    async def handle_1(connection: HTTP1Connection) -> None:
        if connection.number == 0:
            await connection.request()
            await asyncio.sleep(30)
        await serve_all(connection)

    async def handle_2(connection: HTTP2Connection) -> None:
        if connection.number == 0:
            await connection.start()
            await connection.next()
            await asyncio.sleep(30)
        await serve_all_2(connection)

    serving = http1_peer(handle_1) if version == 1 else http2_peer(handle_2)
    async with serving as peer, HTTPClientPool(peer.url(), http1=version == 1, max_connections=1, timeout=5) as api:
        with pytest.raises(httpx.ReadTimeout):
            await api.get("/", timeout=0.2)
        assert (await api.get("/")).status_code == 200
        assert api.stats()["size"] == 1


async def test_a_slow_answer_does_not_cost_its_neighbours_the_connection() -> None:
    async def handle(connection: HTTP2Connection) -> None:
        await connection.start()
        slow = await connection.next()
        while stream := await connection.next():
            if stream != slow:
                connection.reply(stream)

    async with http2_peer(handle) as peer, http2_pool(peer, max_connections=1) as api:
        slow = asyncio.create_task(api.get("/slow", timeout=0.3))
        await asyncio.sleep(0.1)
        for _ in range(10):
            assert (await api.get("/")).status_code == 200
        with pytest.raises(httpx.ReadTimeout):
            await slow
        assert (await api.get("/")).status_code == 200
        assert len(peer.connections) == 1


async def test_a_server_that_never_ends_its_handshake_is_a_connect_timeout() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        await asyncio.sleep(30)

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url("https"), timeout=0.2) as api:
        began = time.monotonic()
        with pytest.raises(httpx.ConnectTimeout):
            await api.get("/")
        assert time.monotonic() - began < 1


async def test_a_server_that_reads_nothing_is_a_write_timeout() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(30)

    timeout = httpx.Timeout(5, write=0.2)
    async with http1_peer(handle) as peer, HTTPClientPool(peer.url(), timeout=timeout) as api:
        with pytest.raises(httpx.WriteTimeout):
            await api.post("/", content=b"x" * 50_000_000)


async def test_an_idle_http_2_connection_is_pinged_before_it_is_lent() -> None:
    async with http2_peer(serve_all_2) as peer, http2_pool(peer) as api:
        await api.get("/")
        assert await api.pool.check() == 0  # type: ignore[union-attr]
        assert peer.connections[0].pings == 1
        await asyncio.sleep(1.1)
        await api.get("/")
        assert peer.connections[0].pings == 2


# ------------------------------------------------------------------------------------ a server changes its mind


async def test_the_servers_limit_of_streams_holds_and_may_rise_and_fall() -> None:
    most = {0: 0}
    release = asyncio.Event()

    async def handle(connection: HTTP2Connection) -> None:
        await connection.start(max_concurrent_streams=2)
        held: list[int] = []

        async def answer() -> None:
            await release.wait()
            while held:
                connection.reply(held.pop())

        answering = asyncio.create_task(answer())
        while stream := await connection.next():
            held.append(stream)
            most[connection.number] = max(most.get(connection.number, 0), len(held))
            if release.is_set():
                connection.reply(held.pop())
        answering.cancel()

    async with http2_peer(handle) as peer, http2_pool(peer, max_connections=1) as api:
        running = [asyncio.create_task(api.get("/")) for _ in range(10)]
        await asyncio.sleep(0.1)
        assert (most[0], api.stats()["in_use"], api.stats()["waiting"]) == (2, 2, 8)
        peer.connections[0].settings(max_concurrent_streams=5)
        await asyncio.sleep(0.1)
        assert (most[0], api.stats()["in_use"]) == (5, 5)
        peer.connections[0].settings(max_concurrent_streams=3)
        await asyncio.sleep(0.1)
        running[0].cancel()
        await asyncio.sleep(0.1)
        assert (most[0], api.stats()["in_use"], api.stats()["waiting"]) == (5, 4, 5)
        release.set()
        await asyncio.gather(*running[1:])
        assert api.stats()["available"] == 3
        assert peer.connections[0].resets == [1]


async def test_a_server_that_speaks_http_1_only_gives_everybody_a_connection() -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    server_context.set_alpn_protocols(["http/1.1"])
    context = ssl.create_default_context()
    authority.configure_trust(context)

    async def handle(connection: HTTP1Connection) -> None:
        while await connection.request():
            await asyncio.sleep(0.2)
            connection.answer()

    async with (
        http1_peer(handle, server_context) as peer,
        HTTPClientPool(peer.url("https"), verify=context, max_connections=10) as api,
    ):
        answers = await asyncio.gather(*(api.get("/") for _ in range(20)))
        assert {answer.http_version for answer in answers} == {"HTTP/1.1"}
        stats = api.stats()
        assert stats["size"] == stats["available"] > 3


# ------------------------------------------------------------------------------------------------- both ways


async def test_large_bodies_go_both_ways_under_flow_control() -> None:
    async def handle(connection: HTTP2Connection) -> None:
        await connection.start()
        stream = await connection.next()
        connection.h2.send_headers(stream, [(":status", "200")])
        body = connection.bodies[stream]
        while body:
            room = min(connection.h2.local_flow_control_window(stream), 16384, len(body))
            if room:
                connection.h2.send_data(stream, body[:room], end_stream=room == len(body))
                body = body[room:]
                connection.flush()
            await asyncio.sleep(0 if room else 0.001)

    body = bytes(range(256)) * 20_000
    async with http2_peer(handle) as peer, http2_pool(peer) as api:
        assert (await api.post("/", content=body)).content == body


@pytest.mark.parametrize("version", [1, 2])
async def test_a_body_may_be_sent_as_it_is_made(https_server: Any, version: int) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(100):
            await asyncio.sleep(0)
            yield f"{number},".encode()

    async with HTTPClientPool(https_server.url, verify=https_server.ssl_context, http2=version == 2) as api:
        answer = await api.post("/echo", content=pieces())
        assert answer.json()["body"] == "".join(f"{number}," for number in range(100))
        assert answer.http_version == ("HTTP/2" if version == 2 else "HTTP/1.1")


async def test_a_slow_reader_holds_up_itself_alone(https_server: Any) -> None:
    async with (
        HTTPClientPool(https_server.url, verify=https_server.ssl_context, max_connections=1) as api,
        api.stream("GET", "/bytes/30000000") as answer,
    ):
        await asyncio.sleep(0.3)
        for _ in range(20):
            assert len((await api.get("/bytes/200000")).content) == 200_000
        assert api.stats()["size"] == 1
        assert sum([len(piece) async for piece in answer.aiter_bytes()]) == 30_000_000


async def test_an_answer_that_comes_before_the_whole_request_ends_the_sending() -> None:
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 1000
            await asyncio.sleep(0.001)

    async def handle(connection: HTTP2Connection) -> None:
        await connection.start()
        await asyncio.sleep(0.1)
        connection.reply(1, b"too large", status="413")
        await connection.next()

    async with http2_peer(handle) as peer, http2_pool(peer) as api:
        answer = await api.post("/", content=pieces())
        assert (answer.status_code, answer.text) == (413, "too large")
        assert 0 < sent < 1000
        await asyncio.sleep(0.05)
        assert peer.connections[0].resets == [1]


@pytest.mark.parametrize(
    ("head", "headers", "body", "seen"),
    [
        ("HTTP/1.1 204 No Content", {"content_length": "0"}, b"", b""),
        ("HTTP/1.1 200 OK", {"transfer_encoding": "chunked"}, b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", b"abcde"),
        ("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK", {}, b"hints", b"hints"),
        ("HTTP/1.0 200 OK", {}, b"old", b"old"),
    ],
)
async def test_every_way_to_end_an_answer_is_understood(
    head: str, headers: dict[str, str], body: bytes, seen: bytes
) -> None:
    async def handle(connection: HTTP1Connection) -> None:
        while await connection.request():
            given = dict(headers)
            if "transfer_encoding" in given:
                connection.writer.write(f"{head}\r\ntransfer-encoding: chunked\r\n\r\n".encode() + body)
            else:
                connection.answer(body, head, **given)
            if head.startswith("HTTP/1.0"):
                return

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url()) as api:
        for _ in range(3):
            assert (await api.get("/")).content == seen


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        await connection.request()
        connection.writer.write(b"HTTP/1.1 200 OK\r\nx: y\r\n\r\nall that there is")

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url()) as api:
        assert (await api.get("/")).text == "all that there is"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000,
    ],
)
async def test_an_answer_that_makes_no_sense_is_a_protocol_error(nonsense: bytes) -> None:
    async def handle(connection: HTTP1Connection) -> None:
        await connection.request()
        connection.writer.write(nonsense)

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url()) as api:
        with pytest.raises(httpx.RemoteProtocolError):
            await api.get("/")
        await asyncio.sleep(0.05)
        assert api.stats()["size"] == 0


async def test_words_that_nobody_asked_for_end_a_connection() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        await connection.request()
        connection.answer()
        await asyncio.sleep(0.05)
        connection.answer(b"poison")
        await asyncio.sleep(30)

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url()) as api:
        for _ in range(2):
            assert (await api.get("/")).text == "ok"
            await asyncio.sleep(0.15)
            assert api.stats()["size"] == 0


async def test_an_answer_left_early_gives_its_connection_back_if_little_is_missing() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        while line := await connection.request():
            missing = 1000 if "little" in line else 1_000_000
            connection.writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {missing}\r\n\r\n".encode())
            await asyncio.sleep(0.1)
            connection.writer.write(b"x" * missing)

    async with http1_peer(handle) as peer, HTTPClientPool(peer.url(), max_connections=1) as api:
        for _ in range(3):
            async with api.stream("GET", "/little") as answer:
                assert answer.status_code == 200
        assert len(peer.connections) == 1
        for _ in range(2):
            async with api.stream("GET", "/much") as answer:
                assert answer.status_code == 200
        assert (await api.get("/little")).status_code == 200
        assert len(peer.connections) == 3


# --------------------------------------------------------------------------------------------------- the limits


async def test_an_idle_connection_of_another_origin_gives_way() -> None:
    async with (
        http1_peer(serve_all) as one,
        http1_peer(serve_all) as two,
        HTTPClientPool(one.url(), max_connections=1, timeout=3) as api,
    ):
        for _ in range(3):
            assert (await api.get("/")).status_code == 200
            assert (await api.get(f"{two.url()}/")).status_code == 200
        assert api.stats()["size"] == 1
        assert len(one.connections) == len(two.connections) == 3


async def test_a_busy_origin_does_not_starve_another_at_the_limit() -> None:
    async def slowly(connection: HTTP1Connection) -> None:
        while await connection.request():
            await asyncio.sleep(0.01)
            connection.answer()

    async with (
        http1_peer(slowly) as busy,
        http1_peer(serve_all) as other,
        HTTPClientPool(busy.url(), max_connections=2, timeout=3) as api,
    ):
        is_over = False

        async def load() -> None:
            while not is_over:
                await api.get("/")

        loads = [asyncio.create_task(load()) for _ in range(10)]
        await asyncio.sleep(0.1)
        began = time.monotonic()
        for _ in range(5):
            assert (await api.get(f"{other.url()}/")).status_code == 200
            assert api.stats()["size"] <= 2
        assert time.monotonic() - began < 2
        is_over = True
        await asyncio.gather(*loads)


async def test_max_keepalive_counts_over_all_origins_and_origins_go_when_unused() -> None:
    async with (
        http1_peer(serve_all) as a,
        http1_peer(serve_all) as b,
        http1_peer(serve_all) as c,
        HTTPClientPool(max_keepalive=2, keepalive_expiry=0.3) as api,
    ):
        assert api.pool is None
        for peer in (a, b, c):
            await api.get(f"{peer.url()}/")
        await asyncio.sleep(0.05)
        assert set(api.origins()) == {b.url(), c.url()}
        assert api.stats()["available"] == 2
        await asyncio.sleep(0.5)
        assert api.origins() == {}
        stats = api.stats()
        assert (stats["opened"], stats["closed"], stats["acquired"], stats["size"]) == (3, 3, 3, 0)


async def test_an_origin_that_cannot_be_reached_is_forgotten() -> None:
    async with http1_peer(serve_all) as peer:
        url = peer.url()
    async with HTTPClientPool() as api:
        for _ in range(3):
            with pytest.raises(httpx.ConnectError):
                await api.get(url)
        assert api.origins() == {}
        assert api.stats()["open_failures"] == 3


async def test_callers_are_served_in_the_order_they_came() -> None:
    async def slowly(connection: HTTP1Connection) -> None:
        while await connection.request():
            await asyncio.sleep(0.005)
            connection.answer()

    async with http1_peer(slowly) as peer, HTTPClientPool(peer.url(), max_connections=1) as api:
        order: list[int] = []

        async def ask(number: int) -> None:
            await api.get("/")
            order.append(number)

        await asyncio.gather(*(ask(number) for number in range(30)))
        assert order == list(range(30))


# -------------------------------------------------------------------------------------------- under any client


async def test_the_transport_serves_a_plain_httpx_client() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        while await connection.request():
            await asyncio.sleep(0.3)
            connection.answer()

    limits = httpx.Limits(max_connections=1)
    async with http1_peer(handle) as peer:
        async with httpx.AsyncClient(
            transport=HTTPTransport(limits=limits), timeout=httpx.Timeout(5, pool=0.1)
        ) as client:
            running = asyncio.create_task(client.get(peer.url()))
            await asyncio.sleep(0.1)
            with pytest.raises(httpx.PoolTimeout) as caught:
                await client.get(peer.url())
            assert isinstance(caught.value, PoolTimeout)
            assert caught.value.request.url.host == "127.0.0.1"
            assert (await running).extensions["http_version"] == b"HTTP/1.1"
        with pytest.raises(RuntimeError):
            await client.get(peer.url())
        with pytest.raises(httpx.UnsupportedProtocol):
            async with httpx.AsyncClient(transport=HTTPTransport()) as client:
                await client.get("ftp://127.0.0.1/")


async def test_close_fails_those_in_line_and_ends_what_runs_at_the_deadline() -> None:
    async def handle(connection: HTTP1Connection) -> None:
        await connection.request()
        await asyncio.sleep(30)

    async with http1_peer(handle) as peer:
        api = HTTPClientPool(peer.url(), max_connections=1)
        tasks = [asyncio.create_task(api.get("/")) for _ in range(3)]
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await api.close(timeout=0.2)
        assert time.monotonic() - began < 1
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(error, PoolClosed) for error in errors[1:])
        assert isinstance(errors[0], (httpx.TransportError, PoolClosed))


async def test_an_answer_that_is_dropped_unread_costs_its_connection_and_warns() -> None:
    async with http1_peer(serve_all) as peer, HTTPClientPool(peer.url(), max_connections=1, timeout=3) as api:
        answer = await api.client.send(api.client.build_request("GET", "/"), stream=True)
        del answer
        with pytest.warns(ResourceWarning, match="dropped without being released"):
            gc.collect()
        assert (await api.get("/")).status_code == 200


async def test_a_proxy_is_httpxs_own_business() -> None:
    async with (
        http1_peer(serve_all) as proxy,
        HTTPClientPool("http://nowhere.invalid", proxy=proxy.url()) as api,
    ):
        assert (await api.get("/page")).status_code == 200
        assert proxy.connections[0].requests == ["get http://nowhere.invalid/page http/1.1"]
        assert api.stats()["opened"] == 0


async def test_a_pool_that_is_dropped_warns_and_closes_its_connections() -> None:
    async with http1_peer(serve_all) as peer:
        api = HTTPClientPool(peer.url())
        await api.get("/")
        del api
        with pytest.warns(ResourceWarning, match="was dropped without being closed"):
            gc.collect()
        async with asyncio.timeout(2):
            while peer.tasks:
                await asyncio.wait(set(peer.tasks))


async def test_silence_on_one_stream_is_noticed_while_the_others_talk() -> None:
    async def handle(connection: HTTP2Connection) -> None:
        await connection.start()
        silent = await connection.next()
        while stream := await connection.next():
            connection.h2.increment_flow_control_window(10)  # for all streams
            if stream != silent:
                connection.reply(stream)

    async with http2_peer(handle) as peer, http2_pool(peer) as api:
        began = time.monotonic()
        silent = asyncio.create_task(api.get("/", timeout=0.3))
        await asyncio.sleep(0)
        while not silent.done() and time.monotonic() < began + 2:
            await api.get("/")
            await asyncio.sleep(0.02)
        with pytest.raises(httpx.ReadTimeout):
            await silent
        assert time.monotonic() - began < 0.6


def test_a_base_url_without_http_is_refused_without_a_word_of_it() -> None:
    for url in ("tr0ub4dor://host", "user:tr0ub4dor@host", "ftp://u:tr0ub4dor@host", "/path/tr0ub4dor"):
        with pytest.raises(PoolConfigError, match="base_url") as caught:
            HTTPClientPool(url)
        assert "tr0ub4dor" not in str(caught.value)


def test_it_runs_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def run() -> None:
        async with http1_peer(serve_all) as peer, HTTPClientPool(peer.url()) as api:
            assert (await api.get("/")).status_code == 200
        async with http2_peer(serve_all_2) as peer, http2_pool(peer) as api:
            assert (await api.get("/")).status_code == 200

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def test_a_close_from_another_loop_is_refused_and_changes_nothing() -> None:
    async with http1_peer(serve_all) as peer, HTTPClientPool(peer.url()) as api:
        await api.get("/")
        with pytest.raises(WrongLoop):
            await asyncio.to_thread(asyncio.run, api.close())
        assert (await api.get("/")).status_code == 200
