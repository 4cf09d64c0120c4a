"""Batching: what tasks ask in one turn of the event loop goes out in one write, on one connection.

asks ─► pending ─► the courier ─► a lease ─► one write ─► answers, in the order of the commands ─► the lease ends
                        └─ no connection is free: what is asked meanwhile joins what waits
"""

from __future__ import annotations

import asyncio
import codecs
import contextvars
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from itertools import repeat
from threading import get_ident
from typing import TYPE_CHECKING, Any, Union, cast

from aiopool.adapters import _redis_effects as effects
from aiopool.adapters import missing_driver
from aiopool.adapters._redispy import NOT_ENOUGH_DATA, BookkeepingConnection, ConnectionLost
from aiopool.errors import PoolConfigError, PoolTimeout
from aiopool.handoff import CLOCK_TOLERANCE
from aiopool.home import clock_of

try:
    import hiredis
    from hiredis import PushNotification
except ModuleNotFoundError:
    raise missing_driver("hiredis", "redis") from None

#: Its stub allows one word only.
_pack_command = cast(Callable[[tuple[Any, ...]], bytes], hiredis.pack_command)

if TYPE_CHECKING:
    from aiopool.adapters._redis_pool import RedisConnectionPool

#: What one batch may send, in bytes, unless its first command alone is larger. More goes on another connection, or
#: waits for one, so that a peer who reads slowly fills no more of our memory than this per connection.
BATCH_BYTES = 256 * 1024

#: Where an answer goes. An error is an answer, too.
Answer = Union["asyncio.Future[Any]", "Several"]
#: When it was asked, what to send, and where the answer goes.
Asked = tuple[float, bytes, Answer]


class Batching:
    """Gathers commands, on whichever loop they are asked; on the wrong one, the pool refuses them."""

    def __init__(self, pool: RedisConnectionPool) -> None:
        self._pool = pool
        # As with everything that a pool does in the background: not the first caller's spans and tenants.
        self._context = contextvars.copy_context()
        self._gathering: Gathering | None = None
        self._template: Any = pool.make_connection()  # type: ignore[no-untyped-call]
        encoder = self._template.encoder
        self._is_utf8 = codecs.lookup(encoder.encoding).name == "utf-8" and encoder.encoding_errors == "strict"
        if not hasattr(self._template._parser, "_reader"):
            kind = type(self._template._parser).__name__
            raise PoolConfigError(f"parser_class={kind} is not allowed with batching=True: it must be redis-py's own")

    def pack(self, args: tuple[Any, ...]) -> bytes:
        """A command as redis-py would send it; raises what redis-py would raise."""
        if self._is_utf8:
            with suppress(
                TypeError
            ):  # redis-py takes some types that hiredis does not, and knows what to say of others
                return _pack_command(effects.shared_name(args[0]) + args[1:])
        packed: list[bytes] = self._template.pack_command(*args)
        return b"".join(packed)

    def ask(self, packed: bytes, count: int = 1) -> asyncio.Future[Any]:
        """Sends a command, with all others of this turn of the loop, and promises its answer; or a list of them, to
        so many commands that stay together. Whoever cancels the future drops the answer."""
        gathering = self._gathering
        if gathering is None or gathering.thread != get_ident() or not gathering.loop.is_running():
            gathering = self._gathering = Gathering(self._pool, asyncio.get_running_loop(), self._context)
        future: asyncio.Future[Any] = asyncio.Future(loop=gathering.loop)
        gathering.pending.append((gathering.now(), packed, future if count == 1 else Several(future, count)))
        if gathering.courier is None:
            gathering.send_for_courier()
        return future


class Several:
    """Takes the answers to one caller's commands, and passes them on when the last one is there."""

    def __init__(self, future: asyncio.Future[Any], count: int) -> None:
        self._future = future
        self.count = count
        self._replies: list[Any] = []

    def done(self) -> bool:
        return self._future.done()

    def set_result(self, reply: Any) -> None:
        self._replies.append(reply)
        if len(self._replies) == self.count:
            self._future.set_result(self._replies)

    def cancel(self) -> None:
        self._future.cancel()


