"""One fault against the tests: first the simulation, and the unit tests if that finds nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.mutations.fault import ROOT, Fault, copy_tree

SEEDS = 150
#: Real seconds. Both take far less, unless a fault makes them go round in a circle.
HUNT_TIMEOUT, UNIT_TIMEOUT = 150.0, 300.0
#: These read the pages, which are not copied.
NOT_ASKED = {"test_docs.py"}


class Failed(Exception):
    """The tests could not be run at all."""


@dataclass(frozen=True, slots=True)
class Verdict:
    #: None is the control: no fault at all.
    fault: Fault | None
    #: "simulation", "unit tests" or "nobody".
    caught_by: str
    how: str
    seconds: float

    @property
    def is_right(self) -> bool:
        """A fault is caught, and where there is none nothing is."""
        return (self.caught_by == "nobody") == (self.fault is None)


def try_out(fault: Fault | None, root: Path = ROOT, seeds: int = SEEDS) -> Verdict:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        tree = Path(folder)
        copy_tree(root, tree)
        if fault is not None:
            fault.plant(tree)
        caught_by, how = "simulation", _simulate(tree, seeds)
        if not how:
            caught_by, how = "unit tests", _ask_unit_tests(tree, fault.ask if fault is not None else "")
        if not how:
            caught_by = "nobody"
    return Verdict(fault, caught_by, how, time.perf_counter() - began)


def _simulate(tree: Path, seeds: int) -> str:
    """The seed and the broken rule, or nothing."""
    status, out, complaints = _python(tree, HUNT_TIMEOUT, "-m", "tests.mutations.hunt", str(seeds))
    if status is None:
        return "it does not end"
    if status != 0:
        raise Failed(f"the simulation ended with status {status}:\n{complaints[-2000:]}")
    found = json.loads(out)
    return f"seed {found[0]}: {found[1]}" if found else ""


def _ask_unit_tests(tree: Path, ask: str) -> str:
    """The first test that fails, or nothing."""
    first = [f"tests/unit/test_{topic}.py" for topic in ask.split()]
    others = sorted(f"tests/unit/{path.name}" for path in (tree / "tests/unit").glob("test_*.py"))
    files = dict.fromkeys([*first, *(name for name in others if Path(name).name not in NOT_ASKED)])
    status, out, _ = _python(tree, UNIT_TIMEOUT, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", *files)
    if status is None:
        return "they do not end"
    if status == 0:
        return ""
    if (failed := re.search(r"^(?:FAILED|ERROR) tests/unit/(\S+)", out, re.MULTILINE)) is None:
        raise Failed(f"pytest ended with status {status} and names no test:\n{out[-2000:]}")
    return failed[1]


def _python(tree: Path, timeout: float, *arguments: str) -> tuple[int | None, str, str]:
    """Its status, None if it does not end in time, and what it wrote. It sees the copy, and no other aiopool."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, complaints = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        return None, "", ""
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return process.returncode, out, complaints
