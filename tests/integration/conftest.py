"""One server of each kind for the whole run; a test that breaks a server starts one with `private=True`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from aiopool import embedded


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres() -> AsyncIterator[embedded.PostgresServer]:
    async with embedded.postgres() as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis_server() -> AsyncIterator[embedded.RedisServer]:
    async with embedded.redis() as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def https_server() -> AsyncIterator[embedded.HTTPSServer]:
    async with embedded.https() as server:
        yield server
