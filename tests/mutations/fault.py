"""One fault, and the tree that it is planted in: a copy, never the tree itself."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What a trial needs of the tree: the core, the simulation, and the unit tests.
NEEDED = (
    "aiopool",
    "pyproject.toml",
    "tests/conftest.py",
    "tests/fakes.py",
    "tests/mutations",
    "tests/simulation",
    "tests/unit",
)


class OutOfDate(Exception):
    """The core has changed, and the fault does not fit it any more."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that a careful engineer could get wrong, as a replacement of a few words in one file."""

    #: What is wrong then, as a sentence.
    name: str
    #: Below `aiopool/`.
    file: str
    #: Must occur exactly once.
    original: str
    replacement: str
    #: How one comes to write it.
    why: str
    #: The unit tests to ask first, if the simulation finds nothing: "close" is `tests/unit/test_close.py`.
    ask: str

    def mutated(self, tree: Path) -> str:
        """The file with the fault in it. Raises `OutOfDate` if its words are not there, or not once."""
        text = (tree / "aiopool" / self.file).read_text(encoding="utf-8")
        if (count := text.count(self.original)) != 1:
            raise OutOfDate(
                f"{self.name!r}: its words occur {count} times in aiopool/{self.file}, not once: "
                f"look at what has changed there, and write the fault anew:\n{self.original}"
            )
        text = text.replace(self.original, self.replacement)
        try:
            compile(text, self.file, "exec", dont_inherit=True)
        except SyntaxError as exc:
            raise OutOfDate(f"{self.name!r}: aiopool/{self.file} is no Python any more with it: {exc}") from exc
        return text

    def plant(self, tree: Path) -> None:
        """In a copy."""
        text = self.mutated(tree)
        (tree / "aiopool" / self.file).write_text(text, encoding="utf-8")


def copy_tree(root: Path, target: Path) -> None:
    for name in NEEDED:
        source, copy = root / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, copy)
