"""`rediss://`: the embedded server speaks no TLS, so what stands before it does."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme
from redis.exceptions import ConnectionError as RedisConnectionError

from aiopool import embedded
from aiopool.adapters.redis import RedisPool
from aiopool.errors import PoolUnavailable


@dataclass
class Front:
    """Ends TLS, and passes everything on."""

    port: int
    ca_file: str


@pytest_asyncio.fixture
async def front(redis_server: embedded.RedisServer, tmp_path: Path) -> AsyncIterator[Front]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection(redis_server.host, redis_server.port)
        await asyncio.gather(pump(reader, outer), pump(inner, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield Front(server.sockets[0].getsockname()[1], str(tmp_path / "ca.pem"))


async def test_tls_works_as_well(front: Front) -> None:
    async with RedisPool(f"rediss://localhost:{front.port}/3", ssl_ca_certs=front.ca_file, max_connections=2) as cache:
        assert (await cache.client.client_info())["db"] == 3
        for i in range(30):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.0005 * (i % 3)):
                    await cache.client.echo("a stranger's")
            assert await cache.client.echo(f"mine {i}") == f"mine {i}"
        assert cache.stats()["closed"] == 0
    async with RedisPool(host="localhost", port=front.port, ssl=True, ssl_ca_certs=front.ca_file) as as_of_redis_py:
        assert await as_of_redis_py.client.ping()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["unknown authority", "wrong name"])
async def test_a_certificate_that_is_not_trusted_is_told_at_once(front: Front, host: str) -> None:
    settings: dict[str, Any] = {"ssl_ca_certs": front.ca_file} if host == "127.0.0.1" else {}
    cache = RedisPool(f"rediss://{host}:{front.port}", **settings)
    began = time.monotonic()
    with pytest.raises(PoolUnavailable) as caught:
        await cache.open()
    assert time.monotonic() - began < 4  # each connection loads the authorities once more
    cause = caught.value.__cause__
    assert isinstance(cause, RedisConnectionError)
    assert isinstance(cause.__context__, ssl.CertificateError)
