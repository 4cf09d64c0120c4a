"""httpx's own tests, from the sdist of the installed version, on its transport and on ours.

uv run --isolated --no-default-groups --extra http --group compat python tests/compat/httpx_py.py

Downloads the sdist with pip, and prints what differs; -v shows what the tests say.
httpcore's own tests are not run: they are of its classes, and nearly all of them stand on a network of its own making.
"""

# ruff: noqa: T201
from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

#: What differs on purpose, and why.
DIFFERENT: dict[str, str] = {}
#: Seconds for one run.
TIMEOUT = 300


class Result(NamedTuple):
    outcome: str
    #: Connections that our transport lent during the test.
    leases: int


def download(folder: Path) -> Path:
    pip = ["pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
    subprocess.run([*pip, f"httpx=={version('httpx')}"], check=True, timeout=TIMEOUT)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        # Without its `httpx`: the installed one is to be tested.
        wanted = [each for each in tar.getmembers() if "/tests/" in each.name or each.name.endswith("/pyproject.toml")]
        tar.extractall(folder, wanted, filter="data")
    (tests_folder,) = folder.glob("*/tests")
    return tests_folder


def run(tests: Path, *, on_ours: bool) -> dict[str, Result]:
    """All tests of asynchronous clients; ours is for asyncio, so those on trio stay away."""
    report = tests / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:valkey", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    command += ["-m", "anyio", "-k", "not trio", f"--rootdir={tests.parent}", "tests"]
    command += [f"--junitxml={report}", "-o", "junit_family=xunit1"]  # this one holds what is recorded with a test
    command += ["-p", "on_our_transport"] if on_ours else []
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2]), str(tests.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    silent: dict[str, Any] = {} if "-v" in sys.argv else {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    code = subprocess.run(command, cwd=tests.parent, env=environment, timeout=TIMEOUT, **silent).returncode
    if code not in (0, 1):  # of 1, the report tells which
        raise SystemExit(f"pytest ended with {code} before the tests had run: see what -v shows")
    return {
        f"{case.get('classname', '').removeprefix('tests.')}::{case.get('name')}": Result(outcome(case), leases(case))
        for case in ElementTree.parse(report).iter("testcase")
    }


def outcome(case: ElementTree.Element) -> str:
    kinds = {child.tag for child in case}
    return "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"


def leases(case: ElementTree.Element) -> int:
    return sum(int(each.get("value", 0)) for each in case.iter("property") if each.get("name") == "leases")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        tests = download(Path(folder))
        theirs, ours = run(tests, on_ours=False), run(tests, on_ours=True)
    print(f"httpx {version('httpx')}: {len(theirs)} tests of asynchronous clients")
    for name, results in (("on its own transport", theirs), ("on ours", ours)):
        counts = {kind: [r.outcome for r in results.values()].count(kind) for kind in ("passed", "failed", "skipped")}
        print(f"  {name:21} {counts}")
    print(f"  {sum(result.leases > 0 for result in ours.values())} of them sent requests over connections of ours")
    good = {test for test in ours if ours[test].outcome == "passed"}
    found = {test for test in theirs if theirs[test].outcome == "passed"} - good
    for test in sorted(found):
        print(f"  only on its own: {test}: {DIFFERENT.get(test, 'UNEXPLAINED')}")
    for test in sorted(test for test in theirs if theirs[test].outcome == "failed" and test not in good):
        print(f"  fails on both: {test}")
    for test in sorted(DIFFERENT.keys() - found):
        print(f"  does not differ any more: {test}")
    return 0 if good and found == DIFFERENT.keys() else 1


if __name__ == "__main__":
    sys.exit(main())
