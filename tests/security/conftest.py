"""Real servers that want a password, one of each kind for all of these tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from aiopool import embedded


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres() -> AsyncIterator[embedded.PostgresServer]:
    async with embedded.postgres(private=True) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def https_server() -> AsyncIterator[embedded.HTTPSServer]:
    async with embedded.https() as server:
        yield server
