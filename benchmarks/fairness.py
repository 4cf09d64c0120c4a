"""How evenly a pool serves those who call it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


def jain(counts: Sequence[float]) -> float:
    """Jain's index of what each was given: 1 if all got the same, 1/n if one got everything.

    (Jain, Chiu and Hawe, "A quantitative measure of fairness", DEC-TR-301, 1984.)
    """
    squares = len(counts) * sum(count * count for count in counts)
    return sum(counts) ** 2 / squares if squares else 1.0


def strip(counts: Sequence[float], places: int = 100) -> list[float]:
    """The shares in ascending order as multiples of the fair one, at most `places` of them: enough for a picture."""
    ordered = sorted(counts)
    fair = sum(ordered) / len(ordered) if ordered else 0.0
    places = min(places, len(ordered))
    if not fair:
        return [0.0] * places
    # Each place stands for neighbours, and shows their mean: the sum stays what it was.
    edges = [round(place * len(ordered) / places) for place in range(places + 1)]
    return [sum(ordered[low:high]) / (high - low) / fair for low, high in pairwise(edges)]
