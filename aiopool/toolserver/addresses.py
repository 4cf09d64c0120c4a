"""Where the server of a pool is, for processes that open connections of their own to it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from aiopool.errors import PoolConfigError
from aiopool.poolkinds import KINDS


@dataclass(frozen=True)
class Address:
    """What another process needs to open connections like those of a pool. It holds passwords, and shows none."""

    kind: str
    #: Complete, with user and password, as far as the file says them.
    url: str = field(repr=False)
    #: What the URL does not say: keywords of the adapter, in values that JSON has.
    options: Mapping[str, Any] = field(repr=False)
    #: The environment variables that drivers and scripts look for it in.
    variables: Mapping[str, str] = field(repr=False)

    def hide(self, text: str) -> str:
        """The text without the address and its password, unless that is so short that it is in everything."""
        login = self.url.partition("://")[2].rpartition("@")[0]
        password = login.partition(":")[2]
        for secret in (self.url, password, unquote(password), self.variables.get("PGPASSWORD", "")):
            if len(secret) > 3:
                text = text.replace(secret, "…")
        return text


def address_of(pool: Any) -> Address | None:
    """Of a `DatabasePool` or a `RedisPool`; None for other pools.

    Raises `PoolConfigError` if it was built with objects that cannot be told to another process.
    """
    kind = {"DatabasePool": "postgres", "RedisPool": "redis"}.get(type(pool).__name__)
    if kind == "postgres":
        return _of_postgres(pool)
    return _of_redis(pool) if kind == "redis" else None


def _of_postgres(pool: Any) -> Address:
    options = {key: value for key, value in pool._hosts._kwargs.items() if key != "timeout"}
    place = {key: options.pop(key) for key in ("host", "port", "user", "password", "database") if key in options}
    url = _completed(pool._dsn or "postgresql://", place)
    options |= {"reset": pool._reset.mode, "dead_peer_after": pool._dead_peer_after}
    _refuse_objects(pool.name, {**options, **place})
    # libpq's own, which asyncpg knows, too: PGHOST, PGPASSWORD and the like.
    own = {name: value for name, value in os.environ.items() if name.startswith("PG")}
    return Address("postgres", url, options, {"DATABASE_URL": url, **own})


def _completed(dsn: str, place: Mapping[str, Any]) -> str:
    """The DSN with what keywords say instead: they have precedence."""
    if not place:
        return dsn
    parts = urlsplit(dsn)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    if (given := place.get("user")) is not None:
        user = quote(str(given), safe="")
    if (given := place.get("password")) is not None:
        password = quote(str(given), safe="")
    if place.get("host") is not None:
        names = [place["host"]] if isinstance(place["host"], str) else list(place["host"])
        hosts = ",".join(map(_host, names))
    if place.get("port") is not None:
        hosts = ",".join(f"{re.sub(':[0-9]+$', '', host)}:{place['port']}" for host in hosts.split(","))
    login = user + (f":{password}" if password else "")
    path = f"/{quote(str(place['database']), safe='')}" if place.get("database") else parts.path
    query = f"?{parts.query}" if parts.query else ""
    return f"postgresql://{login}{'@' if login else ''}{hosts}{path}{query}"


def _host(name: str) -> str:
    if name.startswith("/"):
        return quote(name, safe="")
    return f"[{name}]" if ":" in name else name


def _of_redis(pool: Any) -> Address:
    connections = pool._connections
    given = connections.connection_kwargs
    known = KINDS["redis"].options
    login = ""
    if given.get("username") or given.get("password"):
        login = f"{quote(given.get('username') or '', safe='')}:{quote(given.get('password') or '', safe='')}@"
    if path := given.get("path"):
        url = f"unix://{login}{path}?db={given.get('db', 0)}"
    else:
        scheme = "rediss" if "SSL" in connections.connection_class.__name__ else "redis"
        url = (
            f"{scheme}://{login}{_host(given.get('host', 'localhost'))}:{given.get('port', 6379)}/{given.get('db', 0)}"
        )
    in_url = ("host", "port", "db", "username", "password", "max_connections")
    options = {key: value for key, value in given.items() if key in known and key not in in_url}
    _refuse_objects(pool.name, options)
    return Address("redis", url, options, {"REDIS_URL": url})


def _refuse_objects(name: str, options: Mapping[str, Any]) -> None:
    for key, value in options.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            raise PoolConfigError(
                f"pool {name!r}: `{key}` is a {type(value).__name__}, which can't be told to the processes of scripts; "
                "give it as text"
            ) from None
