"""The same servers as in `tests/integration`; a test that takes `kind` and `server` runs for a pool of each kind."""

from __future__ import annotations

import pytest

from aiopool import embedded
from tests.integration.conftest import https_server, postgres, redis_server
from tests.storms.child import KINDS

__all__ = ["https_server", "postgres", "redis_server"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(
    kind: str,
    postgres: embedded.PostgresServer,
    redis_server: embedded.RedisServer,
    https_server: embedded.HTTPSServer,
) -> embedded.Server:
    servers: dict[str, embedded.Server] = {"postgres": postgres, "redis": redis_server}
    return servers.get(kind, https_server)
