"""What the command `aiopool` writes holds no password of the addresses that it was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiopool import cli
from aiopool.demo import Failure
from tests.security.secret import AWKWARD, Secret
from tests.security.told import listening

PLAIN = Secret("qxZjvkWqzXjvkwQxzjVk")
WRONG = {
    "nobody there": f"postgresql://app:{AWKWARD.quoted}@127.0.0.1:1/app",
    "no port": f"postgresql://app:{AWKWARD.quoted}@127.0.0.1:port/app",
    "raw": f"postgresql://app:{AWKWARD.raw.replace('@', '')}@127.0.0.1:1/app",
    "in the query": f"postgresql://app@127.0.0.1:1/app?password={AWKWARD.raw}",
    "in the place of the scheme": f"{PLAIN.raw}://app@127.0.0.1:1/app",
    "in the place of the port": f"postgresql://app:{PLAIN.raw}/x@127.0.0.1:1/app",
    "keywords": f"host=127.0.0.1 password={AWKWARD.raw}",
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("options", [[], ["--debug"]], ids=" ".join)
def test_the_demo_tells_no_password(wrong: str, options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", WRONG[wrong])
    monkeypatch.setenv("REDIS_URL", WRONG[wrong])
    with listening() as told, pytest.raises((SystemExit, Failure)) as caught:
        cli._app()(["demo", "--calls", "2", *options])
    # With --debug the interpreter shows the traceback, which has no values of variables.
    told.error(caught.value, with_locals=False)
    assert any("cannot connect" in text for text in told.lines)
    for secret in (AWKWARD, PLAIN):
        told.assert_nothing_of(Secret(secret.raw, wholes=(WRONG[wrong],)))


TOOLS = """
pools: {database: {unavailable_after: 0.1}, redis: {unavailable_after: 0.1}}
tools: [{name: now, sql: select now()}, {name: ping, redis: [PING]}]
"""


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("command", ["check", "now", "ping"])
def test_what_is_said_of_a_file_of_tools_tells_no_password(
    wrong: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(TOOLS)
    monkeypatch.setenv("DATABASE_URL", WRONG[wrong])
    monkeypatch.setenv("REDIS_URL", WRONG[wrong])
    arguments = ["check", str(file)] if command == "check" else ["invoke", str(file), command]
    with listening() as told, pytest.raises(SystemExit) as caught:
        cli._app()(arguments)
    told.error(caught.value, with_locals=False)
    assert caught.value.code == 1
    assert any(f"aiopool: {arguments[0]}: " in text for text in told.lines)
    for secret in (AWKWARD, PLAIN):
        told.assert_nothing_of(Secret(secret.raw, wholes=(WRONG[wrong],)))
