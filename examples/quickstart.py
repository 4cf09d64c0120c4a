"""The bare core: pool anything that is opened and closed. Here, plain TCP connections to a small echo server.

python examples/quickstart.py
"""

from __future__ import annotations

import asyncio

from aiopool import ConnectionPool, PoolConfig

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


def is_alive(connection: Connection) -> bool:
    reader, writer = connection
    return not (reader.at_eof() or writer.is_closing())


async def close(connection: Connection) -> None:
    _, writer = connection
    writer.close()
    await writer.wait_closed()


async def main() -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()

    pool: ConnectionPool[Connection] = ConnectionPool(
        lambda: asyncio.open_connection(host, port),
        PoolConfig(min_size=2, max_size=5),
        validator=is_alive,
        destroyer=close,
        name="echo",
    )

    async def ask(number: int) -> str:
        async with pool.acquire() as (reader, writer):
            writer.write(f"request {number}\n".encode())
            return (await reader.readline()).decode().strip()

    async with server, pool:
        answers = await asyncio.gather(*(ask(number) for number in range(100)))
        stats = pool.stats()
        print(f"{len(answers)} answers, the last one: {answers[-1]}")
        print(f"{stats['acquired']} leases of {stats['opened']} connections; {stats['waited']} callers stood in line")


if __name__ == "__main__":
    asyncio.run(main())
