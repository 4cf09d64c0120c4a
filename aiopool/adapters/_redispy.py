"""A redis-py connection that keeps books: which replies are due, and what a caller may have left behind in the session.

redis-py closes a connection whenever a caller is cancelled, because it does not know how many replies are on their
way. This one counts. What a caller who left would have read is read and thrown away, by the pool in the background or
before the next reply, and the connection lives on.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from math import inf
from typing import Any

from aiopool.adapters import missing_driver
from aiopool.errors import PoolError

try:
    import redis.asyncio as redis_asyncio
    from redis.asyncio.connection import AbstractConnection as AbstractConnection
    from redis.asyncio.retry import Retry as Retry
    from redis.backoff import ExponentialWithJitterBackoff as ExponentialWithJitterBackoff
    from redis.backoff import NoBackoff as NoBackoff
    from redis.exceptions import AuthenticationError, DataError, NoPermissionError, ResponseError
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import TimeoutError as RedisTimeoutError
except ModuleNotFoundError as exc:
    if exc.name != "redis":
        raise
    raise missing_driver("redis", "redis") from None

# What may be left behind in a session.
_WATCHES, _QUEUES, _CHANGED, _LISTENS, _MONITORS = 1, 2, 4, 8, 16

#: Commands that change what later ones mean, or how they are answered, for as long as the connection lives.
_CHANGING = frozenset({b"SELECT", b"AUTH", b"HELLO", b"RESET", b"READONLY", b"READWRITE", b"ASKING"})
#: From these on the server speaks by itself.
_LISTENING = {
    **dict.fromkeys((b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE"), _LISTENS),
    **dict.fromkeys((b"MONITOR", b"SYNC", b"PSYNC"), _LISTENS | _MONITORS),
}
#: All other subcommands of CLIENT change the session.
_HARMLESS_CLIENT = frozenset(
    {b"ID", b"INFO", b"LIST", b"KILL", b"UNBLOCK", b"PAUSE", b"UNPAUSE", b"GETNAME", b"GETREDIR", b"TRACKINGINFO"}
    | {b"HELP"}
)
#: Commands that wait on purpose: where their timeout stands, and what makes seconds of it.
_BLOCKING: dict[bytes, Callable[[list[bytes]], float]] = {
    **dict.fromkeys(
        (b"BLPOP", b"BRPOP", b"BRPOPLPUSH", b"BLMOVE", b"BZPOPMIN", b"BZPOPMAX"), lambda words: float(words[-1])
    ),
    **dict.fromkeys((b"BLMPOP", b"BZMPOP"), lambda words: float(words[1])),
    **dict.fromkeys((b"WAIT", b"WAITAOF"), lambda words: float(words[-1]) / 1000),
    **dict.fromkeys((b"XREAD", b"XREADGROUP"), lambda words: float(words[words.index(b"BLOCK") + 1]) / 1000),
}
_SPECIAL = frozenset(
    {b"MULTI", b"EXEC", b"DISCARD", b"WATCH", b"UNWATCH", b"CLIENT", *_CHANGING, *_LISTENING, *_BLOCKING}
)


Client = redis_asyncio.Redis
Connection = redis_asyncio.Connection
ConnectionPool = redis_asyncio.ConnectionPool
ConnectionLost, TimedOut = RedisConnectionError, RedisTimeoutError

_nonces = itertools.count()


@lru_cache(maxsize=1024)
def _is_special(name: str | bytes) -> bool:
    words = _word(name).split(None, 1)
    return bool(words) and words[0] in _SPECIAL


def _word(argument: Any) -> bytes:
    return (argument if isinstance(argument, bytes) else str(argument).encode(errors="replace")).upper()


class BookkeepingConnection(AbstractConnection):
    """What the pool adds to each of redis-py's connection classes."""

    def __init__(self, **kwargs: Any) -> None:
        #: Why it must not connect again, once the pool has closed it.
        self.parting: Callable[[], PoolError] | None = None
        self._packed = 0
        self._packed_special: list[tuple[Any, ...]] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._forget()
        super().__init__(**kwargs)

    def _forget(self) -> None:
        """A connection that is closed owes nothing and remembers nothing."""
        #: The handshake is done.
        self._is_ready = False
        #: Replies that were asked for and not read.
        self._due = 0
        #: So many of them, the first ones, belong to callers who left.
        self._abandoned = 0
        #: Seconds that what is due may take on purpose.
        self._grace = 0.0
        self._left_behind = 0
        #: When the read began that is going on, on the loop's clock.
        self._reading_since: float | None = None
        self._is_overdue = False
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    # -- what the pool asks

    @property
    def is_sound(self) -> bool:
        """Whether the next command would get its own reply, as far as can be seen from here."""
        reader, writer = self._reader, self._writer
        if reader is None or writer is None or not self._is_ready:
            return False
        if reader.at_eof() or reader.exception() is not None or writer.transport.is_closing():
            return False
        return bool(self._due) or not self._has_data(reader)

    @property
    def is_unfit(self) -> bool:
        """Whether it must be closed rather than lent again, when a caller is done with it."""
        is_unwanted = getattr(self, "_should_reconnect", False)  # redis-py 7 and later, when a server is to move
        return bool(self._left_behind & (_CHANGED | _LISTENS) or self._grace or is_unwanted) or not self.is_sound

    @property
    def is_dirty(self) -> bool:
        """Whether `clean` has something to do."""
        return bool(self._due or self._left_behind)

    async def clean(self) -> None:
        """Reads what callers who left would have read, and ends what they began."""
        if self._left_behind & _QUEUES:
            await self.send_command("DISCARD", check_health=False)
        elif self._left_behind & _WATCHES:
            await self.send_command("UNWATCH", check_health=False)
        self._abandoned = self._due
        await self._pass_over()

    async def answers(self) -> bool:
        """Whether it echoes a word that was never sent before; a reply to something else cannot pass for that."""
        if not self.is_sound:
            return False
        nonce = b"%x" % next(_nonces)
        await self.send_command("PING", nonce, check_health=False)
        return bool(await self.read_response(disable_decoding=True) == nonce) and self.is_sound

    def abort(self) -> None:
        """Tears it down at once, without a word to the server."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._parser.on_disconnect()  # type: ignore[no-untyped-call]
        self._reader = self._writer = None
        self._forget()

    def _has_data(self, reader: Any) -> bool:
        # Private in asyncio and in redis-py, which looks at the same two places in `can_read`.
        parsed = getattr(self._parser, "_reader", None)
        if parsed is not None and parsed.has_data():
            return True
        # In RESP3 the server may push by itself, and the parser tells that from replies.
        return bool(reader._buffer) and not (self.protocol == 3 and reader._buffer.startswith(b">"))

    # -- what redis-py calls

    async def _connect(self) -> None:
        self._forget()
        await super()._connect()  # type: ignore[no-untyped-call, safe-super]

    async def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        if self.parting is not None:
            raise self.parting()
        if self.is_connected:
            return
        try:
            await super().connect_check_health(*args, **kwargs)
        except asyncio.CancelledError:
            self.abort()
            raise
        # The handshake itself selects and authenticates; subscriptions are renewed after it.
        self._left_behind &= _LISTENS
        self._is_ready = True

    async def disconnect(self, *args: Any, **kwargs: Any) -> None:
        self._forget()
        await super().disconnect(*args, **kwargs)

    def pack_command(self, *args: Any) -> list[bytes]:
        packed = super().pack_command(*args)
        self._packed += 1
        if _is_special(args[0]):
            self._packed_special.append(args)
        return packed

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
        try:
            return super().pack_commands(commands)
        except BaseException:  # then nothing of it is sent
            self._packed = 0
            self._packed_special = []
            raise

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        # Taken before and counted after, because a new connection and a check of it come in between.
        packed, self._packed = self._packed, 0
        special, self._packed_special = self._packed_special, []
        writer = self._writer
        if writer is None or (check_health and self.health_check_interval) or isinstance(command, (str, bytes)):
            await super().send_packed_command(command, check_health)
        else:
            # redis-py makes a task of every write, to bound it. Only one that the kernel did not take has to wait.
            writer.writelines(command)
            if writer.transport.get_write_buffer_size():
                await super().send_packed_command((), check_health=False)
        self._due += packed
        for args in special:
            self._heed(args)

    def _heed(self, args: tuple[Any, ...]) -> None:
        words = [*_word(args[0]).split(), *map(_word, args[1:])]
        name = words[0]
        if name in _BLOCKING:
            try:
                seconds = _BLOCKING[name](words)
            except (ValueError, IndexError):  # it doesn't block, or the server refuses it
                return
            self._grace += seconds or inf
        elif name == b"MULTI":
            self._left_behind |= _QUEUES
        elif name == b"WATCH":
            self._left_behind |= _WATCHES
        elif name == b"UNWATCH":
            self._left_behind &= ~_WATCHES
        elif name in (b"EXEC", b"DISCARD"):
            self._left_behind &= ~(_WATCHES | _QUEUES)
        elif name in _LISTENING:
            self._left_behind |= _LISTENING[name]
        elif name in _CHANGING or (words[1:] and words[1] not in _HARMLESS_CLIENT):
            self._left_behind |= _CHANGED

    async def read_response(
        self,
        disable_decoding: bool = False,
        timeout: float | None = None,
        *,
        disconnect_on_error: bool = True,
        push_request: bool | None = False,
    ) -> Any:
        if push_request or timeout is not None or self._left_behind & _LISTENS:
            # Whoever waits for messages may come back for the rest; and what listens is never lent again.
            return await self._listen(disable_decoding, timeout, disconnect_on_error, push_request)
        limit, self.socket_timeout = self.socket_timeout, None
        if limit is not None:
            self._watch(limit + self._grace)
        try:
            if self._abandoned:
                await self._pass_over()
            response = await super().read_response(disable_decoding, disconnect_on_error=False)
        except ResponseError:
            self._received()
            raise
        except asyncio.CancelledError:
            if disconnect_on_error:
                self._abandon()
            raise
        except BaseException:
            if self._is_overdue:
                raise TimedOut(f"Timeout reading from {self._host_error()}") from None
            if disconnect_on_error:
                await self.disconnect(nowait=True)
            raise
        finally:
            self._reading_since = None
            if self.socket_timeout is None:  # a server that announces maintenance may have set another
                self.socket_timeout = limit
        self._received()
        return response

    async def _listen(
        self, disable_decoding: bool, timeout: float | None, disconnect_on_error: bool, push_request: bool | None
    ) -> Any:
        limit = self.socket_timeout
        if timeout is None and (push_request or self._left_behind & _MONITORS):
            self.socket_timeout = None  # a message may take as long as it likes
        try:
            return await super().read_response(
                disable_decoding, timeout, disconnect_on_error=disconnect_on_error, push_request=push_request
            )
        finally:
            self.socket_timeout = limit

    # One alarm for many reads, for a timer each would cost a tenth of a command.

    def _watch(self, limit: float) -> None:
        loop = asyncio.get_running_loop()
        self._reading_since = loop.time()
        self._read_limit = limit
        if limit != inf and (self._alarm is None or self._alarm.when() > self._reading_since + limit):
            self._set_alarm(loop, limit)

    def _set_alarm(self, loop: asyncio.AbstractEventLoop, delay: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = loop.call_later(delay, self._look_at_time, loop)

    def _look_at_time(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alarm = None
        if self._reading_since is None or self._read_limit == inf:
            return
        left = self._reading_since + self._read_limit - loop.time()
        if left > 0:
            self._set_alarm(loop, left)
        else:
            self.abort()  # whoever reads comes to the end of the stream
            self._is_overdue = True

    def _received(self) -> None:
        self._due -= 1
        if self._due <= 0:
            self._grace = 0.0
        if self._due < 0:  # something was sent past us: the books are wrong
            self._due = 0
            self._left_behind |= _CHANGED

    def _abandon(self) -> None:
        """Its reader was cancelled. What blocks would take an element for nobody."""
        if self._due > 0 and not self._grace:
            self._abandoned = self._due
        else:
            self.abort()

    async def _pass_over(self) -> None:
        while self._abandoned:
            with suppress(ResponseError):
                await super().read_response(disable_decoding=True, disconnect_on_error=False)
            self._abandoned -= 1
            self._received()


def keeping_books(kind: type[AbstractConnection]) -> type[BookkeepingConnection]:
    """That class of redis-py's, or a user's own, with the books on top."""
    if issubclass(kind, BookkeepingConnection):
        return kind
    return type(kind.__name__, (BookkeepingConnection, kind), {"__module__": __name__})


def is_fatal(error: BaseException) -> bool:
    """Whether connecting again cannot help: wrong password or certificate, unknown database, wrong parameters.

    A server that is starting, full, failing over or out of reach may be better soon.
    """
    refused = isinstance(error, (AuthenticationError, NoPermissionError, DataError)) or type(error) is ResponseError
    return refused or isinstance(error, (ValueError, TypeError)) or isinstance(error.__context__, ssl.CertificateError)
