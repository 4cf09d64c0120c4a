"""A statement in a transaction of its own, on a connection that the next caller finds as new."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import asyncpg

from aiopool.adapters._asyncpg import Connection, cancellation, is_cancelling
from aiopool.adapters._asyncpg_meter import Meter
from aiopool.adapters._asyncpg_portal import Portal, prepared
from aiopool.adapters._postgres_reset import SESSION_RESET
from aiopool.adapters.postgres import DatabasePool
from aiopool.errors import PoolError
from aiopool.lease import Lease
from aiopool.telling import ToolFailure, explain
from aiopool.toolserver._sql_rows import Rows, of_command
from aiopool.toolserver._sql_rules import refuse_written
from aiopool.toolserver._sql_values import as_parameter, misfit
from aiopool.toolserver.tool import Result

if TYPE_CHECKING:
    from aiopool.toolserver.sql import SqlPlan

logger = logging.getLogger("aiopool")

#: What a result may be as it comes from the server: its bytes become more and less as JSON.
LEAST_METER, METER_FACTOR = 8_000_000, 4
#: Seconds for a look at the rights of the role.
LOOK = 5.0
#: The server ends a statement this much before we do.
GRACE = 0.5

_RIGHTS = """
select current_user,
    current_setting('is_superuser') = 'on',
    array(select role from unnest(array['pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'])
          as role where pg_has_role(current_user, role, 'member'))
