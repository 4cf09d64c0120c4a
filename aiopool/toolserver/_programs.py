"""Which of a program's arguments are code, or another program: for those who put values into arguments.

A command is a list of words, without their quotes. A word in which the shell expands something has a `$` in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache

Words = Sequence[str]


class Verdict(Enum):
    """What a word is."""

    CODE = "code"
    EDITS = "a program for sed or awk"
    COMMAND = "a program to run"


Judge = Callable[[Words, str], Verdict | None]

ASSIGNMENT = re.compile(r"\w+(?:\[[^\]]*\])?\+?=", re.ASCII)
#: What programs run, or where they look for it, depends on them.
STEERING = re.compile(
    r"(?:PATH|IFS|ENV|BASH_ENV|SHELLOPTS|BASHOPTS|PS4|PROMPT_COMMAND|LD_\w+|DYLD_\w+|EDITOR|VISUAL|PAGER|SHELL"
    r"|PYTHON(?:PATH|HOME|STARTUP|INSPECT|BREAKPOINT|WARNINGS)|PERL5\w+|RUBY(?:OPT|LIB)|NODE_(?:OPTIONS|PATH)"
    r"|GIT_(?!AUTHOR_|COMMITTER_)\w+)(?:\[[^\]]*\])?\+?=",
    re.ASCII,
)
#: What follows could make another option of it.
_OPEN_OPTION = re.compile(r"-\w*|--[\w-]*", re.ASCII)


def judge(words: Words, begun: str) -> Verdict | None:
    """What the word is that begins so, behind these words of its command; None: data, as far as we know."""
    rest = inner_command(words, begun)
    if rest is None or isinstance(rest, Verdict):
        return rest
    if "$" in _name(rest[0]):  # it could be a shell
        return Verdict.CODE if any(_ANY_CODE.match(word) for word in (*rest[1:], begun)) else None
    if _name(rest[0]) in _TAKERS:
        is_file_given = rest[0] in (".", "source") and len(rest) > 1
        return None if is_file_given else Verdict.CODE
    for at, word in enumerate(rest):
        if (interpreter := _interpreter(_name(word))) is not None:
            verdict = interpreter(rest[at + 1 :], begun)
            # A program that we don't know may run what stands behind it, as `docker exec` does.
            if at == 0 or (verdict is Verdict.CODE and interpreter is not _ssh):
                return verdict
    return None


def inner_command(words: Words, begun: str = "") -> Words | Verdict | None:
    """The command that `env`, `timeout` and the like run in the end; or, if it does not stand yet, what comes now."""
    while (runner := _RUNNERS.get(_name(words[0]))) is not None:
        at = runner.command_at(words, begun)
        if at is None or isinstance(at, Verdict):
            return at
        if at == len(words):
            return Verdict.COMMAND
        words = words[at:]
    return words


def reads_code(words: Words) -> bool:
    """Whether what it reads from its standard input is code."""
    rest = inner_command(words)
    if rest is None or isinstance(rest, Verdict):
        return rest is not None
    name, behind = _name(rest[0]), rest[1:]
    interpreter = _interpreter(name)
    if not _STDIN.isdisjoint(behind) and (interpreter is not None or name in _TAKERS):
        return True
    if interpreter is None or interpreter is _ssh:
        return interpreter is _ssh
    is_told_so = interpreter is _shell and any(re.fullmatch(r"-\w*s\w*", word) for word in behind)
    return is_told_so or interpreter(behind, "") is Verdict.COMMAND


_STDIN = frozenset({"-", "/dev/stdin", "/dev/fd/0"})


@lru_cache(maxsize=1024)
def _interpreter(name: str) -> Judge | None:
    return next((judge for names, judge in _INTERPRETERS.items() if re.fullmatch(names, name)), None)


def _name(word: str) -> str:
    return word.rpartition("/")[2]


@dataclass(frozen=True)
class _Runner:
    """A program that runs another."""

    #: Options that take a value, and those of which that is a command line.
    valued: str = ""
    lines: str = ""
    #: How many words of its own stand before the command.
    own: int = 0
    assigns: bool = False

    def command_at(self, words: Words, begun: str) -> int | Verdict | None:
        at, own, lines, valued = 1, self.own, self.lines.split(), self.valued.split()
        while at < len(words):
            word = _last_option(words[at], [*lines, *valued])
            if word in lines and at == len(words) - 1:
                return Verdict.CODE
            if word in valued or word in lines:
                at += 2
            elif word.startswith("-") or (self.assigns and ASSIGNMENT.match(word)):
                at += 1
            elif own:
                own, at = own - 1, at + 1
            else:
                return at
        if at > len(words):  # this is the value of an option
            return None
        if begun.startswith("-"):
            is_open = _OPEN_OPTION.fullmatch(begun) and begun not in valued
            return Verdict.CODE if lines and (is_open or begun.startswith(tuple(lines))) else None
        if self.assigns and ASSIGNMENT.match(begun):
            return Verdict.CODE if STEERING.match(begun) else None
        return None if own else at


def _last_option(word: str, known: Sequence[str]) -> str:
    """`-qc` is `-q -c`."""
    last = f"-{word[-1:]}"
    return last if re.fullmatch(r"-[A-Za-z0-9]+", word) and last in known else word


class _Command(_Runner):
    """With `-v` it only looks for one."""

    def command_at(self, words: Words, begun: str) -> int | Verdict | None:
        return None if len(words) > 1 and words[1] in ("-v", "-V") else super().command_at(words, begun)


class _Find(_Runner):
    def command_at(self, words: Words, begun: str) -> int | Verdict | None:
        runs = [at for at, word in enumerate(words) if word in ("-exec", "-execdir", "-ok", "-okdir")]
        return runs[-1] + 1 if runs else None


_RUNNERS = {
    "env": _Runner("-u --unset -C --chdir", "-S --split-string", assigns=True),
    "timeout": _Runner("-s --signal -k --kill-after", own=1),
    "nice": _Runner("-n --adjustment"),
    "ionice": _Runner("-c --class -n --classdata"),
    "stdbuf": _Runner("-i -o -e --input --output --error"),
    "time": _Runner("-f -o --format --output"),
    "exec": _Runner("-a"),
    "sudo": _Runner("-u -g -h -p -C -D -R -T -U -r -t --user --group --host --chdir --prompt", assigns=True),
    "doas": _Runner("-u -C"),
    "chroot": _Runner(own=1),
    "flock": _Runner("-w --wait -E", "-c --command", own=1),
    "su": _Runner("-s -g -G -w", "-c --command", own=1),
    "script": _Runner("-E -I -O -B -T -m -o", "-c --command", own=1),
    "xargs": _Runner("-I -n -P -L -s -d -E -a --max-args --max-procs --max-lines --delimiter --arg-file"),
    "find": _Find(),
    "command": _Command(),
    "sshpass": _Runner("-p -f -d -P"),
    **dict.fromkeys(("nohup", "setsid", "builtin", "coproc", "busybox", "unshare"), _Runner()),
}


@dataclass(frozen=True)
class _Interpreter:
    """A program that takes code: behind an option for it, or glued to that; or, in its first word, code or a file."""

    #: The whole option, and how a word begins that has the code in it, too.
    option: str
    glued: str
    #: Options that take some other value.
    valued: str = ""
    #: Behind the code all is data.
    ends: bool = False
    first: Verdict = Verdict.COMMAND
    code: Verdict = Verdict.CODE
    #: How an option begins that names a module: the program is still to come.
    module: str = "(?!)"
    #: Options count behind operands, too.
    permutes: bool = False
    #: An option with which operands are opened as if they were commands.
    opens: str = "(?!)"

    def __call__(self, words: Words, begun: str) -> Verdict | None:
        at, valued = 0, self.valued.split()
        has_code = has_first = opens = False
        while at < len(words):
            word = words[at]
            is_whole = re.fullmatch(self.option, word) is not None
            if is_whole and at == len(words) - 1:
                return self.code
            if is_whole or re.match(self.glued, word):
                if self.ends:
                    return None
                has_code = has_code or not re.match(self.module, word)
            elif not word.startswith("-") or word == "-":
                if not (self.permutes or opens):  # options end here
                    return None
                has_first = True
            opens = opens or re.match(self.opens, word) is not None
            at += 2 if is_whole or word in valued else 1
        if at > len(words):  # this is the value of an option
            return None
        if begun.startswith("-"):
            is_open = _OPEN_OPTION.fullmatch(begun) and not begun.startswith(tuple(valued) or ("\0",))
            return self.code if is_open or re.match(self.glued, begun) else None
        if opens and (has_code or has_first):
            return self.code
        return None if has_code or has_first else self.first


def _shell(words: Words, begun: str) -> Verdict | None:
    """Its options may stand before `-c` and behind it; what follows the code are its parameters."""
    at, flags = 0, ""
    while at < len(words) and words[at][:1] in ("-", "+") and words[at] not in ("-", "--"):
        word = words[at]
        if not word.startswith("--"):
            flags += word[1:]
            at += word[-1] in "oO"
        at += 2 if word in ("--rcfile", "--init-file") else 1
    at += at < len(words) and words[at] in ("-", "--")
    if at != len(words):  # the code or the file stands there already, or this is the value of an option
        return None
    if _OPEN_OPTION.fullmatch(begun) and begun:
        return Verdict.CODE
    return Verdict.CODE if "c" in flags else None if "s" in flags else Verdict.COMMAND


def _ssh(words: Words, begun: str) -> Verdict | None:
    """What follows the host is for a shell over there, and some of its settings for one here."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        if words[at] == "-o" and at == len(words) - 1:
            return Verdict.CODE
        at += 2 if re.fullmatch(r"-[BbcDEeFIiJLlmOopQRSWw]", words[at]) else 1
    return Verdict.CODE if at < len(words) or begun.startswith("-o") else None


