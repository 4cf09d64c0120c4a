"""What processes of tools see of the environment: what programs need to run, and nothing that may be secret."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from aiopool.toolserver.template import as_text

_NAMES = (
    "HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "PYTHONPATH", "SHELL", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR",
    "TZ", "USER", "VIRTUAL_ENV", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR",
)  # fmt: skip
_PREFIXES = ("AIOPOOL_ARG_", "GANTZ_ARG_")
#: In bytes. Linux takes 128 KiB in one text, name included.
LONGEST = 100_000


def inherited() -> dict[str, str]:
    """What every child gets."""
    own = {name: value for name, value in os.environ.items() if name in _NAMES or name.startswith("LC_")}
    return {"PATH": os.defpath, **own}


def variable(parameter: str) -> str:
    """`page-size` is in `AIOPOOL_ARG_PAGE_SIZE`."""
    return _PREFIXES[0] + _upper(parameter)


def of_arguments(arguments: Mapping[str, Any]) -> dict[str, str]:
    """The arguments as variables; what is too long for one, or holds a null character, is left out."""
    return {
        prefix + _upper(name): text
        for name, value in arguments.items()
        if fits(text := as_text(value))
        for prefix in _PREFIXES
    }


def fits(text: str) -> bool:
    """Whether it can be a variable or an argument of a process."""
    return "\0" not in text and len(text.encode(errors="replace")) <= LONGEST


def clashes(parameters: Iterable[str]) -> list[tuple[str, str]]:
    """Parameters that would be in the same variable."""
    first: dict[str, str] = {}
    return [(first[key], name) for name in parameters if first.setdefault(key := _upper(name), name) != name]


def _upper(parameter: str) -> str:
    return re.sub(r"[^A-Z0-9_]", "_", parameter.upper())
