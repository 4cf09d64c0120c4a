"""What it means that SQLAlchemy could not open a connection."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy.exc import DBAPIError

#: Classes of SQLSTATE: data, authorization, database, schema, and syntax or access rule. A server that is full,
#: starting or stopping, or a lost connection, has another one.
FATAL_CLASSES = frozenset({"22", "28", "3D", "3F", "42"})
#: For psycopg, to which libpq tells nothing but a text; one in another language is taken for what may pass.
FATAL_TEXT = re.compile(
    r'FATAL: +(password authentication failed|(database|role) ".*" does not exist|no pg_hba\.conf entry)', re.DOTALL
)


def is_fatal(error: BaseException, dialect: Any) -> bool:
    """Whether opening again cannot help: wrong password, unknown database, wrong parameters.

    A server that is starting, stopping, full or out of reach may be better soon.
    """
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        return state[:2] in FATAL_CLASSES
    if isinstance(error, (ValueError, TypeError)):  # SSLCertVerificationError is one
        return True
    if isinstance(error, (OSError, EOFError)):
        return False
    if isinstance(error, dialect.loaded_dbapi.Error) or type(error).__module__.partition(".")[0] == dialect.driver:
        return FATAL_TEXT.search(str(error)) is not None
    return False
