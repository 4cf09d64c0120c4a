"""asyncpg's own tests of pools, from the sdist of the installed version, on its pool and on ours.

python tests/compat/asyncpg_pool.py   # downloads the sdist with pip, runs a PostgreSQL of its own, prints what differs
"""

# ruff: noqa: T201
from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

from aiopool import embedded

#: All that make a pool. Those that need to start or configure a server by asyncpg's own means are skipped on both.
FILES = ["test_pool", "test_listeners", "test_cache_invalidation", "test_adversity"]
#: What differs on purpose, and why.
DIFFERENT = {
    "TestPool::test_pool_07": "it wants 5 connections opened for what 2 can do: ours opens no more than a spike needs",
    "TestPool::test_pool_exception_in_setup_and_init": (
        "an `init` that fails is not run again for the next caller at once: that one gets the same error"
    ),
    "TestPool::test_pool_min_size_backs_off_on_target_attribute_mismatch": (
        "it looks into asyncpg's own backoff; ours is random, from 0.1 to 10 seconds"
    ),
    "TestPool::test_pool_release_timeout_during_cancellation": (
        "a release never waits: what it would have waited for happens in the background"
    ),
    "TestPool::test_pool_shutdown_cleans_idle_connections": (
        "a terminated pool has a task to end, and is garbage a turn later"
    ),
}
#: Seconds for one file, and for one test before it shows where it stands.
TIMEOUT, STUCK = 150, 60


def download(folder: Path) -> Path:
    package = f"asyncpg=={version('asyncpg')}"
    pip = ["pip", "download", "--quiet", "--no-deps", "--no-binary", "asyncpg", "--dest", str(folder)]
    subprocess.run([*pip, package], check=True, timeout=TIMEOUT)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tests = [member for member in tar.getmembers() if "/tests/" in member.name]
        tar.extractall(folder, tests, filter="data")  # without its `asyncpg`: the installed one is to be tested
    (tests_folder,) = folder.glob("*/tests")
    return tests_folder


def run(tests: Path, dsn: str, *, on_ours: bool) -> dict[str, str]:
    """Of each test, "passed", "failed" or "skipped"."""
    results: dict[str, str] = {}
    for name in FILES:
        results |= run_file(tests, name, dsn, on_ours=on_ours)
    return results


def run_file(tests: Path, name: str, dsn: str, *, on_ours: bool) -> dict[str, str]:
    report = tests / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={tests.parent}"]
    command += ["-p", "no:valkey", "-p", "no:cacheprovider", "-p", "no:asyncio", "-o", f"faulthandler_timeout={STUCK}"]
    command += [f"--junitxml={report}", f"tests/{name}.py", *(["-p", "on_our_asyncpg_pool"] if on_ours else [])]
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2]), str(tests.parent)]
    environment = {**os.environ, **variables(dsn), "PYTHONPATH": os.pathsep.join(paths)}
    silent = {} if "-v" in sys.argv else {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(command, cwd=tests.parent, env=environment, timeout=TIMEOUT, **silent)
    if not report.exists():
        return {f"{name} as a whole": "failed"}
    results: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        test = f"{(case.get('classname') or '').rpartition('.')[2]}::{case.get('name')}".partition(" ")[0]
        if results.get(test) != "failed":  # a part of it, or its end
            results[test] = outcome(case)
    return results


def variables(dsn: str) -> dict[str, str]:
    """By which asyncpg's tests find a server that runs already."""
    server = urlsplit(dsn)
    return {
        "PGHOST": server.hostname or "",
        "PGPORT": str(server.port or 5432),
        "PGUSER": unquote(server.username or ""),
        "PGPASSWORD": unquote(server.password or ""),
        "PGDATABASE": server.path.lstrip("/"),
    }


def outcome(case: ElementTree.Element) -> str:
    kinds = {child.tag for child in case}
    return "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"


async def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        tests = await asyncio.to_thread(download, Path(folder))
        async with embedded.postgres(private=True) as server:
            theirs = await asyncio.to_thread(run, tests, server.dsn, on_ours=False)
            ours = await asyncio.to_thread(run, tests, server.dsn, on_ours=True)
    print(f"asyncpg {version('asyncpg')}: {len(theirs)} tests")
    for name, results in (("on its own pool", theirs), ("on ours", ours)):
        print(f"  {name:16} {dict(Counter(results.values()))}")
    lost = [test for test in theirs if theirs[test] == "passed" and ours.get(test) != "passed"]
    for test in lost:
        print(f"  only on its own: {test}: {DIFFERENT.get(test, 'UNEXPLAINED')}")
    for test in theirs:
        if theirs[test] == "failed":
            print(f"  on its own, too, {test} failed")
    for test in DIFFERENT.keys() - set(lost):
        print(f"  no longer different: {test}")
    return int(set(lost) != DIFFERENT.keys())


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
