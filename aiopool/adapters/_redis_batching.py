"""Batching: what tasks ask in one turn of the event loop goes out in one write, on one connection.

asks ─► the turn ─► the courier ─► a lease ─► one write ─► answers, in the order of the commands ─► the lease ends
                        └─ no connection is free: what is asked meanwhile joins what waits
"""

from __future__ import annotations

import asyncio
import contextvars
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from copy import copy
from itertools import accumulate, repeat
from threading import get_ident
from typing import TYPE_CHECKING, Any, cast

from aiopool.adapters import _redis_effects as effects
from aiopool.adapters import missing_driver
from aiopool.adapters._redispy import NOT_ENOUGH_DATA, BookkeepingConnection, ConnectionLost
from aiopool.errors import PoolConfigError, PoolTimeout
from aiopool.handoff import CLOCK_TOLERANCE
from aiopool.home import clock_of, residents

try:
    from hiredis import PushNotification
except ModuleNotFoundError:
    raise missing_driver("hiredis", "redis") from None

if TYPE_CHECKING:
    from aiopool.adapters._redis_pool import RedisConnectionPool

#: What one batch may send, in bytes, unless its first command alone is larger. More goes on another connection, or
#: waits for one, so that a peer who reads slowly fills no more of our memory than this per connection.
BATCH_BYTES = 64 * 1024

#: Its result is a reply, or an error: nobody complains of an error in a future that was dropped.
Answer = asyncio.Future[Any]


class Batching:
    """Gathers commands, on whichever loop they are asked; on the wrong one, the pool refuses them."""

    def __init__(self, pool: RedisConnectionPool) -> None:
        self._pool = pool
        # As with everything that a pool does in the background: not the first caller's spans and tenants.
        self._context = contextvars.copy_context()
        self._line: Line | None = None
        residents.add(self)
        template: Any = pool.make_connection()  # type: ignore[no-untyped-call]
        self._pack: Callable[[tuple[bytes, ...], tuple[Any, ...]], bytes] = template.pack
        if not hasattr(template._parser, "_reader"):
            kind = type(template._parser).__name__
            raise PoolConfigError(f"parser_class={kind} is not allowed with batching=True: it must be redis-py's own")

    def ask(self, words: tuple[bytes, ...], args: tuple[Any, ...]) -> Answer:
        """Sends a command, whose name has these words, with all others of this turn of the loop.

        Whoever cancels the answer drops it. Raises what redis-py would raise of arguments that it cannot send.
        """
        packed = self._pack(words, args)
        line = self._line
        if line is None or line.thread != get_ident() or not line.loop.is_running():
            line = self._line = self._line_here()
        turn = line.turn or line.begin_turn()
        answer: Answer = asyncio.Future(loop=line.loop)
        turn.packed.append(packed)
        turn.answers.append(answer)
        return answer

    def ask_all(self, commands: list[tuple[Any, ...]]) -> Answer:
        """The same with several, which stay together. The answer is a list."""
        packed = b"".join([self._pack(effects.shared_name(args[0]), args) for args in commands])
        line = self._line = self._line_here()
        turn = line.turn or line.begin_turn()
        answer = Several(len(commands), line.loop)
        turn.packed += (packed, *repeat(b"", len(commands) - 1))
        turn.answers += repeat(answer, len(commands))
        return answer

    def _forked(self) -> None:
        self._line = None  # its courier will not come in this process

    def _line_here(self) -> Line:
        loop = asyncio.get_running_loop()
        return self._line if self._line and self._line.loop is loop else Line(self._pool, loop, self._context)


class Several(asyncio.Future[Any]):
    """The answer to one caller's pipeline. It has its result when all replies are there."""

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._count = count
        self._replies: list[Any] = []

    def set_result(self, reply: Any) -> None:
        self._replies.append(reply)
        if len(self._replies) == self._count:
            super().set_result(self._replies)


