"""A shell's text: what stands for a placeholder in each kind of quotes, and where none may stand."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiopool.toolserver.shelltext import ShellText

X = "${AIOPOOL_ARG_X}"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("echo {{x}}", f'echo "{X}"'),
        ('echo "Hello, {{x}}!"', f'echo "Hello, {X}!"'),
        ("echo 'Hello, {{x}}!'", f"echo 'Hello, '\"{X}\"'!'"),
        ("echo a{{x}}b{{ x }}", f'echo a"{X}"b"{X}"'),
        ("""echo "a'{{x}}'b" '"{{x}}"'""", f"""echo "a'{X}'b" '"'"{X}"'"'"""),
        ('echo "$(cat "{{x}}")"', f'echo "$(cat "{X}")"'),
        ('echo "\\"{{x}}"', f'echo "\\"{X}"'),
        ("# it's {{x}}\necho {{x}}", f'# it\'s {{{{x}}}}\necho "{X}"'),
        ("echo a#'{{x}}'", f"echo a#''\"{X}\"''"),
        ("case {{x}} in a) echo '{{x}}';; esac", f"case \"{X}\" in a) echo ''\"{X}\"'';; esac"),
        ("X={{x}} printenv X", f'X="{X}" printenv X'),
        ("export X={{x}}; env", f'export X="{X}"; env'),
        ("awk -v n={{x}} 'BEGIN { print n }' {{x}}", f'awk -v n="{X}" \'BEGIN {{ print n }}\' "{X}"'),
        ("cat <<EOF; echo {{x}}\n$HOME\nEOF\necho {{x}}", f'cat <<EOF; echo "{X}"\n$HOME\nEOF\necho "{X}"'),
        ("cat <<< {{x}}", f'cat <<< "{X}"'),
        ("docker ps --format '{{.Names}}'", "docker ps --format '{{.Names}}'"),
        ("echo $((1 + 2)) {{x}}", f'echo $((1 + 2)) "{X}"'),
        ("echo ${HOME:-'a b'} {{x}}", f"echo ${{HOME:-'a b'}} \"{X}\""),
    ],
)
def test_a_placeholder_becomes_a_reference_in_double_quotes_wherever_it_stands(text: str, command: str) -> None:
    read = ShellText(text)
    assert read.command == command
    assert not read.problems


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo `cat {{x}}`", "backquotes (write `$(…)`)"),
        ('echo "`cat {{x}}`"', "backquotes"),
        ("echo $(( {{x}} + 1 ))", "arithmetic"),
        ("(( {{x}} > 1 )) && echo yes", "arithmetic"),
        ("echo ${HOME:-{{x}}}", "a ${…}"),
        ('echo "${HOME:-{{x}}}"', "a ${…}"),
        ("echo $'{{x}}'", "$'…'"),
        ("cat <<EOF\n{{x}}\nEOF\n", "a here-document"),
        ("cat <<'EOF' && echo\n{{x}}\nEOF\n", "a here-document"),
        ("cat <<-EOF\n\t{{x}}\n\tEOF\n", "a here-document"),
        ("echo \\{{x}}", "follows a \\"),
        ("echo ${{x}}", "follows a $"),
        ('echo "${{x}}"', "follows a $"),
        ("{{x}}", "would be the command to run"),
        ('"{{x}}" --version', "would be the command to run"),
        ("true && {{x}}", "would be the command to run"),
        ("if {{x}}; then :; fi", "would be the command to run"),
        ("A=1 sudo {{x}}", "would be the command to run"),
        ("echo $({{x}})", "would be the command to run"),
        ("ls | xargs {{x}}", "would be the command to run"),
        ("eval echo {{x}}", "code for another program"),
        ("sh -c 'echo {{x}}'", "code for another program"),
        ('/bin/bash -ec "echo {{x}}"', "code for another program"),
        ("ls | xargs sh -c 'echo {{x}}'", "code for another program"),
        ("python3 -c \"print('{{x}}')\"", "code for another program"),
        ("perl -ne 'print if /{{x}}/' file", "code for another program"),
        ("node -e 'console.log({{x}})'", "code for another program"),
        (". {{x}}", "code for another program"),
        ('python -c "$(cat {{x}})"', "code for another program"),
        ("sed 's/a/{{x}}/' file", "program for sed or awk"),
        ('sed -e "s/a/{{x}}/" file', "program for sed or awk"),
        ("awk '/{{x}}/ { print }' file", "program for sed or awk"),
        ("export {{x}}", "evaluated by `export`"),
        ("[[ {{x}} -eq 1 ]] && echo", "evaluated by `[[`"),
        ("let {{x}}", "evaluated by `let`"),
        ("printf -v {{x}} 1", "evaluated by `printf -v`"),
        ("trap '{{x}}' EXIT", "evaluated by `trap`"),
        ("echo '{{x}}", "quotes or parentheses don't match"),
        ('echo "$(cat {{x}}', "quotes or parentheses don't match"),
    ],
)
def test_where_no_quoting_helps_a_placeholder_is_refused(text: str, words: str) -> None:
    assert any(words in problem for problem in ShellText(text).problems), ShellText(text).problems


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("head -n $(({{x}} * 50)) file", f"head -n $(({X} * 50)) file"),
        ("echo ${LIMIT:-{{x}}}", f"echo ${{LIMIT:-{X}}}"),
        ('python -c "print({{x}})"', f'python -c "print({X})"'),
        ("awk 'NR == {{x}}' file", f"awk 'NR == '\"{X}\"'' file"),
    ],
)
def test_a_number_is_no_code_wherever_it_stands(text: str, command: str) -> None:
    assert ShellText(text).problems
    read = ShellText(text, {"x"})
    assert (read.command, dict(read.problems)) == (command, {})


def test_a_file_that_a_program_writes_to_is_none_of_its_code() -> None:
    assert not ShellText('python -c "print(1)" > "{{x}}" 2> {{y}}').problems
    assert ShellText('python -c "1 > {{x}}"').problems


@pytest.mark.parametrize(
    ("text", "leading"),
    [
        ("rm {{x}}", {"x"}),
        ('rm "{{x}}"', {"x"}),
        ("rm '{{x}}'", {"x"}),
        ("rm {{x}}{{y}}", {"x", "y"}),
        ("rm -- {{x}}", set()),
        ("rm --name={{x}} -n{{y}}", set()),
        ("rm ./{{x}}", set()),
        ("true -- a; rm {{x}}", {"x"}),
        ('echo "$(rm {{x}})"', {"x"}),
        ('echo "say {{x}}"', set()),
    ],
)
def test_those_that_begin_a_word_could_be_options(text: str, leading: set[str]) -> None:
    assert ShellText(text).leading == leading


PIECES = [
    "{{x}}",
    "'",
    '"',
    "\\",
    "$(",
    "$((",
    "))",
    ")",
    "`",
    "#",
    "\n",
    " ",
    "a",
    "<<E\n",
    "\nE\n",
    "((",
    "${",
    "}",
    "$'",
    ";",
]


@example("'\"{{x}}\"'")
@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_any_text_can_be_read_and_only_its_placeholders_are_replaced(text: str) -> None:
    in_comments = "{{x}}"
    reference = "|".join(map(re.escape, (f"'\"{X}\"'", f'"{X}"', X, in_comments)))
    assert re.fullmatch(f"(?:{reference})".join(map(re.escape, text.split("{{x}}"))), ShellText(text).command)
