"""Keys of clients, and what they sign: fakes that are made anew for each run."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _number(number: int, size: int | None = None) -> str:
    return encoded(number.to_bytes(size or (number.bit_length() + 7) // 8))


@dataclass(frozen=True)
class Signer:
    """A client's key pair: the public half as a JWK, and what signs by the algorithm."""

    algorithm: str
    jwk: dict[str, str]
    sign: Callable[[bytes], bytes]

    @property
    def jwks(self) -> str:
        return json.dumps({"keys": [self.jwk]})

    def assertion(self, claims: Mapping[str, Any], **header: Any) -> str:
        """A compact JWS of these claims (RFC 7515, section 7.1); a header of None leaves a member out."""
        members = {"alg": self.algorithm, "typ": "JWT", **header}
        known = {name: value for name, value in members.items() if value is not None}
        text = f"{encoded(json.dumps(known).encode())}.{encoded(json.dumps(claims).encode())}"
        return f"{text}.{encoded(self.sign(text.encode()))}"


@cache
def signer(algorithm: str, bits: int = 2048, **more: str) -> Signer:
    """A fake client's key for an algorithm."""
    if algorithm in ("RS256", "PS256"):
        private = rsa.generate_private_key(65537, bits)
        numbers = private.public_key().public_numbers()
        jwk = {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        scheme = padding.PKCS1v15() if algorithm == "RS256" else pss
        return Signer(algorithm, jwk | more, lambda message: private.sign(message, scheme, hashes.SHA256()))
    if algorithm == "ES256":
        curve = ec.generate_private_key(ec.SECP256R1())
        point = curve.public_key().public_numbers()
        jwk = {"kty": "EC", "crv": "P-256", "x": _number(point.x, 32), "y": _number(point.y, 32)}

        def sign(message: bytes) -> bytes:
            r, s = decode_dss_signature(curve.sign(message, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32) + s.to_bytes(32)

        return Signer(algorithm, jwk | more, sign)
    edwards = ed25519.Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": encoded(edwards.public_key().public_bytes_raw())}
    return Signer(algorithm, jwk | more, edwards.sign)
