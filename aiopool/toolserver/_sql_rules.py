"""Which statements are run at all. Defence in depth, and no more: what protects the data is the transaction that only
reads, the protocol that takes one statement, and above all the rights of the role.
"""

from __future__ import annotations

from itertools import dropwhile

from aiopool.telling import ToolFailure
from aiopool.toolserver._sql_text import first_word, lexemes

READING = frozenset({"select", "with", "values", "table", "show", "explain"})
WRITING = frozenset(
    {"insert", "update", "delete", "merge", "truncate", "create", "alter", "drop", "comment", "analyze", "refresh"}
)
#: What would end the transaction that the statement is run in, or speaks another protocol.
_NEVER = frozenset({"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare", "copy"})


def refuse_written(text: str, *, is_read_only: bool) -> None:
    """`ToolFailure` unless a statement that a model wrote begins with a word that is allowed."""
    if "\0" in text:  # it would end the connection
        raise ToolFailure("the statement holds the character U+0000, which no statement can hold")
    allowed = READING if is_read_only else READING | WRITING
    word = first_word(text)
    if word not in allowed:
        begins = f"begins with {word[:64].upper()}" if word else "begins with no keyword"
        raise ToolFailure(
            f"the statement {begins}: send one statement that begins with {', '.join(sorted(allowed)).upper()}"
            + (" (this tool only reads)" if is_read_only else "")
        )


def refused_in_file(text: str) -> str | None:
    """What is wrong with running that statement of a file as a tool."""
    word = first_word(text)
    if word in _NEVER:
        return f"{word.upper()} cannot be run as a tool, each call is a transaction of its own"
    if not text.strip():
        return "is empty; write a statement"
    after = [lexeme[0] for lexeme in dropwhile(lambda lexeme: lexeme[0] != ";", lexemes(text))]
    if any(each != ";" for each in after):
        return "has several statements, and a tool runs one; make more tools, or one statement of them by WITH"
    return None