def _script(letters: str, long: str = "(?!)", valued: str = "") -> _Interpreter:
    """Its options for code are these letters, which may stand last among others, and these words."""
    short = rf"-[A-Za-z0-9.]*[{letters}]"
    return _Interpreter(rf"{short}|--(?:{long})", rf"{short}|--(?:{long})=", valued)


def _editor(option: str, long: str, valued: str, *, permutes: bool = False) -> _Interpreter:
    return _Interpreter(
        rf"{option}|--(?:{long})",
        rf"{option}|--(?:{long})=",
        valued,
        first=Verdict.EDITS,
        code=Verdict.EDITS,
        permutes=permutes,
    )


_INTERPRETERS: dict[str, Judge] = {
    r"(?:r?ba|da|a|m?k|pdk|z|fi|t?c)?sh": _shell,
    r"(?:python|pypy)[\d.]*": _Interpreter(
        r"-[bBdEhiIOPqsSuvVx]*[cm]", r"-[bBdEhiIOPqsSuvVx]*[cm]", "-W -X", ends=True
    ),
    # Its -n and -p run an operand that ends with a `|`.
    r"perl[\d.]*": replace(_script("eEmM", valued="-I"), module="-[A-Za-z0-9.]*[mM]", opens="-[acilswW0-9]*[np]"),
    r"ruby[\d.]*": replace(_script("er", valued="-I -C"), module="-[A-Za-z0-9.]*r$|-r"),
    r"node|nodejs|bun": replace(
        _script("epr", "eval|print|require|import|loader"), module="-r|--(?:require|import|loader)"
    ),
    r"php[\d.]*": _script("rBREFf", "run|file", valued="-c -d"),
    r"deno|osascript|Rscript|lua[\d.]*|julia|groovy|scala": _script("e", "eval"),
    r"[gmn]?awk": _editor("-[efEil]", "source|file|exec|include|load", "-v -F --assign --field-separator"),
    r"ssh": _ssh,
    r"g?sed": _editor(r"-[nEriszu]*[ef]", "expression|file", "-l --line-length", permutes=True),
}
#: All that they are given is code.
_TAKERS = frozenset({"eval", ".", "source", "watch", "parallel"})
#: For a program whose name nobody knows yet.
_ANY_CODE = re.compile(r"-\w*[ceErp]|--(?:eval|print|command)")
