"""Nothing that is told holds a password, whatever goes wrong on real servers."""

from __future__ import annotations

import logging

import pytest

from aiopool import embedded
from aiopool.adapters.http import HTTPClientPool

SECRET = "s3cr3tword"


async def test_a_password_in_a_base_url_is_not_logged(
    https_server: embedded.HTTPSServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = https_server.url.replace("https://", f"https://user:{SECRET}@")
    async with HTTPClientPool(url, verify=https_server.ssl_context) as api:
        assert (await api.get("/")).status_code == 200
        assert SECRET not in repr(api)
    assert SECRET not in caplog.text
