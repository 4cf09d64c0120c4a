"""The kinds of pools that must all behave alike, each on a real server.

To add one: derive a class from `Kind` (or from a kind that it resembles), fill in what `Kind` leaves open, and put it
into `KINDS`. Every behaviour then runs against it. What such a pool cannot do by its nature goes into `cannot`, under
the name of the test, with the reason: the test then has to fail, and `pytest tests/conformance/test_kinds.py -s` prints
all of these.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from unittest.mock import patch
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg
import httpx

from aiopool import ConnectionPool, Opened, PoolConfig, PoolUnavailable, embedded
from aiopool.adapters._http_origin import Settings
from aiopool.adapters.http import HTTPClientPool
from aiopool.adapters.postgres import DatabasePool
from aiopool.adapters.redis import RedisPool
from tests.conformance.echo import EchoConnection, EchoServer, EchoSession, count

SECRET = "s3cr3tword"


@dataclass(frozen=True)
class Kind:
    """One kind of pool. Plain text only, so that a child process can be told of it."""

    #: Of the server itself, with the password if there is one.
    url: str = field(repr=False)
    #: The port of a proxy before the server, through which its pools go.
    via: int = 0
    #: Who vouches for the server's certificate.
    ca_file: str = ""

    label: ClassVar[str]
    #: Leases that one connection carries at once.
    shares: ClassVar[int] = 1
    #: What `call` raises when the server is away.
    unreachable: ClassVar[type[Exception]] = PoolUnavailable
    #: By the name of a behaviour's test: why it cannot be had of this kind.
    cannot: ClassVar[Mapping[str, str]] = {}

    @staticmethod
    def server() -> AbstractAsyncContextManager[Any]:
        """Starts the kind's server, with `start()` and `kill()`. Kinds whose `server` is the same share one."""
        raise NotImplementedError

    @classmethod
    def at(cls, server: Any) -> Self:
        return cls(server.url)

    def build(self, config: PoolConfig, name: str) -> Any:
        """The pool, or the class that its users see. Its connections tell the server `name`, if they can."""
        raise NotImplementedError

    def hopeless(self, config: PoolConfig, name: str) -> Any:
        """The same with something that no further attempt can mend, such as a wrong password."""
        raise NotImplementedError

    def acquire(self, pool: Any, **timeout: float | None) -> Any:
        return getattr(pool, "pool", pool).acquire(**timeout)

    async def ask(self, connection: Any, nonce: str, delay: float = 0.0) -> str:
        """Puts a question to the server, which answers it with the nonce after `delay` seconds."""
        raise NotImplementedError

    async def call(self, pool: Any, nonce: str) -> str:
        """The same in the shortest way that users of this pool have, without a lease in their hands."""
        async with self.acquire(pool) as connection:
            return await self.ask(connection, nonce)

    async def identity(self, connection: Any) -> object:
        """What the server calls this connection."""
        raise NotImplementedError

    async def sever(self, connection: Any) -> None:
        """The server ends this connection, leased or not, without a word."""
        raise NotImplementedError

    async def connections(self, name: str) -> int:
        """How many of that pool the server has, as the server itself counts them."""
        raise NotImplementedError

    def behind(self, proxy: Any) -> Self:
        return replace(self, via=proxy.port)

    @property
    def address(self) -> str:
        """The URL that pools are given."""
        parts = urlsplit(self.url)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}{parts.hostname}:{self.port}"))

    @property
    def secret(self) -> str:
        """What nobody may be told."""
        return urlsplit(self.url).password or ""

    @property
    def port(self) -> int:
        return self.via or urlsplit(self.url).port or 0

    @property
    def host(self) -> str:
        return str(urlsplit(self.url).hostname)


NO_SECRET = {"test_no_password_is_told_whatever_happens": "the core is told no address: a factory keeps its own"}


class Core(Kind):
    """The bare core: a factory, and a callable for each thing that can be done to a connection."""

    label = "core"
    server = EchoServer.running
    cannot: ClassVar[Mapping[str, str]] = {
        **NO_SECRET,
        "test_an_answer_that_a_cancel_scope_cut_off_is_never_the_next_callers": (
            "without an is_broken of its own, a pool judges by what leaves the block, and nothing does"
        ),
    }

    def build(self, config: PoolConfig, name: str) -> Any:
        return ConnectionPool(
            lambda: EchoConnection.connect(self.host, self.port, name),
            config,
            validator=EchoConnection.is_well,
            destroyer=EchoConnection.close,
            aborter=EchoConnection.abort,
            name=name,
        )

    def hopeless(self, config: PoolConfig, name: str) -> Any:
        async def connect() -> EchoConnection:
            raise ValueError("no such account")

        return ConnectionPool(connect, config, name=name)

    async def ask(self, connection: EchoConnection, nonce: str, delay: float = 0.0) -> str:
        return await connection.ask(nonce, delay)

    async def identity(self, connection: EchoConnection) -> object:
        return connection.number

    async def sever(self, connection: EchoConnection) -> None:
        connection.say("die")

    async def connections(self, name: str) -> int:
        return await count(self.host, urlsplit(self.url).port or 0, name)


