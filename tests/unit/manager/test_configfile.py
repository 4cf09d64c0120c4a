"""Reading a file so that every key's line is known, and refusing a wrong one without showing a secret."""

from __future__ import annotations

import builtins
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiopool.configfile import Document, read_document
from aiopool.errors import PoolConfigError

Write = Callable[[str, str | bytes], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file into the current folder and return its name."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, content: str | bytes) -> str:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    return write


def complete(source: Any) -> Document:
    document = read_document(source)
    document.raise_if_refused()
    return document


YAML = """\
# a comment
pools:
  database:
    max_size: 3

    server_settings: {a: "1",
                      b: "2"}
tools:
  - name: one
    "pool": database
"""

TOML = """\
# a comment
[pools.database]
max_size = 3

server_settings = {a = "1", b = "2"}
[[tools]]
name = "one"
"pool" = "database"
"""


@pytest.mark.parametrize("name", ["x.yaml", "x.yml", "X.YAML"])
def test_yaml_is_read_with_the_line_of_every_key(write: Write, name: str) -> None:
    document = complete(write(name, YAML))
    assert document.data["pools"]["database"] == {"max_size": 3, "server_settings": {"a": "1", "b": "2"}}
    assert document.line(("pools", "database", "max_size")) == 4
    assert document.line(("pools", "database", "server_settings", "b")) == 7
    assert document.line(("tools", 0, "pool")) == 10


def test_toml_is_read_with_the_line_of_every_key_outside_inline_tables(write: Write) -> None:
    document = complete(write("x.toml", TOML))
    assert document.data["pools"]["database"] == {"max_size": 3, "server_settings": {"a": "1", "b": "2"}}
    assert document.line(("pools",)) is None
    assert document.line(("pools", "database")) == 2
    assert document.line(("pools", "database", "max_size")) == 3
    assert document.line(("pools", "database", "server_settings", "b")) == 5


def test_toml_keys_with_dots_quotes_and_spaces_are_found() -> None:
    from aiopool.configfile import _toml_lines

    text = """pools . "my db".max_size = 1\n[ pools.'x' ]\n  port=2\n"""
    assert dict(_toml_lines(text)) == {
        ("pools", "my db", "max_size"): 1,
        ("pools", "x"): 2,
        ("pools", "x", "port"): 3,
    }


def test_a_key_without_a_line_of_its_own_gets_that_of_the_key_around_it(write: Write) -> None:
    document = complete(write("x.yaml", YAML))
    assert document.line(("pools", "database", "no", "such")) == 3
    assert document.line(("no",)) is None


def test_a_mapping_is_taken_as_it_is_and_has_no_lines() -> None:
    mapping: dict[str, Any] = {"pools": {"x": {}}}
    document = read_document(mapping)
    assert document.data is mapping
    document.refuse(("pools", "x"), "is wrong")
    with pytest.raises(PoolConfigError, match=r"^pools\.x: is wrong$"):
        document.raise_if_refused()


def test_problems_are_reported_together_in_the_order_of_their_lines(write: Write) -> None:
    document = read_document(write("x.yaml", YAML))
    document.refuse(("tools", 0, "pool"), "is late")
    document.refuse(("pools",), "is early")
    with pytest.raises(PoolConfigError) as caught:
        document.raise_if_refused()
    assert str(caught.value) == (
        "x.yaml has 2 problems:\n  x.yaml:2: pools: is early\n  x.yaml:10: tools[0].pool: is late"
    )


def test_a_key_that_is_written_twice_is_refused_with_both_lines(write: Write) -> None:
    with pytest.raises(PoolConfigError, match=r"^x.yaml:4: pools.a: is written twice, first in line 2; remove one"):
        complete(write("x.yaml", "pools:\n  a: 1\n  b: 2\n  a: 3\n"))


def test_a_key_that_is_written_twice_in_one_line_is_refused_too(write: Write) -> None:
    with pytest.raises(PoolConfigError, match=r"x.yaml:1: pools.a: is written twice"):
        complete(write("x.yaml", "pools: {a: 1, a: 2}"))


def test_yaml_merges_defaults_and_what_is_written_beside_them_wins(write: Write) -> None:
    document = complete(
        write(
            "x.yaml",
            "x-d: &d {max_size: 3, min_size: 1}\npools:\n  a:\n    <<: *d\n    min_size: 2\n  b: *d\n",
        )
    )
    assert document.data["pools"]["a"] == {"max_size": 3, "min_size": 2}
    assert document.line(("pools", "a", "min_size")) == 5
    assert document.line(("pools", "a", "max_size")) == 1


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("pools:\n  a: [1\n", 3),
        ("pools:\n\ta: 1\n", 2),
        ("pools:\n  a: 1\n b: 2\n", 3),
        ("a: 1\n---\nb: 2\n", 2),
        ("a: &x 1\nb: *y\n", 2),
        ("a: 1\nb: !!python/object/apply:os.system ['true']\n", 2),
        ("a: 1\nb: !!python/name:os.system\n", 2),
        ("a: 1\nb: !mine {x: 1}\n", 2),
        ("a: 1\n[1, 2]: 3\n", 2),
        ("a: 1\n<<: 2\n", 2),
    ],
)
def test_wrong_yaml_is_refused_with_its_line(write: Write, content: str, line: int) -> None:
    with pytest.raises(PoolConfigError, match=rf"^x.yaml:{line}: is not valid YAML: "):
        complete(write("x.yaml", content))


