"""Keys of our own, and what they sign for others to verify: compact JSON Web Signatures (RFC 7515, section 7.1).

    alg      key                signature    bytes    for
    RS256    RSA, 2048 bits     0.7 ms       342      what every client of OpenID Connect and RFC 9068 verifies
    ES256    P-256              0.03 ms       86
    EdDSA    Ed25519            0.04 ms       86      RFC 8037

A key is known by its thumbprint (RFC 7638), so that its name follows from it wherever it is computed. What comes of the
private half but signatures is `private_bytes`, which the store seals. The module brings cryptography along: who does
not sign does not import it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from gateway.model import SigningAlgorithm
from gateway.oauth import jwk, jws

_RSA_BITS: Final = 2048
_RSA_EXPONENT: Final = 65537

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair of ours; `public` is the public half as it is published (RFC 7517, section 4)."""

    algorithm: SigningAlgorithm
    private: PrivateKey = field(repr=False)
    public: Mapping[str, str]

    @property
    def kid(self) -> str:
        """Its name: the thumbprint of the public half."""
        return self.public["kid"]

    @property
    def private_bytes(self) -> bytes:
        """The whole key, as PKCS #8, which is to be sealed."""
        return self.private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def signed(self, claims: Mapping[str, object], typ: str) -> str:
        """A compact JWS of these claims, in their order; `typ` says what it is (RFC 8725, section 3.11)."""
        header = {"alg": self.algorithm, "typ": typ, "kid": self.kid}
        text = f"{_part(header)}.{_part(claims)}"
        return f"{text}.{jws.encoded(self._signature(text.encode()))}"

    def _signature(self, message: bytes) -> bytes:
        match self.private:
            case rsa.RSAPrivateKey() as key:
                return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
            case ec.EllipticCurvePrivateKey() as key:
                r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
                return r.to_bytes(jwk.P256_BYTES) + s.to_bytes(jwk.P256_BYTES)
            case ed25519.Ed25519PrivateKey() as key:
                return key.sign(message)


def new(algorithm: SigningAlgorithm) -> SigningKey:
    """A fresh key; one for RS256 takes some 100 ms of a core, so keep it off the loop."""
    match algorithm:
        case "RS256":
            return _key(algorithm, rsa.generate_private_key(_RSA_EXPONENT, _RSA_BITS))
        case "ES256":
            return _key(algorithm, ec.generate_private_key(ec.SECP256R1()))
        case "EdDSA":
            return _key(algorithm, ed25519.Ed25519PrivateKey.generate())


def read(algorithm: SigningAlgorithm, private_bytes: bytes) -> SigningKey:
    """The key that `private_bytes` came from. Raises ValueError for one of another algorithm."""
    match algorithm, serialization.load_der_private_key(private_bytes, None):
        case "RS256", rsa.RSAPrivateKey() as private:
            return _key(algorithm, private)
        case "ES256", ec.EllipticCurvePrivateKey() as private:
            return _key(algorithm, private)
        case "EdDSA", ed25519.Ed25519PrivateKey() as private:
            return _key(algorithm, private)
    raise ValueError(f"no key for {algorithm}")


def _key(algorithm: SigningAlgorithm, private: PrivateKey) -> SigningKey:
    members = jwk.members_of(private.public_key())
    public = {**members, "kid": jwk.thumbprint(members), "use": "sig", "alg": algorithm}
    return SigningKey(algorithm, private, public)


def _part(members: Mapping[str, object]) -> str:
    return jws.encoded(json.dumps(members, separators=(",", ":")).encode())
