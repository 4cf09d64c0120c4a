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
from typing import Any

from aiopool.adapters import _redis_effects as effects
from aiopool.adapters import hush, missing_driver
from aiopool.adapters._redis_alarm import Alarm
from aiopool.errors import PoolError

try:
    import redis.asyncio as redis_asyncio
    from redis._parsers.hiredis import NOT_ENOUGH_DATA as NOT_ENOUGH_DATA
    from redis.asyncio.client import Pipeline as Pipeline
    from redis.asyncio.connection import AbstractConnection as AbstractConnection
    from redis.asyncio.connection import SSLConnection as SSLConnection
    from redis.asyncio.connection import UnixDomainSocketConnection as UnixDomainSocketConnection
    from redis.asyncio.retry import Retry as Retry
    from redis.backoff import ExponentialWithJitterBackoff as ExponentialWithJitterBackoff
    from redis.backoff import NoBackoff as NoBackoff
    from redis.client import NEVER_DECODE as NEVER_DECODE
    from redis.exceptions import AuthenticationError, DataError, NoPermissionError, ResponseError
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import TimeoutError as RedisTimeoutError
    from redis.utils import str_if_bytes
except ModuleNotFoundError as exc:
    if exc.name != "redis":
        raise
    raise missing_driver("redis", "redis") from None

Client = redis_asyncio.Redis
Connection = redis_asyncio.Connection
ConnectionPool = redis_asyncio.ConnectionPool
ConnectionLost, TimedOut = RedisConnectionError, RedisTimeoutError

try:
    import hiredis
except ModuleNotFoundError:
    _pack_command: Any = None
else:
    _pack_command = hiredis.pack_command

_nonces = itertools.count()


