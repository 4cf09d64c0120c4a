"""The script of `gantz.yaml`: a query that a model has written, on a connection that outlives the call.

python -m aiopool serve examples/gantz/gantz.yaml        # main() is called in a warm worker
python examples/gantz/scripts/pooled_query.py 'select 1'  # by hand, with DATABASE_URL set
"""

import json
import sys
from typing import Any

from aiopool.script import connection


def main(query: str) -> dict[str, Any]:
    # Whoever writes the query is not trusted: it can read, and not for long.
    with connection() as db, db.transaction(readonly=True):
        rows = db.fetch(query, timeout=10)
    return {"rows": rows, "row_count": len(rows)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1]), default=str))
