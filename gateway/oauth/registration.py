"""A client that registers itself: what it may say of itself, and what it is answered (RFC 7591, RFC 7592).

    said                          becomes
    what is not known here        ignored (section 2)
    null, "" or an empty list     as if it were not said (RFC 7592, section 2.2)
    grant_types, response_types   those that are to be had here, of those asked for; the answer says which
    scope                         all of it, or invalid_client_metadata: never less than was asked for
    offline_access in it          brings the grant type refresh_token
    scope not said, or ""         every scope there is
    private_key_jwt               its keys, in jwks or at jwks_uri, in place of a secret
    jwks, jwks_uri                for nothing else here: ignored beside any other way to authenticate

`scope` is what the client asks for where its request names none. It may ask for others later, as MCP clients do where
an API tells them that a call needs more: people decide each time, and who had not named one could ask for all anyway.

Whoever registers is a stranger. So the client acts for people who allow it and never for itself (no
client_credentials), always uses PKCE, and whatever it says of itself is shown as its own words: the name in one line of
printable characters, links as links, a logo not at all, which would have to be fetched from its host.
"""

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from msgspec import Struct, field

from gateway.errors import OAuthError, Refused, invalid_request
from gateway.model import (
    OFFLINE_ACCESS,
    PUBLIC_SUBJECT,
    SIGNING_ALGORITHMS,
    About,
    Client,
    GrantType,
    OpenID,
    SigningAlgorithm,
    format_scope,
    parse_scope,
)
from gateway.oauth import client_metadata, redirect_uris
from gateway.oauth.jws import ALGORITHMS

Members = Mapping[str, Any]

SIGNED: Final = "private_key_jwt"
AUTHENTICATION_METHODS: Final = ("client_secret_basic", "client_secret_post", SIGNED, "none")
_GRANT_TYPES: Final[tuple[GrantType, ...]] = ("authorization_code", "refresh_token")
_APPLICATION_TYPES: Final = ("web", "native")  # OpenID Connect Dynamic Client Registration, section 2
_MOST_REDIRECT_URIS: Final = 20
_MOST_CONTACTS: Final = 10
_LONGEST_NAME: Final = 100
_LONGEST_TEXT: Final = 320
_MOST_MARKS: Final = 2  # combining marks on one letter: a tower of them covers what stands above
_OF_THE_SERVER: Final = (  # RFC 7592, section 2.2
    "registration_access_token",
    "registration_client_uri",
    "client_secret_expires_at",
    "client_id_issued_at",
)
_SESSION_REQUIRED: Final = ("backchannel_logout_session_required", "frontchannel_logout_session_required")
_EMPTY: Final[tuple[object, ...]] = (None, "", [])


class Registration(Struct, frozen=True, kw_only=True):
    """What a client is to be, as it said. `extras` are members that come back as they came."""

    name: str
    authentication_method: str
    redirect_uris: tuple[str, ...]
    grant_types: frozenset[GrantType]
    scopes: frozenset[str]
    default_scopes: frozenset[str] | None  # those that it named
    about: About
    openid: OpenID = PUBLIC_SUBJECT
    sector_identifier_uri: str | None = None  # whose document has yet to list the redirect URIs
    dpop_required: bool = False
    jwks: str | None = None  # its keys, or where they stand, as a Client has them
    extras: dict[str, object] = field(default_factory=dict)

    @property
    def confidential(self) -> bool:
        """Whether it is to authenticate, by a secret or by its keys."""
        return self.authentication_method != "none"


