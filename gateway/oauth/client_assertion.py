"""Clients that authenticate by a signed assertion, `private_key_jwt` (RFC 7521, RFC 7523, OpenID Connect Core, 9).

In order, so that nothing costs more than it proves: the form, the claims, the signature; the caller spends `jti` last,
and only of an assertion that is good in all else, or a stranger could spend other people's.
"""

import hashlib
from collections.abc import Collection, Mapping
from typing import Final

from msgspec import Struct

from gateway.errors import OAuthError, invalid_client
from gateway.oauth.jws import ALGORITHMS, MOST_TRIED, Compact, compact

TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523, section 2.2
MARGIN: Final = 60  # seconds by which the client's clock and ours may differ
LONGEST_LIFE: Final = 3600  # seconds of an assertion: as long is its `jti` remembered
_LONGEST: Final = 8 * 1024  # characters
_LONGEST_JTI: Final = 255
_JTI_KEY_BYTES: Final = 16


class Assertion(Compact, frozen=True):
    """An assertion that was read and not verified yet."""

    @property
    def client_id(self) -> str:
        """The client that it says it is of (RFC 7523, section 3: `sub`)."""
        return _text(self.claims, "sub")


class Once(Struct, frozen=True):
    """What makes an assertion count once: a key of 16 bytes, remembered until then, in seconds since 1970."""

    key: bytes
    until: float


def parse(text: str) -> Assertion:
    """An assertion by its form. Raises OAuthError (invalid_client)."""
    try:
        parts = compact(text, _LONGEST)
    except ValueError as exc:
        raise _refused(f"malformed: {exc}") from exc
    found = Assertion(parts.header, parts.claims, parts.signed, parts.signature)
    if found.header.get("alg") not in ALGORITHMS:
        raise _refused(f"another alg than {', '.join(ALGORITHMS)}")
    if "crit" in found.header:  # RFC 7515, section 4.1.11: nothing that it could demand is understood here
        raise _refused("crit")
    if not found.client_id:
        raise _refused("no sub")
    return found


def verify(assertion: Assertion, client_id: str, jwks: str, audience: Collection[str], now: float) -> Once:
    """Prove that a client made the assertion, for one of `audience`, a moment ago; `now` is in seconds since 1970.

    `jwks` are its keys, as `jwk.parse_set` made them, as JSON.

    Raises OAuthError (invalid_client) where RFC 7523, section 3, has it refused, and beyond that where `exp` lies
    further ahead than an hour, or there is no `jti`; and where it names no key, and too many could have made it.
    """
    from gateway.oauth import jwk

    once = _checked(assertion.claims, client_id, audience, now)
    algorithm, kid = str(assertion.header["alg"]), assertion.header.get("kid")
    keys = [
        key
        for key in jwk.keys_of(jwks)
        if algorithm in key.algorithms and (kid is None or key.kid is None or key.kid == kid)
    ]
    if len(keys) > MOST_TRIED:  # each costs time of everybody's, whose keys a stranger chose
        raise _refused(f"{len(keys)} keys could have made the signature; name one by kid")
    if not any(key.verifies(algorithm, assertion.signed, assertion.signature) for key in keys):
        raise _refused("no key of the client's has made the signature")
    return once


def _checked(claims: Mapping[str, object], client_id: str, audience: Collection[str], now: float) -> Once:
    if _text(claims, "iss") != client_id or _text(claims, "sub") != client_id:
        raise _refused("iss and sub are not both the client_id")
    aud = claims.get("aud")
    named = aud if isinstance(aud, list) else [aud]
    if not any(isinstance(name, str) and name in audience for name in named):
        raise _refused("aud is neither the issuer nor the token endpoint")
    exp = _moment(claims, "exp")
    if exp is None:
        raise _refused("no exp")
    if exp <= now - MARGIN:
        raise _refused("expired")
    if exp > now + LONGEST_LIFE + MARGIN:
        raise _refused(f"exp lies more than {LONGEST_LIFE} s ahead")
    for name in ("nbf", "iat"):
        moment = _moment(claims, name)
        if moment is not None and moment > now + MARGIN:
            raise _refused(f"{name} lies ahead")
    jti = _text(claims, "jti")
    if not 0 < len(jti) <= _LONGEST_JTI:
        raise _refused("no jti, or one that is too long")
    text = f"client-assertion\0{client_id}\0{jti}".encode("utf-8", "surrogatepass")
    return Once(hashlib.blake2b(text, digest_size=_JTI_KEY_BYTES).digest(), exp + 2 * MARGIN)


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    return value if isinstance(value, str) else ""


def _moment(claims: Mapping[str, object], name: str) -> float | None:
    """A NumericDate (RFC 7519, section 2), None where it is absent. Raises OAuthError for what is none."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise _refused(f"{name} is no time")
    return float(value)


def _refused(cause: str) -> OAuthError:
    return invalid_client(f"client assertion: {cause}")
