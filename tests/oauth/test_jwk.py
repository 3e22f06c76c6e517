"""Public keys of clients (RFC 7517), and the signatures that they verify: with the RFCs' own vectors."""

import json
from typing import Any

import pytest

from gateway.oauth import jwk, jws
from tests.oauth.signing import encoded, signer

# RFC 7515, appendix A.2 and A.3; RFC 8037, appendix A.4.
RS256_KEY = {
    "kty": "RSA",
    "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZ"
    "S-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2Cap"
    "Hg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4F"
    "RWyuXpoQ",
    "e": "AQAB",
}
PAYLOAD = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
RS256_SIGNATURE = (
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1d"
    "nZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwu"
    "sC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
)
ES256_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
ES256_SIGNATURE = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
EDDSA_KEY = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
EDDSA_MESSAGE = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
EDDSA_SIGNATURE = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"

VECTORS = [
    ("RS256", RS256_KEY, f"eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}", RS256_SIGNATURE),
    ("ES256", ES256_KEY, f"eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}", ES256_SIGNATURE),
    ("EdDSA", EDDSA_KEY, EDDSA_MESSAGE, EDDSA_SIGNATURE),
]


def key(members: dict[str, Any]) -> jwk.Key:
    (found,) = jwk.keys_of(json.dumps(jwk.parse_set(json.dumps({"keys": [members]}).encode())))
    return found


@pytest.mark.parametrize(("algorithm", "members", "message", "signature"), VECTORS)
def test_the_rfcs_signatures_verify_and_no_other(
    algorithm: str, members: dict[str, str], message: str, signature: str
) -> None:
    found, raw = key(members), jws.decoded(signature)
    assert found.verifies(algorithm, message.encode(), raw)
    assert not found.verifies(algorithm, message.encode() + b"x", raw)
    for other in (raw[:-1], raw + b"\0", b"", bytes(len(raw)), bytes([raw[0] ^ 1]) + raw[1:]):
        assert not found.verifies(algorithm, message.encode(), other)
    for wrong in {*jws.ALGORITHMS, "none", "HS256", ""} - {algorithm}:
        assert not found.verifies(wrong, message.encode(), raw)


@pytest.mark.parametrize("algorithm", jws.ALGORITHMS)
def test_each_algorithm_verifies_what_its_key_signs(algorithm: str) -> None:
    one = signer(algorithm)
    found = key(one.jwk)
    assert found.verifies(algorithm, b"message", one.sign(b"message"))
    assert not found.verifies(algorithm, b"other", one.sign(b"message"))


def test_the_two_kinds_of_rsa_signatures_are_not_taken_for_each_other() -> None:
    pss = signer("PS256")
    assert not key(pss.jwk).verifies("RS256", b"m", pss.sign(b"m"))
    assert key(pss.jwk | {"alg": "RS256"}).algorithms == ("RS256",)  # a key may say what it is for
    assert not key(pss.jwk | {"alg": "RS256"}).verifies("PS256", b"m", pss.sign(b"m"))


def test_an_ecdsa_signature_is_of_fixed_length_and_never_zero() -> None:
    """CVE-2022-21449: r and s of zero fit any message."""
    found = key(ES256_KEY)
    for raw in (bytes(64), b"\0" * 32 + b"\1" * 32, b"\xff" * 64):
        assert not found.verifies("ES256", b"m", raw)


def test_only_what_is_public_and_known_is_kept() -> None:
    more = RS256_KEY | {"kid": "1", "use": "sig", "key_ops": ["verify"], "x5u": "https://evil.example/", "note": "x"}
    assert jwk.parse_set(json.dumps({"keys": [more], "more": 1}).encode()) == {"keys": [RS256_KEY | {"kid": "1"}]}


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({**RS256_KEY, "d": "AQAB"}, "private or shared"),
        ({"kty": "oct", "k": "AQAB"}, "private or shared"),
        ({**EDDSA_KEY, "d": "x"}, "private or shared"),
        ({"kty": "RSA", "e": "AQAB"}, '"n" is missing'),
        ({"kty": "RSA", "n": 5, "e": "AQAB"}, '"n" is missing'),
        ({"kty": "EC", "crv": "P-256", "x": ES256_KEY["x"]}, '"y" is missing'),
        ({**ES256_KEY, "crv": "P-384"}, '"crv"'),
        ({**ES256_KEY, "crv": "secp256k1"}, '"crv"'),
        ({**EDDSA_KEY, "crv": "X25519"}, '"crv"'),
        ({**ES256_KEY, "y": ES256_KEY["x"]}, "key 1"),  # no point of the curve
        ({**ES256_KEY, "x": encoded(b"\1" * 31)}, "32 bytes"),
        ({**EDDSA_KEY, "x": "AQAB"}, "key 1"),
        ({**RS256_KEY, "n": "AQAB"}, "2048"),
        ({**RS256_KEY, "e": "AQ"}, "exponent"),
        ({**RS256_KEY, "n": RS256_KEY["n"] + "="}, "base64url"),
        ({**RS256_KEY, "n": "+/" + RS256_KEY["n"][2:]}, "base64url"),
        ({**RS256_KEY, "use": "enc"}, '"use"'),
        ({**RS256_KEY, "key_ops": ["sign"]}, '"use"'),
        ({**RS256_KEY, "key_ops": "verify"}, '"use"'),
        ({**RS256_KEY, "alg": "RS512"}, '"alg"'),
        ({**RS256_KEY, "alg": "HS256"}, '"alg"'),
        ({**RS256_KEY, "alg": "none"}, '"alg"'),
        ({**ES256_KEY, "alg": "RS256"}, '"alg"'),
        ({**RS256_KEY, "kid": 7}, '"kid"'),
        ({**RS256_KEY, "kid": "x" * 256}, '"kid"'),
        ({**RS256_KEY, "kid": "a\nb"}, '"kid"'),
        ({}, '"kty"'),
        ({"kty": ["RSA"]}, '"kty"'),
        ({"kty": "AKP"}, '"kty"'),
    ],
)
def test_a_key_of_no_worth_is_refused_with_the_reason(members: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        jwk.parse_set(json.dumps({"keys": [members]}).encode())


def test_a_key_that_is_too_weak_is_refused() -> None:
    with pytest.raises(ValueError, match="2048"):
        jwk.parse_set(signer("RS256", 1024).jwks.encode())


@pytest.mark.parametrize(
    "text",
    [b"", b"x", b"[]", b"{}", b'{"keys": []}', b'{"keys": {}}', b'{"keys": [1]}', b'{"keys": NaN}', b"\xff",
     b"{" * 9999,
     b'{"keys": [], "keys": []}', b'{"keys": ' + b"[" * 50000, json.dumps({"keys": [RS256_KEY] * 11}).encode(),
     json.dumps({"keys": [RS256_KEY | {"kid": "1"}, ES256_KEY | {"kid": "1"}]}).encode(), b" " * (65 * 1024)],
)  # fmt: skip
def test_what_is_no_set_of_keys_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"JWK Set|KiB|same"):
        jwk.parse_set(text)
