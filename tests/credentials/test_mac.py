"""MAC credentials: the vectors, the grammar, and the string that is signed (draft-ietf-oauth-v2-http-mac)."""

import base64
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fuzz.values import members
from gateway.credentials import MalformedCredential, mac
from gateway.credentials.signed import from_mac, read_mac
from gateway.model import MacAlgorithm

GET = mac.Covered(method="GET", target=b"/resource/1?b=1&a=2", host="example.com", port=80)
POST = mac.Covered(method="POST", target=b"/request", host="example.com", port=80)
SIGNATURE = base64.b64encode(bytes(32)).decode()
GOOD = {"id": "h480djs93hd8", "ts": "1336363200", "nonce": "dj83hs9s", "mac": SIGNATURE}


# -- vectors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "covered", "attributes", "signature"),
    [
        ("489dks293j39", GET, {"nonce": "264095:dj83hs9s"}, "SLDJd4mg43cjQfElUs3Qub4L6xE="),
        (
            "8yfrufh348h",
            POST,
            {"nonce": "273156:di3hvdf8", "bodyhash": "k9kbtCIy0CkI3/FEfpS/oIDjk6k="},
            "W7bdMZbv9UWOTadASIQHagZyirA=",
        ),
        ("489dks293j39", GET, {"ts": "1336363200", "nonce": "dj83hs9s"}, "6T3zZzy2Emppni6bzL7kdRxUWL4="),
    ],
    ids=["draft 00", "draft 00 with a body hash", "draft 01"],
)
def test_vector_is_signed_and_verified(
    key: str, covered: mac.Covered, attributes: dict[str, Any], signature: str
) -> None:
    text = mac.normalized_string(covered, **attributes)
    assert mac.sign(key.encode(), "hmac-sha-1", text) == signature
    assert mac.sign(key.encode(), "hmac-sha-1", text) == signature
    assert mac.sign(key.encode(), "hmac-sha-256", text) != signature


def test_body_hash_is_the_vectors() -> None:
    assert mac.body_hash("hmac-sha-1", b"hello=world%21") == "k9kbtCIy0CkI3/FEfpS/oIDjk6k="
    assert mac.body_hash("hmac-sha-256", b"") == "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def test_normalized_string_of_draft_01_has_seven_lines() -> None:
    text = mac.normalized_string(replace(GET, port=8443), ts="1", nonce="n", ext="e f")
    assert text == b"1\nn\nGET\n/resource/1?b=1&a=2\nexample.com\n8443\ne f\n"


def test_normalized_string_of_draft_00_has_seven_lines() -> None:
    text = mac.normalized_string(GET, nonce="5.000048:n")
    assert text == b"5.000048:n\nGET\n/resource/1?b=1&a=2\nexample.com\n80\n\n\n"


def test_normalized_string_keeps_every_byte_of_the_target() -> None:
    target = b"/a%2Fb;x/\xc3\xa4?q=%zz&&?"
    assert target in mac.normalized_string(replace(GET, target=target), ts="1", nonce="n").splitlines()


# -- reading -------------------------------------------------------------------------------------------------


def _header(**attributes: str) -> bytes:
    return ", ".join(f'{name}="{value}"' for name, value in attributes.items()).encode("latin-1")


@pytest.mark.parametrize(
    "order", [("id", "ts", "nonce", "mac"), ("mac", "nonce", "ts", "id"), ("nonce", "id", "mac", "ts")]
)
@pytest.mark.parametrize("comma", [", ", ",", " ,\t ", ",  "])
def test_attributes_may_come_in_any_order(order: tuple[str, ...], comma: str) -> None:
    text = comma.join(f'{name}="{GOOD[name]}"' for name in order)
    assert mac.parse(text.encode()) == mac.Credentials(**GOOD)


def test_names_are_read_in_any_case() -> None:  # RFC 9110, section 11.2
    assert mac.parse(_header(ID="a", Ts="1", NONCE="n", mac=SIGNATURE)).id == "a"


@pytest.mark.parametrize("nonce", ["0:a", "264095:dj83hs9s", "5.000048:x", "7e-06:x", "1e3:y", "12:a:b"])
def test_draft_00_nonce_has_any_age(nonce: str) -> None:
    read = mac.parse(_header(id="a", nonce=nonce, mac=SIGNATURE))
    assert (read.draft, read.nonce) == ("00", nonce)


