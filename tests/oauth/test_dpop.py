"""DPoP proofs (RFC 9449): each field wrong, missing or of another request, and the nonces of our own."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.oauth import dpop, jws
from gateway.oauth.dpop import Fault, InvalidProof, Nonces
from tests.oauth.proofs import ES256, OTHER, jkt_of, proof, raw
from tests.oauth.signing import signer

NOW = 1_800_000_000.0
URL = "https://api.example.com/notes"
TOKEN = "gwa_obviously-fake"
NONCES = Nonces((b"one-fake-key", b"the-key-before"))
DEMANDED = Nonces((b"one-fake-key",), demanded=True)

# RFC 9449, section 4.1: the proof of the specification's example.
EXAMPLE = (
    "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRj"
    "QyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGk"
    "iOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyM"
    "jYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
)


def judged(
    text: str, *, method: str = "GET", url: str = URL, token: str | None = TOKEN, nonces: Nonces = NONCES
) -> Fault | None:
    credential = None if token is None else token.encode()
    return dpop.judge(dpop.parse([text]), method=method, url=url, now=NOW, window=60, nonces=nonces, token=credential)


def made(**changes: Any) -> str:
    usual: dict[str, Any] = {"key": ES256, "method": "GET", "url": URL, "now": NOW, "token": TOKEN}
    return proof(**(usual | changes))


def test_the_example_of_the_specification_is_a_proof() -> None:
    read = dpop.parse([EXAMPLE])
    assert read.jkt == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"  # section 6.1
    url = "https://server.example.com/token"
    assert dpop.judge(read, method="POST", url=url, now=1562262616, window=60, nonces=NONCES) is None


@pytest.mark.parametrize("algorithm", jws.ALGORITHMS)
def test_proof_by_every_algorithm_of_ours_is_good(algorithm: str) -> None:
    key = signer(algorithm)
    assert dpop.parse([made(key=key)]).jkt == jkt_of(key)
    assert judged(made(key=key)) is None


# By section 4.3: what is wrong, and its step.
FORM: dict[str, list[str]] = {
    "1: no field": [],
    "1: two fields": [made(), made()],
    "2: no JWT": ["x"],
    "2: four parts": [made() + ".x"],
    "2: no base64url": ["~." + made().partition(".")[2]],
    "2: no JSON": [f"{jws.encoded(b'x')}.{jws.encoded(b'x')}.x"],
    "2: padded": [made() + "=="],
    "2: too long": ["x" * 9000],
    "2: header too long": [made(header={"x": "y" * 5000})],
    "2: a member twice": [raw({}, {}).replace(jws.encoded(b"{}"), jws.encoded(b'{"typ":"dpop+jwt","typ":"dpop+jwt"}'))],
    "3: no jti": [made(jti=None)],
    "3: no htm": [made(htm=None)],
    "3: no htu": [made(htu=None)],
    "3: no iat": [made(iat=None)],
    "3: jti no text": [made(jti=1)],
    "3: jti empty": [made(jti="")],
    "3: jti too long": [made(jti="j" * 256)],
    "3: iat no time": [made(iat="now")],
    "3: iat true": [made(iat=True)],
    "3: iat before 1970": [made(iat=-1)],
    "3: ath no text": [made(ath=[])],
    "3: nonce no text": [made(nonce=1)],
    "4: typ JWT": [made(header={"typ": "JWT"})],
    "4: no typ": [made(header={"typ": None})],
    "5: alg none": [raw({"typ": "dpop+jwt", "alg": "none", "jwk": ES256.jwk}, {}, b"")],
    "5: alg HS256": [made(header={"alg": "HS256"})],
    "5: no alg": [made(header={"alg": None})],
    "5: alg of another key": [made(header={"alg": "RS256"})],
    "5: crit": [made(header={"crit": ["exp"]})],
    "7: a private key": [made(header={"jwk": {**ES256.jwk, "d": "AAAA"}})],
    "7: a shared key": [made(header={"jwk": {"kty": "oct", "k": "AAAA"}})],
    "7: no jwk": [made(header={"jwk": None})],
    "7: jwk no object": [made(header={"jwk": "x"})],
    "7: jwk that is no point": [made(header={"jwk": {**ES256.jwk, "x": "AAAA"}})],
    "7: a short RSA key": [made(key=signer("RS256", 1024))],
}


@pytest.mark.parametrize("values", FORM.values(), ids=FORM)
def test_malformed_proof_is_refused(values: list[str]) -> None:
    with pytest.raises(InvalidProof):
        dpop.parse(values)


def forged(text: str) -> str:
    return text[:-6] + ("AAAAAA" if not text.endswith("AAAAAA") else "BBBBBB")


WRONG: dict[str, str] = {
    "6: signature": forged(made()),
    "6: of another key": made(key=OTHER, header={"jwk": ES256.jwk}),
    "8: htm": made(htm="POST"),
    "8: htm in small letters": made(htm="get"),
    "9: htu of another path": made(htu=f"{URL}/1"),
    "9: htu of another host": made(htu="https://other.example.com/notes"),
    "9: htu of another scheme": made(htu="http://api.example.com/notes"),
    "9: htu of another port": made(htu="https://api.example.com:8443/notes"),
    "9: htu with a slash more": made(htu=f"{URL}/"),
    "9: htu with a user": made(htu="https://a@api.example.com/notes"),
    "9: htu without a scheme": made(htu="//api.example.com/notes"),
    "9: htu no URL": made(htu="x"),
    "9: htu encoded twice": made(htu="https://api.example.com/%256eotes"),
    "11: iat long ago": made(iat=NOW - 61),
    "11: iat ahead": made(iat=NOW + 61),
    "12: ath of another token": made(token=TOKEN + "x"),
    "12: no ath": made(token=None),
    "12: ath empty": made(ath=""),
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_proof_of_another_request_is_invalid(text: str) -> None:
    fault = judged(text)
    assert fault is not None
    assert fault.error == "invalid_dpop_proof"


@pytest.mark.parametrize(
    "htu",
    [
        "HTTPS://API.example.com/notes",
        "https://api.example.com:443/notes",
        f"{URL}?a=b",
        f"{URL}#x",
        "https://api.example.com/%6eotes",
    ],
)
def test_url_is_compared_in_its_normal_form_without_query_and_fragment(htu: str) -> None:  # section 4.3
    assert judged(made(htu=htu)) is None


def test_proof_that_is_as_old_as_clocks_allow_is_good() -> None:
    for iat in (NOW - 60, NOW + 60, NOW + 0.5):
        assert judged(made(iat=iat)) is None


def test_without_a_token_no_ath_is_asked_for() -> None:
    assert judged(made(token=None), token=None) is None


# -- nonces (section 8) --------------------------------------------------------------------------------------


def test_nonce_of_ours_is_good_for_five_minutes_whichever_key_made_it() -> None:
    for key in NONCES.keys:
        nonce = Nonces((key,)).new(NOW)
        assert judged(made(nonce=nonce)) is None
        assert NONCES.fault_of(nonce, NOW + 299) is None
        assert NONCES.fault_of(nonce, NOW + 301) is not None
        assert NONCES.fault_of(nonce, NOW - 301) is not None


def test_nonce_is_asked_for_where_it_is_demanded() -> None:
    fault = judged(made(), nonces=DEMANDED)
    assert fault is not None
    assert fault.error == "use_dpop_nonce"
    assert judged(made(nonce=DEMANDED.new(NOW)), nonces=DEMANDED) is None


@given(st.text() | st.just(Nonces((b"a-key-of-somebody-else",)).new(NOW)))
def test_nonce_of_somebody_else_is_told_from_ours(nonce: str) -> None:
    fault = NONCES.fault_of(nonce, NOW)
    assert fault is not None
    assert fault.error == "use_dpop_nonce"


def test_jti_is_another_for_each_key_and_the_same_for_one() -> None:
    one, same, other = (dpop.parse([text]) for text in (made(), made(iat=NOW + 1), made(key=OTHER)))
    assert one.once == same.once != other.once
    assert dpop.parse([made(jti="j2")]).once != one.once


@given(st.text(max_size=300))
def test_no_text_is_more_than_malformed(text: str) -> None:
    with pytest.raises(InvalidProof):
        dpop.parse([text])
