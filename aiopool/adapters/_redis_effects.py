"""What a Redis command does to the connection it is sent on: it blocks, makes it listen, or changes its session."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import inf
from typing import Any

# What may be left behind in a session.
WATCHES, QUEUES, CHANGED, LISTENS, MONITORS = 1, 2, 4, 8, 16
#: What a word to the server does not undo.
SPOILS = CHANGED | LISTENS

#: Commands that change what later ones mean, or how they are answered, for as long as the connection lives.
_CHANGING = frozenset({b"SELECT", b"AUTH", b"HELLO", b"RESET", b"READONLY", b"READWRITE", b"ASKING"})
#: From these on the server speaks by itself.
_LISTENING = {
    **dict.fromkeys((b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE"), LISTENS),
    **dict.fromkeys((b"MONITOR", b"SYNC", b"PSYNC"), LISTENS | MONITORS),
}
#: All other subcommands of CLIENT change the session.
_HARMLESS_CLIENT = frozenset(
    {b"ID", b"INFO", b"LIST", b"KILL", b"UNBLOCK", b"PAUSE", b"UNPAUSE", b"GETNAME", b"GETREDIR", b"TRACKINGINFO"}
    | {b"HELP"}
)
#: Commands that wait on purpose: where their timeout stands, and what makes seconds of it.
_BLOCKING: dict[bytes, Callable[[list[bytes]], float]] = {
    **dict.fromkeys(
        (b"BLPOP", b"BRPOP", b"BRPOPLPUSH", b"BLMOVE", b"BZPOPMIN", b"BZPOPMAX"), lambda words: float(words[-1])
    ),
    **dict.fromkeys((b"BLMPOP", b"BZMPOP"), lambda words: float(words[1])),
    **dict.fromkeys((b"WAIT", b"WAITAOF"), lambda words: float(words[-1]) / 1000),
    **dict.fromkeys((b"XREAD", b"XREADGROUP"), lambda words: float(words[words.index(b"BLOCK") + 1]) / 1000),
}
_SPECIAL = frozenset(
    {b"MULTI", b"EXEC", b"DISCARD", b"WATCH", b"UNWATCH", b"CLIENT", *_CHANGING, *_LISTENING, *_BLOCKING}
)


#: Commands with more than one answer, or with an end of the connection after it, or whose bytes depend on it.
_ALONE = frozenset({b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"SUNSUBSCRIBE", b"QUIT", b"SHUTDOWN", b"HIMPORT"})


@lru_cache(maxsize=1024)
def shared_name(name: str | bytes) -> tuple[bytes, ...]:
    """The words of that command's name, if it may share a connection with other callers' commands; else none."""
    words = (name if isinstance(name, bytes) else name.encode()).split()
    return () if not words or words[0].upper() in _SPECIAL | _ALONE else tuple(words)


@lru_cache(maxsize=1024)
def has_any(name: str | bytes) -> bool:
    """Whether that command may do anything of the kind, so that its words have to be looked at."""
    words = _word(name).split(None, 1)
    return bool(words) and words[0] in _SPECIAL


def words_of(args: tuple[Any, ...]) -> list[bytes]:
    """A command as the server reads it, in capitals; its name may have been given as two words."""
    return [*_word(args[0]).split(), *map(_word, args[1:])]


def seconds_blocked(words: list[bytes]) -> float:
    """How long it may wait on purpose; `inf` if for ever."""
    try:
        seconds = _BLOCKING[words[0]](words)
    except (KeyError, ValueError, IndexError):  # it doesn't block, or the server refuses it
        return 0.0
    return seconds if seconds > 0 else inf


def left_behind(words: list[bytes], before: int) -> int:
    """What is left behind in the session after it, if `before` was."""
    name = words[0]
    if name == b"MULTI":
        return before | QUEUES
    if name == b"WATCH":
        return before | WATCHES
    if name == b"UNWATCH":
        return before & ~WATCHES
    if name in (b"EXEC", b"DISCARD"):
        return before & ~(WATCHES | QUEUES)
    changes = name in _CHANGING or (name == b"CLIENT" and words[1:2] and words[1] not in _HARMLESS_CLIENT)
    return before | _LISTENING.get(name, CHANGED if changes else 0)


def _word(argument: Any) -> bytes:
    return (argument if isinstance(argument, bytes) else str(argument).encode(errors="replace")).upper()