def members_of(content_type: str, raw: bytes) -> dict[str, Any]:
    """The members of a registration request (RFC 7591, section 3.1). Raises OAuthError (invalid_request)."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise invalid_request("The body must be application/json.")
    return members_in(raw)


def members_in(raw: bytes) -> dict[str, Any]:
    """The members of a JSON object in UTF-8. Raises OAuthError (invalid_request)."""
    try:
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=_without_repeats, parse_constant=_no_number)
    except (ValueError, RecursionError) as exc:
        raise invalid_request("The body must be a JSON object in UTF-8 that names each member once.") from exc
    if not isinstance(found, dict):
        raise invalid_request("The body must be a JSON object.")
    return found


def read(members: Members, known_scopes: frozenset[str]) -> Registration:
    """The registration that a request asks for.

    Raises OAuthError (invalid_redirect_uri, invalid_client_metadata; RFC 7591, section 3.2.2).
    """
    said = {name: value for name, value in members.items() if value not in _EMPTY}
    method = _one_of(said, "token_endpoint_auth_method", AUTHENTICATION_METHODS) or "client_secret_basic"
    uris = _redirect_uris(said)
    if "jwks" in said and "jwks_uri" in said:
        raise _invalid("jwks and jwks_uri must not both be there.")
    scopes, grant_types = _scopes(said, known_scopes), _grant_types(said)
    application_type = _one_of(said, "application_type", _APPLICATION_TYPES)
    name = _text(said, "client_name", _LONGEST_NAME)
    subject_type = _one_of(said, "subject_type", ("public", "pairwise"))
    id_token_alg = _one_of(said, "id_token_signed_response_alg", SIGNING_ALGORITHMS)
    userinfo_alg = _one_of(said, "userinfo_signed_response_alg", SIGNING_ALGORITHMS)
    after_logout = _texts(said, "post_logout_redirect_uris")
    if len(after_logout) > _MOST_REDIRECT_URIS or any(map(redirect_uris.registration_fault, after_logout)):
        raise _invalid(f"post_logout_redirect_uris must be at most {_MOST_REDIRECT_URIS} URIs that may be returned to.")
    back, front = _link(said, "backchannel_logout_uri"), _link(said, "frontchannel_logout_uri")
    sector_uri = _link(said, "sector_identifier_uri")
    extras = {
        "sector_identifier_uri": sector_uri,
        "token_endpoint_auth_method": method,
        "application_type": application_type,
        "logo_uri": _link(said, "logo_uri"),
        "contacts": _contacts(said),
        "software_id": _text(said, "software_id", _LONGEST_TEXT),
        "software_version": _text(said, "software_version", _LONGEST_TEXT),
        "subject_type": subject_type,
        "id_token_signed_response_alg": id_token_alg,
        "userinfo_signed_response_alg": userinfo_alg,
        "post_logout_redirect_uris": list(after_logout) or None,
        "backchannel_logout_uri": back,
        "frontchannel_logout_uri": front,
        **{name: True for name in _SESSION_REQUIRED if said.get(name) is True},  # the session is always told
    }
    return Registration(
        name=name or redirect_uris.shown_host(uris[0])[:_LONGEST_NAME],
        authentication_method=method,
        redirect_uris=uris,
        grant_types=grant_types | {"refresh_token"} if OFFLINE_ACCESS in (scopes or ()) else grant_types,
        scopes=known_scopes - {OFFLINE_ACCESS},  # which goes with the grant type
        default_scopes=scopes,
        about=About(
            homepage=_link(said, "client_uri"), privacy=_link(said, "policy_uri"), terms=_link(said, "tos_uri")
        ),
        openid=OpenID(
            id_token_alg=cast("SigningAlgorithm", id_token_alg or "RS256"),
            userinfo_alg=cast("SigningAlgorithm | None", userinfo_alg),
            sector=_sector(sector_uri, uris) if subject_type == "pairwise" else None,
            post_logout_redirect_uris=tuple(after_logout),
            backchannel_logout_uri=back,
            frontchannel_logout_uri=front,
        ),
        sector_identifier_uri=sector_uri,
        dpop_required=_flag(said, "dpop_bound_access_tokens"),
        jwks=_keys(said) if method == SIGNED else None,
        extras={key: value for key, value in extras.items() if value is not None},
    )


def require_listed(uris: Iterable[str], raw: bytes) -> None:
    """Require of the document at `sector_identifier_uri` that it lists these URIs (Registration 1.0, section 5).

    Raises OAuthError (invalid_client_metadata).
    """
    try:
        listed = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list) or not all(isinstance(uri, str) for uri in listed):
        raise _invalid("sector_identifier_uri must lead to a JSON array of redirect URIs.")
    if not set(uris) <= set(listed):
        raise _invalid("sector_identifier_uri leads to a list in which a redirect URI is missing.")


def secret_of(members: Members, client_id: str) -> str | None:
    """The secret that a request to change a client claims as its own, if it names one (RFC 7592, section 2.2).

    Raises OAuthError (invalid_client_metadata) for another client_id, or members that only the server sets.
    """
    for name in _OF_THE_SERVER:
        if name in members:
            raise _invalid(f"{name} must not be in a request.")
    if members.get("client_id") != client_id:
        raise _invalid("client_id must be the client's own.")
    secret = members.get("client_secret")
    if secret is not None and not isinstance(secret, str):
        raise _invalid("client_secret must be text.")
    return secret


def information(
    client: Client, extras: Members, location: str, *, secret: str | None, token: str | None
) -> dict[str, object]:
    """The answer about a client (RFC 7591, section 3.2.1; RFC 7592, section 3).

    `location` is where it is managed; `token` is the registration access token. A secret that is not `secret`, the one
    that has just been made, is not known any more.
    """
    about = client.about
    members: dict[str, object | None] = {
        "client_id": client.client_id,
        "client_id_issued_at": int(client.created_at.timestamp()),
        "client_secret": secret,
        "client_secret_expires_at": 0 if client.has_secret else None,
        "registration_access_token": token,
        "registration_client_uri": location,
        "redirect_uris": list(client.redirect_uris),
        "grant_types": [name for name in _GRANT_TYPES if name in client.grant_types],
        "response_types": ["code"],
        "client_name": client.name,
        "client_uri": about.homepage,
        "policy_uri": about.privacy,
        "tos_uri": about.terms,
        "scope": format_scope(client.scopes if client.default_scopes is None else client.default_scopes),
        "dpop_bound_access_tokens": client.dpop_required or None,
        **extras,
        **_authentication_members(client, extras),
    }
    return {name: value for name, value in members.items() if value is not None}


def is_shown_well(text: str, longest: int) -> bool:
    """Whether a stranger's text stands in one line and changes nothing around it: no control characters, no change of
    direction, nothing invisible, no towers of combining marks."""
    if not text.strip() or len(text) > longest or not text.isprintable():
        return False
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > _MOST_MARKS:
            return False
    return True


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is repeated")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _invalid(description: str, cause: str = "") -> OAuthError:
    return OAuthError(Refused("invalid_client_metadata", description, cause))


def _invalid_uris(description: str) -> OAuthError:
    return OAuthError(Refused("invalid_redirect_uri", description))


def _one_of(said: Members, name: str, known: Sequence[str]) -> str | None:
    value = said.get(name)
    if value is not None and value not in known:
        raise _invalid(f"{name} must be one of {', '.join(known)}.")
    return cast("str | None", value)


def _flag(said: Members, name: str) -> bool:
    value = said.get(name, False)
    if not isinstance(value, bool):
        raise _invalid(f"{name} must be true or false.")
    return value


def _text(said: Members, name: str, longest: int) -> str | None:
    value = said.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not is_shown_well(value, longest):
        raise _invalid(f"{name} must be text of 1 to {longest} printable characters on one line.")
    return value.strip()


def _link(said: Members, name: str) -> str | None:
    value = said.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise _invalid(f"{name} must be a URL.")
    if (fault := client_metadata.link_fault(value)) is not None:
        raise _invalid(f"{name} cannot be followed: {fault}.")
    return value


def _keys(said: Members) -> str:
    """The keys of a client that signs (RFC 7591, section 2), or where they stand, as a Client has them."""
    from gateway.oauth import jwk  # which takes memory that most workers never need

    if "jwks_uri" in said:
        uri = _link(said, "jwks_uri")
        if uri is None or not uri.startswith("https://") or "#" in uri:
            raise _invalid("jwks_uri must be an https URL without a fragment.")
        return json.dumps({"jwks_uri": uri})
    if "jwks" not in said:
        raise _invalid(f"{SIGNED} needs the client's public keys: send jwks, or jwks_uri.")
    try:
        return json.dumps(jwk.parse_set(json.dumps(said["jwks"]).encode(), only_good=True, of_strangers=True))
    except (ValueError, RecursionError) as exc:
        text = f"jwks must be a JWK Set with a public key by {', '.join(ALGORITHMS)}; {jwk.OF_STRANGERS}."
        raise _invalid(text, str(exc)) from exc


def _authentication_members(client: Client, extras: Members) -> dict[str, object]:
    """What is told of how a client authenticates: by keys, or a secret, where an operator demands more than it said."""
    if client.jwks is None:
        falls_short = client.has_secret and extras.get("token_endpoint_auth_method") == "none"
        return {"token_endpoint_auth_method": "client_secret_basic"} if falls_short else {}
    at = client.jwks_uri
    keys: dict[str, object] = {"jwks": json.loads(client.jwks)} if at is None else {"jwks_uri": at}
    return {"token_endpoint_auth_method": SIGNED, **keys}


def _texts(said: Members, name: str) -> tuple[str, ...]:
    value = said.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _invalid(f"{name} must be an array of texts.")
    return tuple(dict.fromkeys(value))


def _contacts(said: Members) -> list[str] | None:
    contacts = _texts(said, "contacts")
    if len(contacts) > _MOST_CONTACTS or not all(is_shown_well(text, _LONGEST_TEXT) for text in contacts):
        raise _invalid(f"contacts must be at most {_MOST_CONTACTS} printable texts.")
    return list(contacts) or None


def _redirect_uris(said: Members) -> tuple[str, ...]:
    """RFC 7591, section 2: whoever uses a flow with a redirect registers where to; section 5: https, this computer, or
    the scheme of an app."""
    uris = said.get("redirect_uris", [])
    if not isinstance(uris, list) or not all(isinstance(uri, str) for uri in uris):
        raise _invalid_uris("redirect_uris must be an array of URIs.")
    if not 0 < len(uris) <= _MOST_REDIRECT_URIS:
        raise _invalid_uris(f"redirect_uris must name 1 to {_MOST_REDIRECT_URIS} URIs.")
    for uri in uris:
        if (fault := redirect_uris.registration_fault(uri)) is not None:
            raise _invalid_uris(f"A redirect URI cannot be registered: {fault}.")
    return tuple(dict.fromkeys(uris))


def _sector(sector_uri: str | None, uris: tuple[str, ...]) -> str:
    """The sector of a client that wants subjects of its own: the host of its sector's document, or of its redirect URIs
    (Core, section 8.1)."""
    sector = redirect_uris.sector(uris if sector_uri is None else (sector_uri,))
    if sector is None:
        raise _invalid(
            "subject_type pairwise needs redirect_uris that are all on one host, or a sector_identifier_uri."
        )
    return sector


def _grant_types(said: Members) -> frozenset[GrantType]:
    """RFC 7591, section 2.1: grants and response types that fit each other."""
    asked = _texts(said, "grant_types") or ("authorization_code",)
    responses = _texts(said, "response_types") or ("code",)
    if "authorization_code" not in asked:
        raise _invalid("grant_types must have authorization_code: a client that registers itself acts for people only.")
    if "code" not in responses:
        raise _invalid("response_types must have code, which the grant type authorization_code needs.")
    return frozenset(name for name in _GRANT_TYPES if name in asked)


def _scopes(said: Members, known: frozenset[str]) -> frozenset[str] | None:
    scope = said.get("scope")
    if scope is None:
        return None
    try:
        names = parse_scope(scope) if isinstance(scope, str) else None
    except ValueError:
        names = None
    if names is None:
        raise _invalid("scope must be a list of names separated by single spaces.")
    if names - known:
        raise _invalid(f"scope may name {format_scope(known) or 'nothing'} here.")
    return names
