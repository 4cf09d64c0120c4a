"""A plugin of pytest: wherever httpx's own tests make an `AsyncClient` without a transport, it gets ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from aiopool.adapters.http import HTTPTransport

_made: list[HTTPTransport] = []


def _init_transport(
    client: httpx.AsyncClient, *, transport: httpx.AsyncBaseTransport | None = None, **settings: Any
) -> httpx.AsyncBaseTransport:
    if transport is not None:
        return transport
    _made.append(HTTPTransport(**settings))
    return _made[-1]


def pytest_configure(config: pytest.Config) -> None:
    httpx.AsyncClient._init_transport = _init_transport  # type: ignore[method-assign, assignment]


@pytest.fixture(autouse=True)
def _requests_are_counted(record_property: Callable[[str, object], None]) -> Iterator[None]:
    _made.clear()
    yield
    record_property("leases", sum(transport.stats()["acquired"] for transport in _made))
