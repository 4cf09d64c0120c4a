"""The kinds of pools that must all behave alike, each on a real server.

To add one: derive a class from `Kind` (or from a kind that it resembles), fill in what `Kind` leaves open, and put it
into `KINDS`. Every behaviour then runs against it. What such a pool cannot do by its nature goes into `cannot`, under
the name of the test, with the reason: the test then has to fail, and `pytest tests/conformance/test_kinds.py -s` prints
all of these.
"""

from __future__ import annotations

from tests.conformance.kinds.core import Core, Session, Shared
from tests.conformance.kinds.http import HTTP1, HTTP2
from tests.conformance.kinds.kind import Kind
from tests.conformance.kinds.postgres import Database, DatabaseByTransaction, DatabaseWithoutReset
from tests.conformance.kinds.redis import Redis, RedisBatching

__all__ = ["KINDS", "Kind"]

KINDS: tuple[type[Kind], ...] = (
    *(Core, Session, Shared),
    *(Database, DatabaseByTransaction, DatabaseWithoutReset),
    *(Redis, RedisBatching, HTTP1, HTTP2),
)
