"""DPoP proofs as clients make them, with any part of them another."""

import hashlib
from collections.abc import Mapping
from typing import Any

from gateway.oauth import jwk
from tests.oauth.signing import Signer, encoded, signer


def jkt_of(key: Signer) -> str:
    return jwk.thumbprint(key.jwk)


def ath_of(token: str) -> str:
    return encoded(hashlib.sha256(token.encode()).digest())


def proof(
    key: Signer,
    *,
    method: str,
    url: str,
    now: float,
    token: str | None = None,
    jti: str = "j1",
    header: Mapping[str, Any] | None = None,
    **claims: Any,
) -> str:
    """A proof of that key; `header` and `claims` change members, and None leaves one out."""
    said: dict[str, Any] = {"jti": jti, "htm": method, "htu": url, "iat": int(now)}
    if token is not None:
        said["ath"] = ath_of(token)
    said |= claims
    known = {name: value for name, value in said.items() if value is not None}
    return key.assertion(known, **{"typ": "dpop+jwt", "jwk": key.jwk, **(header or {})})


ES256, OTHER = signer("ES256", kid="one"), signer("ES256", kid="two")
