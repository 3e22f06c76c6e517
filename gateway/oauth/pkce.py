"""Proof Key for Code Exchange (RFC 7636), method S256 only: `plain` protects nothing that travels in the open."""

import hashlib
import re

from gateway.crypto import equal
from gateway.oauth.jws import encoded

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636, section 4.1
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")  # SHA-256 in base64url, section 4.2


def is_verifier(text: str) -> bool:
    """Whether `text` is a well-formed code verifier (RFC 7636, section 4.1)."""
    return _VERIFIER.fullmatch(text) is not None


def is_challenge(text: str) -> bool:
    """Whether `text` can be an S256 code challenge (RFC 7636, section 4.2)."""
    return _CHALLENGE.fullmatch(text) is not None


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636, section 4.2)."""
    hashed = hashlib.sha256(verifier.encode("utf-8", "surrogateescape")).digest()
    return encoded(hashed)


def matches(verifier: str, challenge: str) -> bool:
    """Whether a verifier proves possession of what a challenge was made from (RFC 7636, section 4.6)."""
    return is_verifier(verifier) and equal(challenge_of(verifier).encode(), challenge.encode("utf-8", "replace"))
