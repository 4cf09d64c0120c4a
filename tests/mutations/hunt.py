"""`python -m tests.mutations.hunt 300`: the simulation up to the first broken rule, which is written out as JSON."""

from __future__ import annotations

import json
import sys

from tests.simulation.history import draw
from tests.simulation.run import run


def hunt(seeds: int) -> tuple[int, str] | None:
    """The first seed below `seeds` with a broken rule, and that rule."""
    for seed in range(seeds):
        if violation := run(draw(seed)).violation:
            return seed, violation
    return None


if __name__ == "__main__":
    sys.stdout.write(f"{json.dumps(hunt(int(sys.argv[1])))}\n")
