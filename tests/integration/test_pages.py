"""Every Python block of the README and of the documentation runs, against real servers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiopool import embedded

ROOT = Path(__file__).resolve().parents[2]
RUNNER = Path(__file__).with_name("run_page.py")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs(
    page: Path,
    postgres: embedded.PostgresServer,
    redis_server: embedded.RedisServer,
    https_server: embedded.HTTPSServer,
    tmp_path: Path,
):
    if "```python" not in page.read_text(encoding="utf-8"):
        return
    addresses = {
        "postgresql://user:password@localhost/database": postgres.dsn,
        "postgresql+asyncpg://user:password@localhost/database": postgres.dsn.replace(":", "+asyncpg:", 1),
        "redis://localhost:6379/0": redis_server.url,
        "https://api.example.com": https_server.url,
    }
    environment = {
        **os.environ,
        "DATABASE_URL": postgres.dsn,
        "REDIS_URL": redis_server.url,
        "API_URL": https_server.url,
        "SSL_CERT_FILE": str(https_server.ca_file),
        "PYTHONPATH": str(ROOT),
    }
    pairs = [f"{old}={new}" for old, new in addresses.items()]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(RUNNER), str(page), *pairs],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    # What pools log is welcome there; what Python says of lost tasks and the like is not.
    assert "Traceback" not in done.stderr, done.stderr[-4000:]
