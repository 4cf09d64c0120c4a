"""Every fault still fits the core, and the way from planting one to being told of it works; `python -m tests.mutations`
tries them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutations.fault import ROOT, Fault, OutOfDate, copy_tree
from tests.mutations.faults import FAULTS
from tests.mutations.trial import try_out


def test_every_fault_fits_the_core_and_names_its_tests() -> None:
    for fault in FAULTS:
        assert fault.mutated(ROOT) != (ROOT / "aiopool" / fault.file).read_text(encoding="utf-8"), fault.name
        for topic in fault.ask.split():
            assert (ROOT / f"tests/unit/test_{topic}.py").is_file(), fault.name


def test_no_two_faults_have_the_same_name() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("who came last is served first", "somebody was served before one who came earlier"),
        ("a slot is not given back when opening fails", "slots are free where"),
    ],
)
def test_a_fault_is_planted_in_a_copy_only_and_caught_by_the_simulation(name: str, rule: str) -> None:
    fault = next(fault for fault in FAULTS if fault.name == name)
    before = (ROOT / "aiopool" / fault.file).read_text(encoding="utf-8")
    verdict = try_out(fault, seeds=50)
    assert verdict.caught_by == "simulation"
    assert rule in verdict.how
    assert (ROOT / "aiopool" / fault.file).read_text(encoding="utf-8") == before


def test_a_fault_that_the_core_has_outgrown_says_so(tmp_path: Path) -> None:
    copy_tree(ROOT, tmp_path)
    fault = Fault("it is gone", "pool.py", "words that are not there", "", "It was once.", "waiting")
    with pytest.raises(OutOfDate, match=r"'it is gone': its words occur 0 times in aiopool/pool\.py"):
        fault.plant(tmp_path)
