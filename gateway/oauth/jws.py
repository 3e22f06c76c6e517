"""The form of what is signed by JSON Web Signature (RFC 7515): its parts and their members, and nothing of keys."""

import base64
import binascii
import json
import re
from typing import Final, cast

from msgspec import Struct

from gateway.model import CLIENT_ALGORITHMS

ALGORITHMS: Final = CLIENT_ALGORITHMS
"""Those by which clients may sign; their keys are in `oauth.jwk`, which brings cryptography along."""
MOST_TRIED: Final = 4  # keys for one signature: of those without an identifier, the old one and the new one
_PARTS: Final = 3  # header, payload and signature
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*")


def decoded(text: str) -> bytes:
    """The bytes of base64url without padding (RFC 7515, section 2). Raises ValueError for another spelling of them."""
    if _BASE64URL.fullmatch(text) is None or len(text) % 4 == 1:
        raise ValueError("not base64url")
    try:
        found = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as exc:
        raise ValueError("not base64url") from exc
    if encoded(found) != text:
        raise ValueError("not base64url in its only form")
    return found


def encoded(raw: bytes) -> str:
    """Bytes in base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class Compact(Struct, frozen=True):
    """A compact JWS by its parts, not verified (RFC 7515, section 7.1)."""

    header: dict[str, object]
    claims: dict[str, object]
    signed: bytes
    signature: bytes


def compact(text: str, longest: int) -> Compact:
    """A compact JWS whose payload is a JSON object. Raises ValueError for what is none, or is too long."""
    if len(text) > longest:
        raise ValueError(f"longer than {longest} characters")
    parts = text.split(".")
    if len(parts) != _PARTS:
        raise ValueError("no compact JWS")
    header, claims, signature = (decoded(part) for part in parts)
    return Compact(json_object(header), json_object(claims), ".".join(parts[:2]).encode(), signature)


def json_object(text: bytes) -> dict[str, object]:
    """A JSON object each of whose members is there once. Raises ValueError."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        members = dict(pairs)
        if len(members) != len(pairs):
            raise ValueError("a member is there twice")
        return members

    def never(constant: str) -> object:
        raise ValueError(f"{constant} is no JSON")

    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=once, parse_constant=never)
    except RecursionError as exc:
        raise ValueError("nested too deep") from exc
    if not isinstance(found, dict):
        raise ValueError("no JSON object")  # noqa: TRY004  # what a stranger sent is of the wrong value
    return cast("dict[str, object]", found)
