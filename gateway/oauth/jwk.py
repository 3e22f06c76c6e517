"""Public keys (RFC 7517, RFC 7518, RFC 8037), and the signatures that these keys verify.

    alg      kty   key                        signature
    RS256    RSA   2048 to 8192 bits          PKCS #1 v1.5 with SHA-256 (RFC 7518, section 3.3)
    PS256    RSA   the same                   PSS with SHA-256, a salt of 32 bytes (section 3.5)
    ES256    EC    P-256                      R and S, 32 bytes each (section 3.4)
    EdDSA    OKP   Ed25519                    RFC 8037, section 3.1

Which algorithms a key serves follows from its type and never from a message alone: so no message can have a public key
taken for an HMAC secret, and there is no `none` (RFC 8725, sections 2.1 and 3.1). RSA keys that strangers chose
have 4096 bits at most, and the exponent 65537.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from msgspec import Struct

from gateway.oauth.jws import ALGORITHMS, decoded, encoded, json_object

LARGEST_SET: Final = 64 * 1024  # bytes of a JWK Set
_MOST_KEYS: Final = 10
_MOST_FETCHED: Final = 50
_LONGEST_ID: Final = 255
_MEMBERS: Final = {  # public ones (RFC 7518, sections 6.2.1 and 6.3.1; RFC 8037, section 2), by key type
    "RSA": ("n", "e"),
    "EC": ("crv", "x", "y"),
    "OKP": ("crv", "x"),
}
_SECRET: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
_BITS: Final = range(2048, 8193)
_BITS_OF_STRANGERS: Final = 4096
_EXPONENT_OF_STRANGERS: Final = 65537
OF_STRANGERS: Final = "one for RSA has 2048 to 4096 bits, and the exponent 65537"
P256_BYTES: Final = 32

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class NoGoodKey(ValueError):
    """A set is one, and none of its keys can be used here."""


class Key(Struct, frozen=True):
    """One public key, its identifier if it has one, and the algorithms that it may verify."""

    kid: str | None
    algorithms: tuple[str, ...]
    public: PublicKey

    def verifies(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Whether the signature of a message is this key's, by an algorithm of its own."""
        if algorithm not in self.algorithms:
            return False
        try:
            match self.public:
                case rsa.RSAPublicKey() as key if algorithm == "RS256":
                    key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
                case rsa.RSAPublicKey() as key:
                    pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
                    key.verify(signature, message, pss, hashes.SHA256())
                case ec.EllipticCurvePublicKey() as key:
                    if len(signature) != 2 * P256_BYTES:
                        return False
                    r, s = (int.from_bytes(half) for half in (signature[:P256_BYTES], signature[P256_BYTES:]))
                    key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
                case ed25519.Ed25519PublicKey() as key:
                    key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def parse_set(text: bytes, *, only_good: bool = False, of_strangers: bool = False) -> dict[str, object]:
    """A JWK Set as a client's keys are kept: what is public of each, and nothing else.

    Raises ValueError, with the mend, for a set that has no key to verify with, a private or shared one, or one that we
    do not know; such keys are passed over where `only_good` are wanted, as in a set that serves other ends too
    (RFC 7517, section 5), and NoGoodKey is raised where none is left. Keys `of_strangers` are none that cost more than
    usual: the time to verify grows with the modulus and the exponent, and strangers could have us spend it.
    """
    if len(text) > LARGEST_SET:
        raise ValueError(f"it is larger than {LARGEST_SET // 1024} KiB")
    try:
        keys = json_object(text).get("keys")
    except ValueError as exc:
        raise ValueError(f'it is not a JWK Set: {exc}; write it as {{"keys": [{{"kty": …}}]}}') from exc
    most = _MOST_FETCHED if only_good else _MOST_KEYS
    if only_good and keys == []:
        raise NoGoodKey("it holds no key")
    if not isinstance(keys, list) or not 0 < len(keys) <= most or not all(isinstance(key, dict) for key in keys):
        raise ValueError(f'a JWK Set holds "keys", an array of 1 to {most} keys')
    read = _of_stranger if of_strangers else _public
    kept = _good(keys, read) if only_good else [read(f"key {number}", key) for number, key in enumerate(keys, start=1)]
    ids = [key["kid"] for key in kept if "kid" in key]
    if len(set(ids)) < len(ids):
        raise ValueError('two keys have the same "kid"; give each its own')
    return {"keys": kept}


@lru_cache(maxsize=256)
def keys_of(jwks: str) -> tuple[Key, ...]:
    """The keys of a set that `parse_set` made, as JSON."""
    return tuple(_key(jwk) for jwk in json.loads(jwks)["keys"])


def read(jwk: Mapping[str, object]) -> tuple[Key, str]:
    """A public key that comes with what it signed, and its thumbprint. Raises ValueError, also for a private one."""
    members = _of_stranger("the key", jwk)
    return _key(members), thumbprint(members)


