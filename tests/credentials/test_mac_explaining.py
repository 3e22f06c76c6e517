"""Why a MAC does not fit: each usual mistake is made on purpose, and must be found and named."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.credentials import mac
from gateway.credentials.explaining import Explanation, Request, Rules, explain, first_difference
from gateway.credentials.variations import ELEMENTS, GROUPS, Hints, Parts
from gateway.model import MacAlgorithm, MacDraft

KEY = b"obviously-fake-489dks293j39-8yfrufh3"
OTHER_KEY = b"obviously-fake-another-key-0123456789"
NOW = 1_700_000_000
GET = mac.Covered(method="GET", target=b"/api/notes?b=1&a=%c3%a4&c=", host="api.example.com", port=443)
POST = mac.Covered(method="POST", target=b"/api/notes", host="api.example.com", port=443)


def _attributes(draft: MacDraft, **changes: str | None) -> dict[str, Any]:
    usual: dict[str, Any] = {"id": "gwa_token", "nonce": "dj83hs9s" if draft == "01" else "264095:dj83hs9s"}
    usual |= {"ts": str(NOW)} if draft == "01" else {}
    return {name: value for name, value in (usual | changes).items() if value is not None}


def _text(covered: mac.Covered, attributes: dict[str, Any]) -> bytes:
    return mac.normalized_string(covered, **{name: item for name, item in attributes.items() if name != "id"})


def _field(attributes: dict[str, Any]) -> str:
    return "MAC " + ", ".join(f'{name}="{value}"' for name, value in attributes.items())


def _explained(
    authorization: str, covered: mac.Covered, *, key: bytes = KEY, algorithm: MacAlgorithm = "hmac-sha-256", **more: Any
) -> Explanation:
    request = Request(authorization=authorization, covered=covered, at=more.pop("at", NOW), body=more.pop("body", None))
    given: dict[str, Any] = {"rules": Rules(), "hints": Hints()} | more
    return explain(request, key=key, algorithm=algorithm, **given)


def _sent(covered: mac.Covered, draft: MacDraft = "01", key: bytes = KEY, **changes: str | None) -> str:
    """The field of a right signature."""
    attributes = _attributes(draft, **changes)
    return _field(attributes | {"mac": mac.sign(key, "hmac-sha-256", _text(covered, attributes))})


def _names(explained: Explanation) -> list[str]:
    return [cause.name for cause in explained.causes]


# -- what verifies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draft", ["00", "01"])
def test_right_signature_verifies_and_both_strings_agree(draft: MacDraft) -> None:
    explained = _explained(_sent(GET, draft, ext="a b"), GET)
    assert explained.verified
    assert explained.client == explained.gateway == _text(GET, _attributes(draft, ext="a b"))
    assert (explained.difference, explained.draft, explained.elements) == (None, draft, ELEMENTS[draft])


def test_vector_verifies() -> None:
    covered = mac.Covered(method="GET", target=b"/resource/1?b=1&a=2", host="example.com", port=80)
    field = 'MAC id="h480djs93hd8", ts="1336363200", nonce="dj83hs9s", mac="6T3zZzy2Emppni6bzL7kdRxUWL4="'
    assert _explained(field, covered, key=b"489dks293j39", algorithm="hmac-sha-1", at=1336363200).verified
    assert _names(_explained(field, covered, key=b"489dks293j39", at=1336363200)) == ["algorithm_mismatch"]


# -- one mistake, as it is made in practice ------------------------------------------------------------------


def _target(target: str) -> mac.Covered:
    return replace(GET, target=target.encode())


@pytest.mark.parametrize(
    ("signed", "got", "name", "said"),
    [
        (_target("/n?b=1&a=2"), _target("/n?a=2&b=1"), "query_order", "a different order"),
        (_target("/n?a=2&b=1"), _target("/n?b=1&a=2"), "query_order", "a different order"),
        (_target("/n?c&a=2&b=1&d&e"), _target("/n?b=1&a=2&c&d&e"), "query_order", "a different order"),
        (_target("/n"), _target("/n?a=1"), "query", "without the query"),
        (_target("/n?a=1"), _target("/n?a=1&utm_source=x"), "query", "'utm_source' was not signed"),
        (_target("/n?a&b=1"), _target("/n?a=&b=1"), "query", 'without its "="'),
        (_target("/n"), _target("/n?"), "question_mark", 'without the "?"'),
        (_target("/n?"), _target("/n"), "question_mark", 'signed a "?" at the end'),
        (_target("/n/%C3%A4"), _target("/n/%c3%a4"), "escapes", "a different letter case"),
        (_target("/n/ä"), _target("/n/%C3%A4"), "escapes", "decoded"),
        (_target("/n/%C3%A4"), _target("/n/ä"), "escapes", "percent-encoding"),
        (_target("/n/~a"), _target("/n/%7Ea"), "escapes", "percent-decoded"),
        (_target("/n/a:b"), _target("/n/a%3Ab"), "escapes", "percent-decoded"),
        (_target("/n?q=a+b"), _target("/n?q=a%20b"), "escapes", "percent-encoding"),
        (_target("/n?q=a%20b"), _target("/n?q=a+b"), "escapes", "percent-encoding"),
        (_target("/n?q=a:b"), _target("/n?q=a%3Ab"), "escapes", "decoded"),
        (_target("/n/"), _target("/n"), "path", "with a slash"),
        (_target("/n"), _target("/n/"), "path", "without a slash"),
        (_target("/notes/1"), _target("/gateway/api/notes/1"), "path_prefix", "without '/gateway/api'"),
        (_target("https://api.example.com/n?a"), _target("/n?a"), "whole_url", "whole URL"),
        (_target("https://api.example.com:443/n?a"), _target("/n?a"), "whole_url", "whole URL"),
        (_target("/N"), _target("/n"), None, ""),
        (replace(GET, port=80), GET, "port", "TLS ends at a proxy"),
        (replace(GET, port=8443), GET, "port", "signed port 8443, the gateway covers 443"),
        (replace(GET, host="localhost", port=8080), GET, "host", "'localhost:8080', the gateway covers"),
        (replace(GET, host="www.api.example.com"), GET, "host", "'www.api.example.com', the gateway covers"),
        (replace(GET, method="POST"), GET, "method", "signed POST, but GET was sent"),
    ],
)
def test_changed_request_is_told_with_its_cause(
    signed: mac.Covered, got: mac.Covered, name: str | None, said: str
) -> None:
    explained = _explained(_sent(signed), got)
    assert _names(explained) == [name or "another_key_or_string"]
    assert said in explained.causes[0].said
    if name is not None:
        assert explained.client == _text(signed, _attributes("01"))
        assert explained.difference is not None


def _signed_over(text: bytes, **more: Any) -> str:
    signature = mac.sign(more.pop("key", KEY), more.pop("algorithm", "hmac-sha-256"), text)
    return _field(_attributes(more.pop("draft", "01"), **more) | {"mac": signature})


_LINES = b"%d\ndj83hs9s\nPOST\n/api/notes\napi.example.com\n443\n\n" % NOW


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (_LINES.replace(b"POST", b"post"), "method_case"),
        (_LINES.replace(b"POST", b"Post"), "method_case"),
        (_LINES.replace(b"api.example.com", b"API.EXAMPLE.COM"), "host_case"),
        (_LINES.replace(b"api.example.com", b"api.example.com:443"), "host_port"),
        (_LINES[:-1], "line_ends"),
        (_LINES.replace(b"\n", b"\r\n"), "line_ends"),
        (_LINES[:-1].removesuffix(b"\n"), "empty_line"),
        (_LINES + b"\n", "empty_line"),
        (_LINES.replace(b"443\n\n", b"443\n\n\n"), "empty_line"),
        (_LINES.replace(b"api.example.com\n443", b"443\napi.example.com"), None),
        (b"dj83hs9s\n%d\n" % NOW + _LINES.partition(b"dj83hs9s\n")[2], "order"),
        (b"%d:dj83hs9s\nPOST\n/api/notes\napi.example.com\n443\n\n\n" % NOW, "draft_mismatch"),
        (b"dj83hs9s\nPOST\n/api/notes\napi.example.com\n443\n\n\n", "draft_mismatch"),
        (_LINES.replace(b"%d" % NOW, b"%d" % (NOW + 1)), "ts"),
        (_LINES.replace(b"%d" % NOW, b"%d000" % NOW), "ts"),
        (_LINES.replace(b"dj83hs9s", b'"dj83hs9s"'), "nonce"),
    ],
)
def test_string_of_another_form_is_told(text: bytes, name: str | None) -> None:
    explained = _explained(_signed_over(text), POST)
    assert _names(explained) == [name or "another_key_or_string"]
    if name is not None:
        assert explained.client == text


def test_lost_line_end_may_be_the_empty_line_of_an_absent_ext() -> None:
    assert "or the empty line of an absent ext" in _explained(_signed_over(_LINES[:-1]), POST).causes[0].said
    with_ext = _explained(_signed_over(_LINES[:-1] + b"app data", ext="app data"), POST)
    assert _names(with_ext) == ["line_ends"]
    assert "absent" not in with_ext.causes[0].said


def test_header_of_draft_00_over_the_string_of_draft_01_is_told() -> None:
    text = b"264095\ndj83hs9s\nPOST\n/api/notes\napi.example.com\n443\n\n"
    assert _names(_explained(_signed_over(text, draft="00"), POST)) == ["draft_mismatch"]


@pytest.mark.parametrize(
    ("key", "name", "said"),
    [
        (OTHER_KEY, "key_of_another_token", "with the key of Bob"),
        (b"gwa_token", "key", "access token"),
        (base64.urlsafe_b64decode(KEY), "key_encoding", "decoded the key from base64"),
        (base64.b64encode(KEY), "key_encoding", "encoded the key in base64"),
        (KEY + b"\n", "key_encoding", "line end after the key"),
        (b'"' + KEY + b'"', "key_encoding", "quotes"),
        (KEY + b"&", "key_encoding", "OAuth 1"),
        (b"nobody-knows-this-one", "another_key_or_string", "key of another token"),
    ],
)
def test_other_key_is_told(key: bytes, name: str, said: str) -> None:
    explained = _explained(_sent(POST, key=key), POST, hints=Hints(keys={"the key of Bob": OTHER_KEY}))
    assert _names(explained) == [name]
    assert said in explained.causes[0].said
    assert KEY.decode() not in str(explained)
    assert OTHER_KEY.decode() not in str(explained)


def test_other_algorithm_is_told() -> None:
    explained = _explained(_signed_over(_LINES, algorithm="hmac-sha-1"), POST)
    assert _names(explained) == ["algorithm_mismatch"]
    assert "signed with hmac-sha-1, but the token's algorithm is hmac-sha-256" in explained.causes[0].said


_RIGHT = base64.b64decode(mac.sign(KEY, "hmac-sha-256", _LINES))


@pytest.mark.parametrize(
    ("spelled", "said", "readable"),
    [
        (base64.urlsafe_b64encode(_RIGHT).decode(), "base64url", False),
        (base64.b64encode(_RIGHT).decode().rstrip("="), "without its padding", False),
        (_RIGHT.hex(), "hexadecimal", True),
        (base64.b64encode(_RIGHT.hex().encode()).decode(), "base64 of hexadecimal", True),
    ],
)
def test_other_spelling_of_the_mac_is_told(spelled: str, said: str, readable: bool) -> None:
    assert set("-_") & set(base64.urlsafe_b64encode(_RIGHT).decode()), "a value that tells the alphabets apart"
    explained = _explained(_field(_attributes("01") | {"mac": spelled}), POST)
    assert _names(explained) == [*([] if readable else ["malformed"]), "mac_encoding"]
    assert said in explained.causes[-1].said
    assert explained.client == explained.gateway


def test_two_mistakes_at_once_are_both_told() -> None:
    explained = _explained(_sent(replace(_target("/n?b=1&a=2"), port=80)), _target("/n?a=2&b=1"))
    assert _names(explained) == ["query_order", "port"]
    explained = _explained(_sent(replace(POST, host="other.example"), key=KEY + b"\n"), POST)
    assert _names(explained) == ["another_key_or_string"]
    hints = Hints(addresses=(("other.example", "443"),))
    explained = _explained(_sent(replace(POST, host="other.example"), key=KEY + b"\n"), POST, hints=hints)
    assert _names(explained) == ["host", "key_encoding"]


def test_ext_that_was_not_signed_is_told() -> None:
    sent = _sent(POST).replace("mac=", 'ext="a%20b", mac=')
    assert _names(_explained(sent, POST)) == ["ext"]
    sent = _signed_over(_LINES.removesuffix(b"\n") + b"a b\n", ext="a%20b")
    assert "percent-decoded" in _explained(sent, POST).causes[0].said


# -- clock, body, rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("off", "said"),
    [
        (47, "note: 47 s ahead"),
        (-60, "note: 60 s behind"),
        (60, "note: 60 s ahead"),
        (3, ""),
        (61, "61 s ahead; up to 60 s is accepted"),
        (-61, "61 s behind, or the request is that old"),
        (NOW * 999, "seems to count milliseconds"),
    ],
)
def test_clock_is_told(off: int, said: str) -> None:
    explained = _explained(_sent(POST, ts=str(NOW + off)), POST)
    if said == "" or said.startswith("note: "):
        assert explained.verified
        assert said.removeprefix("note: ") in " ".join(explained.remarks)
        assert bool(explained.remarks) is bool(said)
    else:
        assert _names(explained) == ["clock"]
        assert said in explained.causes[0].said


@pytest.mark.parametrize("draft", ["00", "01"])
@pytest.mark.parametrize(
    ("hashed", "came", "said"),
    [
        (b"hello", b"hello\n", "without the line end"),
        (b"hello\n", b"hello", "with a line end after it"),
        (b"a\r\nb", b"a\nb", "other line ends"),
        (b"", b"hello", "an empty body"),
        (b"hello", b"other", "it was changed"),
        (b'{"a":1,"b":"\xc3\xa4"}', b'{"a": 1, "b": "\xc3\xa4"}', "JSON was written out again"),
        (b'{"a": 1, "b": 2}', b'{"b": 2, "a": 1}', "JSON was written out again"),
        (b"a b", b"a%20b", "percent-decoded"),
    ],
)
def test_changed_body_is_told(draft: MacDraft, hashed: bytes, came: bytes, said: str) -> None:
    stated = mac.body_hash("hmac-sha-256", hashed)
    extra: dict[str, Any] = {"bodyhash": stated} if draft == "00" else {"ext": f"body_hash={stated}"}
    explained = _explained(_sent(POST, draft, **extra), POST, body=came)
    assert _names(explained) == ["body_changed"]
    assert said in explained.causes[0].said
    assert explained.client == explained.gateway
    assert _explained(_sent(POST, draft, **extra), POST, body=hashed).verified
    assert "give the body as well" in " ".join(_explained(_sent(POST, draft, **extra), POST).remarks)


def test_body_hash_that_was_signed_but_not_sent_is_told() -> None:
    stated = mac.body_hash("hmac-sha-256", b"hello")
    attributes = _attributes("00")
    signature = mac.sign(KEY, "hmac-sha-256", _text(POST, attributes | {"bodyhash": stated}))
    assert _names(_explained(_field(attributes | {"mac": signature}), POST, body=b"hello")) == ["bodyhash"]


def test_body_hash_of_another_algorithm_is_told() -> None:
    stated = mac.body_hash("hmac-sha-1", b"hello")
    assert _names(_explained(_sent(POST, ext=f"body_hash={stated}"), POST, body=b"hello")) == ["body_hash"]


def test_body_without_a_hash_is_remarked_or_refused_as_the_route_wants() -> None:
    assert "No hash of the body is signed" in " ".join(_explained(_sent(POST), POST, body=b"x").remarks)
    wants = Rules(wants_body_hash=True)
    assert _names(_explained(_sent(POST), POST, body=b"x", rules=wants)) == ["body_hash"]
    assert _explained(_sent(POST), POST, body=b"", rules=wants).verified


def test_what_may_not_be_used_is_told() -> None:
    explained = _explained(_sent(POST, "00"), POST, rules=Rules(drafts=("01",), algorithms=("hmac-sha-1",)))
    assert _names(explained) == ["draft_mismatch", "algorithm_mismatch"]
    assert "Draft 00 is not accepted for this client; accepted: 01" in explained.causes[0].said


# -- headers that cannot be read -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("", ["malformed"]),
        ("MAC", ["malformed"]),
        ("Bearer gwa_token", ["scheme"]),
        ('MAC kid="a", ts="1", seq-nr="1", mac="AAAA"', ["draft_mismatch"]),
        ("MAC \x00\xff ä", ["malformed"]),
        ('MAC id="a", ts="1", nonce="n"', ["malformed"]),
    ],
)
def test_field_that_is_no_mac_credential_is_told(field: str, names: list[str]) -> None:
    explained = _explained(field, POST)
    assert _names(explained) == names
    assert not explained.verified


@pytest.mark.parametrize(
    "spoil",
    [
        lambda field: field.replace('"', ""),
        lambda field: field.replace(", ", " "),
        lambda field: field + ', more="1"',
        lambda field: field + ', ts="1"',
        lambda field: field.replace("=", " = ", 3),
    ],
)
def test_malformed_field_is_read_as_far_as_it_goes(spoil: Callable[[str], str]) -> None:
    explained = _explained(spoil(_sent(POST)), POST)
    assert _names(explained) == ["malformed"]
    assert explained.client == explained.gateway == _LINES


def test_method_in_lower_case_is_told_with_what_the_gateway_says_to_it() -> None:
    explained = _explained(_sent(POST), replace(POST, method="post"))
    assert _names(explained) == ["malformed", "method_case"]


# -- the client's own string ---------------------------------------------------------------------------------


def test_string_of_the_client_shows_where_it_parts_though_no_mistake_is_usual() -> None:
    text = _LINES.replace(b"/api/notes", b"/api/nodes")
    explained = _explained(_signed_over(text), POST, client_string=text)
    assert _names(explained) == ["request_uri"]
    assert explained.client == text
    difference = explained.difference
    assert difference is not None
    assert (difference.line, difference.character, difference.client, difference.gateway) == (4, 8, "d", "t")


@pytest.mark.parametrize("ends", [b"", b"\n"])
def test_string_of_the_client_may_have_lost_its_last_line_ends(ends: bytes) -> None:
    text = _LINES.replace(b"/api/notes", b"/api/nodes")
    explained = _explained(_signed_over(text), POST, client_string=text.rstrip(b"\n") + ends)
    assert explained.client == text


def test_string_of_the_client_with_another_key_or_algorithm_is_told() -> None:
    text = _LINES.replace(b"/api/notes", b"/api/nodes")
    explained = _explained(_signed_over(text, algorithm="hmac-sha-1"), POST, client_string=text)
    assert _names(explained) == ["request_uri", "algorithm_mismatch"]
    explained = _explained(_signed_over(text, key=b"unknown"), POST, client_string=text)
    assert _names(explained) == ["another_key", "request_uri"]


def test_string_that_was_not_signed_gives_way_to_the_proven_one() -> None:
    explained = _explained(_sent(_target("/n?b&a")), _target("/n?a&b"), client_string=b"made up\n")
    assert _names(explained) == ["query_order"]
    assert explained.client == _text(_target("/n?b&a"), _attributes("01"))


# -- invariants ----------------------------------------------------------------------------------------------


def _every_change(parts: Parts, hints: Hints) -> Iterator[tuple[str, Parts]]:
    for group in GROUPS:
        for change in group(parts, hints):
            yield change.cause.name, change.make(parts)


@pytest.mark.parametrize("draft", ["00", "01"])
@pytest.mark.parametrize("covered", [GET, POST, _target("/a/b//c/?q=a+b&&x=%2F&y")])
def test_every_mistake_that_is_known_is_found(draft: MacDraft, covered: mac.Covered) -> None:
    hints = Hints(token="gwa_token", addresses=(("other.example", "81"),), targets=("/elsewhere",))
    attributes = _attributes(draft, ext="a%20b")
    elements = {name: attributes.get(name, "") for name in ("ts", "nonce", "ext", "bodyhash")}
    elements |= {"method": covered.method, "request-uri": covered.target.decode("latin-1")}
    elements |= {"host": covered.host, "port": str(covered.port)}
    parts = Parts(elements=elements, order=ELEMENTS[draft], key=KEY, algorithm="hmac-sha-256")
    names = set()
    for name, made in _every_change(parts, hints):
        signature = base64.b64encode(made.digest()).decode()
        explained = _explained(_field(attributes | {"mac": signature}), covered, hints=hints)
        assert explained.client == made.text()
        assert explained.verified is (
            made.text() == parts.text() and made.key == KEY and made.algorithm == "hmac-sha-256"
        )
        names.add(name)
    assert len(names) > 15


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_first_difference_is_the_first(client: bytes, gateway: bytes) -> None:
    difference = first_difference(client, gateway)
    if client == gateway:
        assert difference is None
        return
    assert difference is not None
    lines = gateway.split(b"\n")
    before = sum(len(line) + 1 for line in lines[: difference.line - 1]) + difference.character - 1
    assert client[:before] == gateway[:before]
    assert client[before : before + 1] != gateway[before : before + 1]
    assert client[before : before + 1].decode("latin-1") == difference.client
    assert gateway[before : before + 1].decode("latin-1") == difference.gateway


@settings(max_examples=40)
@given(
    st.text(max_size=200)
    | st.text(max_size=40).map(lambda text: f'MAC id="{text}", ts="1", nonce="{text}", mac="AAAA"'),
    st.text(max_size=5),
    st.binary(max_size=20),
    st.none() | st.binary(max_size=20),
)
def test_nothing_makes_it_raise(field: str, method: str, target: bytes, body: bytes | None) -> None:
    covered = mac.Covered(method=method, target=target, host="api.example.com", port=443)
    explained = _explained(field, covered, body=body, client_string=body)
    assert explained.verified == (not explained.causes)


@pytest.mark.parametrize("length", [16, 5000])  # 5000: beyond what int() reads
def test_number_of_any_length_does_not_make_it_raise(length: int) -> None:
    field = _field(_attributes("01", ts="1" * length) | {"mac": base64.b64encode(bytes(32)).decode()})
    assert _names(_explained(field, GET))[0] == "malformed"
