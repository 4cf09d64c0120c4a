"""Addresses, headers and cookies that cannot be sent."""

from __future__ import annotations

import logging
import traceback
from base64 import b64encode

import httpx
import pytest

from aiopool import embedded
from aiopool.adapters.http import HTTPClientPool
from aiopool.errors import PoolConfigError
from tests.integration.http_peers import http1_peer, http2_peer, serve_all, serve_all_2


def test_a_base_url_without_http_is_refused_without_a_word_of_it() -> None:
    for url in ("tr0ub4dor://host", "user:tr0ub4dor@host", "ftp://u:tr0ub4dor@host", "/path/tr0ub4dor"):
        with pytest.raises(PoolConfigError, match="base_url") as caught:
            HTTPClientPool(url)
        assert "tr0ub4dor" not in str(caught.value)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("value", ["tr0ub4dor\n", " tr0ub4dor", "tr0ub4dor\r\nx: y", b"tr0ub4dor\t"])
async def test_a_header_that_cannot_be_sent_is_refused_without_a_word_of_it(version: int, value: str | bytes) -> None:
    with pytest.raises(PoolConfigError, match="'authorization'") as told:
        HTTPClientPool("http://127.0.0.1:1", headers={"authorization": value})  # type: ignore[dict-item]
    assert "tr0ub4dor" not in f"{told.value!r}"
    async with (
        http1_peer(serve_all) as one,
        http2_peer(serve_all_2) as two,
        HTTPClientPool((one, two)[version - 1].url(), http1=version == 1, http2=version == 2) as api,
    ):
        with pytest.raises(httpx.LocalProtocolError, match="authorization") as caught:
            await api.get("/", headers=[("authorization", value)])
        assert "tr0ub4dor" not in "".join(traceback.format_exception(caught.value))
        assert (await api.get("/")).status_code == 200


def test_an_address_of_which_a_part_of_the_password_would_be_the_host_is_refused() -> None:
    for url in ("http://app:tr0ub@4dor/x@host", "http://tr0ub4dor/x@host", "http://app:1#tr0ub4dor@host"):
        with pytest.raises(PoolConfigError, match="%40") as caught:
            HTTPClientPool(url)
        assert "tr0ub" not in str(caught.value)


async def test_a_password_in_the_address_of_a_request_is_sent_and_not_logged(
    https_server: embedded.HTTPSServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with HTTPClientPool(verify=https_server.ssl_context) as api:
        address = https_server.url.replace("://", "://app:tr0ub4dor@")
        for answer in (await api.get(f"{address}/echo"), await api.client.get(f"{address}/echo", auth=None)):
            assert answer.json()["headers"]["authorization"] == "Basic " + b64encode(b"app:tr0ub4dor").decode()
    assert len(caplog.records) > 0
    assert "tr0ub4dor" not in caplog.text
