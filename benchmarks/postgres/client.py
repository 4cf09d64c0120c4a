"""Who takes part in `postgres`."""

from __future__ import annotations

from aiopool import embedded
from benchmarks import servers

QUERY = "select 1"


class Client(servers.Client):
    """A way to have `QUERY` answered."""

    package = "aiopool-core[postgres]"

    def __init__(self, server: embedded.PostgresServer) -> None:
        self.dsn = server.dsn
