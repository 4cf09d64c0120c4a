"""PostgreSQL: queries, a transaction, and what one caller leaves behind for the next, which is nothing.

python examples/postgres.py        # starts a PostgreSQL of its own, or uses DATABASE_URL
"""

from __future__ import annotations

import asyncio

from aiopool import DatabasePool, PoolConfig, embedded


async def main() -> None:
    async with (
        embedded.postgres() as server,
        DatabasePool(server.dsn, PoolConfig(min_size=2, max_size=5)) as db,
    ):
        # The shape of the article's pool: `execute` returns the rows.
        print("execute:", [dict(row) for row in await db.execute("select $1::int as answer", 42)])

        # Several statements on one connection; commits on success, rolls back on an error.
        async with db.transaction(isolation="serializable") as connection:
            await connection.execute("create temp table orders (id int, total numeric) on commit drop")
            await connection.executemany("insert into orders values ($1, $2)", [(1, 10), (2, 32)])
            print("in the transaction:", await connection.fetchval("select sum(total) from orders"))

        # Settings, roles and temporary tables end with the lease: they are cleared in the background.
        async with db.connection() as connection:
            await connection.execute("set statement_timeout = 1000; create temp table mine (id int)")
        print("the next caller's table of that name:", await db.fetchval("select to_regclass('mine')"))

        # 100 queries share at most five connections. `timeout` bounds the whole call, the waiting included.
        squares = await asyncio.gather(*(db.fetchval("select $1::int * $1::int", n, timeout=10) for n in range(100)))
        stats = db.stats()
        print(f"{len(squares)} squares; {stats['acquired']} leases of {stats['opened']} connections")


if __name__ == "__main__":
    asyncio.run(main())
