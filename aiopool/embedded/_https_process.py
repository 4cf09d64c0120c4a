"""The HTTPS server of `embedded`, a program of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import trustme
from hypercorn.asyncio import serve
from hypercorn.config import Config


def serve_https(folder: str, port: int) -> None:
    """Serve `answer` over HTTP/1.1 and HTTP/2 with a certificate of our own authority (`ca.pem`)."""
    home = Path(folder)
    if not (home / "ca.pem").exists():
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(home / "server.pem"))
        authority.cert_pem.write_to_path(str(home / "ca.pem"))

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.certfile = config.keyfile = str(home / "server.pem")
    # Idle connections stay as long as behind a common reverse proxy: a pool, not this server, decides.
    config.keep_alive_timeout = 75
    config.keep_alive_max_requests = 1_000_000
    config.graceful_timeout = 0.5

    async def run() -> None:
        ending = asyncio.Event()
        loop = asyncio.get_running_loop()

        def end() -> None:
            ending.set()
            # From Python 3.12 on a listening socket waits for idle keep-alive connections, for 75 s here.
            loop.call_later(1.0, os._exit, 0)

        loop.add_signal_handler(signal.SIGTERM, end)
        await serve(answer, config, shutdown_trigger=ending.wait)  # type: ignore[arg-type]

    asyncio.run(run())


async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The ASGI app; its pages are told at `embedded.https`."""
    if scope["type"] != "http":
        return
    page, _, argument = scope["path"][1:].partition("/")
    number = int(argument) if argument.isdecimal() else None
    status, body, chunks = 200, b"", 0
    body_type = b"application/octet-stream"
    match page, number:
        case "", None:
            body = b"x" * 200
        case "echo", None:
            body, body_type = await echo(scope, receive), b"application/json"
        case "delay", int(milliseconds):
            await asyncio.sleep(milliseconds / 1000)
        case "bytes", int(size):
            body = b"x" * size
        case "stream", int(chunks):
            pass
        case "status", int(status) if 200 <= status <= 599:
            pass
        case _:
            status, body = 404, b"not found"
    headers = [(b"content-type", body_type)]
    if page != "stream" and status not in (204, 304):
        headers.append((b"content-length", str(len(body)).encode()))
    if scope["method"] == "HEAD":
        body, chunks = b"", 0
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for _ in range(chunks):
        await send({"type": "http.response.body", "body": b"x" * 1024, "more_body": True})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: dict[str, Any], receive: Any) -> bytes:
    received, more = b"", True
    while more:
        message = await receive()
        received += message.get("body", b"")
        more = message.get("more_body", False)
    return json.dumps(
        {
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode("latin-1"),
            "http_version": scope["http_version"],
            "client": list(scope["client"] or ()),
            "headers": {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
            "body": received.decode("utf-8", "replace"),
        }
    ).encode()


if __name__ == "__main__":
    serve_https(sys.argv[1], int(sys.argv[2]))
