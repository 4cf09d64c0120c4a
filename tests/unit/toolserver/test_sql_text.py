"""Where a statement has its parameters, and what it begins with."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiopool.toolserver._sql_text import first_word, lexemes, numbered

NO_PARAMETERS = [
    "select '2026-01-01 :b'::timestamp::date",
    "select 'it''s :b'",
    r"select E'it\'s :b', e'\\:b'",
    "select E'a\\'b'\n  '\\' :b'",
    "select E'a' -- one\n -- two\n '\\' :b'",
    "select $$ :b $1 $$, $tag$ :b $$ $1 $tag$, $é$ :b $é$",
    'select "a :b" from ":b ""$1"" "',
    "select 1 -- :b $1",
    "select 1 /* :b /* $1 */ :b */",
    "select foo$1, _a$2b from t$1",
    "select make_interval(days := 3)",
    "select a[1:2], a[:2], a[1 : b]",
    "select 'unterminated :b",
    "select /* unterminated :b",
    "select $x$ unterminated :b",
    'select "unterminated :b',
    "select E'unterminated :b\\",
    "select U&'d\\0061t :b', B'1', X'1f', N':b'",
    "select 1e5, 0x1F, 1_000, .5",
    "select '{\"a\": 1}'::jsonb @? '$.a', j #>> '{a,b}', j->>'a', a ?| array['b']",
]


def test_what_only_looks_like_a_parameter_is_none() -> None:
    for text in NO_PARAMETERS:
        assert numbered(text, ("b",)) == (text, (), [])


def test_a_name_becomes_a_number_at_its_first_place_and_keeps_it() -> None:
    text, names, problems = numbered("select :b::int, (:a), :b, -:a /* :c */", ("a", "b"))
    assert (text, names, problems) == ("select $1::int, ($2), $1, -$2 /* :c */", ("b", "a"), [])


def test_a_number_stands_for_the_parameter_at_that_place_of_the_file() -> None:
    text, names, problems = numbered("select $2, $3, $2", ("a", "b", "c"))
    assert (text, names, problems) == ("select $1, $2, $1", ("b", "c"), [])


REFUSED = [
    ("select :idd", ":idd is no parameter of this tool; did you mean 'id'?"),
    ("select $3", "$3 is no parameter: the tool has 2, numbered from 1 in the order of `parameters`"),
    ("select $0", "$0 is no parameter"),
    ("select :id, $2", "both kinds"),
    ("select a[1:id]", ":id needs a space before it, or after its colon if that belongs to a slice"),
    ("select a[x:id]", "needs a space"),
]


def test_what_cannot_be_a_parameter_is_told_with_its_remedy() -> None:
    for text, told in REFUSED:
        assert told in numbered(text, ("id", "name"))[2][0], text


def test_a_tool_without_parameters_says_so() -> None:
    assert numbered("select $1", ())[2] == [
        "$1 is no parameter: the tool has none, numbered from 1 in the order of `parameters`"
    ]


FIRST_WORDS = [
    ("select 1", "select"),
    ("  -- c\n/* a /* b */ c */ SELECT 1", "select"),
    ("((select 1) union select 2)", "select"),
    ("/* x */commit; delete from t", "commit"),
    ("--\rcommit", "commit"),
    ("with x as (select 1) select 2", "with"),
    ('"select" 1', ""),
    (";select 1", "select"),
    ("; /* */ ;\v;commit", "commit"),
    (";", ""),
    ("'a'", ""),
    ("", ""),
    ("-- select", ""),
    ("/* select", ""),
    ("\ufeffselect 1", "\ufeffselect"),
    ("ſelect 1", "ſelect"),
]


def test_the_first_word_is_the_one_that_the_server_sees() -> None:
    for text, word in FIRST_WORDS:
        assert first_word(text) == word, text


pieces = st.sampled_from(
    [
        "'",
        "''",
        '"',
        "$$",
        "$a$",
        "/*",
        "*/",
        "--",
        "\n",
        ":a",
        "$1",
        "::",
        "\\",
        "E'",
        "a",
        " ",
        ";",
        "(",
        "[",
        "é",
        "\0",
    ]
)


@given(st.lists(pieces).map("".join))
def test_nothing_is_lost_and_nothing_is_read_twice(text: str) -> None:
    at = 0
    for lexeme in lexemes(text):
        assert lexeme.start() >= at
        at = lexeme.end()
    assert at <= len(text)
    changed, names, _ = numbered(text, ("a",))
    if not names:
        assert changed == text


@given(st.text(), st.text())
def test_a_literal_that_is_quoted_right_hides_whatever_it_holds(value: str, other: str) -> None:
    plain = value.replace("'", "''")
    escaped = other.replace("\\", "\\\\").replace("'", "\\'")
    text = f"select '{plain}', E'{escaped}', \"{value.replace(chr(34), chr(34) * 2)}\", :a"
    assert numbered(text, ("a",)) == (text[:-2] + "$1", ("a",), [])


@given(st.text(alphabet="ab*/ -\n$'\"", max_size=40))
def test_a_comment_hides_whatever_is_balanced_in_it(inside: str) -> None:
    inside = inside.replace("*/", "").replace("/*", "")
    inside = inside.replace("*/", "").replace("/*", "")
    if inside.endswith(("/", "*")) or inside.startswith("/") or "*/" in inside or "/*" in inside:
        return
    assert first_word(f"/* {inside} /* {inside} */ {inside} */ select 1") == "select"


def test_a_long_text_takes_linear_time() -> None:
    for piece in ("'", "/*", "$$", "E'\\", '"', "--", ":a ", "$1 ", "( "):
        first_word(piece * 200_000)
        numbered(piece * 20_000, ("a",))
