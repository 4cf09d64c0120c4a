"""Connections for handlers: leased for one call, hidden from whoever reads the signature, given back whatever happens.

Works with MCPServer, FastMCP, FastAPI and plain functions, and imports none of them.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, Protocol, TypeAlias, TypeVar

from aiopool.adapters._given import ensure_allowed
from aiopool.errors import PoolConfigError
from aiopool.pool import CONFIGURED
from aiopool.telling import explain

R = TypeVar("R")
Handler: TypeAlias = Callable[..., Coroutine[Any, Any, R]]


class Manager(Protocol):
    """Knows pools by name."""

    @property
    def pools(self) -> Mapping[str, Any]: ...
    def get(self, name: str) -> Any: ...


def leased(
    manager: Manager, name: str, param: str, timeout: float | None, *, tell: bool
) -> Callable[[Handler[R]], Handler[R]]:
    """See `PoolManager.leased`."""
    _refuse_settings(name, timeout)

    def decorate(handler: Handler[R]) -> Handler[R]:
        _refuse_handler(handler, name)
        signature = inspect.signature(handler)
        position = _position(handler, signature, param)

        @functools.wraps(handler)
        async def with_lease(*args: Any, **kwargs: Any) -> R:
            try:
                async with lent(manager, name, timeout) as connection:
                    if position is not None and len(args) > position:
                        return await handler(*args[:position], connection, *args[position:], **kwargs)
                    return await handler(*args, **kwargs, **{param: connection})
            except Exception as exc:
                failure = _for_the_model(exc, manager, name) if tell else None
                if failure is None:
                    raise
            # Raised here because inside `except` it would carry the original along, for frameworks to log.
            raise failure

        # Frameworks build the schema from what is told here; left to themselves they would ask the handler.
        del with_lease.__wrapped__
        hints = _resolved(handler, {key: hint for key, hint in handler.__annotations__.items() if key != param})
        kept = [each for each in signature.parameters.values() if each.name != param]
        with_lease.__annotations__ = hints
        with_lease.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[each.replace(annotation=hints.get(each.name, each.annotation)) for each in kept],
            return_annotation=hints.get("return", signature.return_annotation),
        )
        return with_lease

    return decorate


def dependency(
    manager: Manager, name: str, timeout: float | None, *, tell: bool
) -> Callable[[], AbstractAsyncContextManager[Any]]:
    """See `PoolManager.dependency`."""
    _refuse_settings(name, timeout)

    async def lend() -> AsyncGenerator[Any, None]:
        try:
            async with lent(manager, name, timeout) as connection:
                yield connection
        except Exception as exc:
            failure = _for_the_model(exc, manager, name) if tell else None
            if failure is None:
                raise
            raise failure from None

    @functools.wraps(lend)  # FastAPI asks what is wrapped whether it is a generator
    def connection() -> _Loan:
        return _Loan(lend())

    return connection


class _Loan(AbstractAsyncContextManager[Any]):
    """The connection for one call: FastMCP enters it; FastAPI takes it for a generator, as it wants one."""

    def __init__(self, generator: AsyncGenerator[Any, None]) -> None:
        self._generator = generator
        self._block = asynccontextmanager(lambda: generator)()
        self.athrow, self.aclose = generator.athrow, generator.aclose

    async def __aenter__(self) -> Any:
        return await self._block.__aenter__()

    async def __aexit__(self, *exc: Any) -> bool | None:
        return await self._block.__aexit__(*exc)

    async def __anext__(self) -> Any:
        return await self._generator.__anext__()


def lent(manager: Manager, name: str, timeout: float | None) -> AbstractAsyncContextManager[Any]:
    """What a handler wants of a pool: a connection, or the client of a pool that has one."""
    pool = manager.get(name)
    given = {} if timeout is CONFIGURED else {"timeout": timeout}
    if callable(lend := getattr(pool, "connection", None)):
        return lend(**given)  # type: ignore[no-any-return]
    if (client := getattr(pool, "client", None)) is not None:
        if given:
            raise PoolConfigError(
                f"pool {name!r} lends its client, whose every call takes a connection for itself: there is no wait "
                "that a timeout= could bound; set acquire_timeout in the pool's configuration"
            )
        return nullcontext(client)
    if callable(lend := getattr(pool, "acquire", None)):
        return lend(**given)  # type: ignore[no-any-return]
    raise PoolConfigError(
        f"pool {name!r}, a {type(pool).__name__}, lends nothing: it has neither connection() nor acquire() nor a client"
    )


def _refuse_settings(name: object, timeout: float | None) -> None:
    if not isinstance(name, str):
        kind = "the handler itself" if callable(name) else type(name).__name__
        raise TypeError(f'the first argument is the name of a pool, not {kind}: write leased("database")')
    if timeout is not CONFIGURED:
        ensure_allowed("timeout", timeout, "acquire_timeout")


def _refuse_handler(handler: Any, name: str) -> None:
    if not inspect.iscoroutinefunction(handler) or not hasattr(handler, "__name__"):
        shown = getattr(handler, "__qualname__", type(handler).__name__)
        raise TypeError(
            f"{shown} cannot be lent a connection of pool {name!r}: it must be a function written with `async def` "
            "that returns, with this decorator right above it, under any @staticmethod, @classmethod or @tool"
        )


def _position(handler: Handler[Any], signature: inspect.Signature, param: str) -> int | None:
    """Where the connection stands if arguments are given by position; None: it is always given by name."""
    allowed = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameter = signature.parameters.get(param)
    if parameter is None or parameter.kind not in allowed:
        what = "no parameter" if parameter is None else "no ordinary parameter"
        names = ", ".join(name for name, each in signature.parameters.items() if each.kind in allowed) or "none"
        raise TypeError(
            f"{handler.__qualname__} has {what} {param!r} for the connection, only: {names}; add it, or name another "
            "with leased(…, param=)"
        )
    return None if parameter.kind is allowed[1] else list(signature.parameters).index(param)


def _resolved(handler: Handler[Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Annotations that are text, evaluated where the handler was written; a framework would do it where we are.

    What cannot be evaluated stays as it is.
    """
    names = getattr(inspect.unwrap(handler), "__globals__", {})
    resolved = dict(hints)
    for key, hint in hints.items():
        if isinstance(hint, str):
            try:
                alone = SimpleNamespace(__annotations__={key: hint})
                resolved |= typing.get_type_hints(alone, globalns=names, include_extras=True)
            except (NameError, AttributeError, TypeError, SyntaxError):
                continue
    return resolved


