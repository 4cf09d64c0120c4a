"""Servers of the same tool, each a program of its own and called by the same client, over HTTP and over stdio."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiopool.embedded.ports import free_port
from benchmarks.mcp import processes
from benchmarks.mcp.client import Client
from benchmarks.results import Kind


class Served(Client):
    def __init__(self, dsn: str, transport: str) -> None:
        super().__init__(dsn)
        self.transport = transport

    @abstractmethod
    def command(self, where: str) -> list[str]:
        """`where` is `stdio`, or the port to listen on."""

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Any]:
        from mcp import Client

        if self.transport == "stdio":
            with processes.silence() as nothing:
                over_stdio = processes.over_stdio(self.command("stdio"), self.dsn, nothing)
                async with Client(over_stdio) as client:
                    yield client
        else:
            port = free_port()
            async with processes.listening(self.command(str(port)), port, self.dsn) as url, Client(url) as client:
                yield client


class Ours(Served):
    name = "aiopool serve"
    kind = Kind.OURS

    def command(self, where: str) -> list[str]:
        return processes.ours(where)


class ByHand(Served):
    name = "MCPServer, asyncpg.Pool by hand"

    def command(self, where: str) -> list[str]:
        return processes.mcpserver(where)


class ReadOnlyByHand(Served):
    name = "the same, in a read-only transaction"

    def command(self, where: str) -> list[str]:
        return processes.mcpserver(where, "read-only")


class FastMCPByHand(Served):
    name = "FastMCP, asyncpg.Pool by hand"
    package = "uv"

    def command(self, where: str) -> list[str]:
        return processes.fastmcp(where)


OVER_HTTP: tuple[type[Served], ...] = (Ours, ByHand, ReadOnlyByHand, FastMCPByHand)
OVER_STDIO: tuple[type[Served], ...] = (Ours, ByHand, FastMCPByHand)