"""
_looked_at: WeakSet[DatabasePool] = WeakSet()


class SqlBody:
    """Runs the statement of a plan on a pool."""

    def __init__(self, plan: SqlPlan, tool: str, database: DatabasePool) -> None:
        self._plan = plan
        self._tool = tool
        self._database = database
        self._is_reset_by_pool = database._reset.mode == "session"

    async def prepare(self) -> None:
        """Warns of a statement of the file that cannot be run; and, once for a pool, of a role with too many rights.

        Those are the rights that let a statement which a model writes out of the database. A pool that opens nothing
        before it has to is asked for its role only.
        """
        if self._plan.written_in is None:
            look = self._look_at_statement
            is_wanted = self._database.stats()["size"] > 0
        else:
            look = self._look_at_role
            is_wanted = self._database not in _looked_at
            _looked_at.add(self._database)
        if not is_wanted:
            return
        try:
            async with asyncio.timeout(LOOK), self._database.connection() as connection:
                await look(connection)
        except (PoolError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
            # Whether the tools can do without their pool for now is not for this to say.
            logger.info("tool %r: its database could not be looked at: %s", self._tool, type(exc).__name__)

    async def _look_at_statement(self, connection: Connection) -> None:
        try:
            await connection.prepare(self._plan.text, name="")
        except asyncpg.PostgresError as exc:
            # Its tables may come later.
            logger.warning("tool %r: as the database is now, its statement fails: %s", self._tool, explain(exc))

    async def _look_at_role(self, connection: Connection) -> None:
        role, is_superuser, roles = await connection.fetchrow(_RIGHTS)  # type: ignore[misc]
        if is_superuser or roles:
            what = "a superuser" if is_superuser else f"a member of {', '.join(roles)}"
            logger.warning(
                "tool %r runs what a model writes, and pool %r logs in as %r, %s: a transaction that only reads does "
                "not keep it from the files and programs of the server's machine; give the pool a role of its own, "
                "with no more than: grant select on all tables in schema public to tools",
                self._tool,
                self._database.name,
                role,
                what,
            )

    async def run(self, arguments: Mapping[str, Any]) -> Result:
        plan = self._plan
        loop = asyncio.get_running_loop()
        latest = loop.time() + plan.call_timeout
        if plan.written_in is None:
            text = plan.text
        else:
            text = str(arguments.get(plan.written_in, ""))
            refuse_written(text, is_read_only=plan.is_read_only)
        lease = await self._database.connection()
        try:
            began = loop.time()
            # So that it is the server that ends the statement, rather than we the call.
            left = latest - began
            seconds = max(0.001, min(plan.timeout, left - min(GRACE, left / 10)))
            try:
                async with asyncio.timeout(seconds + GRACE):
                    result = await self._transact(lease.connection, text, arguments, seconds)
            except (asyncpg.QueryCanceledError, TimeoutError) as exc:
                if loop.time() - began < 0.9 * seconds:  # by somebody else
                    raise
                raise ToolFailure(
                    f"the query ran longer than {seconds:.3g} s and was cancelled: ask for less, or write it so that "
                    "an index serves it"
                ) from exc
        except Exception:
            await self._give_back(lease)
            raise
        except BaseException:  # nobody waits for a server now
            lease.release() if self._is_reset_by_pool else lease.discard()
            raise
        await self._give_back(lease)
        return result

    async def _transact(
        self, connection: Connection, text: str, arguments: Mapping[str, Any], seconds: float
    ) -> Result:
        try:
            return await self._in_transaction(connection, text, arguments, seconds)
        except asyncpg.InvalidCachedStatementError:
            # Its table has changed since it was prepared, so it has done nothing.
            await connection.execute("ROLLBACK", timeout=seconds)
            await connection.reload_schema_state()
            return await self._in_transaction(connection, text, arguments, seconds)

    async def _in_transaction(
        self, connection: Connection, text: str, arguments: Mapping[str, Any], seconds: float
    ) -> Result:
        plan = self._plan
        timeout = seconds + GRACE
        most = max(LEAST_METER, METER_FACTOR * plan.max_bytes)
        mode = "READ ONLY" if plan.is_read_only else "READ WRITE"
        await connection.execute(
            f"BEGIN {mode}; SET LOCAL statement_timeout = {math.ceil(seconds * 1000)}", timeout=timeout
        )
        with Meter(connection, most) as meter:
            try:
                result = await self._query(connection, text, arguments, timeout)
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
                if not meter.is_exceeded:
                    raise
                raise ToolFailure(
                    f"the rows are too large: more than {most} bytes came, and the query was stopped; select fewer "
                    "rows or columns, or parts of them, as with left(column, 1000)"
                ) from exc
        if plan.is_read_only:
            # Nothing to commit, and something to undo: settings, temporary tables.
            await connection.execute("ROLLBACK", timeout=timeout)
            return result
        try:
            await connection.execute("COMMIT", timeout=timeout)
        except (TimeoutError, OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError) as exc:
            raise ToolFailure(
                "the connection was lost while the changes were being committed: look whether they were made before "
                "you try again"
            ) from exc
        return result

    async def _query(self, connection: Connection, text: str, arguments: Mapping[str, Any], timeout: float) -> Result:
        plan = self._plan
        types: tuple[Any, ...] = ()
        try:
            # What a model writes hardly comes again.
            statement = await prepared(connection, text, timeout, is_kept=plan.written_in is None)
            types = statement.get_parameters()
            if len(types) != len(plan.names):
                raise ToolFailure("the statement has parameters such as $1: write their values into it")
            values = [
                as_parameter(arguments.get(name), its_type.name, name)
                for name, its_type in zip(plan.names, types, strict=True)
            ]
            columns = statement.get_attributes()
            portal = Portal(connection, statement, values, timeout)
            rows = Rows(columns, plan.max_rows, plan.max_bytes)
            while not portal.is_exhausted:
                if not all(map(rows.take, await portal.fetch(rows.wanted))):
                    break
            return rows.result() if columns or len(rows) else of_command(portal.status)
        except asyncpg.DataError as exc:
            number = re.match(r"invalid input for query argument \$(\d+)", str(exc))
            if number is None or getattr(exc, "severity", None):  # the server's own word
                raise
            place = int(number[1]) - 1
            raise misfit(plan.names[place], types[place].name) from exc
        except (asyncpg.UnsupportedClientFeatureError, asyncpg.InternalClientError) as exc:
            logger.info("tool %r: %s", self._tool, exc)
            raise ToolFailure(
                "the result has a column of a type that cannot be given here, such as a whole row or anyarray: select "
                "the columns that you want by their names, and cast that one to text"
            ) from exc
        except (ValueError, OverflowError) as exc:
            raise ToolFailure(
                "the result holds a value that cannot be given here, such as a date before the year 1 or after 9999: "
                "cast it to text"
            ) from exc

    async def _give_back(self, lease: Lease[Connection]) -> None:
        """The pool may have been told to reset less than what a statement can leave behind."""
        connection = lease.connection
        if self._is_reset_by_pool or connection.is_closed():
            lease.release()
            return
        try:
            async with asyncio.timeout(self._database.config.reset_timeout):
                if is_cancelling(connection):
                    await cancellation(connection)
                await connection.execute(f"{'ROLLBACK; ' * connection.is_in_transaction()}{SESSION_RESET}")
        except BaseException as exc:
            lease.discard()
            if not isinstance(exc, Exception):
                raise
        else:
            lease.release()
