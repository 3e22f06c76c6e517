"""DPoP proofs (RFC 9449): each field wrong, missing or of another request, and the nonces of our own."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.oauth import dpop, jws
from gateway.oauth.dpop import Fault, InvalidProof, Nonces
from tests.oauth.proofs import ES256, OTHER, jkt_of, proof
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
    return dpop.fault_of(
        dpop.parse([text]), method=method, url=url, now=NOW, window=60, nonces=nonces, token=credential
    )


def made(**changes: Any) -> str:
    usual: dict[str, Any] = {"key": ES256, "method": "GET", "url": URL, "now": NOW, "token": TOKEN}
    return proof(**(usual | changes))


def test_the_example_of_the_specification_is_a_proof() -> None:
    read = dpop.parse([EXAMPLE])
    assert read.jkt == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"  # section 6.1
    url = "https://server.example.com/token"
    assert dpop.fault_of(read, method="POST", url=url, now=1562262616, window=60, nonces=NONCES) is None


@pytest.mark.parametrize("algorithm", jws.ALGORITHMS)
def test_proof_by_every_algorithm_of_ours_is_good(algorithm: str) -> None:
    key = signer(algorithm)
    assert dpop.parse([made(key=key)]).jkt == jkt_of(key)
    assert judged(made(key=key)) is None


def spelled(text: str) -> str:
    """A proof whose signature has the same bytes in another spelling: four of its last bits mean nothing."""
    return text[:-1] + chr(ord(text[-1]) + 1)


def saying(claims: str) -> str:
    """A proof that says just that."""
    header, _, signature = made().split(".")
    return f"{header}.{jws.encoded(claims.encode())}.{signature}"


SAID = '{"jti":"j","htm":"GET","htu":"x","iat":%s}'

# By section 4.3: what is wrong at which step, and what the client is told.
FORM: dict[str, tuple[list[str], str]] = {
    "1: no field": ([], "is missing"),
    "1: two fields": ([made(), made()], "one DPoP field"),
    "2: empty": ([""], "no JWT"),
    "2: no JWT": (["x"], "no JWT"),
    "2: two in one field": ([f"{made()},{made()}"], "no JWT"),
    "2: four parts": ([made() + ".x"], "no JWT"),
    "2: no base64url": (["~." + made().partition(".")[2]], "header: not base64url"),
    "2: no JSON": ([f"{jws.encoded(b'x')}.{made().partition('.')[2]}"], "header: "),
    "2: claims no JSON": ([saying("x")], "no JWT"),
    "2: claims no object": ([saying("[]")], "no JWT"),
    "2: claims in UTF-16": ([saying("\0{\0}")], "no JWT"),
    "2: padded": ([made() + "=="], "no JWT"),
    "2: base64url in another spelling": ([spelled(made())], "no JWT"),
    "2: too long": ([made(x="y" * 8000)], "too long"),
    "2: header too long": ([made(header={"x": "y" * 5000})], "too long"),
    "2: a member twice": ([saying(SAID % '1,"iat":1')], "no JWT"),
    "3: no jti": ([made(jti=None)], "no jti"),
    "3: no htm": ([made(htm=None)], "no htm"),
    "3: no htu": ([made(htu=None)], "no htu"),
    "3: no iat": ([made(iat=None)], "no iat"),
    "3: jti no text": ([made(jti=1)], "no jti"),
    "3: jti empty": ([made(jti="")], "jti is empty"),
    "3: jti too long": ([made(jti="j" * 256)], "too long"),
    "3: htm no text": ([made(htm=["GET"])], "no htm"),
    "3: htu no text": ([made(htu=1)], "no htu"),
    "3: iat no time": ([made(iat="now")], "no time"),
    "3: iat true": ([made(iat=True)], "no time"),
    "3: iat before 1970": ([made(iat=-1)], "no time"),
    "3: iat beyond all time": ([made(iat=2**53)], "no time"),
    "3: iat without end": ([saying(SAID % "1e999")], "no time"),
    "3: ath no text": ([made(ath=[])], "no ath"),
    "3: nonce no text": ([made(nonce=1)], "no nonce"),
    "4: typ JWT": ([made(header={"typ": "JWT"})], "typ is to be"),
    "4: no typ": ([made(header={"typ": None})], "typ is to be"),
    "5: alg none": ([made(header={"alg": "none"})], "alg is to be"),
    "5: alg HS256": ([made(header={"alg": "HS256"})], "alg is to be"),
    "5: no alg": ([made(header={"alg": None})], "alg is to be"),
    "5: alg no text": ([made(header={"alg": ["ES256"]})], "alg is to be"),
    "5: alg of another key": ([made(header={"alg": "RS256"})], "alg does not go"),
    "5: crit": ([made(header={"crit": ["exp"]})], "crit"),
    "7: a private key": ([made(header={"jwk": {**ES256.jwk, "d": "AAAA"}})], "private"),
    "7: a shared key": ([made(header={"jwk": {"kty": "oct", "k": "AAAA"}})], "shared"),
    "7: no jwk": ([made(header={"jwk": None})], "jwk is to be"),
    "7: jwk no object": ([made(header={"jwk": "x"})], "jwk is to be"),
    "7: jwk that is no point": ([made(header={"jwk": {**ES256.jwk, "x": "AAAA"}})], "key"),
    "7: a short RSA key": ([made(key=signer("RS256", 1024))], "2048"),
}


@pytest.mark.parametrize(("values", "told"), FORM.values(), ids=FORM)
def test_malformed_proof_is_refused(values: list[str], told: str) -> None:
    with pytest.raises(InvalidProof, match=told):
        dpop.parse(values)


def forged(text: str) -> str:
    return text[:-6] + ("AAAAAA" if not text.endswith("AAAAAA") else "QQQQQQ")


WRONG: dict[str, str] = {
    "6: signature": forged(made()),
    "6: signature empty": made().rpartition(".")[0] + ".",
    "6: of another key": made(key=OTHER, header={"jwk": ES256.jwk}),
    "8: htm": made(htm="POST"),
    "8: htm in small letters": made(htm="get"),
    "9: htu of another path": made(htu=f"{URL}/1"),
    "9: htu of a path in capitals": made(htu="https://api.example.com/NOTES"),
    "9: htu of another host": made(htu="https://other.example.com/notes"),
    "9: htu of another scheme": made(htu="http://api.example.com/notes"),
    "9: htu of another port": made(htu="https://api.example.com:8443/notes"),
    "9: htu with a slash more": made(htu=f"{URL}/"),
    "9: htu with a user": made(htu="https://a@api.example.com/notes"),
    "9: htu without a scheme": made(htu="//api.example.com/notes"),
    "9: htu no URL": made(htu="x"),
    "9: htu empty": made(htu=""),
    "9: htu encoded twice": made(htu="https://api.example.com/%256eotes"),
    "11: iat long ago": made(iat=NOW - 61),
    "11: iat ahead": made(iat=NOW + 61),
    "12: ath of another token": made(token=TOKEN + "x"),
    "12: no ath": made(token=None),
    "12: ath empty": made(ath=""),
}
TOLD = {"6": "signature", "8": "htm", "9": "htu", "11": "iat", "12": "ath"}


@pytest.mark.parametrize(("name", "text"), WRONG.items(), ids=WRONG)
def test_proof_of_another_request_is_invalid(name: str, text: str) -> None:
    fault = judged(text)
    assert fault is not None
    assert fault.error == "invalid_dpop_proof"
    assert TOLD[name.partition(":")[0]] in fault.description


@pytest.mark.parametrize(
    ("htu", "url"),
    [
        ("HTTPS://API.example.com/notes", URL),
        ("https://api.example.com:443/notes", URL),
        (f"{URL}?a=b", URL),
        (f"{URL}#x", URL),
        ("https://api.example.com/%6eotes", URL),
        ("https://api.example.com", "https://api.example.com/"),
        (f"{URL}/%c3%a4", f"{URL}/%C3%A4"),
    ],
)
def test_url_is_compared_in_its_normal_form_without_query_and_fragment(htu: str, url: str) -> None:  # section 4.3
    assert judged(made(htu=htu), url=url) is None


def test_encoded_delimiter_is_no_delimiter() -> None:  # RFC 3986, section 6.2.2.2
    assert judged(made(htu=f"{URL}%2F1"), url=f"{URL}/1") is not None


def test_url_that_has_no_normal_form_is_that_of_no_proof() -> None:
    url = "https://api.example.com/a b"
    for htu in (url, "x"):
        assert judged(made(htu=htu), url=url) is not None


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


@example("AAAAAAAA\ud800")
@given(st.text() | st.just(Nonces((b"a-key-of-somebody-else",)).new(NOW)))
def test_nonce_of_somebody_else_is_told_from_ours(nonce: str) -> None:
    fault = NONCES.fault_of(nonce, NOW)
    assert fault is not None
    assert fault.error == "use_dpop_nonce"


def test_jti_is_another_for_each_key_and_the_same_for_one() -> None:
    one, same, other = (dpop.parse([text]) for text in (made(), made(iat=NOW + 1), made(key=OTHER)))
    assert one.once == same.once != other.once
    assert dpop.parse([made(jti="j2")]).once != one.once
    assert dpop.parse([made(jti="\ud800")]).once != dpop.parse([made(jti="\udfff")]).once  # JSON may say so


@given(st.text(max_size=300))
def test_no_text_is_more_than_malformed(text: str) -> None:
    with pytest.raises(InvalidProof):
        dpop.parse([text])
