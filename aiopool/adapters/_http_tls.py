"""TLS contexts: one for all who ask for nothing special."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path
from typing import Any, Self

import httpx


@cache
def shared_ssl_context() -> ssl.SSLContext:
    """One for all clients of the process that say nothing of `verify`: loading the certificates takes 30 ms.

    They may differ in `http2`: see `Offer`.
    """
    return httpx.create_ssl_context()


def ssl_context(verify: Any, cert: Any, trust_env: bool) -> ssl.SSLContext:
    """What `verify`, `cert` and `trust_env` mean to httpx; `verify` may also be a path."""
    if verify is True and cert is None and trust_env:
        return shared_ssl_context()
    if isinstance(verify, ssl.SSLContext) and cert is None:
        return verify
    if isinstance(verify, (str, Path)):
        # httpx takes a path with a warning; a file says which authorities to trust, and so does a folder.
        is_folder = Path(verify).is_dir()
        verify = ssl.create_default_context(cafile=None if is_folder else verify, capath=verify if is_folder else None)
    return httpx.create_ssl_context(verify=verify, cert=cert, trust_env=trust_env)


class Offer(ssl.SSLContext):
    """Another context, that of its connections, with protocols to offer (ALPN).

    Contexts are shared, and what one offers is a state of it: so it is set in the very step that a handshake begins in.
    """

    _context: ssl.SSLContext
    _protocols: list[str]

    def __new__(cls, context: ssl.SSLContext, protocols: list[str]) -> Self:
        self = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        self._context, self._protocols = context, protocols
        return self

    def __init__(self, context: ssl.SSLContext, protocols: list[str]) -> None:
        pass

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        self._context.set_alpn_protocols(self._protocols)
        return self._context.wrap_bio(*args, **kwargs)
