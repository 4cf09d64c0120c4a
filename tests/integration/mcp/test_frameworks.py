"""The same handlers under FastMCP, FastAPI and mcp 1.x, which cannot live in one environment with the rest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aiopool import embedded

ROOT = Path(__file__).parents[3]
ENVIRONMENTS = [("mcp==1.30.0",), ("fastmcp==4.1.2", "fastapi", "httpx")]


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv makes the environments")
def test_handlers_are_lent_connections_under_other_frameworks(postgres: embedded.PostgresServer) -> None:
    running = []
    for packages in ENVIRONMENTS:
        withs = [f"--with={package}" for package in ("asyncpg", "anyio", *packages)]
        command = ["uv", "run", "--quiet", "--isolated", "--no-project", f"--python={sys.executable}", *withs]
        running.append(
            subprocess.Popen(
                [*command, "python", str(ROOT / "tests/compat/mcp_handlers.py")],
                env={**os.environ, "DATABASE_URL": postgres.dsn},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        for packages, process in zip(ENVIRONMENTS, running, strict=True):
            said, complaints = process.communicate(timeout=120)
            assert process.returncode == 0, f"{packages}: {said[-2000:]}{complaints[-4000:]}"
            assert {package.partition("==")[0] for package in packages} - {"httpx"} <= set(said.split())
    finally:
        for process in running:
            process.kill()
            process.communicate()
