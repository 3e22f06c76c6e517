"""Our own keys: their names, what is published of them, and signatures that others verify (RFC 7515, 7517, 7638)."""

import json
from functools import cache

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from gateway.model import SIGNING_ALGORITHMS, SigningAlgorithm
from gateway.oauth import jwk, jws, signing


@cache
def key_for(algorithm: SigningAlgorithm) -> signing.SigningKey:
    return signing.new(algorithm)


# RFC 7638, section 3.1, and RFC 8037, appendix A.3
RFC_7638 = {
    "kty": "RSA",
    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3"
    "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6q"
    "MQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK"
    "nqDKgw",
    "e": "AQAB",
    "alg": "RS256",
    "kid": "2011-04-29",
}
RFC_8037 = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}


@pytest.mark.parametrize(
    ("members", "thumbprint"),
    [
        (RFC_7638, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),
        (RFC_8037, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"),
    ],
)
def test_thumbprint_is_that_of_the_specifications(members: dict[str, str], thumbprint: str) -> None:
    assert jwk.thumbprint(members) == thumbprint


@pytest.mark.parametrize("algorithm", SIGNING_ALGORITHMS)
def test_key_is_published_by_its_thumbprint_without_a_private_member(algorithm: SigningAlgorithm) -> None:
    public = dict(key_for(algorithm).public)
    assert (public["kid"], public["use"], public["alg"]) == (jwk.thumbprint(public), "sig", algorithm)
    assert not public.keys() & {"d", "p", "q", "dp", "dq", "qi", "k"}  # RFC 7518, section 6.3.2
    jwk.parse_set(json.dumps({"keys": [public]}).encode())


def number(text: str) -> int:
    return int.from_bytes(jws.decoded(text))


def verify(public: dict[str, str], message: bytes, signature: bytes) -> None:
    """A verifier that has nothing but the published members, by the letter of RFC 7518 and RFC 8037."""
    if public["kty"] == "RSA":
        key = rsa.RSAPublicNumbers(number(public["e"]), number(public["n"])).public_key()
        key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())  # section 3.3
    elif public["kty"] == "EC":
        assert len(signature) == 64  # section 3.4
        curve = ec.EllipticCurvePublicNumbers(number(public["x"]), number(public["y"]), ec.SECP256R1()).public_key()
        both = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
        curve.verify(both, message, ec.ECDSA(hashes.SHA256()))
    else:
        ed25519.Ed25519PublicKey.from_public_bytes(jws.decoded(public["x"])).verify(signature, message)


@pytest.mark.parametrize("algorithm", SIGNING_ALGORITHMS)
def test_signature_is_verified_by_what_is_published(algorithm: SigningAlgorithm) -> None:
    key = key_for(algorithm)
    header, claims, signature = key.signed({"jti": "1", "sub": "u1"}, "at+jwt").split(".")
    assert json.loads(jws.decoded(header)) == {"alg": algorithm, "typ": "at+jwt", "kid": key.kid}
    assert jws.decoded(claims) == b'{"jti":"1","sub":"u1"}'
    message = f"{header}.{claims}".encode()
    verify(dict(key.public), message, jws.decoded(signature))
    with pytest.raises(InvalidSignature):
        verify(dict(key.public), message + b"x", jws.decoded(signature))
    [own] = jwk.keys_of(json.dumps({"keys": [dict(key.public)]}))
    assert own.verifies(algorithm, message, jws.decoded(signature))
    assert not own.verifies(algorithm, message + b"x", jws.decoded(signature))


@pytest.mark.parametrize("algorithm", SIGNING_ALGORITHMS)
def test_key_is_read_from_its_private_bytes_and_shows_nothing_of_them(algorithm: SigningAlgorithm) -> None:
    key = key_for(algorithm)
    again = signing.read(algorithm, key.private_bytes)
    assert again.public == key.public
    assert key.private_bytes.hex()[:40] not in repr(key)
    assert "private" not in repr(key)


@pytest.mark.parametrize("algorithm", SIGNING_ALGORITHMS)
def test_key_of_another_algorithm_is_not_read(algorithm: SigningAlgorithm) -> None:
    for other in set(SIGNING_ALGORITHMS) - {algorithm}:
        with pytest.raises(ValueError, match="no key for"):
            signing.read(algorithm, key_for(other).private_bytes)
