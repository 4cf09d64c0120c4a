"""Hypercorn, with a certificate of its own; what it runs is `_https_process`."""

from __future__ import annotations

import functools
import ssl
import sys
from pathlib import Path

from aiopool.embedded.server import Server, find_wheel

_PROGRAM = Path(__file__).with_name("_https_process.py")


class HTTPSServer(Server):
    """An HTTPS server with a certificate from an authority of its own."""

    kind = "HTTPS"
    _wheel = "hypercorn"
    _ready_line = b"Running on https://"

    @property
    def url(self) -> str:
        """`https://127.0.0.1:port`, without a slash at its end."""
        return f"https://{self.host}:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The authority's certificate, for clients that want a file."""
        return self.folder / "ca.pem"

    @functools.cached_property
    def ssl_context(self) -> ssl.SSLContext:
        """A client's context that trusts this server and no other."""
        return ssl.create_default_context(cafile=self.ca_file)

    def _prepare(self) -> None:
        find_wheel("trustme")

    def _program(self) -> list[str]:
        return [sys.executable, "-P", str(_PROGRAM), str(self.folder), str(self.port)]
