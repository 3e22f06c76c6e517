"""Client assertions (RFC 7521, section 5.2; RFC 7523, section 3; OpenID Connect Core, section 9)."""

import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import OAuthError
from gateway.oauth import client_assertion, jwk, jws
from gateway.oauth.client_assertion import Once
from gateway.oauth.jws import MOST_TRIED
from tests.oauth.signing import Signer, encoded, signer

NOW = 1_800_000_000.0
ISSUER = "https://id.example"
TOKEN = "https://id.example/oauth2/token"
AUDIENCE = {ISSUER, TOKEN}
CLAIMS = {"iss": "c_x", "sub": "c_x", "aud": ISSUER, "exp": NOW + 60, "jti": "one"}
ONE = signer("ES256")


def proven(text: str, jwks: str = ONE.jwks, now: float = NOW) -> Once:
    return client_assertion.verify(client_assertion.parse(text), "c_x", jwks, AUDIENCE, now)


def changed(**changes: Any) -> dict[str, Any]:
    """The claims with some set or left out (None)."""
    return {name: value for name, value in (CLAIMS | changes).items() if value is not None}


@pytest.mark.parametrize("algorithm", jws.ALGORITHMS)
@pytest.mark.parametrize("aud", [ISSUER, TOKEN, [ISSUER], ["https://other.example", TOKEN]])
def test_an_assertion_of_the_clients_own_is_heard(algorithm: str, aud: Any) -> None:
    """RFC 7523, section 3: by the issuer or the token endpoint's URL as `aud`."""
    one = signer(algorithm)
    once = proven(one.assertion(changed(aud=aud)), one.jwks)
    assert len(once.key) == 16
    assert once.until > NOW + 60


@pytest.mark.parametrize(
    "claims",
    [
        changed(iss=None),  # 1
        changed(iss="c_y"),
        changed(iss=["c_x"]),
        changed(sub="c_y"),  # 2
        changed(aud=None),  # 3
        changed(aud="https://other.example"),
        changed(aud=ISSUER + "/"),  # simple string comparison
        changed(aud=ISSUER.upper()),
        changed(aud=[]),
        changed(aud=[[ISSUER]]),
        changed(aud={ISSUER: 1}),
        changed(aud=7),
        changed(exp=None),  # 4
        changed(exp=NOW - 61),
        changed(exp=NOW + 3661),  # unreasonably far in the future
        changed(exp=str(NOW + 60)),
        changed(exp=True),
        changed(exp=-1),
        changed(exp=10**30),
        changed(nbf=NOW + 61),  # 5
        changed(nbf="x"),
        changed(iat=NOW + 61),  # 6
        changed(iat=[NOW]),
        changed(jti=None),  # 7
        changed(jti=""),
        changed(jti=7),
        changed(jti="x" * 256),
    ],
)
def test_a_claim_that_is_wrong_has_it_refused(claims: dict[str, Any]) -> None:
    """RFC 7523, section 3, by the number of its list."""
    with pytest.raises(OAuthError) as caught:
        proven(ONE.assertion(claims))
    assert (caught.value.refused.error, caught.value.refused.status) == ("invalid_client", 401)
    assert caught.value.refused.description == "Client authentication failed."


@pytest.mark.parametrize(
    "claims",
    [
        changed(exp=NOW - 59),  # clocks differ
        changed(exp=int(NOW) + 3600),
        changed(nbf=NOW + 59, iat=NOW + 59),
        changed(nbf=0, iat=0.5),
        changed(jti="x" * 255, more={"a": [1]}),
        changed(jti="é\0\ud800"),
    ],
)
def test_what_is_right_by_the_clocks_passes(claims: dict[str, Any]) -> None:
    assert proven(ONE.assertion(claims)).until > NOW


@pytest.mark.parametrize(
    ("one", "header"),
    [
        (ONE, {"alg": "none"}),
        (ONE, {"alg": "None"}),
        (ONE, {"alg": None}),
        (ONE, {"alg": ["ES256"]}),
        (ONE, {"alg": "HS256"}),
        (ONE, {"alg": "RS256"}),
        (ONE, {"crit": ["b64"], "b64": False}),
        (ONE, {"crit": []}),
        (ONE, {"kid": 7}),
        (ONE, {"kid": "other"}),
        (signer("ES256", kid="1"), {}),  # another client's key
    ],
)
def test_a_header_or_key_that_is_wrong_has_it_refused(one: Signer, header: dict[str, Any]) -> None:
    """RFC 8725, section 3.1; RFC 7515, section 4.1.11."""
    jwks = json.dumps({"keys": [ONE.jwk | {"kid": "known"}]})
    with pytest.raises(OAuthError) as caught:
        proven(one.assertion(CLAIMS, **header), jwks)
    assert caught.value.refused.error == "invalid_client"