def members_of(public: PublicKey) -> dict[str, str]:
    """The members of a public key that make it what it is (RFC 7518, section 6; RFC 8037, section 2)."""
    match public:
        case rsa.RSAPublicKey() as key:
            numbers = key.public_numbers()
            return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
        case ec.EllipticCurvePublicKey() as key:
            point = key.public_numbers()
            x, y = (encoded(value.to_bytes(P256_BYTES)) for value in (point.x, point.y))
            return {"kty": "EC", "crv": "P-256", "x": x, "y": y}
        case ed25519.Ed25519PublicKey() as key:
            return {"kty": "OKP", "crv": "Ed25519", "x": encoded(key.public_bytes_raw())}


def thumbprint(jwk: Mapping[str, str]) -> str:
    """The SHA-256 thumbprint of a public key (RFC 7638, section 3)."""
    members = {name: jwk[name] for name in sorted(("kty", *_MEMBERS[jwk["kty"]]))}
    text = json.dumps(members, separators=(",", ":"), ensure_ascii=False)
    return encoded(hashlib.sha256(text.encode()).digest())


def _number(number: int) -> str:
    """Base64urlUInt (RFC 7518, section 2)."""
    return encoded(number.to_bytes((number.bit_length() + 7) // 8))


def _public(called: str, jwk: Mapping[str, object]) -> dict[str, str]:
    """The public members of a key. Raises ValueError for one that verifies nothing here."""
    kind = jwk.get("kty")
    if jwk.keys() & _SECRET or kind == "oct":
        raise ValueError(f"{called} is private or shared; register public keys only, and keep that one to yourself")
    if not isinstance(kind, str) or kind not in _MEMBERS:
        raise ValueError(f'{called}: "kty" is RSA, EC or OKP')
    if jwk.get("use", "sig") != "sig" or "verify" not in _operations(jwk):
        raise ValueError(f'{called} is not for signatures; its "use" is to be "sig"')
    kept = {"kty": kind}
    for name in (*_MEMBERS[kind], *(name for name in ("kid", "alg") if name in jwk)):
        value = jwk.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= (_LONGEST_ID if name == "kid" else LARGEST_SET):
            raise ValueError(f'{called}: "{name}" is missing, or no text of a bounded length')
        kept[name] = value
    if not all(mark.isprintable() for mark in kept.get("kid", "")):
        raise ValueError(f'{called}: "kid" holds what nobody can print')
    try:
        key = _key(kept)
    except ValueError as exc:
        raise ValueError(f"{called}: {exc}") from exc
    if not key.algorithms:
        raise ValueError(f'{called}: "alg" does not go with such a key; leave it out, or use {", ".join(ALGORITHMS)}')
    return kept


def _of_stranger(called: str, jwk: Mapping[str, object]) -> dict[str, str]:
    """The same, of a key that anybody may have chosen."""
    members = _public(called, jwk)
    match _key(members).public:
        case rsa.RSAPublicKey() as key if (
            key.key_size > _BITS_OF_STRANGERS or key.public_numbers().e != _EXPONENT_OF_STRANGERS
        ):
            raise ValueError(f"{called}: {OF_STRANGERS}")
    return members


def _good(
    keys: Sequence[Mapping[str, object]], read: Callable[[str, Mapping[str, object]], dict[str, str]]
) -> list[dict[str, str]]:
    kept = list[dict[str, str]]()
    for number, key in enumerate(keys, start=1):
        with suppress(ValueError):
            kept.append(read(f"key {number}", key))
    if not kept:
        raise NoGoodKey("none of its keys is a public one for signatures, of a kind that is known here")
    return kept


def _operations(jwk: Mapping[str, object]) -> list[object]:
    operations = jwk.get("key_ops", ["verify"])
    return operations if isinstance(operations, list) else []


def _key(jwk: Mapping[str, str]) -> Key:
    """The key of its public members. Raises ValueError for values that are none."""
    algorithms: tuple[str, ...]
    public: PublicKey
    match jwk["kty"], jwk.get("crv"):
        case "RSA", _:
            n, e = (int.from_bytes(decoded(jwk[name])) for name in ("n", "e"))
            if n.bit_length() not in _BITS or e not in range(3, 2**32) or not e % 2:
                raise ValueError("an RSA key has 2048 to 8192 bits and an exponent such as 65537")
            algorithms, public = ("RS256", "PS256"), rsa.RSAPublicNumbers(e, n).public_key()
        case "EC", "P-256":
            x, y = decoded(jwk["x"]), decoded(jwk["y"])
            if len(x) != P256_BYTES or len(y) != P256_BYTES:
                raise ValueError("a coordinate of P-256 has 32 bytes")
            numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ec.SECP256R1())
            algorithms, public = ("ES256",), numbers.public_key()
        case "OKP", "Ed25519":
            algorithms, public = ("EdDSA",), ed25519.Ed25519PublicKey.from_public_bytes(decoded(jwk["x"]))
        case _:
            raise ValueError('"crv" is P-256 for EC, and Ed25519 for OKP')
    only = jwk.get("alg")
    return Key(jwk.get("kid"), algorithms if only is None else tuple(a for a in algorithms if a == only), public)