@pytest.mark.parametrize("nonce", ["x", ":x", "1:", "-1:x", "+1:x", "1.:x", ".5:x", "nan:x", "inf:x", "1e:x", "1 :x"])
def test_draft_00_nonce_without_an_age_is_malformed(nonce: str) -> None:
    with pytest.raises(MalformedCredential, match="ts is missing"):
        mac.parse(_header(id="a", nonce=nonce, mac=SIGNATURE))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        *[({name: None}, name) for name in ("id", "nonce", "mac", "ts")],
        *[({name: ""}, "NAME") for name in ("id", "nonce", "mac", "ts", "ext")],
        ({"id": "a" * 257}, "id is longer"),
        ({"nonce": "a" * 129}, "nonce is longer"),
        ({"ext": "a" * 1025}, "ext is longer"),
        ({"mac": "A" * 92}, "mac is longer"),
        *[({"ts": ts}, "ts") for ts in ("-1", "0", "01", "1.5", "1e9", "+1", " 1", "1 ", "x", "9" * 16, "9" * 20)],
        *[({"mac": value}, "mac is malformed") for value in ("A", "AAA", "A===", "AA=A", "AAA-", "AAAA AAAA", "====")],
        *[({"nonce": f"a{char}b"}, "NAME|commas|ASCII") for char in '\x00\x1f\x7f\n\r\t"\\\x80\xe4\xff'],
        ({"ext": "a\x00"}, "NAME|commas"),
        ({"id": "\xe4"}, "ASCII"),
        ({"bodyhash": SIGNATURE}, "bodyhash belongs to draft 00"),
        ({"kid": "a"}, "unknown attribute"),
        ({"h": "host"}, "unknown attribute"),
        ({"seq-nr": "1"}, "unknown attribute"),
        ({"access_token": "a"}, "unknown attribute"),
        ({"realm": "a"}, "unknown attribute"),
    ],
)
def test_bad_attribute_is_malformed(change: dict[str, str | None], said: str) -> None:
    attributes = {name: value for name, value in (GOOD | change).items() if value is not None}
    with pytest.raises(MalformedCredential, match=said):
        mac.parse(_header(**attributes))


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b",",
        b"id",
        b'id="a"',
        b"id=a, ts=1, nonce=n, mac=AAAA",
        b'id="a",, ts="1", nonce="n", mac="AAAA"',
        b', id="a", ts="1", nonce="n", mac="AAAA"',
        b'id="a", ts="1", nonce="n", mac="AAAA",',
        b'id="a", ts="1", nonce="n", mac="AAAA" ',
        b'id="a" ts="1" nonce="n" mac="AAAA"',
        b'id="a"; ts="1"; nonce="n"; mac="AAAA"',
        b'id = "a", ts="1", nonce="n", mac="AAAA"',
        b"id='a', ts='1', nonce='n', mac='AAAA'",
        b'id="a, ts="1", nonce="n", mac="AAAA"',
        b'id="a\\"b", ts="1", nonce="n", mac="AAAA"',
        b'id="a", ts="1", nonce="n", mac="AAAA", Bearer abc',
        b'id="a",\n ts="1", nonce="n", mac="AAAA"',
        *[
            _header(**GOOD) + b', %s="%s"' % (name, GOOD[name.lower().decode()].encode())
            for name in (b"id", b"ID", b"ts", b"nonce", b"mac")
        ],
        b'ext="a", ext="b", ' + _header(**GOOD),
    ],
)
def test_bad_list_is_malformed(rest: bytes) -> None:
    with pytest.raises(MalformedCredential):
        mac.parse(rest)


@pytest.mark.parametrize(
    "rest",
    [
        b'kid="22BIjxU93h/IgwEb4zCRu5WF37s=", ts="1336363200", seq-nr="12323", mac="AAAA"',
        b'kid="", ts=1431102122, h="host:digest:content-type", mac=AAAA',
        b'kid="1" ts="1336363200" nonce="n" access_token="gwa_a" mac="AAAA"',
        b'ts="1336363200", KID = "1", mac="AAAA", cb="tls-unique:a"',
        b'access_token="gwa_a", ts="1", mac="AAAA"',
    ],
)
def test_drafts_03_to_05_are_recognised(rest: bytes) -> None:
    with pytest.raises(mac.OtherDraft, match="drafts 03 to 05"):
        mac.parse(rest)


