"""redis-py's own tests, from the sdist of the installed version, on its pool and on ours.

python tests/compat/redis_py.py       # downloads the sdist with pip, runs a Redis of its own, prints what differs
"""

# ruff: noqa: T201
from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tarfile
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

from aiopool import embedded

#: What concerns connections and what is done on them. The other tests of test_connection_pool put fakes without a
#: socket into the pool, or look at the lists in which redis-py's pool keeps its connections.
FILES = """
    test_client test_connect test_connection test_connection_pool.py::TestHealthCheck test_credentials test_cwe_404
    test_encoding test_lock test_monitor test_pipeline test_pubsub test_retry test_scripting test_usage_counter
""".split()  # noqa: SIM905
#: What differs on purpose, and why.
DIFFERENT = {
    "test_connection::test_network_connection_failure": "a server that is down is a PoolUnavailable",
    "test_connection::test_unix_socket_connection_failure": "a server that is down is a PoolUnavailable",
    "test_pubsub::test_channel_subscribe": "a server that is down is a PoolUnavailable",
    "test_pubsub::test_connection_error_raised_when_connection_dies": "a lost connection is made again, 3 times",
    # With pauses between, which may be longer than the half second that this test gives it.
    "test_pubsub::test_reconnect_socket_error": "a lost connection is made again, 3 times",
    "test_connection::test_connection_garbage_collection": "a dropped pool warns, and not each of its connections",
    "test_connection::test_redis_from_pool": "it counts calls of a method that ours replaces",
}
#: Seconds for one file.
TIMEOUT = 120


def download(folder: Path) -> Path:
    package = f"redis=={version('redis')}"
    pip = ["pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
    subprocess.run([*pip, package], check=True, timeout=TIMEOUT)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tests = [member for member in tar.getmembers() if "/tests/" in member.name]
        tar.extractall(folder, tests, filter="data")  # without its `redis`: the installed one is to be tested
    (tests_folder,) = folder.glob("*/tests")
    return tests_folder


def run(tests: Path, url: str, *, on_ours: bool) -> dict[str, str]:
    """Of each test, "passed", "failed" or "skipped"."""
    results: dict[str, str] = {}
    for name in FILES:
        results |= run_file(tests, name, url, on_ours=on_ours)
    return results


def run_file(tests: Path, name: str, url: str, *, on_ours: bool) -> dict[str, str]:
    report = tests / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:valkey", "-p", "no:cacheprovider", f"--redis-url={url}"]
    command += [f"--junitxml={report}", "-o", "asyncio_mode=auto", f"--rootdir={tests.parent}"]
    command += ["-p", "on_our_pool"] if on_ours else []
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2]), str(tests.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    silent = {} if "-v" in sys.argv else {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with suppress(subprocess.TimeoutExpired):
        file, _, rest = name.partition(".py")
        command.append(f"tests/test_asyncio/{file}.py{rest}")
        subprocess.run(command, cwd=tests.parent, env=environment, timeout=TIMEOUT, **silent)
    if not report.exists():
        return {f"{name} as a whole": "failed"}
    return {
        f"{name.partition('.')[0]}::{case.get('name')}": outcome(case)
        for case in ElementTree.parse(report).iter("testcase")
    }


def outcome(case: ElementTree.Element) -> str:
    kinds = {child.tag for child in case}
    return "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"


async def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        tests = await asyncio.to_thread(download, Path(folder))
        async with embedded.redis(private=True) as server:
            theirs = await asyncio.to_thread(run, tests, server.url, on_ours=False)
            ours = await asyncio.to_thread(run, tests, server.url, on_ours=True)
    print(f"redis-py {version('redis')}: {len(theirs)} tests")
    for name, results in (("on its own pool", theirs), ("on ours", ours)):
        counts = {kind: list(results.values()).count(kind) for kind in ("passed", "failed", "skipped")}
        print(f"  {name:16} {counts}")
    lost = [test for test in theirs if theirs[test] == "passed" and ours.get(test) != "passed"]
    unexplained = 0
    for test in lost:
        reason = DIFFERENT.get(test.partition("[")[0])
        unexplained += reason is None
        print(f"  only on its own: {test}: {reason or 'UNEXPLAINED'}")
    for test in theirs:
        if theirs[test] == "failed" and ours.get(test) == "passed":
            print(f"  only on ours: {test}")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
