"""Bearer tokens in the Authorization field (RFC 6750, section 2.1)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.credentials import MalformedCredential, bearer


@pytest.mark.parametrize(
    "token",
    ["mF_9.B5f-4.1JqM", "gwa_" + "A" * 40, "a", "abc==", "a.b.c", "~+/-._", "x" * bearer.MAXIMUM],
)
def test_token_of_the_grammar_passes(token: str) -> None:
    bearer.check(token.encode())


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"=",
        b"==a",
        b"a=b",
        b"a b",
        b"a ",
        b"a,b",
        b'"a"',
        b"a\n",
        b"a\x00",
        b"a\x7f",
        b"\xc3\xa4",
        b"a%20",
        b'abc, MAC id="x"',
        b"a, Bearer b",
        b"x" * (bearer.MAXIMUM + 1),
    ],
)
def test_token_outside_the_grammar_is_malformed(rest: bytes) -> None:
    with pytest.raises(MalformedCredential) as raised:
        bearer.check(rest)
    assert not rest or len(rest) < 3 or rest.decode("latin-1") not in str(raised.value)


@given(st.binary(max_size=60))
def test_exactly_the_grammar_passes(rest: bytes) -> None:
    fits = re.fullmatch(rb"[A-Za-z0-9._~+/-]+=*", rest) is not None
    try:
        bearer.check(rest)
        assert fits
    except MalformedCredential:
        assert not fits