@pytest.mark.parametrize("rest", [_header(**GOOD | {"kid": "a"}), b'id="kid=", ts="1"', b'xkid="a"', b'ext="kid=1'])
def test_other_faults_are_no_later_draft(rest: bytes) -> None:
    with pytest.raises(MalformedCredential) as raised:
        mac.parse(rest)
    assert not isinstance(raised.value, mac.OtherDraft)


def test_later_drafts_are_told_what_is_accepted() -> None:
    assert mac.accepted(["01"], ["hmac-sha-256"]) == "Accepted: draft 01 (id, ts, nonce, ext, mac) with hmac-sha-256."
    assert "draft 00 (id, nonce, bodyhash, ext, mac) or draft 01" in mac.accepted(["00", "01"], ["hmac-sha-1"])


def test_longest_attributes_are_read() -> None:
    longest = GOOD | {"id": "a" * 256, "nonce": "b" * 128, "ext": "c" * 1024}
    assert mac.parse(_header(**longest)) == mac.Credentials(**longest)


def test_malformed_shows_nothing_of_the_value() -> None:
    with pytest.raises(MalformedCredential) as raised:
        mac.parse(_header(**GOOD | {"id": "gwa_confidential" * 20}))
    assert "confidential" not in str(raised.value)


def test_representation_shows_no_token() -> None:
    assert "h480" not in repr(mac.Credentials(**GOOD))


# -- invariants ----------------------------------------------------------------------------------------------

_PLAIN = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1, max_size=100
)
_BASE64 = st.binary(min_size=1, max_size=64).map(lambda raw: base64.b64encode(raw).decode())
_TS = st.integers(1, 10**15 - 1).map(str)
_AGED = st.tuples(st.integers(0, 10**9), _PLAIN).map(lambda pair: f"{pair[0]}:{pair[1]}")
_OPTIONAL = st.none() | _PLAIN

_CREDENTIALS = st.one_of(
    st.builds(mac.Credentials, id=_PLAIN, ts=_TS, nonce=_PLAIN, ext=_OPTIONAL, mac=_BASE64),
    st.builds(mac.Credentials, id=_PLAIN, nonce=_AGED, bodyhash=st.none() | _BASE64, ext=_OPTIONAL, mac=_BASE64),
)
_COVERED = st.builds(
    mac.Covered,
    method=st.sampled_from(["GET", "POST", "PROPFIND", "X-A"]),
    target=st.binary(min_size=1, max_size=40).filter(lambda raw: min(raw) > 0x20 and 0x7F not in raw),
    host=st.sampled_from(["example.com", "a", "[::1]", "127.0.0.1"]),
    port=st.integers(1, 65535),
)
_ALGORITHMS = st.sampled_from(list(mac.HASHES))


@given(_CREDENTIALS)
def test_rendered_credentials_are_read_back(credentials: mac.Credentials) -> None:
    scheme, _, rest = mac.render(credentials).partition(" ")
    assert scheme == "MAC"
    assert mac.parse(rest.encode("ascii")) == credentials


def _quoted_list(text: str) -> bytes:
    return f'id="{text}", ts="1", nonce="n", mac="AAAA"'.encode()


@given(st.binary(max_size=200) | st.text(max_size=200).map(_quoted_list))
def test_reader_raises_nothing_but_its_own_error(rest: bytes) -> None:
    try:
        read = mac.parse(rest)
    except MalformedCredential:
        return
    assert mac.parse(mac.render(read).removeprefix("MAC ").encode()) == read


@given(_COVERED, _COVERED, _CREDENTIALS, _CREDENTIALS)
def test_equal_strings_mean_equal_parts(
    covered: mac.Covered, other: mac.Covered, one: mac.Credentials, two: mac.Credentials
) -> None:
    assume(one.draft == two.draft)
    same = _text(covered, one) == _text(other, two)
    parts = (covered, one.ts, one.nonce, one.bodyhash, one.ext) == (other, two.ts, two.nonce, two.bodyhash, two.ext)
    assert same == parts


def _text(covered: mac.Covered, credentials: mac.Credentials) -> bytes:
    return mac.normalized_string(
        covered, nonce=credentials.nonce, ts=credentials.ts, bodyhash=credentials.bodyhash, ext=credentials.ext
    )


