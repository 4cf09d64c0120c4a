"""A server that repeats in its complaints what it was sent, as Redis did before version 6, and proxies do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """Its address, as `host:port`."""

    async def complain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while sent := await reader.read(65536):
                command, *arguments = (word.decode(errors="replace") for word in sent.split(b"\r\n")[2::2])
                quoted = ", ".join(f"`{argument}`" for argument in arguments)
                writer.write(f"-ERR unknown command `{command}`, with args beginning with: {quoted}\r\n".encode())
        writer.close()

    async with await asyncio.start_server(complain, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