class Gathering:
    """What is asked on one event loop and not sent yet."""

    def __init__(
        self, pool: RedisConnectionPool, loop: asyncio.AbstractEventLoop, context: contextvars.Context
    ) -> None:
        self._pool = pool
        self.loop = loop
        # With these two the loop is known without `get_running_loop`, which may cost as much as the rest of `ask`.
        self.thread = get_ident()
        self._context = context
        self.now: Callable[[], float] = clock_of(loop)
        self.pending: deque[Asked] = deque()
        #: The task that brings what is pending to a connection. It starts in the next turn, when all have asked.
        self.courier: asyncio.Task[None] | None = None

    def send_for_courier(self) -> None:
        name = f"{self._pool.pool.name} courier"
        self.courier = asyncio.Task(self._carry(), loop=self.loop, name=name, context=self._context)
        self.courier.add_done_callback(self._came_back)

    async def _carry(self) -> None:
        while self.pending:
            try:
                connection = await self._pool.lend(self._patience())
            except Exception as exc:
                self._refuse(exc)
            else:
                self._send_on(connection)
        self.courier = None

    def _came_back(self, courier: asyncio.Task[None]) -> None:
        if self.courier is courier:  # cancelled, perhaps before it began: the loop ends
            self.courier = None
            while self.pending:
                self.pending.popleft()[-1].cancel()

    def _patience(self) -> float | None:
        """How long the first in line may still wait."""
        timeout = self._pool.pool.config.acquire_timeout
        return None if timeout is None else max(0.0, self.pending[0][0] + timeout - self.now())

    def _refuse(self, error: Exception) -> None:
        """All of them, but of a timeout those whose time it is: others have come while the first ones waited."""
        timeout = self._pool.pool.config.acquire_timeout
        is_late = isinstance(error, PoolTimeout) and timeout is not None
        limit = self.now() - timeout + CLOCK_TOLERANCE if is_late and timeout is not None else float("inf")
        while self.pending and self.pending[0][0] <= limit:
            answer = self.pending.popleft()[-1]
            while not answer.done():
                refusal = copy(error)  # raising one exception in many places would mix up their tracebacks
                refusal.__cause__ = error.__cause__
                answer.set_result(refusal)

    def _send_on(self, connection: BookkeepingConnection) -> None:
        pending, size = self.pending, 0
        packed: list[bytes] = []
        answers: deque[Answer] = deque()
        while pending:
            _, command, answer = pending[0]
            if not answer.done():  # else its caller has left, and it need not be sent
                size += len(command)
                if size > BATCH_BYTES and packed:
                    break
                packed.append(command)
                if isinstance(answer, Several):
                    answers.extend(repeat(answer, answer.count))
                else:
                    answers.append(answer)
            pending.popleft()
        if packed:
            Batch(connection, answers, self._pool.take_back).send(b"".join(packed))
        else:
            self._pool.take_back(connection)


class Batch(asyncio.Protocol):
    """Commands of many callers on their way. It stands in for redis-py's stream until all are answered."""

    def __init__(
        self,
        connection: BookkeepingConnection,
        answers: deque[Answer],
        give_back: Callable[[BookkeepingConnection], None],
    ) -> None:
        self._connection = connection
        self._reader = connection.replies
        self._answers = answers
        self._give_back = give_back
        self._transport = connection.transport
        self._stream = self._transport.get_protocol()

    def send(self, packed: bytes) -> None:
        self._transport.set_protocol(self)
        self._connection.expect_answer()
        self._transport.write(packed)

    def data_received(self, data: bytes) -> None:
        answers, reader = self._answers, self._reader
        reader.feed(data)
        while answers:
            try:
                reply = reader.gets()
            except UnicodeDecodeError as exc:  # its own caller's trouble: the reader goes on behind it
                reply = exc
            except Exception as exc:
                self._fail(f"the server broke the protocol: {exc}")
                return
            if reply is NOT_ENOUGH_DATA:
                self._connection.expect_answer()
                return
            if type(reply) is PushNotification:
                self._connection.heed_push(reply)
                continue
            answer = answers.popleft()
            if not answer.done():
                answer.set_result(reply)
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the connection was lost before the answer came" + (f": {exc}" if exc else ""))
        assert isinstance(self._stream, asyncio.Protocol)
        self._stream.connection_lost(exc)

    def _fail(self, why: str) -> None:
        """Whatever is not answered by now may have run, or not: nobody sends it again."""
        connection = self._connection
        while self._answers:
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_result(connection.parting_error() or ConnectionLost(why))
        connection.abort()
        self._end()

    def _end(self) -> None:
        self._transport.set_protocol(self._stream)
        self._connection.expect_nothing()
        self._give_back(self._connection)
