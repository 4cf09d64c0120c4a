"""`DatabasePool`, with each way to reset a connection."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar, Literal, Self

import asyncpg

from aiopool import PoolConfig, embedded
from aiopool.adapters.postgres import DatabasePool
from tests.conformance.kinds.kind import SECRET, Kind


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

    async def litter(self, connection: Any) -> None:
        with suppress(asyncpg.DivisionByZeroError):
            await connection.execute("begin; select 1 / 0")

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
