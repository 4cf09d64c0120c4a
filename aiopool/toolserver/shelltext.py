"""`ShellText`: a shell command with `{{parameter}}` in it, of which no value ever becomes code.

No value is put into the text. Each stands in an environment variable, and the placeholder becomes a reference to that
in double quotes, which the shell expands last of all and never looks at again. For this the text is read as a shell
reads it (POSIX.1-2017, 2.2 Quoting): inside of the author's own quotes the reference has to look different.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from aiopool.toolserver.environment import variable

_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][\w.-]*)\s*\}\}", re.ASCII)
_HERE = re.compile(r"<<-?[ \t]*(\\?[\w.-]+|'[^'\n]*'|\"[^\"\n]*\")")
#: Programs that take an argument for code.
_INTERPRETERS = re.compile(
    r"(?:^|\s)(?:eval|\S*\b(?:a|ba|da|k|z)?sh(?:\s+-\w+)*\s+-\w*c|\S*\bpython[\d.]*(?:\s+-\w+)*\s+-\w*c"
    r"|\S*\b(?:perl|ruby)(?:\s+-\w+)*\s+-\w*[eE]|\S*\bnode\s+(?:-\w*[ep]|--eval|--print)|\S*\bphp\s+-r)\s"
    r"|^\s*(?:\.|source)\s"
)
#: Programs whose first argument is code, and others are files.
_EDITORS = re.compile(r"(?:^|[\s/])(?:sed|[gmn]?awk)\s")
#: Builtins that take an argument for an assignment, an expression or code.
_EVALUATING = re.compile(
    r"^\s*(?:\[\[|(?:let|declare|typeset|local|export|readonly|unset|read|trap|alias|mapfile|readarray|getopts)\s"
    r"|printf\s+-v\s|(?:test|\[)\s+-v\s)"
)
_REDIRECTED = re.compile(r"[<>][ \t]*[\"']?$")
#: What may stand before the name of a command.
_BEFORE_COMMAND = re.compile(
    r"\s*(?:(?:if|then|else|elif|do|while|until|!|\{|time|exec|command|env|sudo|nohup|nice|xargs)\s+|\w+=\S*\s+)*"
)
#: Stands for a placeholder in what has been read.
_VALUE = "\0"
#: Where a value can't be quoted.
_HOPELESS = {
    "backquotes": "backquotes (write `$(…)`)",
    "arithmetic": "arithmetic",
    "expansion": "a ${…}",
    "dollar": "$'…' (write '…')",
}


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
        self._open: list[tuple[str, str]] = []
        #: The simple command, and the word of it, as far as they have been read.
        self._command = ""
        self._word = ""
        self._here_words: list[str] = []
        while self._at < len(text):
            self._step()
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
        elif rest[0] == "\\":
            self._take(2)
        elif kind == "dollar":
            self._quoted("dollar", "'")
        elif rest == "$((":
            self._enter("arithmetic", 3)
        elif rest.startswith("$("):
            self._enter("command", 2)
        elif rest.startswith("${"):
            self._enter("expansion", 2)
        elif rest[0] == "`":
            self._quoted("backquotes", "`")
        elif kind == "double":
            self._quoted("double", '"')
        elif kind == "expansion":
            self._quoted("expansion", "}")
        elif kind == "arithmetic":
            self._leave(2) if rest.startswith("))") else self._take(1)
        else:
            self._step_outside_of_quotes(rest)

    def _step_outside_of_quotes(self, rest: str) -> None:
        if rest.startswith("$'"):
            self._enter("dollar", 2)
        elif rest[0] in "\"'":
            self._quoted("double" if rest[0] == '"' else "single", rest[0])
        elif rest.startswith("((") and not self._command.strip():
            self._enter("arithmetic", 2)
        elif rest[0] == "(":
            self._enter("command", 1)
        elif rest[0] == ")":
            self._leave(1) if self._open else self._separate()
        elif rest[0] == "#" and not self._word:
            end = self.text.find("\n", self._at)
            self._out.append(self.text[self._at : end if end >= 0 else None])
            self._at += len(self._out[-1])
        elif rest != "<<<" and (match := _HERE.match(self.text, self._at)):
            self._here_words.append(match[1].strip("'\"\\"))
            self._take(len(match[0]))
        elif rest[0] in ";&|\n":
            self._separate()
            if rest[0] == "\n":
                self._pass_here_documents()
        else:
            self._take(1)
            if rest[0].isspace():
                self._word = ""

    # -- one step

    def _take(self, count: int) -> None:
        piece = self.text[self._at : self._at + count]
        self._at += len(piece)
        self._out.append(piece)
        self._command += piece
        self._word += piece

    def _quoted(self, kind: str, mark: str) -> None:
        """The mark begins it or ends it; all else is inside of it, or there would be another mark."""
        if self.text[self._at] != mark:
            self._take(1)
            return
        word = self._word
        if self._kind == kind:
            self._open.pop()
        else:
            self._open.append((kind, self._command))
        self._take(1)
        self._word = word  # quotes are no part of it

    def _enter(self, kind: str, count: int) -> None:
        self._take(count)
        self._open.append((kind, self._command))
        if kind == "command":
            self._command = self._word = ""

    def _leave(self, count: int) -> None:
        _, command = self._open.pop()
        self._take(count)
        self._command = self._word = command + ")"

    def _separate(self) -> None:
        self._take(1)
        self._command = self._word = ""

    def _pass_here_documents(self) -> None:
        for word in self._here_words:
            end = re.compile(rf"^\t*{re.escape(word)}$", re.MULTILINE).search(self.text, self._at)
            stop = end.end() if end else len(self.text)
            for match in _PLACEHOLDER.finditer(self.text, self._at, stop):
                self.names[match[1]] = None
                self._refuse(f"{match[0]} stands in a here-document; write what is in it as `stdin:` instead")
            self._out.append(self.text[self._at : stop])
            self._at = stop
        self._here_words.clear()

    def _place(self, match: re.Match[str]) -> None:
        name, kind = match[1], self._kind
        self._judge(match)
        self.names[name] = None
        is_first = not self._word.strip(_VALUE)
        if is_first and not re.search(r"\s--\s", self._command):
            self.leading.add(name)
        reference = f"${{{variable(name)}}}"
        quoted = {"double": reference, "single": f"'\"{reference}\"'", "arithmetic": reference, "expansion": reference}
        self._out.append(quoted.get(kind, f'"{reference}"'))
        self._command += _VALUE
        self._word += _VALUE
        self._at = match.end()

    def _judge(self, match: re.Match[str]) -> None:
        placeholder, kind = match[0], self._kind
        before = self.text[match.start() - 1 : match.start()]
        around = next((each for each, _ in reversed(self._open) if each in _HOPELESS), None)
        is_number, is_redirected = match[1] in self._numbers, not self._word and _REDIRECTED.search(self._command)
        reads = f"have it read the environment variable {variable(match[1])}"
        if around is not None and not (is_number and around in ("arithmetic", "expansion")):
            self._refuse(
                f"{placeholder} stands in {_HOPELESS[around]}, where a value can't be quoted; write it elsewhere"
            )
        elif kind != "single" and before in ("\\", "$"):
            self._refuse(f"{placeholder} follows a {before}, which would make something else of it; remove that")
        elif not self._word and _BEFORE_COMMAND.fullmatch(self._command.strip("\"'")):
            shown = f"command: sh, args: [-c, '{placeholder}']"
            self._refuse(f"{placeholder} would be the command to run; if callers may run any, write `{shown}`")
        elif is_number or is_redirected:
            return
        elif any(_INTERPRETERS.search(command) for command in (self._command, *(outer for _, outer in self._open))):
            self._refuse(f"{placeholder} would be code for another program, which no quoting makes safe; {reads}")
        elif (found := _EVALUATING.search(self._command)) and not re.fullmatch(r"\w+=.*", self._word, re.DOTALL):
            self._refuse(f"{placeholder} would be evaluated by `{found[0].strip()}`; write `[ … ]`, or assign it first")
        elif _EDITORS.search(self._command) and self._is_in_code():
            self._refuse(f"{placeholder} would be a part of the program for sed or awk; {reads}")

    def _is_in_code(self) -> bool:
        """Inside of quotes with more in them, unless that is an assignment such as `-v name="{{name}}"`."""
        return self._kind == "single" or (self._kind == "double" and not re.fullmatch(r"(?:\w+=)?", self._word))

    def _refuse(self, problem: str) -> None:
        self.problems[problem] = None