def test_a_public_key_is_never_an_hmac_secret() -> None:
    """RFC 8725, section 2.1."""
    one = signer("RS256")
    header = encoded(b'{"alg": "HS256"}')
    text = f"{header}.{encoded(json.dumps(CLAIMS).encode())}"
    for secret in (one.jwks.encode(), one.jwk["n"].encode(), jws.decoded(one.jwk["n"])):
        forged = f"{text}.{encoded(hmac.digest(secret, text.encode(), 'sha256'))}"
        with pytest.raises(OAuthError):
            proven(forged, one.jwks)


def test_a_key_embedded_in_the_assertion_counts_for_nothing() -> None:
    """RFC 7515, section 4.1.3: a thief would bring his own."""
    thief = signer("ES256", kid="thief")
    with pytest.raises(OAuthError):
        proven(thief.assertion(CLAIMS, jwk=thief.jwk, jku="https://evil.example/", x5c=["x"]))


def test_an_assertion_that_names_no_key_is_tried_by_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs time of everybody's; those of another algorithm, or another identifier, are not tried."""
    tried, verifies = list[str | None](), jwk.Key.verifies

    def counted(key: jwk.Key, algorithm: str, message: bytes, signature: bytes) -> bool:
        tried.append(key.kid)
        return verifies(key, algorithm, message, signature)

    monkeypatch.setattr(jwk.Key, "verifies", counted)
    others = [signer("ES256", kid=str(number)).jwk for number in range(MOST_TRIED)]
    elsewhere = [signer("EdDSA", kid=f"ed{number}").jwk for number in range(MOST_TRIED)]
    last = ONE.jwk | {"kid": "last"}
    few = json.dumps({"keys": [*others[1:], *elsewhere, last]})
    assert proven(ONE.assertion(CLAIMS), few).until > NOW
    assert tried == [*(key["kid"] for key in others[1:]), "last"]
    many = json.dumps({"keys": [*others, last]})
    tried.clear()
    with pytest.raises(OAuthError) as caught:
        proven(ONE.assertion(CLAIMS), many)
    assert "5 keys could have made the signature; name one by kid" in caught.value.refused.cause
    assert tried == []
    assert proven(ONE.assertion(CLAIMS, kid="last"), many).until > NOW
    assert tried == ["last"]


def test_keys_are_told_apart_by_their_identifier_where_they_have_one() -> None:
    old, new = signer("ES256", kid="old"), signer("ES256", kid="new")
    both = json.dumps({"keys": [old.jwk, new.jwk]})
    for one in (old, new):
        named, unnamed = proven(one.assertion(CLAIMS, kid=one.jwk["kid"]), both), proven(one.assertion(CLAIMS), both)
        assert named == unnamed
    with pytest.raises(OAuthError):
        proven(old.assertion(CLAIMS, kid="new"), both)


def test_equal_identifiers_of_two_clients_are_two() -> None:
    one = proven(ONE.assertion(CLAIMS))
    theirs = ONE.assertion(CLAIMS | {"iss": "c_y", "sub": "c_y"})
    other = client_assertion.verify(client_assertion.parse(theirs), "c_y", ONE.jwks, AUDIENCE, NOW)
    assert one.key == proven(ONE.assertion(CLAIMS | {"exp": NOW + 61})).key
    assert one.key != other.key


GOOD = ONE.assertion(CLAIMS)
HEAD, BODY, SIGNATURE = GOOD.split(".")
TWICE = encoded(b'{"alg": "ES256", "alg": "ES256"}')
TWO_SUBJECTS = encoded(b'{"sub": "c_x", "sub": "c_x"}')


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "a.b", f"{HEAD}.{BODY}", f"{HEAD}.{BODY}.", f"{GOOD}.x", f"{GOOD}=", f" {GOOD}", f"{GOOD}\n",
     f"{HEAD}.{BODY}.{SIGNATURE[:-1]}", f"{HEAD}=.{BODY}.{SIGNATURE}", f"{HEAD}.{encoded(b'[]')}.{SIGNATURE}",
     f"{encoded(b'x')}.{BODY}.{SIGNATURE}", f"{HEAD}.{encoded(b'{' * 3000)}.{SIGNATURE}", f"{HEAD}.é.{SIGNATURE}",
     f"{HEAD}.{encoded(b'[' * 6000)}.{SIGNATURE}", "x" * 9000, f"{HEAD}.{encoded(b'{}')}.{SIGNATURE}",
     f"{TWICE}.{BODY}.{SIGNATURE}", f"{HEAD}.{TWO_SUBJECTS}.{SIGNATURE}", GOOD + "\udc80"],
)  # fmt: skip
def test_what_is_no_assertion_is_refused(text: str) -> None:
    with pytest.raises(OAuthError) as caught:
        proven(text)
    assert caught.value.refused.error == "invalid_client"


@given(st.integers(0, len(GOOD) - 1), st.characters())
def test_no_altered_assertion_is_heard(place: int, mark: str) -> None:
    altered = GOOD[:place] + mark + GOOD[place + 1 :]
    if altered != GOOD:
        with pytest.raises(OAuthError):
            proven(altered)
