"""An HTTP API: many requests over few connections; with HTTP/2, over one.

python examples/http_api.py        # against a small HTTPS server that it starts
"""

from __future__ import annotations

import asyncio

from aiopool import HTTPClientPool, embedded


async def main() -> None:
    async with (
        embedded.https() as server,
        # The server's certificate is its own; an API on the internet needs no `verify`.
        HTTPClientPool(server.url, max_connections=50, verify=server.ssl_context) as api,
    ):
        order = (await api.post("/echo", json={"id": 1})).json()
        print("sent with", order["method"], order["path"])

        answers = await asyncio.gather(*(api.get(f"/bytes/{size}") for size in range(100)))
        versions = {answer.http_version for answer in answers}
        print(f"{len(answers)} answers in {versions} over {api.stats()['size']} connection(s)")

        # A long answer, read as it comes.
        async with api.stream("GET", "/stream/20") as answer:
            print("streamed:", sum([len(chunk) async for chunk in answer.aiter_bytes()]), "bytes")


if __name__ == "__main__":
    asyncio.run(main())
