"""Commands on a pooled connection, and their answers as JSON."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from aiopool.adapters._redispy import NEVER_DECODE
from aiopool.adapters.redis import RedisPool
from aiopool.telling import ToolFailure, explain
from aiopool.toolserver._json import dumps, plain
from aiopool.toolserver._redis_commands import blocks, refused, waits_too_long
from aiopool.toolserver.redis import is_open
from aiopool.toolserver.tool import MAX_BYTES, Result

if TYPE_CHECKING:
    from aiopool.toolserver.redis import RedisPlan

#: A command that waits is not sent with so little left that its answer could not be told.
GRACE = 0.5
#: In bytes: what the result says beside its answer.
AROUND = 500


class RedisBody:
    """Sends the commands of a plan."""

    def __init__(self, plan: RedisPlan, cache: RedisPool) -> None:
        self._plan = plan
        self._cache = cache

    async def run(self, arguments: Mapping[str, Any]) -> Result:
        plan = self._plan
        commands = [self._command(templates, arguments) for templates in plan.commands]
        async with asyncio.timeout(plan.timeout):
            if plan.is_single:
                # Bytes, for not all that is in Redis is text. And so never in a batch with others: what waits has
                # a connection of its own.
                answer = await self._cache.client.execute_command(*commands[0], **{NEVER_DECODE: True})  # type: ignore[no-untyped-call]
                return _result("result", plain(answer, _other), is_error=False)
            pipeline = self._cache.client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command, **{NEVER_DECODE: True})
            answers = await pipeline.execute(raise_on_error=False)
        is_error = any(isinstance(answer, Exception) for answer in answers)
        return _result("results", [plain(answer, _other) for answer in answers], is_error=is_error)

    def _command(self, templates: tuple[Any, ...], arguments: Mapping[str, Any]) -> list[str]:
        words = [template.render(arguments) for template in templates]
        plan = self._plan
        is_chosen = is_open(templates, plan.allow)
        problem = refused(words, plan.allow, is_open=True) if is_chosen else None
        if not problem and not plan.is_single and blocks(words):
            problem = f"{words[0].upper()} waits, and would hold up the commands beside it"
        if problem := problem or waits_too_long(words, plan.timeout - min(GRACE, plan.timeout / 10)):
            raise ToolFailure(problem)
        return words


def _other(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, RedisError):
        return {"error": explain(value)}
    return str(value)


def _result(key: str, answer: Any, *, is_error: bool) -> Result:
    """As an object; an answer that is too long is cut, and the model is told."""
    structured = {key: answer}
    text = dumps(structured)
    if len(text.encode()) > MAX_BYTES:
        shown = _cut(answer, MAX_BYTES - AROUND)
        whole = "none of it is shown" if shown is None else "only its beginning is shown"
        notice = f"the answer has {len(text.encode())} bytes, {whole}: ask for less, as with GETRANGE, LRANGE or SCAN"
        structured = {key: shown, "truncated": True, "notice": notice}
        text = dumps(structured)
    return Result(text, structured, is_error)


def _cut(answer: Any, most: int) -> Any:
    """The beginning of an answer, as much as fits."""
    if isinstance(answer, str):
        cut = answer.encode()[:most].decode(errors="ignore")
        while len(dumps(cut).encode()) > most:
            cut = cut[: len(cut) // 2]
        return cut
    if isinstance(answer, list):
        return [item for _, item in _fitting(enumerate(answer), most)]
    if isinstance(answer, dict) and "base64" not in answer:
        return dict(_fitting(answer.items(), most))
    return None


def _fitting(items: Any, most: int) -> Any:
    for key, item in items:
        most -= len(dumps([key, item]).encode())
        if most < 0:
            return
        yield key, item
