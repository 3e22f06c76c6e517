"""What OpenID Connect adds to the decisions (Core 1.0): its scopes, the claims of people, and what an ID token says.

    scope      claims (section 5.4)
    openid     sub
    profile    name, family_name, given_name, middle_name, nickname, preferred_username, profile, picture, website,
               gender, birthdate, zoneinfo, locale, updated_at
    email      email, email_verified
    address    address
    phone      phone_number, phone_number_verified

An ID token holds who signed in, when and how; claims of people come from the UserInfo endpoint, and stand in an ID
token only where a request names them there (section 5.5). What is not known of a person is left out: no claim is null
or empty (section 5.3.2).
"""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, cast

from msgspec import Struct

from gateway.errors import invalid_request
from gateway.model import ACR, OFFLINE_ACCESS, Client, Profile
from gateway.oauth.forms import legible
from gateway.oauth.jws import compact, encoded, json_object

SCOPES: Final[Mapping[str, str]] = {
    "openid": "Sign you in",
    "profile": "See your name and profile",
    "email": "See your email address",
    "address": "See your postal address",
    "phone": "See your phone number",
    OFFLINE_ACCESS: "Keep this access while you’re away, until you remove it",
}
"""The scopes of OpenID Connect, with the words that the consent page says for them (Core, sections 5.4 and 11)."""

PROFILE_CLAIMS: Final = (
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "profile",
    "picture",
    "website",
    "gender",
    "birthdate",
    "zoneinfo",
    "locale",
)
"""Claims of a person that only the operator tells us; with `phone_number`, `phone_number_verified` and `address`."""

OF_SCOPE: Final[Mapping[str, tuple[str, ...]]] = {
    "profile": ("name", "preferred_username", *PROFILE_CLAIMS, "updated_at"),
    "email": ("email", "email_verified"),
    "address": ("address",),
    "phone": ("phone_number", "phone_number_verified"),
}
CLAIMS: Final = tuple(name for names in OF_SCOPE.values() for name in names)

AMR: Final = ("pwd",)  # RFC 8176, section 2

LOGOUT_LIFETIME: Final = 120  # seconds of a logout token (Back-Channel Logout 1.0, section 2.4)
_LARGEST: Final = 8 * 1024  # characters of a `claims` parameter
_MOST_NAMED: Final = 100
_MOST_PARTS: Final = 500  # objects and arrays: each claim that is named has two at most
_MOST_DIGITS: Final = 10  # of a max_age: three centuries
_PLACES: Final = ("userinfo", "id_token")
_LONGEST_HINT: Final = 8 * 1024  # characters
_SHA512: Final = frozenset({"EdDSA"})  # Ed25519 hashes by SHA-512 (RFC 8032, section 5.1), so at_hash does as well


class ClaimsRequest(Struct, frozen=True, kw_only=True):
    """What a `claims` parameter asks for (section 5.5): claims by place, and what must be so.

    `subject` is whom the ID token has to be about, `acr` one of which is essential; None where nothing is said.
    """

    userinfo: tuple[str, ...] = ()
    id_token: tuple[str, ...] = ()
    subject: str | None = None
    acr: tuple[str, ...] | None = None


def claims_request(text: str | None) -> ClaimsRequest:
    """The request that a `claims` parameter states; claims that are unknown here are left out.

    Raises OAuthError (invalid_request) for what is no such request.
    """
    if text is None:
        return ClaimsRequest()
    if len(text) > _LARGEST or text.count("{") + text.count("[") > _MOST_PARTS:
        raise invalid_request("claims is too long.")
    try:
        found = json_object(text.encode("utf-8", "surrogateescape"))
    except ValueError as exc:
        raise invalid_request("claims must be a JSON object that names each member once.") from exc
    userinfo, id_token = (_named(found, place) for place in _PLACES)
    return ClaimsRequest(
        userinfo=tuple(sorted(userinfo.keys() & set(CLAIMS))),
        id_token=tuple(sorted(id_token.keys() & set(CLAIMS))),
        subject=_subject(id_token.get("sub")),
        acr=_essential(id_token.get("acr")),
    )


def _named(members: Mapping[str, object], place: str) -> Mapping[str, object]:
    """The claims that are asked for at one place, each with what is said of it (section 5.5.1)."""
    named = members.get(place)
    if named is None:
        return {}
    if not isinstance(named, dict) or len(named) > _MOST_NAMED:
        raise invalid_request(f"claims: {place} must be an object of at most {_MOST_NAMED} claims.")
    if not all(value is None or isinstance(value, dict) for value in named.values()):
        raise invalid_request(f"claims: what is said of a claim in {place} must be null or an object.")
    return cast("dict[str, object]", named)


def _subject(said: object) -> str | None:
    value = said.get("value") if isinstance(said, dict) else None
    if value is not None and not _is_text(value):
        raise invalid_request("claims: the value of sub must be a string of Unicode without NUL.")
    return cast("str | None", value)


def _is_text(value: object) -> bool:
    """Whether it is a string that a database can hold: JSON can name what it cannot."""
    return isinstance(value, str) and legible(value) == value


def _essential(said: object) -> tuple[str, ...] | None:
    """The ways to be authenticated one of which must be it (section 5.5.1.1); None where none must."""
    if not isinstance(said, dict) or said.get("essential") is not True:
        return None
    values = said.get("values", [said["value"]] if "value" in said else None)
    if values is None:
        return None
    if not isinstance(values, list) or not all(map(_is_text, values)):
        raise invalid_request("claims: the values of acr must be strings of Unicode without NUL.")
    return tuple(values)


