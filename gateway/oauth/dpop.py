"""Proofs that a request is made by the holder of the key that a token is bound to (DPoP, RFC 9449).

In order, so that nothing costs more than it proves: the form, the signature, and then what it is a proof of; the caller
spends `jti` last, and only of a proof that is good in all else (section 11.1).

    typ, alg, jwk       dpop+jwt; an algorithm of ours, by the public key in the header (section 4.2)
    htm, htu            the request's method, and its URL without query and fragment (section 4.3)
    iat, nonce          as fresh as the clocks allow; a nonce of ours, where there is one (sections 8 and 9)
    ath                 the access token that comes with it (section 7)

A nonce of ours holds the time when it was made and a keyed check, so that nothing is kept of it, and every worker knows
those of all others. What a client's proofs have in common, its key, is read once for many.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from gateway.errors import GatewayError, OAuthError, Refused
from gateway.oauth.jws import ALGORITHMS, decoded, encoded, json_object

if TYPE_CHECKING:
    from gateway.oauth.jwk import Key

TYPE: Final = "dpop+jwt"
NONCE_PURPOSE: Final = "dpop-nonce"
NONCE_LIFETIME: Final = 300  # seconds
_LONGEST: Final = 8 * 1024  # characters of a proof
_LONGEST_HEADER: Final = 4 * 1024
_LONGEST_JTI: Final = 255
_PARTS: Final = 3
_KEYS: Final = 512  # headers that are remembered
_NONCE_TIME: Final = 6  # bytes
_NONCE_CHECK: Final = 12
_ONCE_BYTES: Final = 16
_THUMBPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31}+)://([^/?#\s]{1,300}+)([^?#\s]*+)(?:[?#]\S*+)?")
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")  # RFC 3986, 2.3
_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_PORTS: Final = {"http": ":80", "https": ":443"}

INVALID_PROOF: Final = "invalid_dpop_proof"
USE_NONCE: Final = "use_dpop_nonce"


class InvalidProof(GatewayError):
    """A proof does not follow its form. The text may be shown to anyone: it holds nothing of the proof."""


class Fault(Struct, frozen=True):
    """The reason why a proof proves nothing: a text for the client, and the error code that goes with it."""

    description: str
    error: str = INVALID_PROOF


@dataclass(frozen=True, slots=True, repr=False)
class Proof:
    """A proof that was read and not verified yet; `jkt` is the thumbprint of the key that it names."""

    algorithm: str
    key: "Key"
    jkt: str
    htm: str
    htu: str
    jti: str
    iat: int
    ath: str | None
    nonce: str | None
    signed: bytes
    signature: bytes

    @property
    def once(self) -> str:
        """A name for its `jti`, which others may have used too, among those of its key: 32 characters."""
        text = f"dpop\0{self.jkt}\0{self.jti}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=_ONCE_BYTES).hexdigest()


class Nonces(Struct, frozen=True):
    """The nonces of one installation; `keys` are those for the purpose, the current one first."""

    keys: tuple[bytes, ...]
    demanded: bool = False

    def new(self, now: float) -> str:
        """A nonce of this moment, in seconds since 1970 (section 8)."""
        return _nonce(self.keys[0], int(now))

    def fault_of(self, nonce: str | None, now: float) -> Fault | None:
        """Why a proof must be made anew, with another nonce; one that was not demanded may be absent, never wrong."""
        if nonce is None:
            return Fault("Make the proof with the nonce in DPoP-Nonce.", USE_NONCE) if self.demanded else None
        made = _made_at(nonce)
        known = made is not None and any(
            hmac.compare_digest(_nonce(key, made).encode(), nonce.encode("utf-8", "surrogatepass")) for key in self.keys
        )
        if made is None or not known or not now - NONCE_LIFETIME <= made <= now + NONCE_LIFETIME:
            return Fault("The nonce is not one of ours, or too old: make the proof with that in DPoP-Nonce.", USE_NONCE)
        return None


def parse(values: Sequence[str]) -> Proof:
    """The proof in a request's DPoP fields. Raises InvalidProof (section 4.3, steps 1 to 5 and 7)."""
    if len(values) != 1:
        raise InvalidProof("Send one DPoP field with one proof." if values else "The DPoP proof is missing.")
    text = values[0]
    parts = text.split(".")
    if len(text) > _LONGEST or len(parts) != _PARTS or len(parts[0]) > _LONGEST_HEADER:
        raise InvalidProof("The DPoP proof is no JWT, or too long.")
    algorithm, key, jkt = _header(parts[0])
    try:
        claims, signature = json_object(decoded(parts[1])), decoded(parts[2])
    except ValueError as exc:
        raise InvalidProof("The DPoP proof is no JWT.") from exc
    iat = claims.get("iat")
    if isinstance(iat, bool) or not isinstance(iat, int | float) or not 0 <= iat < 2**53:
        raise InvalidProof("The DPoP proof has no iat, or one that is no time.")
    jti = _text(claims, "jti")
    if not 0 < len(jti) <= _LONGEST_JTI:
        raise InvalidProof("The DPoP proof's jti is empty, or too long.")
    return Proof(
        algorithm=algorithm,
        key=key,
        jkt=jkt,
        htm=_text(claims, "htm"),
        htu=_text(claims, "htu"),
        jti=jti,
        iat=int(iat),
        ath=None if "ath" not in claims else _text(claims, "ath"),
        nonce=None if "nonce" not in claims else _text(claims, "nonce"),
        signed=".".join(parts[:2]).encode(),
        signature=signature,
    )