# -- what a framework is told

#: Where they keep the errors that they show: of tools, and of resources.
_SHOWN_ERRORS = ("mcp.server.mcpserver.exceptions", "fastmcp.exceptions", "mcp.server.fastmcp.exceptions")
#: Whose exceptions mean something to whoever called the handler: a protocol error, an answer of 404.
_FRAMEWORKS = frozenset({"mcp", "fastmcp", "starlette", "fastapi"})


def _for_the_model(exc: Exception, manager: Manager, name: str) -> Exception | None:
    """The exception whose text the framework shows to the model; None if this one is to go on as it is."""
    shown = [sys.modules[module] for module in _SHOWN_ERRORS if module in sys.modules]
    kinds = tuple(kind for module in shown for kind in (module.ToolError, module.ResourceError))
    if not kinds or any(kind.__module__.partition(".")[0] in _FRAMEWORKS for kind in type(exc).__mro__):
        return None
    text = explain(exc)
    own_name = getattr(manager.pools.get(name), "name", name)
    if own_name != name:  # the one that it was registered under says more
        text = text.replace(f"pool {own_name!r}", f"pool {name!r}")
    error: Exception = _told(kinds)(text)
    return error


@functools.cache
def _told(kinds: tuple[type[Exception], ...]) -> type[Exception]:
    """An error of each of these kinds, for it is not known who calls the handler, nor as what."""
    return type("ToolError", kinds, {"__module__": __name__})
