"""A configuration that is wrong in any way is refused without a word of what it holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aiopool import PoolManager
from tests.security.secret import AWKWARD, SIMPLE, Secret, few_examples, secrets
from tests.security.told import Told, listening

Source = str | Mapping[str, Any]


def q(text: str) -> str:
    """As YAML and TOML take any text."""
    return json.dumps(text, ensure_ascii=False)


#: A file's text for a secret. Each holds it where one belongs, or where a slip of the hand may put it.
YAML: dict[str, Callable[[Secret], str]] = {
    "right": lambda s: f"pools:\n  database:\n    dsn: postgresql://app:{s.quoted}@db.example/app\n",
    "a key beside it": lambda s: f"pools:\n  database:\n    password: {q(s.raw)}\n    hots: db.example\n",
    "no quotes": lambda s: f"pools:\n  database:\n    host: a\n    password: {s.raw}\n",
    "no space": lambda s: f"pools:\n  database:\n    host: a\n    password:{s.raw}\n",
    "no space, in braces": lambda s: f"pools:\n  database: {{host: a, password:{s.raw}}}\n",
    "no quotes, in braces": lambda s: f"pools:\n  database: {{host: a, password: {s.raw}}}\n",
    "no colon": lambda s: f"pools:\n  database:\n    host: a\n    password {s.raw}\n",
    "no colon but at the end": lambda s: f"pools:\n  database:\n    host: a\n    password {s.raw}:\n",
    "half a quote": lambda s: f"pools:\n  database:\n    password: 'a{s.raw}\n    host: a\n",
    "a half of braces": lambda s: f"pools:\n  database: {{password: {q(s.raw)}\n",
    "twice": lambda s: f"pools:\n  database:\n    password: {q(s.raw)}\n    password: {q(s.raw)}\n",
    "a key": lambda s: f"pools:\n  database:\n    {q(s.raw + ':')}: 1\n",
    "an address as a key": lambda s: f"pools:\n  database:\n    ? postgresql://app:{s.quoted}@db.example/app\n",
    "an address as a name": lambda s: f"pools:\n  postgresql://app:{s.quoted}@db.example/app: {{type: postgres}}\n",
    "an address at the top": lambda s: f"postgresql://app:{s.quoted}@db.example/app: 1\npools: {{api: }}\n",
    "an address and nothing else": lambda s: f"postgresql://app:{s.quoted}@db.example/app\n",
    "a pool": lambda s: f"pools:\n  database: {q(s.raw)}\n",
    "a type": lambda s: f"pools:\n  database:\n    type: {q(s.raw)}\n",
    "a number": lambda s: f"pools:\n  database:\n    host: a\n    max_size: {q(s.raw)}\n",
    "a table": lambda s: f"pools:\n  database:\n    host: a\n    server_settings: {{a: [{q(s.raw)}]}}\n",
    "a tag": lambda s: f"pools:\n  database:\n    password: !{s.quoted} x\n",
    "an alias": lambda s: f"pools:\n  database:\n    password: *{s.quoted}\n",
    "an anchor": lambda s: f"pools:\n  database:\n    password: &{s.quoted}\n",
    "a control character": lambda s: f"pools:\n  database:\n    password: \x01{s.raw}\n",
    "a variable that is not closed": lambda s: "pools:\n  database:\n    password: " + q("${A" + s.quoted) + "\n",
    "a variable that is misspelt": lambda s: "pools:\n  database:\n    password: " + q("${A:" + s.quoted + "}") + "\n",
    "a Redis of a wrong kind": lambda s: f"pools:\n  cache:\n    url: postgresql://app:{s.quoted}@db.example/app\n",
    "a Redis with no port": lambda s: f"pools:\n  cache:\n    url: redis://app:{s.quoted}@db.example:port/0\n",
    "headers": lambda s: f"pools:\n  api:\n    headers: {{Authorization: {q(s.raw)}, X: 1}}\n",
}
TOML: dict[str, Callable[[Secret], str]] = {
    "right": lambda s: f"[pools.database]\ndsn = 'postgresql://app:{s.quoted}@db.example/app'\n",
    "a key beside it": lambda s: f"[pools.database]\nhots = 'a'\npassword = {q(s.raw)}\n",
    "no quotes": lambda s: f"[pools.database]\npassword = {s.raw}\n",
    "no equals sign": lambda s: f"[pools.database]\npassword {s.raw}\n",
    "half a quote": lambda s: f"[pools.database]\npassword = '{s.raw}\nhost = 'a'\n",
    "twice": lambda s: f"[pools.database]\npassword = {q(s.raw)}\npassword = {q(s.raw)}\n",
    "a key": lambda s: f"[pools.database]\n{q(s.raw + ':')} = 1\n",
    "a table": lambda s: f"[pools.{q('postgresql://' + s.raw)}]\ntype = 'postgres'\n",
    "a number": lambda s: f"[pools.database]\nmax_size = {q(s.raw)}\n",
}
#: What somebody passes by mistake where a path belongs.
PATHS: dict[str, Callable[[Secret], str]] = {
    "an address": lambda s: f"postgresql://app:{s.quoted}@db.example/app",
    "an address that ends like a file": lambda s: f"postgresql://app:{s.quoted}@db.example/app.yaml",
    "a password": lambda s: s.raw,
    "settings": lambda s: f"host=db.example user=app password={s.raw}",
    "the text of a file": YAML["right"],
    "JSON": lambda s: json.dumps({"pools": {"database": {"password": s.raw}}}),
}


def read(told: Told, source: Source, env: Mapping[str, str]) -> None:
    """What a manager tells that is built from this, or why it cannot be."""
    try:
        manager = PoolManager.from_config(source, env=env)
    except Exception as exc:
        told.error(exc, with_locals=not isinstance(source, Mapping))
    else:
        for pool in manager.pools.values():
            told.pool(pool)
        told.thing(manager)


def tells_nothing(secret: Secret, source: Source, env: Mapping[str, str] | None = None) -> None:
    with listening() as told:
        read(told, source, env or {})
    told.assert_nothing_of(secret)


def written(folder: Path, text: str, suffix: str) -> str:
    file = folder / f"pools{suffix}"
    file.write_text(text, encoding="utf-8")
    return str(file)


@pytest.mark.parametrize("slip", YAML)
@few_examples
@given(secret=secrets() | st.sampled_from(SIMPLE))
def test_no_slip_in_a_yaml_file_tells_a_secret(
    tmp_path_factory: pytest.TempPathFactory, slip: str, secret: Secret
) -> None:
    text = YAML[slip](secret)
    tells_nothing(secret, written(tmp_path_factory.getbasetemp(), text, ".yaml"))
    try:
        mapping = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return
    if isinstance(mapping, dict):
        tells_nothing(secret, mapping)


@pytest.mark.parametrize("slip", TOML)
@few_examples
@given(secret=secrets() | st.sampled_from(SIMPLE))
def test_no_slip_in_a_toml_file_tells_a_secret(
    tmp_path_factory: pytest.TempPathFactory, slip: str, secret: Secret
) -> None:
    tells_nothing(secret, written(tmp_path_factory.getbasetemp(), TOML[slip](secret), ".toml"))


@pytest.mark.parametrize("slip", PATHS)
@few_examples
@given(secret=secrets() | st.sampled_from(SIMPLE))
def test_what_is_passed_for_a_path_is_not_told(slip: str, secret: Secret) -> None:
    with listening() as told:
        try:
            PoolManager.from_config(PATHS[slip](secret))
        except Exception as exc:
            told.error(exc, with_locals=False)
    told.assert_nothing_of(secret)


@few_examples
@given(
    secret=secrets() | st.sampled_from(SIMPLE),
    variable=st.sampled_from(["DATABASE_URL", "REDIS_URL", "MINE"]),
    key=st.sampled_from(["dsn", "max_size", "max_idle_time", "type", "direct_tls", "server_settings", "nonsense"]),
)
def test_what_the_environment_holds_is_not_told(secret: Secret, variable: str, key: str) -> None:
    env = {variable: secret.raw, "OTHER": f"postgresql://app:{secret.quoted}@db.example/app"}
    for value in (f"${{{variable}}}", f"postgresql://app:${{{variable}}}@db.example/app", "${UNSET}", f"${{{variable}"):
        tells_nothing(secret, {"pools": {"database": {key: value}, "cache": None}}, env)


def test_an_environment_is_not_kept_in_the_frames_of_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://app:{AWKWARD.quoted}@db.example:port/app")
    monkeypatch.setenv("TOKEN", AWKWARD.raw)
    with listening() as told, pytest.raises(ValueError) as caught:
        PoolManager.from_config({"pools": {"database": {"nonsense": 1}}})
    told.error(caught.value)
    told.assert_nothing_of(AWKWARD)


class Stuck:
    """A pool of somebody's own, whose errors quote an address."""

    def stats(self) -> dict[str, Any]:
        raise OSError(f"no answer from {AWKWARD.raw}")

    def close(self) -> None:
        raise OSError(f"no answer from {AWKWARD.raw}")