class Turn:
    """What was asked in one turn of the loop, and not sent yet."""

    __slots__ = ("answers", "packed", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.packed: list[bytes] = []
        self.answers: list[Answer] = []

    def forget_the_cancelled(self) -> None:
        if any(map(asyncio.Future.done, self.answers)):
            left = [n for n, answer in enumerate(self.answers) if not answer.done()]
            self.packed = [self.packed[n] for n in left]
            self.answers = [self.answers[n] for n in left]

    def cut(self, size: int) -> Turn:
        """The first of its commands, as many as are of that size altogether; it keeps the rest."""
        sizes = list(accumulate(map(len, self.packed)))
        count = bisect_right(sizes, max(size, sizes[0]))  # with the empty ones that belong to it
        first = Turn(self.since)
        first.packed, self.packed = self.packed[:count], self.packed[count:]
        first.answers, self.answers = self.answers[:count], self.answers[count:]
        return first


class Line:
    """The turns of one event loop that wait for a connection."""

    def __init__(
        self, pool: RedisConnectionPool, loop: asyncio.AbstractEventLoop, context: contextvars.Context
    ) -> None:
        self._pool = pool
        self.loop = loop
        # With these two the loop is known without `get_running_loop`, which may cost as much as the rest of a command.
        self.thread = get_ident()
        self._context = context
        self._now = clock_of(loop)
        self._turns: deque[Turn] = deque()
        #: The turn that is running, if anything was asked in it.
        self.turn: Turn | None = None
        #: The task that brings turns to a connection. It starts when the first one is over.
        self._courier: asyncio.Task[None] | None = None

    def begin_turn(self) -> Turn:
        turn = self.turn = Turn(self._now())
        self._turns.append(turn)
        if self._courier is None:
            self._courier = asyncio.Task(self._carry(), loop=self.loop, context=self._context)
            self._courier.add_done_callback(self._came_back)
        else:
            self.loop.call_soon(self._end_turn, context=self._context)
        return turn

    def _end_turn(self) -> None:
        self.turn = None

    async def _carry(self) -> None:
        self._end_turn()
        while self._turns:
            try:
                connection = await self._pool.lend(self._patience())
            except Exception as exc:
                self._refuse(exc)
                continue
            load = self._load()
            if load.packed:
                Batch(connection, load.answers, self._pool.take_back).send(b"".join(load.packed))
            else:
                self._pool.take_back(connection)
        self._courier = None

    def _came_back(self, courier: asyncio.Task[None]) -> None:
        if self._courier is courier:  # cancelled, perhaps before it began: the loop ends
            self._courier = None
            self._end_turn()
            while self._turns:
                for answer in self._turns.popleft().answers:
                    answer.cancel()

    def _patience(self) -> float | None:
        """How long the first in line may still wait."""
        timeout = self._pool.pool.config.acquire_timeout
        return None if timeout is None else max(0.0, self._turns[0].since + timeout - self._now())

    def _refuse(self, error: Exception) -> None:
        """All of them, but of a timeout those whose time it is: others have come while the first ones waited."""
        timeout = self._pool.pool.config.acquire_timeout
        limit = self._now() + CLOCK_TOLERANCE
        if isinstance(error, PoolTimeout) and timeout is not None:
            limit -= timeout
        self._end_turn()
        while self._turns and self._turns[0].since <= limit:
            for answer in self._turns.popleft().answers:
                if not answer.done():
                    refusal = copy(error)  # raising one exception in many places would mix up their tracebacks
                    refusal.__cause__ = error.__cause__
                    answer.set_result(refusal)

    def _load(self) -> Turn:
        """What goes on the next connection."""
        self._end_turn()  # whoever asks from now on is too late for it
        load, room = Turn(0.0), BATCH_BYTES
        while self._turns:
            turn = self._turns[0]
            turn.forget_the_cancelled()
            size = sum(map(len, turn.packed))
            if size <= room:
                self._turns.popleft()
            elif load.packed:
                break
            else:
                turn = turn.cut(room)
            room -= size
            load.packed += turn.packed
            load.answers += turn.answers
        return load


class Batch(asyncio.Protocol):
    """Commands of many callers on their way. It stands in for redis-py's stream until all are answered."""

    def __init__(
        self,
        connection: BookkeepingConnection,
        answers: list[Answer],
        give_back: Callable[[BookkeepingConnection], None],
    ) -> None:
        self._connection = connection
        self._replies = connection.replies
        self._answers = deque(answers)
        self._give_back = give_back
        self._transport = connection.transport
        self._stream = cast(asyncio.Protocol, self._transport.get_protocol())

    def send(self, packed: bytes) -> None:
        self._transport.set_protocol(self)
        self._connection.expect_answer()
        self._transport.write(packed)

    def data_received(self, data: bytes) -> None:
        answers, replies = self._answers, self._replies
        replies.feed(data)
        while True:
            try:
                reply = replies.gets()
            except UnicodeDecodeError as exc:  # its own caller's trouble: the reader goes on behind it
                reply = exc
            except Exception as exc:
                self._fail(f"the server broke the protocol: {exc}")
                return
            if reply is NOT_ENOUGH_DATA:
                break
            if type(reply) is PushNotification:
                self._connection.heed_push(reply)
                continue
            if not answers:
                self._fail("the server said more than it was asked")
                return
            answer = answers.popleft()
            if not answer.done():
                answer.set_result(reply)
        if answers:
            self._connection.expect_answer()
        else:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the connection was lost before the answer came" + (f": {exc}" if exc else ""))
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
