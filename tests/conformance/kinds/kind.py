"""`Kind`: what differs between pools, told once for each kind."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit, urlunsplit

from aiopool import PoolConfig, PoolUnavailable

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

    async def litter(self, connection: Any) -> None:
        """Leaves something behind that would spoil the next caller's answer."""
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