@pytest.mark.parametrize("content", ["a: &a [*a]", "a: &a {b: *a}", "[" * 5000])
def test_yaml_without_an_end_is_refused(write: Write, content: str) -> None:
    with pytest.raises(PoolConfigError, match=r"^x.yaml: is nested too deeply, or an alias holds itself"):
        complete(write("x.yaml", content))


def test_aliases_that_multiply_are_refused_before_they_fill_the_memory(write: Write) -> None:
    levels = "\n".join(f"x-{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10))
    with pytest.raises(PoolConfigError, match="alias"):
        complete(write("x.yaml", f"x-0: &l0 [1]\n{levels}\n"))


def test_a_yaml_number_that_is_none_is_refused_without_being_shown(write: Write) -> None:
    with pytest.raises(PoolConfigError, match=r"^x.yaml:2: b: is not a valid number or date") as caught:
        complete(write("x.yaml", "a: 1\nb: !!int hunter2\n"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("tag", ["!!bool", "!!timestamp", "!!float"])
def test_a_tag_that_its_value_does_not_fit_is_refused_without_showing_it(write: Write, tag: str) -> None:
    with pytest.raises(PoolConfigError, match=r"^x.yaml:2: b: is not a valid number or date") as caught:
        complete(write("x.yaml", f"a: 1\nb: {tag} hunter2\n"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("content", ['a: 1\nb: "\\ud800"\n', 'a: 1\n"b\\udfff": 1\n'])
def test_half_a_character_is_refused_with_its_line(write: Write, content: str) -> None:
    with pytest.raises(
        PoolConfigError, match=r"^x.yaml:2: .*holds half a character \(a lone surrogate\); write the wh"
    ):
        complete(write("x.yaml", content))


@pytest.mark.parametrize(
    ("content", "line"), [("a = 1\nb = \n", 2), ("a = 1\na = 2\n", 2), ("a = 1\nb = [1,", 2), ("[a\n", 1)]
)
def test_wrong_toml_is_refused_with_its_line(write: Write, content: str, line: int) -> None:
    with pytest.raises(PoolConfigError, match=rf"^x.toml:{line}: is not valid TOML: "):
        complete(write("x.toml", content))


SECRETS = [
    "dsn: postgresql://me:hunter2@host: x/db\n",
    "password: *hunter2\n",
    "password: !hunter2\n",
    "password: !hunter2 x\n",
    "password: &hunter2\n  - a\n b\n",
    "password: 'hunter2\n",
    'password: "hunter2 \\q"\n',
    "password: @hunter2\n",
    "password: %hunter2\n",
    "%hunter2\n",
    "password: {hunter2\n",
    "password: |hunter2\n",
]


@pytest.mark.parametrize("content", SECRETS)
def test_no_error_of_a_wrong_file_shows_a_secret_not_even_in_its_traceback(write: Write, content: str) -> None:
    with pytest.raises(PoolConfigError) as caught:
        complete(write("x.yaml", content))
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_file_that_is_not_utf8_is_refused_with_its_line(write: Write) -> None:
    with pytest.raises(PoolConfigError, match=r"^x.yaml:2: is not UTF-8 text; save it as UTF-8"):
        complete(write("x.yaml", b"a: 1\nb: \xff\n"))


def test_a_byte_order_mark_and_windows_lines_are_read(write: Write) -> None:
    assert complete(write("x.toml", b"\xef\xbb\xbfa = 1\r\nb = 2\r\n")).data == {"a": 1, "b": 2}


def test_control_characters_are_refused(write: Write) -> None:
    with pytest.raises(PoolConfigError, match=r"^x.yaml:2: is not valid YAML: it holds a control character"):
        complete(write("x.yaml", "a: 1\nb: \x01\n"))


@pytest.mark.parametrize("name", ["x.json", "x", "x.yaml.bak"])
def test_another_kind_of_file_is_refused_by_its_suffix(write: Write, name: str) -> None:
    with pytest.raises(PoolConfigError, match=r"use \.yaml, \.yml or \.toml"):
        read_document(write(name, "{}"))


def test_a_missing_file_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(PoolConfigError, match=r"no.yaml: cannot be read \(No such file or directory\)"):
        read_document(tmp_path / "no.yaml")


def test_what_is_neither_path_nor_mapping_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="a path or a mapping is needed, not list"):
        read_document([])  # type: ignore[arg-type]


def test_without_pyyaml_the_error_names_the_extra_and_toml_still_works(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_yaml(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "yaml":
            raise ImportError("No module named 'yaml'", name="yaml")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_yaml)
    with pytest.raises(PoolConfigError, match=r"aiopool-core\[cli\]"):
        read_document(write("x.yaml", "a: 1"))
    assert read_document(write("x.toml", "a = 1")).data == {"a": 1}
