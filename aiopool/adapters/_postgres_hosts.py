"""Which of several servers a new connection goes to, and whether it may stay with it."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from aiopool.adapters._asyncpg import Connection, asyncpg, connect
from aiopool.adapters._given import refuse_other

#: In seconds: so long a host that did not answer in its share of the time is asked last. What pgjdbc calls
#: hostRecheckSeconds, and its default.
RECHECK = 10.0

TARGETS = ("any", "primary", "standby", "read-write", "read-only", "prefer-standby")

Address = tuple[str, int]


class Hosts:
    """Opens connections as asyncpg does, in the order in which the hosts were given, but gives each its share of the
    time. asyncpg bounds all of them together, so the first would take it all when its machine is gone.
    """

    def __init__(self, dsn: str | None, connect_kwargs: Mapping[str, Any], within: float) -> None:
        target = connect_kwargs.get("target_session_attrs")
        if target is not None:
            refuse_other("target_session_attrs", target, TARGETS)
        self._dsn = dsn
        self._kwargs = connect_kwargs
        timeout = connect_kwargs.get("timeout")
        self._within = within if timeout is None else min(within, timeout)
        self._addresses: list[Address] | None = None
        self._target = "any"
        self._silent_until: dict[Address, float] = {}

    async def connect(self) -> Connection:
        """Raises what asyncpg raises; of several hosts, what the last of them did that could not be reached."""
        if self._addresses is None:
            self._addresses, self._target = _parse(self._dsn, self._kwargs)
        if len(self._addresses) < 2:
            return await connect(self._dsn, **self._kwargs)
        targets = ("standby", "any") if self._target == "prefer-standby" else (self._target,)
        began = time.monotonic()
        addresses = sorted(self._addresses, key=lambda address: self._silent_until.get(address, 0) > began)
        attempts = [(target, address) for target in targets for address in addresses]
        failure: Exception | None = None
        for done, (target, address) in enumerate(attempts):
            share = (began + self._within - time.monotonic()) / (len(attempts) - done)
            host, port = address
            given = {**self._kwargs, "host": host, "port": port, "target_session_attrs": target, "timeout": share}
            try:
                return await connect(self._dsn, **given)
            except TimeoutError as exc:
                self._silent_until[address] = time.monotonic() + RECHECK
                failure = exc
            except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError) as exc:
                failure = exc
            except asyncpg.TargetServerAttributeNotMatched:
                pass
        raise failure or asyncpg.TargetServerAttributeNotMatched(
            f"none of the {len(addresses)} hosts is what target_session_attrs={self._target!r} asks for"
        )

    @property
    def are_chosen(self) -> bool:
        """Whether there are some that `target_session_attrs` rules out."""
        return self._target not in ("any", "prefer-standby")

    def suits(self, connection: Connection) -> bool:
        """Whether the server still is what `target_session_attrs` asks for, by what it last said of itself.

        From PostgreSQL 14 on it tells each change before it is ready for the next query. One that tells nothing suits.
        """
        if not self.are_chosen:
            return True
        settings = connection.get_settings()
        in_standby = getattr(settings, "in_hot_standby", None)
        if in_standby is None:
            return True
        if self._target in ("primary", "standby"):
            return bool((in_standby == "on") is (self._target == "standby"))
        only_reads = "on" in (in_standby, getattr(settings, "default_transaction_read_only", None))
        return only_reads is (self._target == "read-only")


def _parse(dsn: str | None, connect_kwargs: Mapping[str, Any]) -> tuple[list[Address], str]:
    """The TCP addresses, and `target_session_attrs`, that asyncpg takes from DSN, keywords, environment and files.

    None if there is a Unix socket among them: those answer or fail at once, and asyncpg knows where to look for them.
    """
    asyncpgs: Any = import_module("asyncpg.connect_utils")  # private; read against asyncpg 0.30 to 0.32
    parse = asyncpgs._parse_connect_dsn_and_args
    names = inspect.signature(parse).parameters
    addresses, params = parse(**{name: connect_kwargs.get(name) for name in names if name != "dsn"}, dsn=dsn)
    tcp = [address for address in addresses if isinstance(address, tuple)]
    return tcp if len(tcp) == len(addresses) else [], params.target_session_attrs.value
