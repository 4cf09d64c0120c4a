"""redis-py's client, with the commands that may share a connection in batches, and all others as ever."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import isawaitable
from typing import Any

from aiopool.adapters import _redis_effects as effects
from aiopool.adapters._redis_batching import Batching
from aiopool.adapters._redis_pool import RedisConnectionPool
from aiopool.adapters._redispy import NEVER_DECODE, Client, Pipeline

#: How most answers look after redis-py has converted them: none of these is awaitable.
_PLAIN = frozenset({bool, int, float, str, bytes, list, dict, set, tuple, type(None)})


class BatchingClient(Client):
    """What blocks, listens, watches or changes its session takes a connection of its own; so does a transaction."""

    def __init__(self, connection_pool: RedisConnectionPool, **kwargs: Any) -> None:
        super().__init__(connection_pool=connection_pool, **kwargs)
        self._batching = Batching(connection_pool)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        name = args[0]
        words = effects.shared_name(name)
        if not words or NEVER_DECODE in options or self.single_connection_client:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        try:
            answer = self._batching.ask(words, args)
        except RuntimeError:  # no loop is running, as in a child process: the pool knows what to say of that
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        if options:
            return await self.parse_response(_Errand(self._batching, answer), name, **options)  # type: ignore[arg-type]
        reply = await answer
        if isinstance(reply, Exception):
            raise reply
        callback = dict.get(self.response_callbacks, name.upper())  # type: ignore
        if callback is None:
            return reply
        result = callback(reply)
        return await result if type(result) not in _PLAIN and isawaitable(result) else result

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        if transaction:
            return super().pipeline(transaction, shard_hint)
        pipeline = BatchingPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.batching = self._batching
        return pipeline


class BatchingPipeline(Pipeline):
    """Goes out in one piece, with what others ask in the same turn."""

    batching: Batching

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands = self.command_stack
        is_stateful = self.connection or self.watching or self.explicit_transaction or self.scripts
        if is_stateful or not all(effects.shared_name(args[0]) and NEVER_DECODE not in o for args, o in commands):
            return await super().execute(raise_on_error)
        try:
            return await self._execute_pipeline(_Errand(self.batching), commands, raise_on_error)  # type: ignore
        finally:
            await self.reset()  # type: ignore[no-untyped-call]


class _Errand:
    """What redis-py takes for a connection."""

    def __init__(self, batching: Batching, answer: Any = None) -> None:
        self._batching = batching
        self._answer = answer
        self._replies: Iterator[Any] = iter(())

    def pack_commands(self, commands: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return commands

    async def send_packed_command(self, commands: list[tuple[Any, ...]]) -> None:
        if commands:
            self._replies = iter(await self._batching.ask_all(commands))

    async def read_response(self) -> Any:
        reply = next(self._replies) if self._answer is None else await self._answer
        if isinstance(reply, Exception):
            raise reply
        return reply
