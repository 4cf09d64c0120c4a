"""What a secret is: the password, in whatever coding it is told, and any six characters of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import quote, quote_plus

from hypothesis import settings
from hypothesis import strategies as st

#: Six characters of which three are from here, as they stand in a password, stand nowhere else.
RARE = "qxzjvkw"
#: What means something in an address, and everything else that is no letter.
SYNTAX = "@/:#?%&=+,[ \\"
SPECIAL = SYNTAX + "]'\";.$!~^*(){}<>|`-_\té√🔑"
PART = 6

#: Of what the profile says, for most examples open a pool.
few_examples = settings(
    settings.default, max_examples=(settings.default or settings()).max_examples // 5, deadline=None
)


@dataclass(frozen=True)
class Secret:
    """A password as the user knows it, and addresses that hold it and are not to be told as a whole either."""

    raw: str
    wholes: tuple[str, ...] = field(default=())

    def told_in(self, text: str) -> str | None:
        """The first part of the secret that the text holds."""
        lower = text.lower()
        found = [part for part in self._parts if part in lower] or [part for part in self._base64_parts if part in text]
        return found[0] if found else None

    @property
    def quoted(self) -> str:
        return quote(self.raw, safe="")

    @cached_property
    def _parts(self) -> set[str]:
        raw = self.raw
        as_bytes = repr(raw.encode())[2:-1]
        codings = {raw, quote(raw), self.quoted, quote(self.quoted), quote_plus(raw), as_bytes}
        codings |= {repr(raw)[1:-1], ascii(raw)[1:-1], json.dumps(raw)[1:-1]}
        parts = {part for coding in codings for part in _windows(coding.lower(), PART) if _is_rare(part)}
        return parts | {whole.lower() for whole in self.wholes}

    @cached_property
    def _base64_parts(self) -> set[str]:
        # As in `Authorization: Basic`: where it begins depends on what stands before it.
        codings = (base64.b64encode(bytes(shift) + self.raw.encode()).decode()[4:] for shift in range(3))
        return {part for coding in codings for part in _windows(coding.rstrip("=")[:-1], 8)}


def _windows(text: str, width: int) -> Iterator[str]:
    return (text[at : at + width] for at in range(len(text) - width + 1))


def _is_rare(part: str) -> bool:
    return sum(character in RARE for character in part) >= PART // 2


def secrets() -> st.SearchStrategy[Secret]:
    """Passwords with special characters anywhere, among words that are found wherever they appear."""
    words = st.text(RARE + RARE.upper(), min_size=3, max_size=8)
    specials = st.sampled_from(["", *SYNTAX]) | st.sampled_from(SPECIAL)
    middle = st.lists(st.tuples(words, specials), min_size=3, max_size=5)
    return st.builds(
        lambda first, pairs: Secret(first + "".join(word + mark for word, mark in pairs)), specials, middle
    )


#: For tests that try everything: a password with all of it, and some with one thing each.
SIMPLE = [Secret(f"qxZjvkW{mark}zXjvkwQ") for mark in ("", *SYNTAX)]
AWKWARD = Secret("qxZj@vkWq/zXjv:kwQx#zjVk?wqXz%jvKw&qxz=Jvkw'xQz\"vkwj\\zxqV wjkX")
