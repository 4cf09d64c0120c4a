"""The kinds of pool that a configuration can name: their keys, their address, and how they are built.

A key that is not listed here cannot be written in a file, even if the driver would take it: that is what
makes a misspelt one visible.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from aiopool.config import PoolConfig
from aiopool.configvalues import (
    COUNT,
    FLAG,
    LIST,
    PAIR,
    SECONDS,
    TABLE,
    TEXT,
    ValueType,
    either,
    one_of,
    or_none,
)

Build = Callable[[str, str | None, PoolConfig | None, dict[str, Any]], Any]


@dataclass(frozen=True)
class Kind:
    """One kind of pool."""

    type: str
    #: A pool without `type:` whose name matches one of these is of this kind.
    names: tuple[str, ...]
    #: Keys for the address; the first is the one that messages propose.
    address_keys: tuple[str, ...]
    #: Where the address comes from if no key says it; None: this kind needs no address.
    variable: str | None
    #: Keys that say where the server is without an address.
    place_keys: tuple[str, ...]
    #: The adapter's keywords.
    options: Mapping[str, ValueType]
    build: Build
    #: What the adapter takes for `max_size` if nothing else is written.
    max_size: int
    #: Fields of PoolConfig that may be written; None: all.
    fields: frozenset[str] | None = None
    #: Keywords of the adapter that PoolConfig has under another name.
    same_as: Mapping[str, str] = field(default_factory=dict)

    def is_meant_by(self, name: str) -> bool:
        return any(fnmatchcase(name.lower(), pattern) for pattern in self.names)


def _postgres(name: str, address: str | None, config: PoolConfig | None, options: dict[str, Any]) -> Any:
    from aiopool.adapters.postgres import DatabasePool

    return DatabasePool(address, config, name=name, **options)


def _redis(name: str, address: str | None, config: PoolConfig | None, options: dict[str, Any]) -> Any:
    from aiopool.adapters.redis import RedisPool

    return RedisPool(address, config=config, name=name, **options)


def _http(name: str, address: str | None, config: PoolConfig | None, options: dict[str, Any]) -> Any:
    from aiopool.adapters.http import HTTPClientPool

    if config is not None:
        options["max_connections"] = config.max_size
    if config is not None and config.max_idle is not None:
        options["max_keepalive"] = config.max_idle
    return HTTPClientPool(address, name=name, **options)


_TEXTS = either(TEXT, LIST)
_FLAG_OR_TEXT = either(FLAG, TEXT)

_POSTGRES = Kind(
    type="postgres",
    names=("database", "db", "postgres*", "pg"),
    address_keys=("dsn", "url"),
    variable="DATABASE_URL",
    place_keys=("host", "service"),
    options={
        "reset": one_of("session", "transaction", "none"),
        "max_connections": COUNT,
        "host": _TEXTS,
        "port": COUNT,
        "user": TEXT,
        "password": TEXT,
        "passfile": TEXT,
        "service": TEXT,
        "servicefile": TEXT,
        "database": TEXT,
        "timeout": SECONDS,
        "statement_cache_size": COUNT,
        "max_cached_statement_lifetime": SECONDS,
        "max_cacheable_statement_size": COUNT,
        "command_timeout": or_none(SECONDS),
        "dead_peer_after": or_none(SECONDS),
        "ssl": _FLAG_OR_TEXT,
        "direct_tls": FLAG,
        "server_settings": TABLE,
        "target_session_attrs": TEXT,
        "krbsrvname": TEXT,
        "gsslib": TEXT,
    },
    build=_postgres,
    max_size=20,
    same_as={"max_connections": "max_size"},
)

_REDIS = Kind(
    type="redis",
    names=("redis", "cache"),
    address_keys=("url", "dsn"),
    variable="REDIS_URL",
    place_keys=("host",),
    options={
        "max_connections": COUNT,
        "host": TEXT,
        "port": COUNT,
        "db": COUNT,
        "username": TEXT,
        "password": TEXT,
        "batching": FLAG,
        "decode_responses": FLAG,
        "encoding": TEXT,
        "encoding_errors": TEXT,
        "client_name": TEXT,
        "protocol": COUNT,
        "socket_timeout": or_none(SECONDS),
        "socket_connect_timeout": or_none(SECONDS),
        "socket_keepalive": FLAG,
        "socket_read_size": COUNT,
        "retry_on_timeout": FLAG,
        # TLS itself is asked for by a rediss:// address.
        "ssl_keyfile": TEXT,
        "ssl_certfile": TEXT,
        "ssl_ca_certs": TEXT,
        "ssl_ca_path": TEXT,
        "ssl_ca_data": TEXT,
        "ssl_cert_reqs": one_of("required", "optional", "none"),
        "ssl_check_hostname": FLAG,
        "ssl_ciphers": TEXT,
        "ssl_password": TEXT,
    },
    build=_redis,
    max_size=50,
    same_as={"max_connections": "max_size"},
)

_HTTP = Kind(
    type="http",
    names=("http", "https", "api"),
    address_keys=("base_url", "url"),
    variable=None,
    place_keys=(),
    options={
        "max_connections": COUNT,
        "max_keepalive": COUNT,
        "keepalive_expiry": or_none(SECONDS),
        "timeout": or_none(SECONDS),
        "http1": FLAG,
        "http2": FLAG,
        "headers": TABLE,
        "params": TABLE,
        "cookies": TABLE,
        "auth": PAIR,
        "verify": _FLAG_OR_TEXT,
        "cert": either(TEXT, PAIR),
        "proxy": TEXT,
        "trust_env": FLAG,
        "follow_redirects": FLAG,
        "max_per_origin": COUNT,
        "max_redirects": COUNT,
        "default_encoding": TEXT,
    },
    build=_http,
    max_size=100,
    # Of the others it decides by itself, for each origin's pool; to accept one and do nothing would be a lie.
    fields=frozenset({"max_size", "max_idle"}),
    same_as={"max_connections": "max_size", "max_keepalive": "max_idle"},
)

KINDS: dict[str, Kind] = {kind.type: kind for kind in (_POSTGRES, _REDIS, _HTTP)}
