"""A streaming standby of an embedded PostgreSQL."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import asyncpg

from aiopool import embedded
from aiopool.embedded.server import running, wait_until

SETTINGS = {"max_connections": 50, "wal_level": "replica"}


class Standby(embedded.PostgresServer):
    """Copies the primary with `pg_basebackup` and follows it; serves what only reads, until it is promoted."""

    _ready_line = b"database system is ready to accept"

    def __init__(self, primary: embedded.PostgresServer) -> None:
        super().__init__(private=True, settings=SETTINGS)
        self._password = primary._password
        self._primary = primary

    def _initdb(self) -> int | None:
        program = str(self._programs / "pg_basebackup")
        keeper = self._kept()
        keeper.ask("spawn", program, "-D", "data", "-R", "-c", "fast", "--no-sync", "-d", self._primary.dsn)
        wait_until(lambda: keeper.ask("poll") is not None, embedded.START_TIMEOUT)
        code: int | None = keeper.ask("poll")
        return code

    async def catch_up(self) -> None:
        """Returns when it has all that the primary has done so far."""
        theirs, ours = await asyncpg.connect(self._primary.dsn), await asyncpg.connect(self.dsn)
        try:
            reached = await theirs.fetchval("select pg_current_wal_insert_lsn()")
            for _ in range(1000):
                if await ours.fetchval("select pg_last_wal_replay_lsn() >= $1", reached):
                    return
                await asyncio.sleep(0.01)
            raise AssertionError("the standby does not follow")
        finally:
            await theirs.close()
            await ours.close()

    async def promote(self) -> None:
        """Returns when it takes writes."""
        connection = await asyncpg.connect(self.dsn)
        try:
            assert await connection.fetchval("select pg_promote()")
        finally:
            await connection.close()


def standby(primary: embedded.PostgresServer) -> AbstractAsyncContextManager[Standby]:
    return running(Standby(primary))