async def test_a_manager_logs_and_notes_no_words_of_somebody_elses_errors() -> None:
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    with listening() as told:
        manager = PoolManager(registry=registry)
        manager.register("stuck", Stuck())
        told.add("metrics", generate_latest(registry).decode())
        with pytest.raises(KeyError) as caught:
            async with manager:
                raise KeyError("the block's own")
        told.error(caught.value)
    told.assert_nothing_of(AWKWARD)
    assert any("while closing pool 'stuck': OSError" in text and "in close" in text for text in told.lines)
    assert caught.value.__notes__ == ["while closing pool 'stuck': OSError"]


@pytest.mark.parametrize("name", [f"redis://:{AWKWARD.quoted}@cache.example", f"postgresql://{AWKWARD.raw}"])
def test_an_address_in_the_place_of_a_name_is_not_told(name: str) -> None:
    manager = PoolManager()
    calls: list[Callable[[], object]] = [
        lambda: manager.get(name),
        lambda: manager.register(name, Stuck()),
        lambda: manager.register({"dsn": name}, Stuck()),  # type: ignore[arg-type]
        lambda: manager.register("database", name),  # type: ignore[arg-type]
    ]
    with listening() as told:
        for call in calls:
            with pytest.raises(Exception) as caught:
                call()
            told.error(caught.value, with_locals=False)
    told.assert_nothing_of(AWKWARD)
