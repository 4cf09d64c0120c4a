"""A shell's text: what stands for a placeholder in each kind of quotes, and where none may stand."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import subprocess
from pathlib import Path

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
    "text",
    [
        "bash -eo pipefail -c 'echo {{x}}'",
        "bash --norc -c 'echo {{x}}'",
        "sh -o errexit -c 'echo {{x}}'",
        "sh -{{x}}",
        '"bash" -c {{x}}',
        "\\eval {{x}}",
        "'eval' {{x}}",
        "$SHELL -c {{x}}",
        "bash <(echo {{x}})",
        "bash <<< {{x}}",
        "bash {{x}}",
        "python3 -W ignore -c 'print({{x}})'",
        "python3 -X utf8 -m {{x}}",
        "perl -MList::Util=sum -e '{{x}}'",
        "perl -M{{x}} -e 1",
        "node --eval='{{x}}'",
        "sed -n -e 1p -e {{x}} file",
        "sed -n{{x}} file",
        "awk -f {{x}} file",
        "timeout 5 {{x}}",
        "timeout -s KILL 5 sh -c {{x}}",
        "env -i A=1 {{x}}",
        "env -S {{x}}",
        "env BASH_ENV={{x}} bash -c true",
        "PATH={{x}} ls",
        "export LD_PRELOAD={{x}}",
        "nice -n 1 {{x}}",
        "xargs -n1 {{x}} < file",
        "find . -exec {{x}} \\;",
        "find . -exec sh -c 'echo {{x}}' \\;",
        "docker exec box sh -c 'echo {{x}}'",
        "ssh host ls {{x}}",
        "ssh -o ProxyCommand={{x}} host",
        "su -c 'ls {{x}}' nobody",
        "command eval {{x}}",
        "coproc {{x}}",
        "time -p {{x}}",
        "$(echo {{x}}) a",
        "if [[ {{x}} -gt 5 ]]; then echo; fi",
        "! [[ {{x}} -eq 1 ]]",
        "if (( a == {{x}} )); then echo; fi",
        "for ((i=0; i<{{x}}; i++)); do echo; done",
        "echo $(( (1 + (2)) + {{x}} ))",
        "echo $[ a[1] + {{x}} ]",
        "arr[{{x}}]=5",
        "if [ -v {{x}} ]; then echo; fi",
        "if test a -a -v {{x}}; then echo; fi",
        "if let a={{x}}; then echo; fi",
        "f() { local -i a={{x}}; }",
        "declare -i a; a={{x}}",
        "if trap {{x}} EXIT; then :; fi",
        "printf -v 'a[{{x}}]' 1",
        "echo &>/dev/null {{x}}",
        "perl -pe 's/a/b/' {{x}}",
        "perl -Mstrict {{x}}",
        "node -r fs {{x}}",
        "sed file -e 's/a/{{x}}/'",
        "bash -s <<< {{x}}",
        "python3 - <<< {{x}}",
        "source /dev/stdin <<< {{x}}",
        "sh < {{x}}",
        "script -qc 'ls {{x}}' /dev/null",
        "xargs -0n 1 {{x}}",
        "sshpass -p word ssh host {{x}}",
        "sh <<!\necho {{x}}\n!",
        "function f { [[ {{x}} -gt 5 ]]; }",
        "coproc A { {{x}}; }",
        "{fd}>/dev/null {{x}}",
        "RANDOM={{x}}",
        "declare -i n; export n={{x}}",
        "command declare -i n={{x}}",
        "builtin declare -i n; n={{x}}",
        "declare -ai a=(1 {{x}})",
        "a=(b [{{x}}]=1)",
        "BASH_ENV+={{x}} bash -c true",
        "sh -c - {{x}}",
        "bash - {{x}}",
    ],
)
def test_values_are_no_code_however_the_command_is_written(text: str) -> None:
    assert ShellText(text).problems


HARMLESS = [
    "printf '<%s>' {{x}}",
    "printf '<%s>' 'a'\"{{x}}\"",
    'bash -c \'printf "<%s>" "$1"\' _ {{x}}',
    'sh -eu -c \'printf "<%s>" "$1"\' -- _ {{x}}',
    "python3 -c 'import sys; print(sys.argv[1])' {{x}}",
    "perl -e 'print shift' {{x}}",
    "grep -e {{x}} /dev/null",
    "grep -c {{x}} /dev/null | head -c 5",
    "sed -n 5p -- {{x}}",
    "awk -v n={{x}} 'BEGIN { print n }' {{x}}",
    "timeout {{x}} true",
    "nice -n {{x}} true",
    "env A={{x}} printenv A",
    "A={{x}} printenv A",
    "if [ {{x}} = a ] || test -n {{x}}; then echo; fi",
    "find . -maxdepth 0 -name {{x}} -exec echo {} \\;",
    "find . -maxdepth 0 -exec printf '<%s>' {{x}} \\;",
    "case {{x}} in (a) echo;; b) printf '<%s>' {{x}};; esac",
    "echo \"$(case a in a) printf '<%s>' {{x}};; esac)\"",
    'for each in {{x}} b; do echo "$each"; done',
    "f() { printf '<%s>' \"$1\"; }; f {{x}}",
    "echo a \\\n# it's {{x}}\necho {{x}}",
    "cat < {{x}}",
    "command -v {{x}}",
    '"/bin/echo" -c a {{x}}',
    'a={{x}}; export b={{x}}; echo "$a"',
]
VALUES = [
    "$(touch M)",
    "`touch M`",
    "; touch M;",
    "a[$(touch M)]",
    "'; touch M; '",
    '"; touch M; "',
    "x\ntouch M\n",
    "M=$(touch M)",
]


BASH_ALONE = ["tr a b <<< {{x}}", 'files=({{x}} b); echo "${files[0]}"', "declare -A m; name={{x}}"]
RUNS = [*itertools.product(["sh", "bash"], HARMLESS), *(("bash", text) for text in BASH_ALONE)]


@pytest.mark.parametrize(("shell", "text"), RUNS)
def test_what_is_allowed_runs_no_value(shell: str, text: str, tmp_path: Path) -> None:
    if (program := shutil.which(shell)) is None:
        pytest.skip(f"there is no {shell} here")
    read = ShellText(text)
    assert not read.problems
    script = "\n".join(
        f"( AIOPOOL_ARG_X={shlex.quote(value)}; export AIOPOOL_ARG_X; {read.command}\n)" for value in VALUES
    )
    subprocess.run([program, "-c", script], cwd=tmp_path, capture_output=True, timeout=30, check=False)
    assert not list(tmp_path.iterdir())


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
