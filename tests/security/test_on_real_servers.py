"""Nothing that is told holds a password, whatever goes wrong on real servers."""

from __future__ import annotations

import logging
import traceback
from urllib.parse import quote

import pytest

from aiopool import PoolConfig, embedded
from aiopool.adapters.http import HTTPClientPool
from aiopool.adapters.postgres import DatabasePool
from aiopool.adapters.redis import RedisPool

SECRET = "s3cr3tword"
AWKWARD = ["", "@x", "/x", ":x", "#x", "?x", "%", "%zz", " x", "é", "[", "?sslmode=x", "=x&y", "\n", "\\", "'"]


async def test_no_password_is_told_in_any_message_repr_or_log_record(
    postgres: embedded.PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    at = f"{postgres.host}:{postgres.port}"
    addresses = [
        f"postgresql://postgres:{{}}@{at}/postgres",
        "postgresql://postgres:{}@127.0.0.1:1/postgres",
        "postgresql://postgres:{}@127.0.0.1:port/postgres",
        "postgresql://postgres:{}@[::1/postgres",
        f"postgresql://{at}/postgres?user=postgres&password={{}}",
        f"host={postgres.host} port={postgres.port} user=postgres password={{}}",
        "mysql://root:{}@127.0.0.1/x",
    ]
    config = PoolConfig(min_size=1, max_size=1, open_timeout=1, unavailable_after=0)
    for address in addresses:
        for awkward in AWKWARD:
            for password in (SECRET + awkward, quote(SECRET + awkward, safe=""), awkward + SECRET):
                told = []
                try:
                    db = DatabasePool(address.format(password), config)
                    told.append(repr(db) + repr(db.pool))
                    await db.open()
                except Exception as exc:
                    told.append("".join(traceback.format_exception(exc)))
                finally:
                    await db.close()
                assert SECRET not in "".join(told), (address, awkward)
    for url in ("redis://u:{}@127.0.0.1:1/0", "redis://u:{}@127.0.0.1:port/0", "http://u:{}@127.0.0.1"):
        told = []
        try:
            cache = RedisPool(url.format(SECRET), config=config)
            told.append(repr(cache) + repr(cache.client))
            await cache.open()
        except Exception as exc:
            told.append("".join(traceback.format_exception(exc)))
        assert SECRET not in "".join(told), url
    assert SECRET not in caplog.text


async def test_a_password_in_a_base_url_is_not_logged(
    https_server: embedded.HTTPSServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = https_server.url.replace("https://", f"https://user:{SECRET}@")
    async with HTTPClientPool(url, verify=https_server.ssl_context) as api:
        assert (await api.get("/")).status_code == 200
        assert SECRET not in repr(api)
    assert SECRET not in caplog.text
