"""What the HTTPS server answers: 200 bytes, or a number that it was asked with. It is loaded by Granian alone."""

from __future__ import annotations

import asyncio
from typing import Any

#: How many numbers it was asked for.
asked = 0


async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Pages: `/` (200 bytes), `/number/{n}/{seconds}` (that number, after so long), `/asked` (how many numbers)."""
    global asked
    if scope["type"] != "http":
        return
    match scope["path"].split("/")[1:]:
        case ["number", number, seconds]:
            asked += 1
            await asyncio.sleep(float(seconds))
            body = number.encode()
        case ["asked"]:
            body = str(asked).encode()
        case _:
            body = b"x" * 200
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
