"""Where a statement has its parameters, and what it begins with: as PostgreSQL reads text, not as it looks.

A colon or a dollar sign in a literal, a comment, a quoted name or a cast is no parameter. The lexical rules are those
of chapter 4.1 of PostgreSQL's manual, with `standard_conforming_strings` on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from aiopool.configfile import suggest

_SPACE = r"[ \t\n\r\f\v]"
_LETTER = r"A-Za-z_\x80-\U0010ffff"
#: A literal with backslashes goes on in the next line, and there, too, the backslash has its meaning.
_REST_OF_ESCAPED = r"(?:[^'\\]++|''|\\.)*+\\?(?:'|\Z)"
_CONTINUES = rf"[ \t\f\v]*+(?:--[^\n\r]*+)?[\n\r](?:{_SPACE}++|--[^\n\r]*+[\n\r])*+'"

_LEXEME = re.compile(
    rf"""
    (?P<blank> {_SPACE}++ | --[^\n\r]*+ )
  | (?P<comment> /\* )
  | (?P<literal>
        [eE]'{_REST_OF_ESCAPED}(?:{_CONTINUES}{_REST_OF_ESCAPED})*+
      | '(?:[^']++|'')*+(?:'|\Z)
      | "(?:[^"]++|"")*+(?:"|\Z)
      | \$(?P<tag>(?:[{_LETTER}][{_LETTER}0-9]*+)?)\$.*?(?:\$(?P=tag)\$|\Z)
    )
  | (?P<word> [{_LETTER}][{_LETTER}0-9$]*+ )
  | \$(?P<number>[0-9]+)
  | ::
  | :(?P<name>[A-Za-z_][A-Za-z0-9_]*+)
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
#: What stands right before a parameter in no statement, but before the colon of an array's slice.
_ADJOINED = re.compile(rf"[{_LETTER}0-9$\])\"']")
_COMMENT_MARK = re.compile(r"/\*|\*/")


def lexemes(text: str) -> Iterator[re.Match[str]]:
    """The parts of a text that mean something: `lastgroup` is `literal`, `word`, `number`, `name`, `other` or None."""
    at = 0
    while match := _LEXEME.match(text, at):
        at = match.end()
        if match["comment"]:
            at = _end_of_comment(text, at)
        elif not match["blank"]:
            yield match


def _end_of_comment(text: str, at: int) -> int:
    depth = 1
    while depth and (mark := _COMMENT_MARK.search(text, at)):
        depth += 1 if mark[0] == "/*" else -1
        at = mark.end()
    return at if not depth else len(text)


def first_word(text: str) -> str:
    """The word that a statement begins with, in small letters; "" if it begins with none.

    Opening parentheses may stand before it, as in `(select 1) union (select 2)`, and empty statements.
    """
    for lexeme in lexemes(text):
        if lexeme[0] not in "(;":
            return (lexeme["word"] or "").lower()
    return ""


def numbered(text: str, parameters: tuple[str, ...]) -> tuple[str, tuple[str, ...], list[str]]:
    """The text with `$1`, `$2` … for the parameters, the names that these stand for, and what is wrong with it.

    In the text they are written `:name`, or `$1` in the order of `parameters`, but not both.
    """
    names: dict[str, int] = {}
    pieces: list[str] = []
    problems: list[str] = []
    styles: set[str] = set()
    at = 0
    for lexeme in lexemes(text):
        if lexeme["name"]:
            name, styles = lexeme["name"], styles | {":"}
            if _ADJOINED.match(text, lexeme.start() - 1):
                problems.append(
                    f":{name} needs a space before it, or after its colon if that belongs to a slice, a[1: n]"
                )
            elif name not in parameters:
                problems.append(f":{name} is no parameter of this tool{suggest(name, parameters)}")
        elif lexeme["number"]:
            number, styles = int(lexeme["number"]), styles | {"$"}
            if not 1 <= number <= len(parameters):
                has = f"the tool has {len(parameters)}" if parameters else "the tool has none"
                problems.append(f"${number} is no parameter: {has}, numbered from 1 in the order of `parameters`")
            name = parameters[number - 1] if 1 <= number <= len(parameters) else ""
        else:
            continue
        pieces += [text[at : lexeme.start()], f"${names.setdefault(name, len(names) + 1)}"]
        at = lexeme.end()
    if len(styles) == 2:
        problems.append("has parameters of both kinds, :name and $1; write all in one way")
    return "".join([*pieces, text[at:]]), tuple(names), list(dict.fromkeys(problems))
