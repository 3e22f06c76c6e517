"""The Authorization field's outer form (RFC 9110, section 11.4) and tokens in the query."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.credentials import MalformedCredential, in_query, split


@pytest.mark.parametrize(
    ("value", "scheme", "rest"),
    [
        (b"Bearer abc", "bearer", b"abc"),
        (b"BEARER abc", "bearer", b"abc"),
        (b"bearer   abc", "bearer", b"abc"),
        (b'MAC id="a", mac="b"', "mac", b'id="a", mac="b"'),
        (b"Basic Zm9vOmJhcg==", "basic", b"Zm9vOmJhcg=="),
        (b"Bearer a b", "bearer", b"a b"),
        (b"Bearer \xff", "bearer", b"\xff"),
    ],
)
def test_scheme_is_split_from_the_credential(value: bytes, scheme: str, rest: bytes) -> None:
    assert split(value) == (scheme, rest)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"Bearer",
        b"Bearer ",
        b"Bearer\tabc",
        b" Bearer abc",
        b"Bear(er abc",
        b"\xff abc",
        b"x" * 33 + b" abc",
    ],
)
def test_value_without_scheme_or_credential_is_malformed(value: bytes) -> None:
    with pytest.raises(MalformedCredential):
        split(value)


@given(st.sampled_from([b"", b" "]), st.binary(max_size=20))
def test_usual_spelling_of_a_scheme_is_read_like_any_other(space: bytes, rest: bytes) -> None:
    def outcome(scheme: bytes) -> tuple[str, bytes] | str:
        try:
            return split(scheme + space + rest)
        except MalformedCredential as exc:
            return str(exc)

    assert outcome(b"Bearer ") == outcome(b"bEARER ")


@given(st.binary(max_size=60))
def test_split_raises_nothing_but_its_own_error(value: bytes) -> None:
    try:
        scheme, rest = split(value)
    except MalformedCredential:
        return
    assert value.lower().startswith(scheme.encode())
    assert value.endswith(rest)


@pytest.mark.parametrize(
    "target",
    [
        b"/?access_token=gwa_x",
        b"/a?b=1&access_token=gwa_x",
        b"/a?access_token",
        b"/a?access_token=",
        b"/a?%61ccess_token=gwa_x",
        b"/a?access%5Ftoken=gwa_x",
        b"/a?access%5ftoken=gwa_x&b",
        b"/a?access%5Ftoken=x",
        b"/a?" + b"".join(b"%%%02X" % byte for byte in b"access_token") + b"=x",
        b"/a?b=?&access_token=x",
    ],
)
def test_token_in_the_query_is_seen(target: bytes) -> None:
    assert in_query(target)


@pytest.mark.parametrize(
    "target",
    [
        b"/a",
        b"/a?",
        b"/access_token=x",
        b"/a?my_access_token=x",
        b"/a?access_tokens=x",
        b"/a?b=access_token=x",
        b"/a?b=%26access_token=x",
        b"/a?%2561ccess_token=x",
        b"/a?b=%",
        b"/a?%zz=%",
    ],
)
def test_other_parameters_are_no_token(target: bytes) -> None:
    assert not in_query(target)