def max_age(text: str | None) -> int | None:
    """The seconds since a person signed in that a request allows at most (section 3.1.2.1).

    Raises OAuthError (invalid_request).
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise invalid_request("max_age must be a number of seconds.")
    return int(text)


def may_use(profile: Profile, client: Client) -> bool:
    """Whether a person may use a client at all."""
    return not client.allow_groups or not client.allow_groups.isdisjoint(profile.groups)


def named_by(scopes: frozenset[str], requested: Iterable[str] = ()) -> frozenset[str]:
    """The claims that scopes stand for, and those that were named one by one."""
    return frozenset(requested).union(*(OF_SCOPE[scope] for scope in scopes & OF_SCOPE.keys()))


def claims_of(profile: Profile, names: frozenset[str]) -> dict[str, object]:
    """What is known of a person of these claims (section 5.1), each with a value of its type."""
    user = profile.user
    known: dict[str, object] = {
        **{name: value for name, value in profile.claims.items() if name in names},
        "name": user.name,
        "preferred_username": user.username,
        "updated_at": int(profile.updated_at.timestamp()),
        "email": user.email,
        "email_verified": None if user.email is None else profile.email_verified,
    }
    return {name: value for name, value in known.items() if name in names and value not in (None, "")}


class Mapped(Struct, frozen=True, kw_only=True):
    """A claim of the operator's own: what it says of a person, with which scope, and to which clients (all if none)."""

    name: str
    value: str
    scope: str
    clients: frozenset[str]
    id_token: bool


def mapped(
    profile: Profile, rules: Iterable[Mapped], scopes: frozenset[str], client_id: str, *, id_token: bool
) -> dict[str, object]:
    """The operator's own claims of a person for a client with these scopes, in an ID token or at UserInfo."""
    user = profile.user
    known: dict[str, object] = {
        **profile.claims,
        "groups": list(profile.groups),
        "username": user.username,
        "email": user.email,
        "name": user.name,
    }
    return {
        rule.name: known[rule.value]
        for rule in rules
        if rule.scope in scopes
        and (not rule.clients or client_id in rule.clients)
        and (rule.id_token or not id_token)
        and known.get(rule.value) not in (None, "", [])
    }


class Authentication(Struct, frozen=True, kw_only=True):
    """The sign-in that a token response tells of: whose, in which session, when, how, and what a request asked to
    know."""

    subject: str
    session_id: str
    at: datetime
    acr: str = ACR
    nonce: str | None = None
    id_token_claims: tuple[str, ...] = ()


def id_token(
    issuer: str,
    client_id: str,
    subject: str,
    authentication: Authentication,
    *,
    now: int,
    lifetime: int,
    access_token: str,
    algorithm: str,
    claims: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """The claims of an ID token (sections 2 and 3.1.3.6); `subject` is the person's for this client.

    `claims` are those of the person that the request named. What says who signed in cannot be replaced by them.
    """
    members: dict[str, object] = {
        "iss": issuer,
        "sub": subject,
        "aud": client_id,
        "iat": now,
        "exp": now + lifetime,
        "auth_time": int(authentication.at.timestamp()),
        "acr": authentication.acr,
        "amr": list(AMR),
        "sid": authentication.session_id,
        "at_hash": half_hash(access_token, algorithm),
    }
    if authentication.nonce is not None:
        members["nonce"] = authentication.nonce
    return {**(claims or {}), **members}


class Hint(Struct, frozen=True, kw_only=True):
    """What an ID token of ours that comes back says: of which client, about whom, from which session."""

    client_id: str
    subject: str
    session_id: str | None


def hinted(text: str, jwks: str, issuer: str) -> Hint:
    """What an ID token says that `issuer` gave a client, whether or not it has expired.

    `jwks` are the issuer's own keys as JSON. Which algorithm a key serves is the key's, never the token's (RFC 8725,
    section 3.1). Raises ValueError, with the reason, for any other token.
    """
    from gateway.oauth import jwk

    hint = compact(text, _LONGEST_HINT)
    algorithm, kid = str(hint.header.get("alg")), hint.header.get("kid")
    if hint.header.get("typ", "JWT") != "JWT" or "crit" in hint.header:
        raise ValueError("a token of another kind")
    keys = [key for key in jwk.keys_of(jwks) if key.kid == kid]
    if not any(key.verifies(algorithm, hint.signed, hint.signature) for key in keys):
        raise ValueError("no key of ours made the signature")
    subject, client_id, session_id = (hint.claims.get(name) for name in ("sub", "aud", "sid"))
    if hint.claims.get("iss") != issuer or not isinstance(subject, str) or not isinstance(client_id, str):
        raise ValueError("of another issuer")
    if "events" in hint.claims or "auth_time" not in hint.claims:
        raise ValueError("a token of another kind")
    return Hint(client_id=client_id, subject=subject, session_id=session_id if isinstance(session_id, str) else None)


def logout_token(
    issuer: str, client_id: str, subject: str | None, session_id: str, *, now: int, logout_id: str
) -> dict[str, object]:
    """The claims of a logout token (Back-Channel Logout 1.0, section 2.4), which lives for two minutes.

    `subject` is None where the person is gone: the session says who is meant.
    """
    members: dict[str, object] = {
        "iss": issuer,
        "aud": client_id,
        "iat": now,
        "exp": now + LOGOUT_LIFETIME,
        "jti": logout_id,
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        "sid": session_id,
    }
    return members if subject is None else members | {"sub": subject}


def half_hash(token: str, algorithm: str) -> str:
    """The left half of a token's hash in base64url, by the hash of the signature's algorithm (section 3.1.3.6)."""
    hashed = (hashlib.sha512 if algorithm in _SHA512 else hashlib.sha256)(token.encode("ascii")).digest()
    return encoded(hashed[: len(hashed) // 2])