class Session(Core):
    """The core with a factory of context managers, each with tasks and a cancel scope of its own."""

    label = "core-session"
    cannot: ClassVar[Mapping[str, str]] = NO_SECRET

    def build(self, config: PoolConfig, name: str) -> Any:
        return ConnectionPool(
            lambda: EchoSession.session(self.host, self.port, name),
            config,
            validator=EchoSession.is_well,
            aborter=EchoSession.abort,
            name=name,
        )


class Shared(Session):
    """The same with several leases on one connection."""

    label = "core-shared"
    shares = 3


class Database(Kind):
    label = "postgres-session"
    server = staticmethod(lambda: embedded.postgres(private=True))
    reset: ClassVar[Literal["session", "transaction", "none"]] = "session"
    cannot: ClassVar[Mapping[str, str]] = {
        "test_a_child_process_is_refused_and_its_parent_goes_on": (
            "a defect: query methods ask for the running loop first, and a forked child has none"
        ),
    }

    @classmethod
    def at(cls, server: embedded.PostgresServer) -> Self:
        return cls(server.dsn)

    def build(self, config: PoolConfig, name: str) -> Any:
        return self._build(self.address, config, name)

    def hopeless(self, config: PoolConfig, name: str) -> Any:
        return self._build(self.address.replace("postgres:", f"postgres:{SECRET}", 1), config, name)

    def _build(self, dsn: str, config: PoolConfig, name: str) -> DatabasePool:
        return DatabasePool(dsn, config, reset=self.reset, name=name, server_settings={"application_name": name})

    async def ask(self, connection: Any, nonce: str, delay: float = 0.0) -> str:
        if delay:
            return str(await connection.fetchval("select $1::text from pg_sleep($2)", nonce, delay))
        return str(await connection.fetchval("select $1::text", nonce))

    async def call(self, pool: DatabasePool, nonce: str) -> str:
        return str(await pool.fetchval("select $1::text", nonce))

    async def identity(self, connection: Any) -> object:
        return connection.get_server_pid()

    async def sever(self, connection: Any) -> None:
        await self._audit("select pg_terminate_backend($1)", connection.get_server_pid())

    async def connections(self, name: str) -> int:
        return int(await self._audit("select count(*) from pg_stat_activity where application_name = $1", name))

    async def _audit(self, query: str, *params: object) -> Any:
        auditor = await asyncpg.connect(self.url, ssl=False)
        try:
            return await auditor.fetchval(query, *params)
        finally:
            await auditor.close()


class DatabaseByTransaction(Database):
    label = "postgres-transaction"
    reset = "transaction"


class DatabaseWithoutReset(Database):
    label = "postgres-none"
    reset = "none"


class Redis(Kind):
    label = "redis"
    server = staticmethod(lambda: embedded.redis(private=True, settings={"requirepass": SECRET}))
    cannot: ClassVar[Mapping[str, str]] = {
        "test_nothing_is_opened_before_it_is_needed": "open() makes a first connection, so that errors come early",
        "test_a_pool_that_is_dropped_warns_and_leaves_nothing_on_the_server": (
            "a defect: a timer of each connection holds the pool"
        ),
    }

    def build(self, config: PoolConfig, name: str) -> Any:
        return RedisPool(self.address, config=config, name=name, client_name=name)

    def hopeless(self, config: PoolConfig, name: str) -> Any:
        return RedisPool(self.address.replace(SECRET, SECRET[::-1]), config=config, name=name)

    async def ask(self, connection: Any, nonce: str, delay: float = 0.0) -> str:
        # Nobody ever pushes to that list, so the first command waits and says nil, and the second has the answer.
        waits = [("BLPOP", "nobody", delay)] if delay else []
        await connection.send_packed_command(connection.pack_commands([*waits, ("ECHO", nonce)]))
        for _ in waits:
            await connection.read_response()
        return str(await connection.read_response())

    async def call(self, pool: RedisPool, nonce: str) -> str:
        return str(await pool.client.echo(nonce))

    async def identity(self, connection: Any) -> object:
        await connection.send_command("CLIENT", "ID")
        return await connection.read_response()

    async def sever(self, connection: Any) -> None:
        host, port = connection._writer.get_extra_info("sockname")
        await self._audit(f"CLIENT KILL ADDR {host}:{port}")

    async def connections(self, name: str) -> int:
        return (await self._audit("CLIENT LIST")).count(f" name={name} ")

    async def _audit(self, command: str) -> str:
        reader, writer = await asyncio.open_connection(self.host, urlsplit(self.url).port)
        writer.write(f"AUTH {self.secret}\r\n{command}\r\nQUIT\r\n".encode())
        try:
            return (await reader.read()).decode()
        finally:
            writer.close()


