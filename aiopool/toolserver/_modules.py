"""`Modules`: what the tools' own code imports, kept between calls and forgotten when it changes."""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

#: What is installed stays as it is while the process lives.
_INSTALLED = tuple(
    {
        os.path.join(os.path.realpath(path), "")
        for key, path in sysconfig.get_paths().items()
        if key in ("stdlib", "platstdlib", "purelib", "platlib")
    }
)
_PACKAGES = {"site-packages", "dist-packages"}
_Signature = tuple[int, int] | None


def signature(file: str) -> _Signature:
    """Differs when the file has been written to; None if there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


class Modules:
    """The modules of one folder's code that are not installed: those of the folder and others that it finds.

    Two folders may have modules of the same name, so each sees its own in `sys.modules`, and only while it is in use.
    """

    def __init__(self) -> None:
        self._kept: dict[str, ModuleType] = {}
        self._signatures: dict[str, _Signature] = {}
        #: Counts how often they were forgotten.
        self.generation = 0

    def refresh(self) -> None:
        """Forget all of them if one has changed: what they import of each other is bound together."""
        if any(signature(file) != known for file, known in self._signatures.items()):
            self._kept.clear()
            self._signatures.clear()
            self.generation += 1
            importlib.invalidate_caches()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        before = set(sys.modules)
        sys.modules.update(self._kept)
        try:
            yield
        finally:
            for name in sys.modules.keys() - before:
                module = sys.modules[name]
                if is_own(name, module):
                    del sys.modules[name]
                    if name not in self._kept:
                        self._kept[name] = module
                        if file := getattr(module, "__file__", None):
                            self._signatures[file] = signature(file)


def is_own(name: str, module: object) -> bool:
    """Whether it is the author's, not installed: a compiled one could not be imported twice."""
    file = getattr(module, "__file__", None)
    if file is None:
        file = next(iter(getattr(module, "__path__", ())), None)  # a package without an __init__
    if not isinstance(file, str) or name.partition(".")[0] == __name__.partition(".")[0]:
        return False
    path = os.path.realpath(file)
    return not path.startswith(_INSTALLED) and not _PACKAGES & set(path.split(os.sep))
