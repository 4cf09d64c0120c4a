"""What a file may say under `http:`, and what a request becomes of it whatever the arguments hold."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopool.adapters._http_public import is_public
from aiopool.telling import ToolFailure
from aiopool.toolserver._http_body import _headers
from aiopool.toolserver._http_extract import follow, read_path
from aiopool.toolserver._http_url import is_named_privately
from tests.tool_bodies import plan_of, problem_of

API = "https://api.example.com"
PARAMETERS = [
    {"name": "id"},
    {"name": "n", "type": "integer"},
    {"name": "tags", "type": "array"},
    {"name": "about", "type": "object"},
]


def plan(**http: Any) -> Any:
    return plan_of({"http": {"url": API, **http}, "parameters": PARAMETERS})


def problem(pool: str | None = None, **http: Any) -> str:
    return problem_of({"http": {"url": API, **http}, "parameters": PARAMETERS}, pool)


def url_of(url: str, query: Any = None, **arguments: Any) -> str:
    return str(plan(url=url, **({"query": query} if query else {})).url.render(arguments))


def sent(arguments: dict[str, Any], **http: Any) -> str:
    return str(plan(**http).content.render(arguments).decode())


# ------------------------------------------------------------------------------------------- what is refused


REFUSED = [
    ({"url": "https://{{id}}/"}, "placeholder in its host or port: the file says where requests go"),
    ({"url": "https://api.{{id}}.example.com/"}, "placeholder in its host or port"),
    ({"url": "https://api.example.com:{{n}}/"}, "placeholder in its host or port"),
    ({"url": "https://api.example.com{{id}}"}, "placeholder in its host or port"),
    ({"url": "https://api.example.com@{{id}}"}, "placeholder in its host or port"),
    ({"url": "{{id}}"}, "placeholder before its path"),
    ({"url": "{{id}}://api.example.com"}, "placeholder before its path"),
    ({"url": "ftp://api.example.com"}, "must begin with https:// or http://"),
    ({"url": "file:///etc/passwd"}, "must begin with https:// or http://"),
    ({"url": "api.example.com/a"}, "must begin with https:// or http://"),
    ({"url": "//api.example.com/a"}, "must begin with https:// or http://"),
    ({"url": "https://"}, "host or port that cannot be read"),
    ({"url": "https://a:99999/"}, "host or port that cannot be read"),
    ({"url": "https://a b/"}, "host or port that cannot be read"),
    ({"url": "https://a\\@b/"}, "host or port that cannot be read"),
    ({"url": "https://a/b c"}, "write a space as %20"),
    ({"url": "https://a/b#{{id}}"}, "never sent"),
    ({"url": "https://a/{{idd}}"}, "url: {{idd}} is no parameter of this tool; did you mean 'id'?"),
    ({"query": {"a": "{{idd}}"}}, "{{idd}} is no parameter"),
    ({"query": {"{{id}}": "a"}}, "placeholder in the name of a parameter"),
    ({"query": "a=b"}, "must be a table of texts, numbers, or lists of them"),
    ({"headers": {"A": "{{idd}}"}}, "headers: {{idd}} is no parameter"),
    ({"headers": {"A b": "c"}}, "cannot be the name of a header"),
    ({"headers": {"A\r\nB": "c"}}, "cannot be the name of a header"),
    ({"headers": {"Host": "{{id}}"}}, "headers.Host: cannot have a placeholder"),
    ({"headers": {"Content-Type": "{{id}}"}}, "cannot have a placeholder"),
    ({"headers": {"Content-Length": "5"}}, "is set by the client itself"),
    ({"headers": {"transfer-encoding": "chunked"}}, "is set by the client itself"),
    ({"method": "TRACE"}, "method: must be one of GET, HEAD"),
    ({"method": "{{id}}"}, "method: must be one of GET, HEAD"),
    ({"body": "{", "method": "POST"}, "body: is no JSON, which it must be unless `headers` has another"),
    ({"body": "hello {{id}}"}, "is no JSON"),
    ({"body": '{"a": "{{idd}}"}'}, "body: {{idd}} is no parameter"),
    ({"json": {"a": ["{{idd}}"]}}, "json: {{idd}} is no parameter"),
    ({"json": {"{{idd}}": 1}}, "json: {{idd}} is no parameter"),
    ({"headers": {"A": "b\r\nC: d"}}, "headers.A: holds a line break, or what is not visible ASCII"),
    ({"headers": {"A": "{{id}}\n"}}, "headers.A: holds a line break"),
    ({"headers": {"Content-Type": "text/pläin"}, "body": "a"}, "headers.Content-Type: holds a line break, or what"),
    ({"json": {"a": [float("nan")]}}, "json: must be what JSON can hold (put dates, .nan and .inf into quotes)"),
    ({"body": '{"a": NaN}'}, "body: is no JSON"),
    ({"body": '{"a": 1e999}'}, "body: is no JSON"),
    ({"json": {"a": 1}, "body": "1"}, "json: says what is sent, as `body` does"),
    ({"extract": "a..b"}, "extract: cannot be read at character 2"),
    ({"extract": "$.a"}, "must begin with the name of a key"),
    ({"extract_json": "a[x]"}, "extract_json: cannot be read at character 2"),
    ({"extract": "a", "extract_json": "a"}, "says the same as `extract`"),
    ({"timeout": 0}, "timeout: must be from 0.001"),
    ({"max_bytes": 10**9}, "max_bytes: must be from 1 to 1000000"),
    ({"urll": "a"}, "urll: is not known here; did you mean 'url'?"),
    ({"params": {}}, "params: is not known here; write `query:`"),
]


def test_what_cannot_be_sent_is_told_with_its_remedy() -> None:
    for http, told in REFUSED:
        assert told in problem(**http), http


def test_no_password_of_an_address_is_told() -> None:
    for url in (
        "https://user:hunter2@{{id}}/",
        "https://user:hunter2@a:99999/",
        "hunter2://x",
        "https://u:hunter2@a b",
    ):
        assert problem(url=url)
        assert "hunter2" not in problem(url=url)


def test_a_path_alone_is_right_on_a_pool_and_on_the_only_one() -> None:
    assert problem("api", url="/a/{{id}}") == ""
    assert plan(url="/a").pool == "api"
    assert plan(url=API).pool is None
    tool = {"http": {"url": "/a"}}
    assert "url: has no host: write one, or name a pool of type http" in problem_of(
        tool, kinds={"database": "postgres"}
    )
    assert "has no host" in problem_of(tool, kinds={"api": "http", "other": "http"})


# ------------------------------------------------------------------------------------------- the address


def test_arguments_are_encoded_where_they_stand() -> None:
    assert url_of(f"{API}/a/{{{{id}}}}?q={{{{id}}}}", id="x/y?z#&é %2f") == (
        f"{API}/a/x%2Fy%3Fz%23%26%C3%A9%20%252f?q=x%2Fy%3Fz%23%26%C3%A9%20%252f"
    )
    assert url_of(API, id="x") == f"{API}/"
    assert url_of(f"{API}?a=b", {"c": "d e", "n": 5, "t": True}) == f"{API}/?a=b&c=d%20e&n=5&t=true"


def test_a_parameter_without_an_argument_is_left_out_and_a_list_gives_several() -> None:
    query = {"id": "{{id}}", "tag": "{{tags}}", "two": ["{{n}}", "b"]}
    assert url_of(f"{API}/", query) == f"{API}/?two=b"
    assert url_of(f"{API}/?a=%20&flag&id={{{{id}}}}&tag={{{{ tags }}}}&m=_{{{{n}}}}") == f"{API}/?a=%20&flag&m=_"
    assert (
        url_of(f"{API}/?id={{{{id}}}}&tag={{{{tags}}}}&a", id="b&c", tags=[1, "2"]) == f"{API}/?id=b%26c&tag=1&tag=2&a"
    )
    assert url_of(f"{API}/?{{{{id}}}}=1&{{{{n}}}}", id="a=b") == f"{API}/?a%3Db=1"
    assert url_of(f"{API}/", query, id="", tags=["a", 1], n=0) == f"{API}/?id=&tag=a&tag=1&two=0&two=b"


ASTRAY = [
    "..", ".", "../admin", "a/../b", "..\\admin", "%2e%2e", "%2e%2e%2fadmin", "..%2fadmin", "%252e%252e/x",
    "..;/admin", "a/..;x=1/b", " .. ", "", "a\r\nHost: evil", "a%0d%0ab", "a\0b", "\x7f",
]  # fmt: skip


def test_an_argument_cannot_lead_to_another_path() -> None:
    for value in ASTRAY:
        with pytest.raises(ToolFailure, match="argument id is a part of the address"):
            url_of(f"{API}/users/{{{{id}}}}/posts", id=value)


NO_TROUBLE = ["a.b", "..a", "a..", "...", "a/b", "ü", "50%", "a b"]


def test_other_arguments_are_no_trouble() -> None:
    for value in NO_TROUBLE:
        url = url_of(f"{API}/users/{{{{id}}}}/posts", id=value)
        assert unquote(httpx.URL(url).raw_path.decode()) == f"/users/{value}/posts"


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_an_argument_fills_its_place_in_an_address_and_no_other(segment: str, value: str) -> None:
    try:
        url = url_of(f"{API}/a/{{{{id}}}}/b?c={{{{tags}}}}&d=e", {"f": "{{tags}}"}, id=segment, tags=value)
    except ToolFailure:
        return
    parts = urlsplit(str(httpx.URL(url)))
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "api.example.com", "")
    assert [unquote(each) for each in parts.path.split("/")] == ["", "a", segment, "b"]
    assert parse_qsl(parts.query, keep_blank_values=True) == [("c", value), ("d", "e"), ("f", value)]


# ------------------------------------------------------------------------------------------- headers


def test_headers_take_visible_text_only() -> None:
    headers = plan(headers={"X-Id": "id {{id}}", "X-N": "{{n}}"}).headers
    assert _headers(headers, {"id": "a"}) == {"Accept-Encoding": "gzip", "X-Id": "id a"}
    for value in ("a\r\nX-Evil: 1", "a\nb", "a\0", "é", "a\tb", "\u2028"):
        with pytest.raises(ToolFailure, match="argument id is sent in the header X-Id"):
            _headers(headers, {"id": value})


# ------------------------------------------------------------------------------------------- the body


def test_in_json_a_placeholder_between_quotes_is_text_and_one_without_is_a_value() -> None:
    body = (
        '{"id": "{{id}}", "both": "<{{id}}> {{n}}", "n": {{n}}, "tags": {{ tags }}, "about": {{about}}, "x": [{{n}}]}'
    )
    nasty = 'a", "admin": true, "b": "\\'
    text = sent({"id": nasty, "n": 5, "tags": ["a"], "about": {"a": None}}, body=body)
    assert json.loads(text) == {
        "id": nasty,
        "both": f"<{nasty}> 5",
        "n": 5,
        "tags": ["a"],
        "about": {"a": None},
        "x": [5],
    }
    assert json.loads(sent({}, body='{"id": "{{id}}", "n": {{n}}, "x": [{{n}}]}')) == {"id": "", "x": [None]}


def test_under_json_a_text_that_is_one_placeholder_is_a_value() -> None:
    tree = {"id": "{{id}}", "n": "{{n}}", "list": ["{{tags}}", "no. {{n}}"], "{{id}}": {"fixed": 1.5}}
    assert json.loads(sent({"id": 'x"', "n": 5, "tags": [1]}, json=tree)) == {
        "id": 'x"',
        "n": 5,
        "list": [[1], "no. 5"],
        'x"': {"fixed": 1.5},
    }
    assert json.loads(sent({}, json={"id": "{{id}}", "n": 1})) == {"n": 1}


def test_a_body_that_is_one_placeholder_is_sent_as_it_is_if_it_is_json() -> None:
    assert sent({"id": '{"a":  1}'}, body="{{id}}") == '{"a":  1}'
    assert sent({"about": {"a": 1}}, body="{{about}}") == '{"a": 1}'
    for text in ("{", "NaN", "[-Infinity]", ""):
        with pytest.raises(ToolFailure, match="argument id is the body of the request, and must be JSON"):
            sent({"id": text}, body="{{id}}")


def test_forms_and_xml_are_escaped_as_they_need_it() -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert sent({"id": "a&b=c d"}, body="x={{id}}&y=1", headers=form) == "x=a%26b%3Dc%20d&y=1"
    xml = {"content-type": "text/xml; charset=utf-8"}
    assert sent({"id": "</a><b c='d'>"}, body="<a>{{id}}</a>", headers=xml) == (
        "<a>&lt;/a&gt;&lt;b c=&apos;d&apos;&gt;</a>"
    )
    assert sent({"id": "a"}, body="hello {{id}}", headers={"Content-Type": "text/plain"}) == "hello a"


@pytest.mark.parametrize(
    "media_type", ["multipart/form-data; boundary=B", "application/yaml", "application/graphql", "application/x-ndjson"]
)
def test_a_body_in_which_nobody_can_escape_takes_no_placeholders(media_type: str) -> None:
    headers = {"Content-Type": media_type}
    assert "body: cannot have placeholders in a text of this type" in problem(body="a: {{id}}", headers=headers)
    assert sent({"id": "a"}, body="a: b", headers=headers) == "a: b"
    assert sent({"id": "a: b"}, body="{{id}}", headers=headers) == "a: b"


def test_xml_holds_no_control_characters() -> None:
    for value in ("\0", "a\x1b", "\uffff"):
        with pytest.raises(ToolFailure, match="argument id holds a control character, which XML has no form for"):
            sent({"id": value}, body="<a>{{id}}</a>", headers={"Content-Type": "application/soap+xml"})
    assert sent({"id": "a\t\nb"}, body="<a>{{id}}</a>", headers={"Content-Type": "text/xml"}) == "<a>a\t\nb</a>"


def test_the_method_and_the_type_of_a_body_are_found() -> None:
    assert (plan().method, plan().is_read_only) == ("GET", True)
    posting = plan(json={})
    assert (posting.method, posting.is_read_only) == ("POST", False)
    assert posting.headers["Content-Type"].text == "application/json"
    assert plan(method="put", body="1").method == "PUT"
    assert "Content-Type" not in plan().headers


values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda each: st.lists(each), max_leaves=5)


@given(st.text(), values)
def test_a_body_stays_the_json_that_the_file_has_written(text: str, value: Any) -> None:
    body = '{"a": "x{{id}}", "b": [{{about}}], "c": {"d": "{{id}}"}}'
    assert json.loads(sent({"id": text, "about": value}, body=body)) == {
        "a": f"x{text}",
        "b": [value],
        "c": {"d": text},
    }


# ------------------------------------------------------------------------------------------- what is extracted


def test_a_path_leads_into_json() -> None:
    answer = {"data": {"items": [{"name": "a"}, {"a-b": [1, [2]]}]}}
    assert follow(read_path("data.items[0].name"), answer) == "a"
    assert follow(read_path("data.items[1].a-b[1][0]"), answer) == 2
    assert follow(read_path("[0]"), [1]) == 1


NOWHERE = [
    ("data.item", "the answer has no data.item: data is an object with items, n"),
    ("data.items[5].name", "the answer has no data.items[5].name: data.items is a list of 1"),
    ("data.n.x", "the answer has no data.n.x: data.n is null"),
    ("[0]", "the answer has no [0]: the answer is an object with data"),
    ("data.items[0].x", "data.items[0] is a number"),
]


def test_a_path_that_leads_nowhere_says_where_it_ended() -> None:
    for path, told in NOWHERE:
        with pytest.raises(ToolFailure) as failure:
            follow(read_path(path), {"data": {"items": [1], "n": None}})
        assert told in str(failure.value)


UNREADABLE = ["", ".", "a.", "a b.[", "a[", "a[-1]", "a]", "a[1]b", "a..b", "$"]


def test_a_path_that_cannot_be_read_is_refused() -> None:
    for path in UNREADABLE:
        with pytest.raises(ValueError, match="write it like"):
            read_path(path)


# ------------------------------------------------------------------------------------------- addresses


PRIVATE = [
    "127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1",
    "100.100.100.200", "0.0.0.0", "255.255.255.255", "224.0.0.1", "198.18.0.1", "192.0.2.1", "168.63.129.16",
    "240.0.0.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1",
    "2001:db8::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "::127.0.0.1",
]  # fmt: skip


def test_an_address_of_a_private_network_is_known_in_every_guise() -> None:
    assert [address for address in PRIVATE if is_public(address)] == []


PUBLIC = ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


def test_an_address_of_the_internet_is_public() -> None:
    assert [address for address in PUBLIC if not is_public(address)] == []


def test_only_a_name_that_hides_nothing_is_taken_for_meant() -> None:
    for host in ("127.0.0.1", "10.0.0.1", "::1", "localhost", "api.localhost", "169.254.169.254"):
        assert is_named_privately(host)
    for host in (
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.1",
        "localhost.example.com",
        "api.example.com",
        "notlocalhost",
    ):
        assert not is_named_privately(host)
