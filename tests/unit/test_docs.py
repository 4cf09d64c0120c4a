"""Tables in the pages and the pins, held against what the code says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aiopool import errors, poolspec, testing
from aiopool.metrics.prometheus import PoolCollector
from aiopool.poolkinds import KINDS
from aiopool.stats import PoolStats
from aiopool.toolserver import reading, schema, settings

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def words(page: str) -> set[str]:
    """What stands in `code` there."""
    return set(re.findall(r"`([^`\n]+)`", (DOCS / page).read_text(encoding="utf-8")))


def test_every_metric_is_documented():
    documented = words("guides/metrics.md")
    for family in PoolCollector().describe():
        name = family.name.removeprefix("connection_pool_")
        assert name + ("_total" if family.type == "counter" else "") in documented


def test_every_key_of_the_statistics_is_documented():
    assert set(PoolStats.__annotations__) - {"name", "min_size", "max_size"} <= words("guides/metrics.md")


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.type)
def test_every_key_of_a_pools_file_is_documented(kind):
    page = (DOCS / "config-file.md").read_text(encoding="utf-8")
    row = next(
        line for line in page.split("### Keys of one kind")[1].splitlines() if line.startswith(f"| `{kind.type}`")
    )
    assert set(re.findall(r"`(\w+)`", row.split("|")[2])) == set(kind.options) - set(kind.same_as)
    assert {*kind.address_keys, *kind.same_as, *filter(None, [kind.variable])} <= words("config-file.md")


def test_every_key_of_a_file_of_tools_is_documented():
    page = (DOCS / "mcp/file.md").read_text(encoding="utf-8")

    def keys(title):
        rows = page.split(f"{title}\n")[1].split("\n#")[0].splitlines()
        return {key for row in rows if row.startswith("| `") for key in re.findall(r"`(\w+)`", row.split("|")[1])}

    assert keys("## Keys") == set(poolspec.SECTIONS)
    assert keys("### `server`") == set(settings.KEYS)
    assert keys("### A tool") == {*reading._TOOL_KEYS, "parameters", *reading.BODIES}
    assert keys("### A parameter") | {"minimum", "maximum"} == {"name", "required", *schema.PARAMETER_KEYS}
    assert set(schema.KEYWORDS) <= set(re.findall(r"`(\w+)`", page.split("In `items` and")[1]))


def test_every_error_is_documented():
    ours = (value for value in vars(errors).values() if isinstance(value, type))
    assert {error.__name__ for error in ours if issubclass(error, errors.PoolError)} <= words("reference/errors.md")


def test_every_tool_for_tests_is_documented():
    page = (DOCS / "reference/testing.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^::: aiopool\.testing\.(\w+)$", page, re.MULTILINE)) == set(testing.__all__)


@pytest.mark.parametrize("page", ["comparison.md", "mcp/comparison.md"])
def test_every_line_of_a_comparison_names_tests_that_are_there(page):
    tests = {file.stem for file in (ROOT / "tests").rglob("test_*.py")}
    rows = [line for line in (DOCS / page).read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    named = [set(re.findall(r"`(test_\w+)`", row)) for row in rows if not row.startswith("| |")]
    assert len(named) > 10
    assert set().union(*named) <= tests
    if page == "mcp/comparison.md":
        assert all(named)


def test_every_folder_of_tests_is_explained():
    folders = {f"tests/{file.parent.name}/" for file in (ROOT / "tests").glob("*/*.py")}
    assert folders <= words("../CONTRIBUTING.md")


def test_every_direct_dependency_is_pinned_to_a_version_that_is_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"
    )
    for requirement in (Requirement(text) for group in groups for text in group):
        if requirement.name != project["project"]["name"]:
            pin = pins.get(canonicalize_name(requirement.name))
            assert pin is not None, f"constraints.txt has no pin for {requirement.name}"
            assert requirement.specifier.contains(pin), f"{requirement} does not allow the pin {pin}"


def test_the_readme_begins_with_the_two_commands():
    blocks = re.findall(r"```bash\n(.*?)\n```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks[:2] == [
        "pip install uv && uv run --all-extras aiopool demo",
        "pip install uv && uv run --all-extras pytest",
    ]
