"""Clients whose identifier is the https URL of a document about them (draft-ietf-oauth-client-id-metadata-document-01).

What such a document says is what a registration says, by other rules: it is written for every server in the world. So
scopes that are none of ours are left out, and there is no secret, which everybody could read: a client is public, or it
signs, and has its keys in the document or at an address that this names (section 6.2).
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.errors import OAuthError, Refused
from gateway.model import format_scope, parse_scope
from gateway.oauth import registration
from gateway.oauth.registration import Registration

LARGEST: Final = 16 * 1024  # bytes; section 6.6 recommends 5 KB at least
SHORTEST_KEPT: Final = 60.0  # seconds: as long as one authorization takes, whatever the document says
LONGEST_KEPT: Final = 86400.0
_KEPT: Final = 300.0  # where it does not say
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# A name with a dot, whose last label begins with a letter: an address in any notation ends in a number.
_URL: Final = re.compile(
    rf"https://((?:{_LABEL}\.)+[A-Za-z](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?)(?::[1-9][0-9]{{0,4}})?"
    r"(/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
)
_DOT_SEGMENT: Final = re.compile(r"/(?:\.|%2e){1,2}(?:/|\Z)", re.IGNORECASE)
_SECONDS: Final = re.compile(r"[0-9]{1,10}")
_DIRECTIVE: Final = re.compile(r"([a-z-]+)(?:=\"?([0-9]{1,10})\"?)?", re.IGNORECASE)
_SECRETS: Final = ("client_secret", "client_secret_expires_at")


def host_of(client_id: str) -> str | None:
    """The host of a client identifier that is such a URL (section 3); None where it is none."""
    found = _URL.fullmatch(client_id)
    if found is None or _DOT_SEGMENT.search(found[2]) is not None:
        return None
    return found[1].lower()


def read(client_id: str, members: Mapping[str, Any], known_scopes: frozenset[str]) -> Registration:
    """What a document at the URL `client_id` says of its client (sections 4.1 and 6.2).

    Raises OAuthError (invalid_client_metadata, invalid_redirect_uri) for one that may not be used.
    """
    if members.get("client_id") != client_id:
        raise _invalid("client_id is not the document's own URL")
    if any(name in members for name in _SECRETS):
        raise _invalid("the document names a secret")
    method = members.get("token_endpoint_auth_method", "none")
    if method not in ("none", registration.SIGNED):
        raise _invalid(f"token_endpoint_auth_method is neither none nor {registration.SIGNED}")
    said = {**members, "token_endpoint_auth_method": method, "scope": _scope(members.get("scope"), known_scopes)}
    if not said.get("client_name"):
        said["client_name"] = host_of(client_id)
    return registration.read(said, known_scopes)


def lifetime(cache_control: str, age: str) -> float:
    """For how many seconds a document may be kept (section 4.3; RFC 9111, section 5.2.2), within our bounds."""
    directives = {
        found[1].lower(): found[2]
        for part in cache_control.split(",")
        if (found := _DIRECTIVE.fullmatch(part.strip())) is not None
    }
    kept = _KEPT
    if directives.keys() & {"no-store", "no-cache"}:
        kept = 0.0
    elif directives.get("max-age") is not None:
        kept = float(directives["max-age"]) - (float(age) if _SECONDS.fullmatch(age) else 0.0)
    return min(max(kept, SHORTEST_KEPT), LONGEST_KEPT)


def _scope(said: object, known: frozenset[str]) -> str:
    """Those of the scopes that are ours; "" for all, where it says nothing about us."""
    try:
        return format_scope(parse_scope(said) & known) if isinstance(said, str) else ""
    except ValueError:
        return ""


def _invalid(description: str) -> OAuthError:
    return OAuthError(Refused("invalid_client_metadata", description))
