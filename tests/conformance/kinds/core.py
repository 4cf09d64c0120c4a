"""The bare core, on connections to the echo server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from aiopool import ConnectionPool, PoolConfig
from tests.conformance.echo import EchoConnection, EchoServer, EchoSession, count
from tests.conformance.kinds.kind import Kind

NO_SECRET = {"test_no_password_is_told_whatever_happens": "the core is told no address: a factory keeps its own"}


class Core(Kind):
    """The bare core: a factory, and a callable for each thing that can be done to a connection."""

    label = "core"
    server = EchoServer.running
    cannot: ClassVar[Mapping[str, str]] = {
        **NO_SECRET,
        "test_what_one_caller_leaves_behind_is_gone_for_the_next": (
            "it has no resetter, so that one kind takes the shortest path through the core"
        ),
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

    async def litter(self, connection: EchoConnection) -> None:
        connection.say("prefix", "litter")

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
            resetter=EchoSession.reset,
            aborter=EchoSession.abort,
            name=name,
        )


class Shared(Session):
    """The same with several leases on one connection."""

    label = "core-shared"
    shares = 3
