"""The kinds of pools that must all behave alike, each on a real server.

To add one: derive a class from `Kind` (or from a kind that it resembles), fill in what `Kind` leaves open, and put it
into `KINDS`. Every behaviour then runs against it. What such a pool cannot do by its nature goes into `cannot`, under
the name of the test, with the reason: the test then has to fail, and `pytest tests/conformance/test_kinds.py -s` prints
all of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from aiopool import ConnectionPool, PoolConfig, embedded
from aiopool.adapters.postgres import DatabasePool
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


KINDS: tuple[type[Kind], ...] = (Core, Session, Shared, Database, DatabaseByTransaction, DatabaseWithoutReset)
