"""A fast HTTPS server, so that it is the clients that are measured: Granian, which is written in Rust."""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from aiopool import embedded
from aiopool.embedded.ports import free_port
from aiopool.embedded.server import running, wait_until


def granian() -> AbstractAsyncContextManager[Granian]:
    """HTTP/1.1 and HTTP/2 over TLS, in a process of its own; its pages are told at `app.answer`."""
    return running(Granian())


class Granian(embedded.HTTPSServer):
    """`metrics_url` answers over plain HTTP; its figures are a second old at most."""

    _wheel = "granian"
    _ready_line = b"Started worker-1"

    @property
    def metrics_url(self) -> str:
        return f"http://{self.host}:{self._metrics_port}/metrics"

    def _prepare(self) -> None:
        import trustme
        from cryptography.hazmat.primitives import serialization

        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", self.host)
        key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
        form = serialization.PrivateFormat.PKCS8
        pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        (self.folder / "key.pem").write_bytes(pem)
        certificate.cert_chain_pems[0].write_to_path(str(self.folder / "certificate.pem"))
        authority.cert_pem.write_to_path(str(self.ca_file))
        self._metrics_port = free_port()

    def _start(self) -> None:
        super()._start()
        # Its worker is told of before it listens, and connected to before it answers.
        if not wait_until(self._answers, embedded.START_TIMEOUT):
            raise RuntimeError(f"{self.kind} did not answer within {embedded.START_TIMEOUT:g} s")

    def _answers(self) -> bool:
        try:
            with urlopen(self.url, timeout=1.0, context=self.ssl_context) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except (OSError, HTTPException):
            return False

    def _program(self) -> list[str]:
        options = {
            "interface": "asgi",
            "host": self.host,
            "port": self.port,
            "ssl-certificate": self.folder / "certificate.pem",
            "ssl-keyfile": self.folder / "key.pem",
            "working-dir": Path(__file__).parent,
            # Longer than a contestant waits for its turn.
            "http1-header-read-timeout": 60_000,
            "metrics-port": self._metrics_port,
            "metrics-scrape-interval": 1,
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        return [sys.executable, "-P", "-m", "granian", *words, "--metrics", "app:answer"]
