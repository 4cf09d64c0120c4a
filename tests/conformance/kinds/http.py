"""`HTTPClientPool`, over HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

import httpx

from aiopool import Opened, PoolConfig, embedded
from aiopool.adapters._http_origin import Settings
from aiopool.adapters.http import HTTPClientPool
from tests.conformance.kinds.kind import SECRET, Kind

NO_PING = "HTTP/1.1 has no question to put to an idle connection, so its check does no I/O"


class HTTP1(Kind):
    """Its pools take no `PoolConfig`, so they are given one on the way to their origin's pool."""

    label = "http-1.1"
    server = embedded.https
    unreachable = httpx.ConnectError
    cannot: ClassVar[Mapping[str, str]] = {
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
            pool = HTTPClientPool(
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

    async def litter(self, connection: Any) -> None:
        exchange = connection.begin()
        await connection.send(exchange, httpx.Request("GET", f"{self.address}/echo?litter"), b"", 10)
        connection.leave(exchange)

    async def sever(self, connection: Any) -> None:
        # The server has no such page, so the cut is made at the socket.
        with socket.socket(fileno=os.dup(connection.transport.get_extra_info("socket").fileno())) as its:
            its.shutdown(socket.SHUT_RDWR)
        await asyncio.sleep(0.01)  # as long as the news would take

    async def connections(self, name: str) -> int:
        # Nor does it know its clients' names, but its kernel its connections: those that it has not closed itself.
        port, established, half_closed = urlsplit(self.url).port, "01", "08"
        table = await asyncio.to_thread(Path("/proc/net/tcp").read_text)
        rows = [line.split() for line in table.splitlines()[1:]]
        return sum(row[1].endswith(f":{port:04X}") and row[3] in (established, half_closed) for row in rows)


def _asked(echo: bytes) -> str:
    return unquote(json.loads(echo)["query"])


class HTTP2(HTTP1):
    label = "http-2"
    http2 = True
    shares = 3
    cannot: ClassVar[Mapping[str, str]] = {}