ONE_SIZE = "its limit holds over all origins, and is set when it is built"
OVER_ALL_ORIGINS = {
    "test_growing_serves_those_who_wait": ONE_SIZE,
    "test_sizes_that_do_not_fit_together_are_refused_and_change_nothing": ONE_SIZE,
    "test_an_open_pool_refuses_another_loop_and_goes_on": (
        "a defect: close() from another loop has closed the client by the time that it is refused"
    ),
}
NO_PING = "HTTP/1.1 has no question to put to an idle connection, so its check does no I/O"


class HTTP1(Kind):
    """Its pools take no `PoolConfig`, so they are given one on the way to their origin's pool."""

    label = "http-1.1"
    server = embedded.https
    unreachable = httpx.ConnectError
    cannot: ClassVar[Mapping[str, str]] = {
        **OVER_ALL_ORIGINS,
        "test_a_check_finds_the_connections_that_died_in_silence": NO_PING,
        "test_a_stale_connection_is_checked_before_it_is_lent": NO_PING,
    }
    http2: ClassVar[bool] = False

    @classmethod
    def at(cls, server: embedded.HTTPSServer) -> Self:
        return cls(server.url.replace("://", f"://app:{SECRET}@"), ca_file=str(server.ca_file))

    def build(self, config: PoolConfig, name: str) -> Any:
        return self._build(config, name, verify=self.ca_file)

    def hopeless(self, config: PoolConfig, name: str) -> Any:
        return self._build(config, name)

    def _build(self, config: PoolConfig, name: str, **settings: Any) -> HTTPClientPool:
        timeout = httpx.Timeout(5, pool=config.acquire_timeout)
        with patch.object(Settings, "config", lambda *_: config):
            pool = _HTTP(
                self.address,
                max_connections=config.max_size,
                timeout=timeout,
                http2=self.http2,
                name=name,
                **settings,
            )
        # An HTTP/2 server allows a hundred; tests that exhaust a pool need fewer.
        pool.subscribe(lambda event: isinstance(event, Opened) and setattr(event.info, "capacity", self.shares))
        return pool

    async def ask(self, connection: Any, nonce: str, delay: float = 0.0) -> str:
        if delay:
            await self._get(connection, f"/delay/{delay * 1000:.0f}")
        return _asked(await self._get(connection, f"/echo?{nonce}"))

    async def _get(self, wire: Any, path: str) -> bytes:
        exchange = wire.begin()
        try:
            await wire.send(exchange, httpx.Request("GET", self.address + path), b"", 10)
            await wire.head(exchange, 10)
            while not exchange.is_ended:
                if exchange.error is not None:
                    raise exchange.error
                await wire.hears(exchange, 10)
            return bytes(wire.read(exchange))
        finally:
            wire.leave(exchange)

    async def call(self, pool: HTTPClientPool, nonce: str) -> str:
        return _asked((await pool.get(f"/echo?{nonce}")).content)

    async def identity(self, connection: Any) -> object:
        return tuple(json.loads(await self._get(connection, "/echo"))["client"])

    async def sever(self, connection: Any) -> None:
        # The server has no such page, so the cut is made at the socket.
        connection.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        await asyncio.sleep(0.01)  # as long as the news would take

    async def connections(self, name: str) -> int:
        # Nor does it know its clients' names, but its kernel its connections: those that it has not closed itself.
        port, established, half_closed = urlsplit(self.url).port, "01", "08"
        table = await asyncio.to_thread(Path("/proc/net/tcp").read_text)
        rows = [line.split() for line in table.splitlines()[1:]]
        return sum(row[1].endswith(f":{port:04X}") and row[3] in (established, half_closed) for row in rows)


def _asked(echo: bytes) -> str:
    return unquote(json.loads(echo)["query"])


class _HTTP(HTTPClientPool):
    """What it leaves to its `pool`."""

    async def open(self, wait: bool = True, timeout: float | None = None) -> None:
        await self.pool.open(wait, timeout)  # type: ignore[union-attr]
        await super().open()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["pool"], name)


class HTTP2(HTTP1):
    label = "http-2"
    http2 = True
    shares = 3
    cannot: ClassVar[Mapping[str, str]] = {
        **OVER_ALL_ORIGINS,
        "test_a_check_finds_the_connections_that_died_in_silence": (
            "a defect: what is opened in place of all of them waits for a place that is free"
        ),
    }


KINDS: tuple[type[Kind], ...] = (
    *(Core, Session, Shared),
    *(Database, DatabaseByTransaction, DatabaseWithoutReset),
    *(Redis, HTTP1, HTTP2),
)
