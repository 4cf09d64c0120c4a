"""A shorter history that breaks a rule as well: Zeller and Hildebrandt's ddmin over its operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def shrink(numbers: Sequence[int], fails: Callable[[list[int]], bool], budget: int = 1000) -> list[int]:
    """The fewest of `numbers` found, with at most `budget` questions, for which `fails` still says yes."""
    left, parts = list(numbers), 2
    while len(left) > 1:
        size = -(-len(left) // parts)
        for start in range(0, len(left), size):
            rest = left[:start] + left[start + size :]
            budget -= 1
            if budget < 0:
                return left
            if rest and fails(rest):
                left, parts = rest, max(2, parts - 1)
                break
        else:
            if size == 1:
                return left
            parts = min(len(left), 2 * parts)
    return left
