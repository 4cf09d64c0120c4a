"""Nothing is left out in silence: each kind has every behaviour, or says why it cannot have it."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

from tests.conformance.kinds import KINDS


def behaviours():
    """The names of all tests that run against each kind."""
    names = []
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.conformance.{path.stem}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("test_") and function.__module__ == module.__name__:
                parameters = inspect.signature(function).parameters
                assert "kind" in parameters or module.__name__ == __name__, f"{name} runs against no kind"
                names += [name] if "kind" in parameters else []
    return names


def test_every_kind_has_every_behaviour_or_says_why_not():
    names = behaviours()
    assert len(names) == len(set(names)) >= 60
    assert len({kind.label for kind in KINDS}) == len(KINDS)
    print(f"\n{len(names)} behaviours of {len(KINDS)} kinds of pools")  # noqa: T201
    for kind in KINDS:
        print(f"{kind.label}: {len(names) - len(kind.cannot)}")  # noqa: T201
        for name, reason in kind.cannot.items():
            assert name in names, f"{kind.label} declares {name}, which is no behaviour"
            assert len(reason.split()) >= 4, f"{kind.label} gives no reason why it cannot: {name}"
            print(f"    not: {name.removeprefix('test_').replace('_', ' ')}\n        {reason}")  # noqa: T201