def fault_of(
    proof: Proof, *, method: str, url: str, now: float, window: float, nonces: Nonces, token: bytes | None = None
) -> Fault | None:
    """Why a proof does not prove this request (section 4.3, steps 6 and 8 to 12); None where it does.

    `url` is that under which clients make the request; `window` is in seconds, both ways.
    """
    if not proof.key.verifies(proof.algorithm, proof.signed, proof.signature):
        return Fault("The DPoP proof's signature is wrong.")
    if proof.htm != method:
        return Fault("The DPoP proof is for another method (htm).")
    named = _normal(proof.htu)
    if named is None or named != _normal(url):
        return Fault("The DPoP proof is for another URL (htu).")
    if token is not None and proof.ath != encoded(hashlib.sha256(token).digest()):
        return Fault("The DPoP proof is for another access token (ath), or for none.")
    if abs(int(now) - proof.iat) > window:
        return Fault(f"The DPoP proof's iat is more than {window:g} seconds off; compare your clock with Date.")
    return nonces.fault_of(proof.nonce, now)


def is_thumbprint(text: str) -> bool:
    """Whether `text` can be a `dpop_jkt` (section 10)."""
    return _THUMBPRINT.fullmatch(text) is not None


def refused(description: str, error: str = INVALID_PROOF, *, status: int = 400) -> OAuthError:
    """The refusal where tokens are given (sections 5 and 8); where one is used it has another status (7.1)."""
    return OAuthError(Refused(error, description, f"DPoP: {description}", status=status))


def _header(text: str) -> "tuple[str, Key, str]":
    try:
        return _read_header(text)
    except ValueError as exc:
        raise InvalidProof(f"The DPoP proof's header: {exc}.") from exc


@lru_cache(maxsize=_KEYS)
def _read_header(text: str) -> "tuple[str, Key, str]":
    """The algorithm, the key and its thumbprint. Raises ValueError."""
    from gateway.oauth import jwk

    header = json_object(decoded(text))
    if header.get("typ") != TYPE:
        raise ValueError(f"typ is to be {TYPE}")
    algorithm, public = header.get("alg"), header.get("jwk")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise ValueError(f"alg is to be one of {', '.join(ALGORITHMS)}")
    if "crit" in header:  # RFC 7515, section 4.1.11: nothing that it could demand is understood here
        raise ValueError("crit demands what is not understood here")
    if not isinstance(public, dict):
        raise ValueError("jwk is to be a public key")  # noqa: TRY004  # what a stranger sent is of the wrong value
    key, jkt = jwk.read(public)
    if algorithm not in key.algorithms:
        raise ValueError("alg does not go with jwk")
    return algorithm, key, jkt


def _text(claims: "dict[str, object]", name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str):
        raise InvalidProof(f"The DPoP proof has no {name}.")
    return value


def _normal(url: str) -> tuple[str, str, str] | None:
    """A URL in the form that equal ones share, without query and fragment (RFC 3986, sections 6.2.2 and 6.2.3)."""
    found = _URL.fullmatch(url)
    if found is None:
        return None
    scheme, authority = found[1].lower(), found[2].lower()
    return scheme, authority.removesuffix(_PORTS.get(scheme, ":")), _ESCAPE.sub(_unescaped, found[3]) or "/"


def _unescaped(found: re.Match[str]) -> str:
    byte = unquote_to_bytes(found[0])
    return byte.decode() if byte[0] in _UNRESERVED else found[0].upper()


def _nonce(key: bytes, moment: int) -> str:
    time = moment.to_bytes(_NONCE_TIME)
    return encoded(time + hmac.digest(key, time, "sha256")[:_NONCE_CHECK])


def _made_at(nonce: str) -> int | None:
    try:
        return int.from_bytes(base64.urlsafe_b64decode(nonce[:8]))
    except ValueError:
        return None
