"""Proof Key for Code Exchange (RFC 7636)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.oauth import pkce

# RFC 7636, appendix B
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_the_challenge_of_the_rfc_is_met() -> None:
    assert pkce.challenge_of(VERIFIER) == CHALLENGE
    assert pkce.matches(VERIFIER, CHALLENGE)


@pytest.mark.parametrize(
    "verifier",
    ["", CHALLENGE, VERIFIER[:-1], VERIFIER + "A", VERIFIER.lower(), VERIFIER + "\n", "é" * 43, "\udcff" * 43],
)
def test_another_verifier_is_refused(verifier: str) -> None:
    assert not pkce.matches(verifier, CHALLENGE)


@pytest.mark.parametrize(
    ("verifier", "good"),
    [
        ("a" * 42, False),
        ("a" * 43, True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("-._~" * 11, True),
        ("+" * 43, False),
    ],
)
def test_a_verifier_has_43_to_128_unreserved_characters(verifier: str, good: bool) -> None:
    assert pkce.is_verifier(verifier) is good


@pytest.mark.parametrize("challenge", ["", "a" * 42, "a" * 44, "a" * 42 + "=", "a" * 42 + "+", "a" * 43 + "\n"])
def test_what_is_no_sha_256_in_base64url_is_no_challenge(challenge: str) -> None:
    assert not pkce.is_challenge(challenge)


@given(st.from_regex(r"[A-Za-z0-9._~-]{43,128}", fullmatch=True), st.from_regex(r"[A-Za-z0-9._~-]{43}", fullmatch=True))
def test_only_the_verifier_itself_meets_its_challenge(verifier: str, other: str) -> None:
    challenge = pkce.challenge_of(verifier)
    assert pkce.is_challenge(challenge)
    assert pkce.matches(verifier, challenge)
    assert pkce.matches(other, challenge) is (other == verifier)
