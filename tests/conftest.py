"""What all tests share: the checkout is importable, and a fixture knows how its test went."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# `tests.fakes` must import however the project was installed, or if it was not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

passed = pytest.StashKey[bool]()

# The same examples each time, so that a run fails for what was changed. To look for more, and others each time:
# pytest tests/security tests/unit --hypothesis-profile=thorough
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("thorough", max_examples=2_500, deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="what tests on servers run on")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """What `-n auto` means here: 0 is this process alone, which begins at once and can be debugged."""
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    # On servers that were given, tables and names of one process would disturb the other.
    are_servers_given = any(os.environ.get(name) for name in ("DATABASE_URL", "REDIS_URL"))
    return min(os.cpu_count() or 1, 4) if is_whole and not are_servers_given else 0


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("loop") == "uvloop":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        os.environ["TESTS_LOOP"] = "uvloop"  # for the programs of `tests/storms`
    # A script that starts the suite in the background has it ignore interrupts, and so would all that it starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "leaves_tasks: tasks may be left when the test ends")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    report = yield
    if report.when == "call":
        item.stash[passed] = report.passed
    return report


@pytest.fixture
def has_passed(request: pytest.FixtureRequest) -> Any:
    """Asked at teardown: leftovers of a test that failed anyway are noise."""
    return lambda: request.node.stash.get(passed, False)
