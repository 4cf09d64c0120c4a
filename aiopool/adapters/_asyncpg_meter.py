"""A bound on what a PostgreSQL server may send in answer to one caller, whatever asyncpg would hold of it."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from aiopool.adapters._asyncpg import Connection, is_cancelling


class Meter(asyncio.Protocol):
    """Stands between the transport and asyncpg, and cuts the connection when more than `most` bytes have come.

    A limit on rows is none on bytes: a single value may have a gigabyte, which asyncpg would read whole. Like
    `_asyncpg`, this knows what asyncpg does not offer publicly.
    """

    def __init__(self, connection: Connection, most: int) -> None:
        self._connection = connection
        self._transport: Any = connection._transport  # type: ignore[attr-defined]
        self._protocol: Any = connection._protocol  # type: ignore[attr-defined]
        self._left = most
        self._is_over = False
        #: Whether it has cut the connection.
        self.is_exceeded = False

    def __enter__(self) -> Self:
        self._transport.set_protocol(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._leave_if_over()

    def _leave_if_over(self) -> bool:
        # What is left of a cancelled query's answer still comes when its caller is gone, and is as large.
        is_over = self._is_over and not self._connection.is_closed() and not is_cancelling(self._connection)
        if is_over:
            self._transport.set_protocol(self._protocol)
        return is_over

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._leave_if_over() or self._left >= 0:
            self._protocol.data_received(data)
        elif not self.is_exceeded:
            self.is_exceeded = True
            self._connection.terminate()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def eof_received(self) -> bool | None:
        received: bool | None = self._protocol.eof_received()
        return received

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
