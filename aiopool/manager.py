"""`PoolManager`: named pools that open and close together, and the module-level `pools`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from inspect import isawaitable
from traceback import format_tb
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio

from aiopool import handlers
from aiopool.configfile import show_path, suggest
from aiopool.errors import PoolConfigError, PoolError, PoolNotFound
from aiopool.lifespan import Lifespan
from aiopool.policies.outage import without_tracebacks
from aiopool.pool import CONFIGURED
from aiopool.poolspec import read_pools
from aiopool.stats import stats_of

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

logger = logging.getLogger("aiopool")

#: A pool bounds its own close; this is for one that does not.
CLOSE_TIMEOUT = 60.0

R = TypeVar("R")


class PoolManager:
    """Named pools under one lifespan.

        pools = PoolManager()
        pools.register("database", DatabasePool(dsn))
        async with pools:
            await pools.get("database").fetch("select 1")

    `async with` opens the pools in the order of their registration and closes them in reverse. One that is
    registered later opens by itself at its first use and is closed with the others. With `prometheus-client`
    installed, their figures are exported, in the default registry or in the one that is given.
    """

    def __init__(self, *, registry: CollectorRegistry | None = None) -> None:
        self._pools: dict[str, Any] = {}
        self._registry = registry
        self._lifespan = Lifespan()

    @classmethod
    def from_config(
        cls,
        source: str | os.PathLike[str] | Mapping[str, Any],
        *,
        env: Mapping[str, str] | None = None,
        registry: CollectorRegistry | None = None,
    ) -> Self:
        """Build the pools that a YAML or TOML file, or a mapping, has under `pools`; none is opened.

        `env` replaces the environment that `${VAR}`, DATABASE_URL and REDIS_URL are read from. Raises
        `PoolConfigError` with every problem: its file, line, key and what to do.
        """
        try:
            pools = read_pools(source, os.environ if env is None else env)
        except PoolConfigError as exc:
            # A debugger shows what frames hold, and so do error reports: here every value, and the environment.
            error = without_tracebacks(exc)
            error.__context__ = None
        else:
            manager = cls(registry=registry)
            for name, pool in pools.items():
                manager.register(name, pool)
            return manager
        raise error

    @property
    def pools(self) -> Mapping[str, Any]:
        """A read-only view of the pools by name."""
        return MappingProxyType(self._pools)

    def register(self, name: str, pool: object) -> None:
        """Add a pool under a name of its own; a second pool of that name is a `ValueError`.

        `ConnectionPool`, every adapter, somebody else's pool, or a class of your own: what has a `close`, plain or not,
        or an `aclose`; `open` and `stats` are used if they are there.
        """
        if not isinstance(name, str) or not name:
            kind = "an empty one" if name == "" else type(name).__name__
            raise TypeError(f"a pool's name must be a string that is not empty, not {kind}")
        if "://" in name:
            raise ValueError("a pool's name is told in log lines and metrics: it cannot be an address")
        if isinstance(pool, type) or not callable(getattr(pool, _close_name(pool), None)):
            what = f"the class {pool.__name__}" if isinstance(pool, type) else type(pool).__name__
            raise TypeError(f"pool {name!r}: {what} is no pool: it has no close() to call")
        if name in self._pools:
            raise ValueError(f"a pool {name!r} is registered already; give the second one another name")
        self._pools[name] = pool
        if len(self._pools) == 1:
            self._export_if_possible()

    def replace(self, name: str, pool: object) -> None:
        """Put a pool in the place of one that was registered and not opened yet; `PoolNotFound` if there is none."""
        self.get(name)
        self._pools[name] = pool

    def get(self, name: str) -> Any:
        """The pool of that name, as it was registered; `PoolNotFound` (a `KeyError`) if there is none."""
        if name in self._pools:
            return self._pools[name]
        hint = suggest(str(name), self._pools) or "; register one first"
        shown = show_path((name,)) if isinstance(name, str) else name
        raise PoolNotFound(f"no pool {shown!r} is registered{hint}")

    def __contains__(self, name: object) -> bool:
        return name in self._pools

    def __iter__(self) -> Iterator[str]:
        return iter(self._pools)

    def __len__(self) -> int:
        return len(self._pools)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(self._pools) or 'without pools'}>"

    def stats(self) -> dict[str, Mapping[str, Any]]:
        """The `PoolStats` of every pool, by its name; of somebody else's pool without `stats()` there are none."""
        return {name: stats_of(pool) for name, pool in self._pools.items()}

    def update_metrics(self) -> None:
        """Make sure that a scrape will show every pool; cheap, and it may be called again and again.

        A scrape reads the pools by itself, so there is nothing to copy. This puts the collector (back) into
        the registry and reads every pool's statistics once, so that what would be missing from a scrape in
        silence raises here: `ImportError` without `prometheus-client`, `ValueError` if the application has
        metrics of the same names, and whatever a pool's own `stats()` raises.
        """
        from aiopool.metrics.prometheus import export

        export(self, self._registry)
        self.stats()

    def _export_if_possible(self) -> None:
        try:
            from aiopool.metrics.prometheus import export
        except ImportError:
            return  # whoever has no prometheus-client serves no metrics
        try:
            export(self, self._registry)
        except ValueError as exc:
            logger.warning("the pools are not exported to Prometheus: %s", exc)

    def lifespan(self, app: object = None) -> AbstractAsyncContextManager[Mapping[str, Any]]:
        """For frameworks: `MCPServer(lifespan=pools.lifespan)`, and so for `FastMCP`, `Server`, Starlette and FastAPI.

        May be entered many times at once on a loop, as some of them do for each session: the pools are open from the
        first enter to the last exit. Yields the pools by name, which Starlette wants for its state. Raises what
        `open_all` does, or `WrongLoop` while it is entered on another loop that has not ended.
        """
        return self._lifespan.of(self)

    def leased(
        self, name: str, param: str = "connection", *, timeout: float | None = CONFIGURED, tell: bool = True
    ) -> Callable[[handlers.Handler[R]], handlers.Handler[R]]:
        """Lend each call of an `async def` a connection of this pool, as the parameter `param`.

            @server.tool()
            @pools.leased("database")
            async def count(table: str, connection: asyncpg.Connection) -> int: ...

        The parameter is hidden from the signature, so that no tool's schema shows it. Of a pool with a `client`
        (`RedisPool`, `HTTPClientPool`) that is lent, whose every call takes a connection for itself. `timeout` is how
        long a call waits for its connection, in seconds. With `tell`, where an MCP framework is loaded, whatever goes
        wrong is raised as its `ToolError` with the text of `aiopool.telling.explain`; elsewhere as it is. Raises
        `TypeError` for a function that cannot be lent one; its calls raise `PoolNotFound` and what `acquire` does.
        """
        return handlers.leased(self, name, param, timeout, tell=tell)

    def dependency(
        self, name: str, *, timeout: float | None = CONFIGURED, tell: bool = True
    ) -> Callable[[], AbstractAsyncContextManager[Any]]:
        """The same for `Depends` of FastMCP and FastAPI: `connection=Depends(pools.dependency("database"))`."""
        return handlers.dependency(self, name, timeout, tell=tell)

    async def open_all(self) -> None:
        """Open the pools in the order of their registration; if one fails, close those already open."""
        opened: list[str] = []
        for name, pool in list(self._pools.items()):
            try:
                if (open_it := getattr(pool, "open", None)) is not None:  # others open when they are first used
                    await _result(open_it())
            except BaseException as exc:
                self._tell(await self._close(opened, shield=True), beside=exc)
                raise
            opened.append(name)

    async def close_all(self) -> None:
        """Close all pools, the last registered first; then raise what failed, as an `ExceptionGroup`.

        The pools stay registered, and may be opened again.
        """
        if errors := await self._close(self._pools, shield=False):
            raise ExceptionGroup("pools failed to close", errors)

    async def __aenter__(self) -> Self:
        await self.open_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        errors = await self._close(self._pools, shield=True)
        if exc is not None:
            # What left the block matters more, and may be a cancellation, which must not get lost in a group.
            self._tell(errors, beside=exc)
        elif errors:
            raise ExceptionGroup("pools failed to close", errors)

    async def _close(self, names: Iterable[str], *, shield: bool) -> list[Exception]:
        """Close these pools in reverse, every one whatever the others do; return what failed.

        A cancellation is kept until all have had their turn.
        """
        errors: list[Exception] = []
        interruption: BaseException | None = None
        for name in reversed(list(names)):
            try:
                with anyio.move_on_after(CLOSE_TIMEOUT, shield=shield) as scope:
                    await _end(self._pools[name])
                if scope.cancelled_caught:
                    raise TimeoutError(f"close() did not end within {CLOSE_TIMEOUT:g}s; bound it in the pool")
            except Exception as error:
                error.add_note(f"while closing pool {name!r}")
                errors.append(error)
            except BaseException as error:
                interruption = interruption or error
        if interruption is not None:
            self._tell(errors, beside=interruption)
            raise interruption
        return errors

    @staticmethod
    def _tell(errors: list[Exception], *, beside: BaseException) -> None:
        """Log failed closes, and note them on the exception that is raised instead.

        Of what is no error of ours the class and the place are told: its words may be about an address.
        """
        for error in errors:
            what = f"{error.__notes__[-1]}: {repr(error) if isinstance(error, PoolError) else type(error).__name__}"
            logger.error("%s\n%s", what, "".join(format_tb(error.__traceback__)))
            beside.add_note(what)


#: The manager of a program that needs only one.
pools = PoolManager()


def _close_name(pool: object) -> str:
    """Where there are both, as with redis-py, `close` is the older name."""
    return "aclose" if hasattr(type(pool), "aclose") else "close"


async def _end(pool: Any) -> None:
    await _result(getattr(pool, _close_name(pool))())
    if hasattr(type(pool), "wait_closed"):  # as with aiomysql and aiopg, whose `close` only begins
        await _result(pool.wait_closed())


async def _result(outcome: Any) -> Any:
    """Of a method that may be a coroutine function or a plain one."""
    return await outcome if isawaitable(outcome) else outcome
