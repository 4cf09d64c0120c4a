"""`ShellText`: a shell command with `{{parameter}}` in it, of which no value ever becomes code.

No value is put into the text. Each stands in an environment variable, and the placeholder becomes a reference to that
in double quotes, which the shell expands last of all and never looks at again. For this the text is read as a shell
reads it (POSIX.1-2017, 2.2 Quoting): inside of the author's own quotes the reference has to look different.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from aiopool.toolserver._programs import ASSIGNMENT, Verdict
from aiopool.toolserver._shell_command import Command
from aiopool.toolserver.environment import variable

_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][\w.-]*)\s*\}\}", re.ASCII)
_HERE = re.compile(r"<<-?[ \t]*(\\?[\w.-]+|'[^'\n]*'|\"[^\"\n]*\")(?=[\s;&|()<>]|\Z)")
_REDIRECTION = re.compile(r"<<<|<>|[<>]&|>>|>\||&>>?|[<>](?!\()")
#: Stands for a placeholder in what has been read.
_VALUE = "\0"
#: Where a value can't be quoted.
_HOPELESS = {
    "backquotes": "backquotes (write `$(…)`)",
    **dict.fromkeys(("arithmetic", "group", "index"), "arithmetic"),
    "expansion": "a ${…}",
    "dollar": "$'…' (write '…')",
}
#: What ends them, and what begins and ends a part of them.
_ENDS = {"arithmetic": "))", "group": ")", "index": "]"}
_PARTS = {"(": "group", "[": "index"}


class ShellText:
    """Reads a text. `command` is what the shell gets; `problems` are what its author must change.

    `numbers` are parameters whose values can't be code, wherever they stand.
    """

    def __init__(self, text: str, numbers: Collection[str] = ()) -> None:
        #: The parameters that it names.
        self.names: dict[str, None] = {}
        #: Those that begin a word, where a program could take a value with a dash for an option.
        self.leading: set[str] = set()
        self.problems: dict[str, None] = {}
        self.text = text
        self._numbers = numbers
        self._at = 0
        self._out: list[str] = []
        #: What is open here, the innermost last: its kind, and the command around it.
        self._open: list[tuple[str, Command]] = []
        self._command = Command()
        self._here_words: list[str] = []
        #: Nobody can say where a here-document ends.
        self._is_opaque = False
        while self._at < len(text):
            self._step()
        if self._is_opaque and self.names:
            self._refuse("what ends its here-document can't be told; write a word such as `<<EOF`")
        if self._open and self.names:
            self._refuse("its quotes or parentheses don't match, so nobody can say what a placeholder stands in")
        self.command = "".join(self._out)

    @property
    def _kind(self) -> str:
        return self._open[-1][0] if self._open else "plain"

    def _step(self) -> None:
        kind, rest = self._kind, self.text[self._at : self._at + 3]
        if match := _PLACEHOLDER.match(self.text, self._at):
            self._place(match)
        elif kind == "single":
            self._quoted("single", "'")
        elif rest[0] in "\\$" and _PLACEHOLDER.match(self.text, self._at + 1):
            self._take(1)  # what follows is refused
        elif rest.startswith("\\\n"):
            self._pass(self._at + 2)
        elif rest[0] == "\\":
            self._take(2, reads=rest[1:2])
        elif kind == "dollar":
            self._quoted("dollar", "'")
        elif rest == "$((":
            self._enter("arithmetic", 3)
        elif rest.startswith("$["):
            self._enter("index", 2)
        elif rest.startswith("$("):
            self._enter("substitution", 2)
        elif rest.startswith("${"):
            self._enter("expansion", 2)
        elif rest[0] == "`":
            self._quoted("backquotes", "`")
        elif kind == "double":
            self._quoted("double", '"')
        elif kind == "expansion":
            self._quoted("expansion", "}")
        elif end := _ENDS.get(kind):
            if rest.startswith(end):
                self._leave(len(end))
            else:
                self._enter(_PARTS[rest[0]], 1) if rest[0] in _PARTS else self._take(1)
        else:
            self._step_outside_of_quotes(rest)

    def _step_outside_of_quotes(self, rest: str) -> None:
        command = self._command
        if rest.startswith("$'"):
            self._enter("dollar", 2)
        elif rest[0] in "\"'":
            self._quoted("double" if rest[0] == '"' else "single", rest[0])
        elif rest.startswith("((") and not command.is_in_word and command.words in ([], ["for"]):
            self._enter("arithmetic", 2)
        elif rest.startswith("()"):  # the name of a function stands before it
            self._separate(2)
        elif rest[0] == "(" and ASSIGNMENT.fullmatch(command.word):
            self._enter("subshell", 1)
            self._command.words = ["("]
            self._command.has_numbers |= command.declares("i")
        elif rest[0] == "(":
            self._enter("substitution" if self.text[self._at - 1 : self._at] in ("<", ">") else "subshell", 1)
        elif rest[0] == ")":
            command.end_word()  # it may be an `esac`
            self._leave(1) if self._open and not command.cases else self._separate(1)
        elif rest[0] == "#" and not command.is_in_word:
            end = self.text.find("\n", self._at)
            self._pass(end if end >= 0 else len(self.text))
        elif rest != "<<<" and (match := _HERE.match(self.text, self._at)):
            self._here_words.append(match[1].strip("'\"\\"))
            command.end_word()
            self._pass(match.end())
        elif rest.startswith("<<") and rest != "<<<":  # its end word is no plain one
            self._is_opaque = True
            self._take(2)
        elif match := _REDIRECTION.match(self.text, self._at):
            command.is_in_word = command.is_in_word and not re.fullmatch(r"\d+|\{\w+\}", command.word)
            command.end_word()
            command.redirection = match[0]
            command.is_split = command.is_split or match[0].startswith("&")
            self._pass(match.end())
        elif rest[0] in ";&|\n":
            self._separate(1)
            if rest[0] == "\n":
                self._pass_here_documents()
        elif rest[0].isspace():
            command.end_word()
            self._pass(self._at + 1)
        else:
            self._take(1)

    # -- one step

    def _pass(self, end: int) -> None:
        self._out.append(self.text[self._at : end])
        self._at = end

    def _take(self, count: int, reads: str | None = None) -> None:
        """As a part of the word; `reads` is what the shell makes of it."""
        piece = self.text[self._at : self._at + count]
        self._pass(self._at + len(piece))
        self._command.word += piece if reads is None else reads
        self._command.is_in_word = True

    def _quoted(self, kind: str, mark: str) -> None:
        """The mark begins it or ends it; all else is inside of it, or there would be another mark."""
        if self.text[self._at] != mark:
            self._take(1)
            return
        if self._kind == kind:
            self._open.pop()
        else:
            self._open.append((kind, self._command))
        self._take(1, reads="$" if kind == "backquotes" else "")

    def _enter(self, kind: str, count: int) -> None:
        self._take(count, reads="$")
        self._open.append((kind, self._command))
        if kind in ("substitution", "subshell"):
            self._command = Command(has_numbers=self._command.has_numbers)

    def _leave(self, count: int) -> None:
        _, self._command = self._open.pop()
        self._take(count, reads="")

    def _separate(self, count: int) -> None:
        self._command.end()
        self._pass(self._at + count)

    def _pass_here_documents(self) -> None:
        for word in self._here_words:
            end = re.compile(rf"^\t*{re.escape(word)}$", re.MULTILINE).search(self.text, self._at)
            stop = end.end() if end else len(self.text)
            for match in _PLACEHOLDER.finditer(self.text, self._at, stop):
                self.names[match[1]] = None
                self._refuse(f"{match[0]} stands in a here-document; write what is in it as `stdin:` instead")
            self._pass(stop)
        self._here_words.clear()

    def _place(self, match: re.Match[str]) -> None:
        name, command = match[1], self._command
        self._judge(match)
        self.names[name] = None
        if not command.word.strip(_VALUE) and "--" not in command.words:
            self.leading.add(name)
        reference = f"${{{variable(name)}}}"
        quoted = {"single": f"'\"{reference}\"'", **dict.fromkeys(("double", "expansion", *_ENDS), reference)}
        self._out.append(quoted.get(self._kind, f'"{reference}"'))
        command.word += _VALUE
        command.is_in_word = True
        self._at = match.end()

    # -- what a value would be

    def _judge(self, match: re.Match[str]) -> None:
        placeholder, kind, is_number = match[0], self._kind, match[1] in self._numbers
        before = self.text[match.start() - 1 : match.start()]
        around = next((each for each, _ in reversed(self._open) if each in _HOPELESS), None)
        reads = f"have it read the environment variable {variable(match[1])}"
        if around is not None and not (is_number and around in ("expansion", *_ENDS)):
            self._refuse(
                f"{placeholder} stands in {_HOPELESS[around]}, where a value can't be quoted; write it elsewhere"
            )
        elif kind != "single" and before in ("\\", "$"):
            self._refuse(f"{placeholder} follows a {before}, which would make something else of it; remove that")
        elif (verdict := self._verdict()) is Verdict.COMMAND:
            shown = f"command: sh, args: [-c, '{placeholder}']"
            self._refuse(f"{placeholder} would be the command to run; if callers may run any, write `{shown}`")
        elif is_number:
            return
        elif verdict is Verdict.CODE:
            self._refuse(f"{placeholder} would be code for another program, which no quoting makes safe; {reads}")
        elif verdict is Verdict.EDITS:
            self._refuse(f"{placeholder} would be a part of the program for sed or awk; {reads}")
        elif isinstance(verdict, str):
            remedy = "write `[ … ]` for `[[ … ]]`, or make the parameter an integer"
            self._refuse(f"{placeholder} would be evaluated by `{verdict}`; {remedy}")

    def _verdict(self) -> Verdict | str | None:
        """What it would be, or the builtin that would evaluate it."""
        for kind, outer in self._open:
            if kind == "substitution" and isinstance(verdict := outer.verdict(), Verdict):
                return verdict
        return self._command.verdict()

    def _refuse(self, problem: str) -> None:
        self.problems[problem] = None
