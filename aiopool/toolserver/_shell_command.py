"""`Command`: one simple command of a shell's text, word by word, and what its next word would be."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from aiopool.toolserver._programs import ASSIGNMENT, STEERING, Verdict, inner_command, judge, reads_code

_KEYWORDS = frozenset({"if", "then", "else", "elif", "do", "while", "until", "!", "{"})
#: Builtins that take an argument for an expression, an assignment, a name or code.
_EVALUATING = re.compile(
    r"\[\[|let|unset|read|trap|alias|mapfile|readarray|getopts|hash|enable|complete|compgen|bind|fc"
)
#: Variables that take what they are assigned for an expression.
_NUMBERS = re.compile(r"(?:RANDOM|SECONDS|OPTIND|HISTCMD|LINENO|SRANDOM)\b")
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
    #: A `&>` has ended it, or redirected it: shells differ.
    is_split: bool = False

    def end_word(self) -> None:
        if self.is_in_word and self.redirection:
            self.redirection = ""
        elif self.is_in_word and (self.words or not (self.word in _KEYWORDS or ASSIGNMENT.match(self.word))):
            if not self.words:
                self.cases += {"case": 1, "esac": -1}.get(self.word, 0)
            self.words.append(self.word)
            # What follows the name of a function, or the `{` of a named coprocess, is a command.
            is_function = self.words[0] == "function" and len(self.words) == 2
            if is_function or (self.words[0] == "coproc" and self.words[2:] == ["{"]):
                self.words = []
        self.word, self.is_in_word = "", False

    def end(self) -> None:
        self.end_word()
        self.has_numbers = self.has_numbers or self.declares("in")
        self.words, self.redirection, self.is_split = [], "", False

    def verdict(self) -> Verdict | str | None:
        """What the word is that is being read, or what would evaluate it; None: data, as far as we know."""
        words, word = self.words, self.word
        if self.redirection:
            # What an interpreter without a file reads there is its code.
            is_read = words and self.redirection in ("<<<", "<", "<>") and reads_code(words)
            return Verdict.CODE if is_read else None
        if self.is_split:
            return Verdict.COMMAND
        if not words:
            return self._first_verdict()
        inner = inner_command(words, word)
        if inner is None or isinstance(inner, Verdict):
            return inner
        name, last = inner[0], inner[-1]
        if _EVALUATING.fullmatch(name):
            return name
        if _DECLARING.fullmatch(name):
            is_number = self.has_numbers or _NUMBERS.match(word)
            is_plain = ASSIGNMENT.match(word) and not self.declares("inaA") and not is_number
            return name if not is_plain else Verdict.CODE if STEERING.match(word) else None
        if name == "(" and (self.has_numbers or word.startswith("[")):
            return "[…]="
        if name in ("for", "select") and (self.has_numbers or _NUMBERS.match(" ".join(inner[1:2]))):
            return "declare -i"
        if (name, last) in (("wait", "-p"), ("jobs", "-x")):
            return f"{name} {last}"
        if name in ("printf", "test", "[") and (last in ("-v", "-R") or (name == "printf" and word.startswith("-v"))):
            return f"{name} -v"
        return judge(inner, word)

    def _first_verdict(self) -> Verdict | str | None:
        if re.match(r"\w+\[[^\]]*$", self.word):
            return "[…]="
        if not ASSIGNMENT.match(self.word):
            return Verdict.COMMAND
        if STEERING.match(self.word):
            return Verdict.CODE
        return "declare -i" if self.has_numbers or _NUMBERS.match(self.word) else None

    def declares(self, letters: str) -> bool:
        """Whether it declares variables of such a kind: i, n, a and A are numbers, references and arrays."""
        words = inner_command(self.words) if self.words else None
        if words is None or isinstance(words, Verdict) or not _DECLARING.fullmatch(words[0]):
            return False
        return any(re.fullmatch(rf"[-+]\w*[{letters}]\w*", word) for word in words)