@given(_COVERED, _CREDENTIALS, st.data())
def test_change_of_any_part_changes_the_string(
    covered: mac.Covered, credentials: mac.Credentials, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(["method", "target", "host", "port", "nonce", "ext"]))
    if name in ("nonce", "ext"):
        value = data.draw(_AGED)
        assume(value != getattr(credentials, name))
        changed = _text(covered, replace(credentials, **{name: value}))
    else:
        other = data.draw(_COVERED)
        assume(getattr(covered, name) != getattr(other, name))
        part: Any = {name: getattr(other, name)}
        changed = _text(replace(covered, **part), credentials)
    assert changed != _text(covered, credentials)


_KEY = b"obviously-fake-489dks293j39"


def _signed(covered: mac.Covered, credentials: mac.Credentials, algorithm: MacAlgorithm) -> mac.Credentials:
    return replace(credentials, mac=mac.sign(_KEY, algorithm, _text(covered, credentials)))


def _passes(rest: bytes, covered: mac.Covered, algorithm: MacAlgorithm) -> mac.Credentials | None:
    """The credentials, if they are read and their MAC fits the request: all that a forger must get past."""
    try:
        read = mac.parse(rest)
        return read if from_mac(read, covered).proven_by(_KEY, algorithm) else None
    except MalformedCredential:
        return None


@given(_COVERED, _CREDENTIALS, _ALGORITHMS, _COVERED, st.sampled_from(["method", "target", "host", "port"]))
def test_change_of_any_part_of_the_request_is_refused(
    covered: mac.Covered, credentials: mac.Credentials, algorithm: MacAlgorithm, other: mac.Covered, name: str
) -> None:
    assume(credentials.bodyhash is None and "body_hash" not in (credentials.ext or ""))
    rest = mac.render(_signed(covered, credentials, algorithm)).removeprefix("MAC ").encode()
    assert _passes(rest, covered, algorithm) is not None
    assume(getattr(covered, name) != getattr(other, name))
    part: Any = {name: getattr(other, name)}
    assert _passes(rest, replace(covered, **part), algorithm) is None
    assert _passes(rest, covered, "hmac-sha-1" if algorithm == "hmac-sha-256" else "hmac-sha-256") is None


@given(_COVERED, _CREDENTIALS, _ALGORITHMS, st.data())
def test_change_of_any_byte_of_the_credential_is_refused_or_means_the_same(
    covered: mac.Covered, credentials: mac.Credentials, algorithm: MacAlgorithm, data: st.DataObject
) -> None:
    assume(credentials.bodyhash is None and "body_hash" not in (credentials.ext or ""))
    signed = _signed(covered, credentials, algorithm)
    rest = mac.render(signed).removeprefix("MAC ").encode()
    at = data.draw(st.integers(0, len(rest)))
    changed = rest[:at] + data.draw(st.binary(max_size=3)) + rest[at + data.draw(st.integers(0, 3)) :]
    read = _passes(changed, covered, algorithm)
    assert read is None or replace(read, id=signed.id) == signed  # the token is looked up, and its key is its own


@given(_COVERED, _CREDENTIALS, _CREDENTIALS, _ALGORITHMS)
def test_signature_of_one_credential_fits_no_other(
    covered: mac.Covered, one: mac.Credentials, other: mac.Credentials, algorithm: MacAlgorithm
) -> None:
    assume(all(each.bodyhash is None and "body_hash" not in (each.ext or "") for each in (one, other)))
    assume((one.ts, one.nonce, one.ext) != (other.ts, other.nonce, other.ext))
    stolen = replace(other, mac=_signed(covered, one, algorithm).mac)
    assert _passes(mac.render(stolen).removeprefix("MAC ").encode(), covered, algorithm) is None


@given(
    st.sampled_from(["method", "target", "host", "nonce", "ts", "ext", "bodyhash"]),
    st.text(max_size=5),
    st.sampled_from("\n\r\0\x7f"),
    st.text(max_size=5),
)
def test_no_control_character_gets_into_the_string(part: str, before: str, control: str, after: str) -> None:
    text = before + control + after
    attributes: dict[str, Any] = {"nonce": "1:n"}
    covered: dict[str, Any] = {"method": "GET", "target": b"/", "host": "example.com", "port": 80}
    if part == "target":
        covered[part] = text.encode("utf-8", "surrogatepass")
    elif part in covered:
        covered[part] = text
    else:
        attributes[part] = text
    with pytest.raises(MalformedCredential):
        mac.normalized_string(mac.Covered(**covered), **attributes)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "get"},
        {"method": "Get"},
        {"method": ""},
        {"method": "G T"},
        {"target": b""},
        {"target": b"/a b"},
        {"target": b"/a\r"},
        {"target": b"/\x00"},
        {"host": "Example.com"},
        {"host": "example.com:80"},
        {"host": ""},
        {"host": "a/b"},
    ],
)
def test_request_that_cannot_be_signed_is_malformed(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedCredential):
        mac.normalized_string(replace(GET, **change), ts="1", nonce="n")