class BookkeepingConnection(AbstractConnection):
    """What the pool adds to each of redis-py's connection classes."""

    def __init__(self, **kwargs: Any) -> None:
        #: Why it must not connect again, once the pool has closed it.
        self.parting: Callable[[], PoolError] | None = None
        #: Told when a `PubSub` lets go of it.
        self.on_let_go: Callable[[BookkeepingConnection], object] = lambda connection: None
        self._packed = 0
        self._packed_special: list[tuple[Any, ...]] = []
        self._alarm = Alarm(self._ring)
        self._heeding: set[asyncio.Future[Any]] = set()
        #: What it logged in with last.
        self._secret = ""
        self._forget()
        super().__init__(**kwargs)
        encoder = self.encoder
        self._is_utf8 = encoder.encoding.lower() in ("utf-8", "utf8") and encoder.encoding_errors == "strict"
        self._is_utf8 &= _pack_command is not None

    def __del__(self, *_: Any) -> None:
        """The pool says so if it was dropped, and closes it; redis-py would do both once more."""

    def _forget(self) -> None:
        """A connection that is closed owes nothing and remembers nothing."""
        #: Replies that were asked for and not read.
        self._due = 0
        #: So many of them, the first ones, belong to callers who left.
        self._abandoned = 0
        #: Seconds that what is due may take on purpose.
        self._grace = 0.0
        self._left_behind = 0
        self._is_overdue = False
        self._alarm.cancel()

    # -- what the pool asks

    @property
    def is_sound(self) -> bool:
        """Whether the next command would get its own reply, as far as can be seen from here."""
        reader, writer = self._reader, self._writer
        if reader is None or writer is None:
            return False
        if reader.at_eof() or reader.exception() is not None or writer.transport.is_closing():
            return False
        return bool(self._due) or not self._has_data(reader)

    @property
    def is_unfit(self) -> bool:
        """Whether it must be closed rather than lent again, when a caller is done with it."""
        is_unwanted = getattr(self, "_should_reconnect", False)  # redis-py 7 and later, when a server is to move
        return bool(self._left_behind & effects.SPOILS or self._grace or is_unwanted) or not self.is_sound

    @property
    def is_dirty(self) -> bool:
        """Whether `clean` has something to do."""
        return bool(self._due or self._left_behind)

    async def clean(self) -> None:
        """Reads what callers who left would have read, and ends what they began."""
        if self._left_behind & effects.QUEUES:
            await self.send_command("DISCARD", check_health=False)
        elif self._left_behind & effects.WATCHES:
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

    # -- what a batch asks, which reads and writes by itself

    @property
    def transport(self) -> asyncio.Transport:
        """Of a connection that is sound."""
        assert self._writer is not None
        return self._writer.transport  # type: ignore[return-value]

    @property
    def replies(self) -> Any:
        """redis-py's own `hiredis.Reader`, so that what it yields is what redis-py would have read."""
        return self._parser._reader  # type: ignore[attr-defined]

    def expect_answer(self) -> None:
        """The next one is due within `socket_timeout`, or the connection is torn down."""
        if self.socket_timeout is not None:
            self._alarm.begin(self.socket_timeout)

    def expect_nothing(self) -> None:
        self._alarm.end()

    def heed_push(self, message: Any) -> None:
        """What the server says by itself, in RESP3, is for redis-py's handlers."""
        task = asyncio.ensure_future(self._parser.handle_push_response(message))  # type: ignore[attr-defined]
        self._heeding.add(task)
        task.add_done_callback(self._heeding.discard)

    def parting_error(self) -> Exception | None:
        """If we have ended it: why."""
        if self._is_overdue:
            return TimedOut(f"Timeout reading from {self._host_error()}")
        return self.parting() if self.parting is not None else None

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
        except BaseException as exc:
            self.abort()  # who is half logged in may be in another database
            # Redis before 6, and proxies, repeat in their error the login that they don't understand. A user's name
            # may be the password by mistake.
            hush(exc, self.username, self._secret)
            raise
        # The handshake itself selects and authenticates; subscriptions are renewed after it.
        self._left_behind &= effects.LISTENS

    async def disconnect(self, *args: Any, **kwargs: Any) -> None:
        self._forget()
        await super().disconnect(*args, **kwargs)

    def deregister_connect_callback(self, callback: Any) -> None:
        """The first thing that a `PubSub` does when it is closed, and all that it does when it is dropped."""
        super().deregister_connect_callback(callback)  # type: ignore[no-untyped-call]
        self.on_let_go(self)

    def pack_command(self, *args: Any) -> list[bytes]:
        words = effects.shared_name(args[0])
        if words and memoryview not in map(type, args):  # whoever gives one wants no copy of it
            packed = [self.pack(words, args)]
        else:
            packed = super().pack_command(*args)
        self._packed += 1
        if not words and effects.has_any(args[0]):
            self._packed_special.append(args)
        return packed

    def pack(self, words: tuple[bytes, ...], args: tuple[Any, ...]) -> bytes:
        """A command whose name has these words, as redis-py would send it, but packed in C."""
        try:
            if self._is_utf8:
                return bytes(_pack_command(words + args[1:]))
        except TypeError:
            pass  # redis-py takes some types that hiredis does not, and knows what to say of others
        packed: list[bytes] = super().pack_command(*args)
        return b"".join(packed)

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
        words = effects.words_of(args)
        self._grace += effects.seconds_blocked(words)
        self._left_behind = effects.left_behind(words, self._left_behind)
        if words[0] in (b"AUTH", b"HELLO") and b"AUTH" in words:
            self._secret = str(str_if_bytes(args[-1]))

    async def read_response(
        self,
        disable_decoding: bool = False,
        timeout: float | None = None,
        *,
        disconnect_on_error: bool = True,
        push_request: bool | None = False,
    ) -> Any:
        if push_request or timeout is not None or self._left_behind & effects.LISTENS:
            # Whoever waits for messages may come back for the rest; and what listens is never lent again.
            return await self._listen(disable_decoding, timeout, disconnect_on_error, push_request)
        if self.socket_timeout is not None:
            self._alarm.begin(self.socket_timeout + self._grace)
        try:
            if self._abandoned:
                await self._pass_over()
            response = await self._parser.read_response(disable_decoding)  # type: ignore[attr-defined]
        except asyncio.CancelledError:
            if disconnect_on_error:
                self._abandon()
            raise
        except BaseException as exc:
            if self._is_overdue:
                raise TimedOut(f"Timeout reading from {self._host_error()}") from None
            if disconnect_on_error:
                await self.disconnect(nowait=True)
            if isinstance(exc, OSError):
                raise ConnectionLost(f"Error while reading from {self._host_error()}: {exc}") from exc
            raise
        finally:
            self._alarm.end()
        self._received()
        if self.health_check_interval:
            self.next_health_check = asyncio.get_running_loop().time() + self.health_check_interval
        if isinstance(response, ResponseError):
            raise response from None
        return response

    async def _listen(
        self, disable_decoding: bool, timeout: float | None, disconnect_on_error: bool, push_request: bool | None
    ) -> Any:
        limit = self.socket_timeout
        if timeout is None and (push_request or self._left_behind & effects.MONITORS):
            self.socket_timeout = None  # a message may take as long as it likes
        try:
            return await super().read_response(
                disable_decoding, timeout, disconnect_on_error=disconnect_on_error, push_request=push_request
            )
        finally:
            self.socket_timeout = limit

    def _ring(self) -> None:
        """The reply that is being waited for takes too long."""
        self.abort()  # whoever reads comes to the end of the stream
        self._is_overdue = True

    def _received(self) -> None:
        self._due -= 1
        if self._due <= 0:
            self._grace = 0.0
        if self._due < 0:  # something was sent past us: the books are wrong
            self._due = 0
            self._left_behind |= effects.CHANGED

    def _abandon(self) -> None:
        """Its reader was cancelled. What blocks would take an element for nobody."""
        if self._due > 0 and not self._grace:
            self._abandoned = self._due
        else:
            self.abort()

    async def _pass_over(self) -> None:
        while self._abandoned:
            await self._parser.read_response(True)  # type: ignore[attr-defined]
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


def is_unreachable(error: BaseException) -> bool:
    """Whether nobody answers at the address, as opposed to a server that won't serve us now, or hangs up."""
    reason = error if isinstance(error, OSError) else error.__context__
    hangs_up = isinstance(reason, ConnectionError) and not isinstance(reason, ConnectionRefusedError)
    return isinstance(reason, OSError) and not hangs_up
