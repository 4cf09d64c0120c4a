"""The script of `benchmarks/mcp/scripts.py`."""

from typing import Any

from aiopool.script import connection


def main() -> dict[str, Any]:
    with connection() as db:
        return {"rows": db.fetch("select 1 as one")}


if __name__ == "__main__":
    print(main())
