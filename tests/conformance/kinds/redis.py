"""`RedisPool`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from aiopool import PoolConfig, embedded
from aiopool.adapters.redis import RedisPool
from tests.conformance.kinds.kind import SECRET, Kind


class Redis(Kind):
    label = "redis"
    server = staticmethod(lambda: embedded.redis(private=True, settings={"requirepass": SECRET}))

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

    async def litter(self, connection: Any) -> None:
        await connection.send_command("MULTI")
        await connection.read_response()

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


class RedisBatching(Redis):
    """The same, where what users ask goes out in batches. A lease is the same in both."""

    label = "redis-batching"
    cannot: ClassVar[Mapping[str, str]] = {
        "test_max_size_holds_while_connections_come_and_go": "what is asked in one turn is one use of one connection",
    }

    def build(self, config: PoolConfig, name: str) -> Any:
        return RedisPool(self.address, config=config, name=name, client_name=name, batching=True)

    def hopeless(self, config: PoolConfig, name: str) -> Any:
        return RedisPool(self.address.replace(SECRET, SECRET[::-1]), config=config, name=name, batching=True)