@given(st.binary(min_size=1, max_size=64), st.binary(max_size=80), st.sampled_from(["hmac-sha-1", "hmac-sha-256"]))
def test_signature_fits_its_string_only(key: bytes, text: bytes, algorithm: MacAlgorithm) -> None:
    signature = mac.sign(key, algorithm, text)
    assert mac.sign(key, algorithm, text) == signature
    assert mac.sign(key, algorithm, text + b"x") != signature
    assert mac.sign(key + b"x", algorithm, text) != signature


# -- the usual form, read in one step ------------------------------------------------------------------------


@given(_COVERED, _CREDENTIALS, _ALGORITHMS)
def test_usual_form_is_draft_01_without_ext_and_says_the_same(
    covered: mac.Covered, credentials: mac.Credentials, algorithm: MacAlgorithm
) -> None:
    signed = _signed(covered, credentials, algorithm)
    found = mac.common_form(mac.render(signed).removeprefix("MAC ").encode())
    assert (found is not None) == (signed.ts is not None and signed.ext is None)
    if found is not None:
        token, ts, nonce, stated = found
        assert (token, ts, nonce, stated) == tuple(
            (value or "").encode() for value in (signed.id, signed.ts, signed.nonce, signed.mac)
        )
        text = b"%b\n%b\n%b\n" % (ts, nonce, mac.covered_lines(covered))
        assert text == _text(covered, signed)
        read = read_mac(mac.render(signed).removeprefix("MAC ").encode(), covered)
        assert members(read) == members(from_mac(signed, covered))
        assert read.proven_by(_KEY, algorithm)


@given(_COVERED, _CREDENTIALS, _ALGORITHMS, st.data())
def test_what_the_usual_form_proves_the_reader_of_all_forms_proves_too(
    covered: mac.Covered, credentials: mac.Credentials, algorithm: MacAlgorithm, data: st.DataObject
) -> None:
    value = mac.render(replace(_signed(covered, credentials, algorithm), ext=None)).removeprefix("MAC ").encode()
    at = data.draw(st.integers(0, len(value)))
    changed = value[:at] + data.draw(st.binary(max_size=3)) + value[at + data.draw(st.integers(0, 3)) :]
    if mac.common_form(changed) is None:
        return
    try:
        read = from_mac(mac.parse(changed), covered)
    except MalformedCredential:
        with pytest.raises(MalformedCredential):
            read_mac(changed, covered)
    else:
        assert members(read_mac(changed, covered)) == members(read)


@pytest.mark.parametrize(
    ("name", "value", "reads"),
    [
        ("id", "i" * 256, True), ("id", "i" * 257, False), ("nonce", "n" * 128, True), ("nonce", "n" * 129, False),
        ("ts", "9" * 15, True), ("ts", "9" * 16, False), ("ts", "0", False), ("ts", "01", False), ("ts", "+1", False),
        ("ts", "\u0661", False), ("nonce", "", False), ("nonce", 'a"', False), ("nonce", "a\n", False),
        ("mac", "A" * 43 + "=", True), ("mac", "A" * 27 + "=", True), ("mac", "A" * 44, False), ("mac", "", False),
        ("mac", "A" * 42 + "==", False), ("mac", "A" * 42 + "-=", False), ("mac", "A" * 43 + "=\n", False),
    ],
)  # fmt: skip
def test_usual_form_has_the_same_bounds(name: str, value: str, reads: bool) -> None:
    attributes = {"id": "gwa_x", "ts": "1", "nonce": "n", "mac": "A" * 43 + "="} | {name: value}
    text = ", ".join(f'{name}="{value}"' for name, value in attributes.items())
    found = mac.common_form(text.encode())
    assert (found is not None) == reads
    if found is not None:
        assert mac.parse(text.encode()) == mac.Credentials(**attributes)
