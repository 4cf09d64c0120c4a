"""TLS contexts: one for all who ask for nothing special."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path
from typing import Any

import httpx


@cache
def shared_ssl_context() -> ssl.SSLContext:
    """One for all clients of the process that say nothing of `verify`: loading the certificates takes 30 ms.

    They may differ in `http2`: what a connection offers is set right before each handshake.
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
