"""`Command`: one simple command of a shell's text, word by word, and what its next word would be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiopool.toolserver._programs import ASSIGNMENT, STEERING, Verdict, inner_command, judge

_KEYWORDS = frozenset({"if", "then", "else", "elif", "do", "while", "until", "!", "{"})
#: Builtins that take an argument for an expression, an assignment, a name or code.
_EVALUATING = re.compile(
    r"\[\[|let|unset|read|trap|alias|mapfile|readarray|getopts|hash|enable|complete|compgen|bind|fc"
)
_DECLARING = re.compile(r"declare|typeset|local|export|readonly")


@dataclass
class Command:
    """As far as it has been read. A word in which the shell expands something has a `$` in it."""

    #: From its name on: what stands before that, keywords and assignments, is no argument of anything.
    words: list[str] = field(default_factory=list)
    word: str = ""
    #: It has begun, though it may be empty as yet.
    is_in_word: bool = False
    #: What comes next is no word of it, but where it reads or writes.
    redirection: str = ""
    #: How many `case` there are around it: a `)` ends a pattern.
    cases: int = 0
    #: A variable was declared that takes what it is assigned for an expression.
    has_numbers: bool = False

    def end_word(self) -> None:
        if self.is_in_word and self.redirection:
            self.redirection = ""
        elif self.is_in_word and (self.words or not (self.word in _KEYWORDS or ASSIGNMENT.match(self.word))):
            if not self.words:
                self.cases += {"case": 1, "esac": -1}.get(self.word, 0)
            self.words.append(self.word)
        self.word, self.is_in_word = "", False

    def end(self) -> None:
        self.end_word()
        if (words := self.words) and _DECLARING.fullmatch(words[0]) and _is_evaluated(words):
            self.has_numbers = True
        self.words, self.redirection = [], ""

    def verdict(self) -> Verdict | str | None:
        """What the word is that is being read, or what would evaluate it; None: data, as far as we know."""
        words, word = self.words, self.word
        if self.redirection:
            # What an interpreter without a file reads there is its code.
            reads_code = words and self.redirection == "<<<" and judge(words, "") is Verdict.COMMAND
            return Verdict.CODE if reads_code else None
        if not words:
            return self._first_verdict()
        inner = inner_command(words, word)
        if inner is None or isinstance(inner, Verdict):
            return inner
        name, last = inner[0], inner[-1]
        if _EVALUATING.fullmatch(name):
            return name
        if _DECLARING.fullmatch(name):
            is_plain = ASSIGNMENT.match(word) and not _is_evaluated(inner)
            return name if not is_plain else Verdict.CODE if STEERING.match(word) else None
        if name in ("printf", "test", "[") and (last in ("-v", "-R") or (name == "printf" and word.startswith("-v"))):
            return f"{name} -v"
        return judge(inner, word)

    def _first_verdict(self) -> Verdict | str | None:
        if re.match(r"\w+\[[^\]]*$", self.word):
            return "[…]="
        if not ASSIGNMENT.match(self.word):
            return Verdict.COMMAND
        return Verdict.CODE if STEERING.match(self.word) else "declare -i" if self.has_numbers else None


def _is_evaluated(declaration: Sequence[str]) -> bool:
    """Whether what it declares are numbers, arrays or references."""
    return any(re.fullmatch(r"[-+]\w*[inaA]\w*", word) for word in declaration[1:])
