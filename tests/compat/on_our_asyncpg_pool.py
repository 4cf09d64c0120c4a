"""A plugin of pytest: wherever asyncpg's own tests make a pool, they get ours."""

from __future__ import annotations

import logging
from typing import Any

import asyncpg
import asyncpg.pool
import pytest

from aiopool.adapters import asyncpg_pool
from aiopool.adapters._asyncpg_holder import Holder


class Pool(asyncpg_pool.Pool):
    """Shows what asyncpg's tests look at in the insides of its pool, as it is in ours."""

    @property
    def _holders(self) -> Any:
        """One for each connection that may exist; those of which none is open come last."""
        absent = Holder(self, None)
        return [*self._open_ones, *[absent] * (self._maxsize - len(self._open_ones))]

    @_holders.setter
    def _holders(self, holders: Any) -> None:
        self._open_ones = holders

    @property
    def _queue(self) -> Any:
        return self

    @_queue.setter
    def _queue(self, _: Any) -> None:
        """asyncpg's pool begins with None."""

    def qsize(self) -> int:
        """So many could be acquired now, those included that have to be opened first."""
        stats = self.pool.stats()
        return stats["max_size"] - stats["size"] - stats["opening"] + stats["available"]

    def terminate(self) -> None:
        super().terminate()
        self._maintenance_task = self._termination  # what a test waits for at its end


class Retold(logging.Handler):
    """What ours tells on the logger `aiopool`, asyncpg tells on one of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger("asyncpg.pool").handle(record)


def pytest_configure(config: pytest.Config) -> None:
    asyncpg.Pool = asyncpg.pool.Pool = Pool  # type: ignore[misc, assignment]
    asyncpg.create_pool = asyncpg.pool.create_pool = Pool  # type: ignore[assignment]
    Holder._in_use = property(lambda holder: holder._lease)  # type: ignore[attr-defined]
    Holder._inactive_callback = None  # type: ignore[attr-defined]
    logging.getLogger("aiopool").addHandler(Retold())
