"""A file that changes while it is served."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.types import ToolListChangedNotification

from aiopool import embedded
from aiopool.toolserver import current as module
from aiopool.toolserver.reloading import reloading, signature
from aiopool.toolserver.server import ToolServer
from tests.integration.mcp.test_server_calls import eventually, queries
from tests.integration.mcp.toolserving import MODES, TOOLS, serving, started_on_http, write_tools

MORE = TOOLS + '  - {{name: now, description: Tells the time., sql: "select now()"}}\n'
#: The path of the file, the line, the key and the remedy.
WRONG = TOOLS.replace("sql:", "sqll:", 1)


async def names(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools(cache_mode="bypass")).tools]


@asynccontextmanager
async def told_of_changes(server: ToolServer | str, mode: str) -> AsyncIterator[tuple[Client, asyncio.Event]]:
    """A client of that generation, and an event that is set whenever it is told of a change."""
    told = asyncio.Event()

    async def hear(message: Any) -> None:
        if isinstance(message, ToolListChangedNotification):
            told.set()

    async def listen(client: Client, ready: asyncio.Event) -> None:
        async with client.listen(tools_list_changed=True) as changes:
            ready.set()
            async for _ in changes:
                told.set()

    place = server if isinstance(server, str) else server.mcp
    async with Client(place, mode=mode, message_handler=hear) as client:
        if mode == "legacy":
            assert client.server_capabilities.tools is not None
            assert client.server_capabilities.tools.list_changed
            await client.list_tools()  # its `initialized` has been taken by now
            yield client, told
        else:
            ready = asyncio.Event()
            listening = asyncio.create_task(listen(client, ready))
            try:
                await ready.wait()
                yield client, told
            finally:
                listening.cancel()
                await asyncio.wait((listening,))


@pytest.mark.parametrize("mode", MODES)
async def test_clients_are_told_of_another_list_and_get_it(
    postgres: embedded.PostgresServer, tmp_path: Path, mode: str
) -> None:
    file = write_tools(tmp_path, "reload")
    async with serving(file, postgres.dsn) as current:
        server = ToolServer(current)
        async with told_of_changes(server, mode) as (client, told), told_of_changes(server, mode) as (_, told_too):
            assert await names(client) == ["add", "nap", "note"]
            write_tools(tmp_path, "reload", text=MORE)
            await server.reload()
            async with asyncio.timeout(5):
                await told.wait()
                await told_too.wait()
            assert await names(client) == ["add", "nap", "note", "now"]
            assert not (await client.call_tool("now", {})).is_error


async def test_clients_over_http_are_told_when_the_file_changes(
    postgres: embedded.PostgresServer, tmp_path: Path
) -> None:
    with started_on_http(write_tools(tmp_path, "changes"), postgres.dsn) as (_, address):
        url = f"{address}/mcp"
        async with told_of_changes(url, "legacy") as (client, told), told_of_changes(url, "auto") as (_, told_too):
            await asyncio.sleep(0.3)  # the older one opens its stream after its handshake, and nothing tells when
            write_tools(tmp_path, "changes", text=MORE)
            async with asyncio.timeout(10):
                await told.wait()
                await told_too.wait()
            assert "now" in await names(client)


@pytest.mark.parametrize("mode", MODES)
async def test_clients_are_not_told_if_the_list_is_the_same(
    postgres: embedded.PostgresServer, tmp_path: Path, mode: str
) -> None:
    file = write_tools(tmp_path, "same")
    async with serving(file, postgres.dsn) as current:
        server = ToolServer(current)
        async with told_of_changes(server, mode) as (client, told):
            before = current.toolset
            write_tools(tmp_path, "same", max_size=9)
            await server.reload()
            assert current.toolset is not before
            assert current.pools["database"].stats()["max_size"] == 9
            await client.call_tool("add", {"a": 1})
            assert not told.is_set()


async def test_a_client_that_has_left_is_not_waited_for(postgres: embedded.PostgresServer, tmp_path: Path) -> None:
    file = write_tools(tmp_path, "left")
    async with serving(file, postgres.dsn) as current:
        server = ToolServer(current)
        async with told_of_changes(server, "legacy"):
            pass
        write_tools(tmp_path, "left", text=MORE)
        async with asyncio.timeout(5):
            await server.reload()
        assert not server._listening


@pytest.mark.parametrize("text", [WRONG, "tools: [", "", TOOLS.replace("DATABASE", "D").replace("nap", "add")])
async def test_a_file_that_is_wrong_changes_nothing_and_is_complained_of(
    postgres: embedded.PostgresServer, tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_tools(tmp_path, "wrong")
    async with serving(file, postgres.dsn) as current:
        server = ToolServer(current)
        async with told_of_changes(server, "legacy") as (client, told):
            toolset = current.toolset
            write_tools(tmp_path, "wrong", text=text)
            await server.reload()
            assert "the tools stay as they are" in caplog.text
            assert str(file) in caplog.text
            assert current.toolset is toolset
            assert not (await client.call_tool("add", {"a": 1})).is_error
            assert not told.is_set()
            write_tools(tmp_path, "wrong", text=MORE)
            await server.reload()
            assert "now" in await names(client)


async def test_pools_that_do_not_open_change_nothing(
    postgres: embedded.PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_tools(tmp_path, "refused")
    async with serving(file, postgres.dsn) as current:
        server = ToolServer(current)
        nobody = TOOLS.replace("min_size: 1", "min_size: 1, user: nobody, password: hunter2, unavailable_after: 0")
        write_tools(tmp_path, "refused", text=nobody)
        await server.reload()
        assert "the new pools do not open" in caplog.text
        assert "hunter2" not in caplog.text
        async with Client(server.mcp) as client:
            assert not (await client.call_tool("add", {"a": 1})).is_error


async def test_a_call_ends_on_the_pools_that_it_began_on_and_then_they_are_closed(
    postgres: embedded.PostgresServer, tmp_path: Path
) -> None:
    file = write_tools(tmp_path, "old_pools")
    async with serving(file, postgres.dsn) as current:
        server = ToolServer(current)
        async with Client(server.mcp) as client:
            call = asyncio.create_task(client.call_tool("nap", {"seconds": 0.5}))

            async def runs() -> bool:
                return await queries(postgres.dsn, "old_pools") == 1

            await eventually(runs)
            write_tools(tmp_path, "new_pools", text=MORE)
            await server.reload()
            assert not (await client.call_tool("now", {})).is_error
            assert not call.done()
            assert not (await call).is_error

            async def closed() -> bool:
                return await queries(postgres.dsn, "old_pools", "true") == 0

            await eventually(closed)
            assert await queries(postgres.dsn, "new_pools", "true") == 1
    assert await queries(postgres.dsn, "new_pools", "true") == 0


async def test_the_pools_of_a_call_that_never_ends_are_closed_in_the_end(
    postgres: embedded.PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETIRE_AFTER", 0.1)
    settings = "min_size: 1, close_timeout: 0.1"
    file = write_tools(tmp_path, "stuck", text=TOOLS.replace("min_size: 1", settings))
    async with serving(file, postgres.dsn) as current:
        server = ToolServer(current)
        async with Client(server.mcp) as client:
            call = asyncio.create_task(client.call_tool("nap", {"seconds": 25}))

            async def runs() -> bool:
                return await queries(postgres.dsn, "stuck") == 1

            async def ended() -> bool:
                return await queries(postgres.dsn, "stuck", "true") == 0

            await eventually(runs)
            write_tools(tmp_path, "after", text=MORE)
            await server.reload()
            await eventually(ended, 15)
            assert (await call).is_error


async def test_many_changes_in_a_row_do_not_pile_up_pools(postgres: embedded.PostgresServer, tmp_path: Path) -> None:
    file = write_tools(tmp_path, "many")
    async with serving(file, postgres.dsn) as current:
        server = ToolServer(current)
        async with Client(server.mcp) as client:
            calls = []
            for _ in range(module.MAX_RETIRING + 2):
                calls.append(asyncio.create_task(client.call_tool("nap", {"seconds": 25})))

                async def is_under_way(edition: Any = current._edition) -> bool:
                    return len(edition._calls) == 1

                await eventually(is_under_way)
                await server.reload()
            done, _ = await asyncio.wait(calls[:2], timeout=5)
            assert [call.result().is_error for call in done] == [True, True]
            assert not any(call.done() for call in calls[2:])
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)


async def test_a_call_that_takes_its_time_to_be_cancelled_may_be_cancelled_again(
    postgres: embedded.PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def dawdle(name: str, arguments: Any) -> Any:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
            await asyncio.sleep(0.1)

    async with serving(write_tools(tmp_path, "dawdles"), postgres.dsn) as current:
        monkeypatch.setattr(current.toolset, "call", dawdle)
        call = asyncio.create_task(current.call("add", {}))
        await begun.wait()
        current.cancel_calls()
        await cancelled.wait()
        current.cancel_calls()
        assert (await call).is_error


async def test_the_file_is_read_again_when_it_is_replaced_and_on_sighup(tmp_path: Path) -> None:
    file = tmp_path / "tools.yaml"
    file.write_text("one")
    read: list[str] = []

    async def reload() -> None:
        read.append(file.read_text())

    async def until(text: str) -> None:
        async def is_read() -> bool:
            return read[-1:] == [text]

        await eventually(is_read)

    async with reloading(reload, str(file), signature(str(file)), watch=True):
        await asyncio.sleep(0.2)
        (tmp_path / "other.yaml").write_text("of no interest")
        os.kill(os.getpid(), signal.SIGHUP)
        await until("one")
        replacement = tmp_path / "tools.yaml~"
        replacement.write_text("two, as an editor does it")
        replacement.replace(file)
        await until("two, as an editor does it")
        file.write_text("three, in place")
        await until("three, in place")
        file.unlink()
        (tmp_path / "..data").mkdir()
        (tmp_path / "..data" / "tools.yaml").write_text("four, as Kubernetes does it")
        file.symlink_to(tmp_path / "..data" / "tools.yaml")
        await until("four, as Kubernetes does it")
    assert len(read) <= 6


async def test_what_changes_before_it_is_watched_is_read_too(tmp_path: Path) -> None:
    file = tmp_path / "tools.yaml"
    file.write_text("one")
    known = signature(str(file))
    file.write_text("two, while the pools were opened")
    read = asyncio.Event()

    async def reload() -> None:
        read.set()

    async with reloading(reload, str(file), known, watch=True), asyncio.timeout(5):
        await read.wait()
