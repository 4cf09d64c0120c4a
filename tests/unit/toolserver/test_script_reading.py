"""`script:` as it is read: what runs where, and how what is wrong is told."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiopool.errors import PoolConfigError
from aiopool.toolserver.program import Program
from aiopool.toolserver.reading import read_file
from aiopool.toolserver.script import ScriptPlan

ENV = {"DATABASE_URL": "postgresql://me:hunter2@db/x", "REDIS_URL": "redis://cache", "HOST_OF_OURS": "h"}
GANTZ = Path(__file__).resolve().parents[3] / "examples" / "gantz" / "gantz.yaml"

Read = Callable[..., ScriptPlan]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """The plan of a tool with this script, beside `plain.py` and `named.py`."""
    (tmp_path / "plain.py").write_text("import sys; print(sys.argv)")
    (tmp_path / "named.py").write_text("def main(name, connection=None): return name")
    monkeypatch.chdir(tmp_path)

    def read(script: str, *, pool: str = "", more: str = "", parameters: str = "[{name: name}]") -> ScriptPlan:
        text = f"""
            pools: {{database: {{}}, redis: {{}}, api: {{}}}}
            tools:
              - name: t
                description: d
                {f"pool: {pool}" if pool else ""}
                {more}
                parameters: {parameters}
                script: {script}
        """
        Path("x.yaml").write_text(textwrap.dedent(text))
        plan: Any = read_file("x.yaml", ENV).tools["t"].plan
        assert isinstance(plan, ScriptPlan)
        return plan

    return read


@pytest.mark.parametrize(
    ("script", "pool", "is_worker"),
    [
        ("{command: python, args: [plain.py]}", "database", True),
        ("{command: python3, args: [plain.py]}", "redis", True),
        ("{command: python, args: [plain.py]}", "", False),
        ("{command: python, args: [plain.py], mode: worker}", "", True),
        ("{command: python, args: [plain.py], mode: exec}", "database", False),
        ("{command: python, args: [-m, json.tool]}", "database", False),
        ("{command: cat, args: [plain.py]}", "database", False),
        ("{shell: 'python plain.py'}", "database", False),
        ("{shell: 'echo', command: bash}", "database", False),
    ],
)
def test_python_files_with_a_pool_run_in_workers(read: Read, script: str, pool: str, is_worker: bool) -> None:
    assert read(script, pool=pool).is_worker is is_worker


def test_the_file_of_the_article_runs_its_script_in_a_worker() -> None:
    plan: Any = read_file(GANTZ, ENV).tools["query_database"].plan
    assert (plan.is_worker, plan.pool, plan.is_pool_ours) == (True, "database", True)
    assert plan.file == str(GANTZ.parent / "scripts" / "pooled_query.py")


def test_what_gantz_takes_for_text_is_text(read: Read) -> None:
    plan = read("{command: echo, args: [1, 2.5, true, 'a {{name}}'], timeout: 30s, working_dir: .}")
    assert [each.text for each in plan.args] == ["1", "2.5", "true", "a {{name}}"]
    assert plan.timeout == 30


def test_variables_in_a_shell_text_are_left_to_the_shell(read: Read) -> None:
    plan = read("{shell: 'echo ${HOST_OF_OURS} $1 ${NOT_SET} ${X:-y} {{name}}'}")
    assert plan.shell is not None
    assert plan.shell.command == 'echo ${HOST_OF_OURS} $1 ${NOT_SET} ${X:-y} "${AIOPOOL_ARG_NAME}"'
    assert plan.environment == {"HOST_OF_OURS": "h"}


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("{timeout: 1}", "has neither `command:` nor `shell:`"),
        ("{command: echo, shell: echo}", None),
        ("{shell: echo, args: [x]}", "script.args: means nothing beside `shell:`"),
        ("{shell: ''}", "script.shell: must be text"),
        ("{shell: 'echo {{nam}}'}", "script.shell: {{nam}} is no parameter of this tool; did you mean 'name'?"),
        ("{shell: 'eval {{name}}'}", "script.shell: {{name}} would be code for another program"),
        ("{command: '{{name}}'}", "script.command: holds a placeholder"),
        ("{command: 'python plain.py'}", "script.command: must be a program alone"),
        ("{command: echo, args: 'x'}", "script.args: must be a list of texts"),
        ("{command: echo, args: ['{{nam}}']}", "script.args[0]: {{nam}} is no parameter"),
        ("{command: echo, stdin: '{{nam}}'}", "script.stdin: {{nam}} is no parameter"),
        ("{command: python, args: ['{{name}}']}", "script.args[0]: holds a placeholder"),
        ("{command: python, args: [missing.py]}", "script.args[0]: there is no such file below"),
        ("{command: python, args: [broken.py]}", "script.args[0]: is not valid Python in its line 2"),
        ("{command: python, args: [other.py]}", "its main() takes 'nam', which is no parameter of this tool; did"),
        (
            "{command: python, args: [-c, \"print('{{name}}')\"]}",
            "script.args[1]: {{name}} would be a part of the code",
        ),
        ("{command: /bin/sh, args: [-c, 'echo {{name}}']}", "it read the environment variable AIOPOOL_ARG_NAME"),
        ("{command: sh, args: [-c, '{{name}}']}", None),
        ("{command: grep, args: [-c, 'a{{name}}']}", None),
        ("{command: cat, mode: worker}", "script.mode: only a Python file runs in a worker"),
        ("{command: echo, mode: thread}", "script.mode: must be one of worker, exec"),
        ("{command: echo, timeout: 0}", "script.timeout: must be more than 0 seconds"),
        ("{command: echo, working_dir: nowhere}", "script.working_dir: is no folder below"),
        ("{command: echo, working_dir: '{{name}}'}", "script.working_dir: holds a placeholder"),
        ("{comand: echo}", "script.comand: is not known here; did you mean 'command'?"),
        ("{command: echo, env: {A: b}}", "script.env: is not known here; write `environment:` on the tool"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(read: Read, script: str, told: str | None) -> None:
    Path("broken.py").write_text("x = 1\ndef f(:\n")
    Path("other.py").write_text("def main(nam): ...")
    if told is None:
        assert read(script)
        return
    with pytest.raises(PoolConfigError) as caught:
        read(script)
    assert told in str(caught.value)
    assert "x.yaml:" in str(caught.value)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("environment: {'A B': x}", "environment.A B: is no name of an environment variable"),
        ("environment: {A: '{{name}}'}", "environment.A: placeholders are not filled in here"),
    ],
)
def test_the_environment_is_the_authors(read: Read, more: str, told: str) -> None:
    with pytest.raises(PoolConfigError, match="environment") as caught:
        read("{command: echo}", more=more)
    assert told in str(caught.value)


def test_parameters_that_would_be_in_the_same_variable_are_refused(read: Read) -> None:
    with pytest.raises(PoolConfigError, match=r"'a-b' and 'a\.b' would be in the same environment variable"):
        read("{command: echo}", parameters="[{name: a-b}, {name: a.b}]")


def test_a_pool_that_scripts_cannot_use_is_refused(read: Read) -> None:
    with pytest.raises(PoolConfigError, match="a script can't use"):
        read("{command: echo}", pool="api")


GUARD = '\nif __name__ == "__main__": main("x")\n'


@pytest.mark.parametrize(
    ("code", "is_called"),
    [
        ("def main(query): ...", True),
        ("async def main(query): ...", True),
        ("def main(query, connection): ...", True),
        ("def main(query, database): ...", True),
        ("def main(query, limit=10): ...", True),
        ("def main(**given): ...", True),
        (f"def main(query): ...{GUARD}", True),
        (f"def main(): ...{GUARD}", False),
        (f"def main(argv=None): ...{GUARD}", False),
        ("print('x')", False),
        ("class A:\n    def main(self, query): ...", False),
    ],
)
def test_main_is_called_where_it_takes_the_parameters_and_the_file_is_run_elsewhere(
    tmp_path: Path, code: str, is_called: bool
) -> None:
    (tmp_path / "x.py").write_text(code)
    program = Program.read(str(tmp_path / "x.py"))
    assert program.is_called(("query",), ("connection", "database")) is is_called
