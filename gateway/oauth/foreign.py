"""Access tokens of other issuers: JWTs that routes take beside our own tokens (RFC 9068, RFC 7519, RFC 8725).

In this order, so that nothing costs more than it proves; the first that fails is why the token does not count:

    form       a compact JWS of JSON objects, each of whose members stands there once
    issuer     `iss` is, byte for byte, the URL of one that is configured
    header     nothing that must be understood (`crit`), an algorithm of the configuration
    type       `at+jwt`, or that of a plain JWT where the configuration takes those; no ID token, no logout token
    audience   one that the configuration names
    time       not over, and not before its time
    claims     who calls, and for which client; what it may do
    key        published by the issuer, for that algorithm
    signature  by that key

The key is looked for by `kid` among those that the issuer publishes, and nowhere else: what a header itself says of
keys (`jwk`, `jku`, `x5u`, `x5c`) is not looked at (RFC 8725, section 3.10). All but key and signature is here.
"""

import json
import re
from collections.abc import Mapping
from typing import Final, Literal, TypeGuard, final

from msgspec import Struct

from gateway.model import is_scope_token
from gateway.oauth.jws import Compact, compact

Algorithm = Literal["RS256", "PS256", "ES256", "EdDSA"]
TokenType = Literal["at+jwt", "JWT"]

LARGEST_METADATA: Final = 64 * 1024  # bytes
# Between the name of an issuer and what it calls somebody. No identifier of ours begins so: it is letters and digits,
# or a URL, and no issuer's name holds what follows a scheme.
SEPARATOR: Final = "|"
_LONGEST: Final = 4096  # characters, as `credentials.bearer` takes them
_LONGEST_NAME: Final = 255  # characters of who is named (OpenID Connect Core, section 2)
_LONGEST_ID: Final = 255  # of a key
_SHOWN: Final = 100  # characters of what a token says, in a cause
_LATEST: Final = 2**53
_MEDIA_TYPE: Final = "application/"  # which `typ` may leave out (RFC 7515, section 4.1.9)
_DEMANDING: Final = ("crit", "b64")  # RFC 7515, section 4.1.11: nothing that they could demand is understood here
_OTHER_KINDS: Final = {"at_hash": "an ID token", "c_hash": "an ID token", "events": "a logout token"}
_URL: Final = re.compile(
    r"(?:https://[A-Za-z0-9.-]+|http://(?:localhost|127(?:\.[0-9]{1,3}){3}))(?::[1-9][0-9]{0,4})?(?:/[\x21\x24-\x7e]*)?"
)


class Trusted(Struct, frozen=True, kw_only=True):
    """An issuer whose tokens count, and how they are read. `scopes` says what its scopes are here, by their names
    there; None where they are called alike. `jwks_uri` is empty where its metadata says where its keys are."""

    name: str
    url: str
    jwks_uri: str
    audience: frozenset[str]
    algorithms: tuple[Algorithm, ...]
    token_types: tuple[TokenType, ...]
    subject_claim: str
    client_claim: str
    scopes_claim: str
    scopes: Mapping[str, frozenset[str]] | None
    leeway: float


class Claimed(Struct, frozen=True, kw_only=True):
    """What a token says whose claims are good, as far as it is true. `ends_at` is in seconds since 1970; `jkt` is the
    thumbprint of the key that it is bound to, if it is (RFC 9449, section 6.1), and `auth_time` is when the person
    signed in (RFC 9068, section 2.2.1)."""

    subject: str
    client_id: str
    audience: tuple[str, ...]
    scopes: frozenset[str]
    ends_at: float
    algorithm: str
    kid: str | None
    jkt: str | None
    auth_time: float | None


Check = Literal["header", "algorithm", "type", "audience", "time", "claims"]


@final
class Unfit:
    """Why a token does not count: the check that it does not come through, and what is wrong by it."""

    __slots__ = ("check", "why")

    def __init__(self, check: Check, why: str) -> None:
        self.check: Final = check
        self.why: Final = why


def is_url(text: str) -> bool:
    """Whether an issuer may be asked at this URL: by https, or by http on this machine."""
    return _URL.fullmatch(text) is not None


def host_of(url: str) -> str:
    """The host of such a URL, as it is written."""
    return url.partition("://")[2].partition("/")[0].partition(":")[0]


def metadata_urls(issuer: str) -> tuple[str, str]:
    """Where an issuer's metadata may stand: by OpenID Connect Discovery 1.0 (section 4) and by RFC 8414 (section 3)."""
    scheme, _, rest = issuer.rstrip("/").partition("://")
    authority, slash, path = rest.partition("/")
    well_known = f"{scheme}://{authority}/.well-known/oauth-authorization-server{slash}{path}"
    return f"{scheme}://{rest}/.well-known/openid-configuration", well_known


def read(token: str) -> tuple[str, Compact] | None:
    """The issuer that a token names, and its parts, not verified; None for what is no such JWT."""
    if token.count(".") != 2:  # between header, payload and signature
        return None
    try:
        parts = compact(token, _LONGEST)
    except ValueError:
        return None
    issuer = parts.claims.get("iss")
    return (issuer, parts) if isinstance(issuer, str) else None


def verify(token: Compact, issuer: Trusted, now: float) -> Claimed | Unfit:
    """What a token of that issuer claims, or why it does not count; `now` is in seconds since 1970."""
    header, claims = token.header, token.claims
    if (why := _of_header(header, issuer) or _of_type(header, claims, issuer)) is not None:
        return why
    audience = _audience(claims, issuer)
    if isinstance(audience, Unfit):
        return audience
    ends_at = _end(claims, issuer, now)
    if isinstance(ends_at, Unfit):
        return ends_at
    subject, client = (_name(claims, claim) for claim in (issuer.subject_claim, issuer.client_claim))
    if subject is None or client is None:
        lacking = issuer.subject_claim if subject is None else issuer.client_claim
        return Unfit("claims", f"{shown(lacking)} is absent, or no plain text of up to {_LONGEST_NAME} characters")
    scopes = _scopes(claims, issuer)
    if scopes is None:
        return Unfit("claims", f"{shown(issuer.scopes_claim)} is neither text nor an array of it")
    bound = _bound_to(claims)
    if bound is None:
        return Unfit("claims", "bound in a way that is not known here (cnf)")
    kid, auth_time = header.get("kid"), claims.get("auth_time")
    return Claimed(
        subject=f"{issuer.name}{SEPARATOR}{subject}",
        client_id=f"{issuer.name}{SEPARATOR}{client}",
        audience=audience,
        scopes=scopes,
        ends_at=ends_at,
        algorithm=str(header["alg"]),
        kid=kid if isinstance(kid, str) else None,
        jkt=bound or None,
        auth_time=float(auth_time) if _is_moment(auth_time) else None,
    )


def shown(value: object) -> str:
    """A value out of a token as JSON, cut to one short line."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _of_header(header: Mapping[str, object], issuer: Trusted) -> Unfit | None:
    demanding = [name for name in _DEMANDING if name in header]
    if demanding:
        return Unfit("header", demanding[0])
    if header.get("alg") not in issuer.algorithms:
        return Unfit("algorithm", f"{shown(header.get('alg'))} is none of {', '.join(issuer.algorithms)}")
    kid = header.get("kid")
    if "kid" in header and not (isinstance(kid, str) and 0 < len(kid) <= _LONGEST_ID):
        return Unfit("header", "kid is no text of a bounded length")
    return None


def _of_type(header: Mapping[str, object], claims: Mapping[str, object], issuer: Trusted) -> Unfit | None:
    """RFC 9068, section 4; RFC 8725, section 3.11."""
    typ = header.get("typ", "JWT")
    plain = typ.lower().removeprefix(_MEDIA_TYPE) if isinstance(typ, str) else ""
    if plain not in (kind.lower() for kind in issuer.token_types):
        return Unfit("type", f"typ is {shown(typ)}, and none of {', '.join(issuer.token_types)}")
    other = next((kind for claim, kind in _OTHER_KINDS.items() if claim in claims), None)
    return None if other is None else Unfit("type", other)


def _audience(claims: Mapping[str, object], issuer: Trusted) -> tuple[str, ...] | Unfit:
    """The audiences that are ours (RFC 7519, section 4.1.3)."""
    said = claims.get("aud")
    named = [said] if isinstance(said, str) else said
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        return Unfit("audience", "aud is neither text nor an array of it")
    ours = tuple(sorted(issuer.audience.intersection(named)))
    return ours or Unfit("audience", f"{shown(said)} names none of this issuer's")


def _end(claims: Mapping[str, object], issuer: Trusted, now: float) -> float | Unfit:
    """When a token ends, by a clock that may be behind by the leeway (RFC 7519, sections 4.1.4 to 4.1.6)."""
    moments = dict[str, float]()
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name)
        if value is None and name not in claims and name != "exp":
            continue
        if not _is_moment(value):
            return Unfit("claims", f"{name} is absent, or no time")
        moments[name] = float(value)
    ends_at = moments.pop("exp") + issuer.leeway
    if ends_at <= now:
        return Unfit("time", f"it ended {now - ends_at + issuer.leeway:.0f} s ago")
    early = max(moments.values(), default=0.0) - issuer.leeway - now
    return ends_at if early <= 0.0 else Unfit("time", f"it begins {early + issuer.leeway:.0f} s from now")


def _is_moment(value: object) -> TypeGuard[float]:
    """Whether that is a NumericDate (RFC 7519, section 2)."""
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value < _LATEST


def _name(claims: Mapping[str, object], claim: str) -> str | None:
    """Who is named: text that is the same in a header field as in the token."""
    value = claims.get(claim)
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        return None
    return value if value.isprintable() and value.strip() == value else None


def _scopes(claims: Mapping[str, object], issuer: Trusted) -> frozenset[str] | None:
    """What a token may do, by the names of here; those that are none are left out (RFC 9068, section 2.2.3)."""
    said = claims.get(issuer.scopes_claim, "")
    named = said.split(" ") if isinstance(said, str) else said
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        return None
    if issuer.scopes is None:
        return frozenset(one for one in named if is_scope_token(one))
    nothing = frozenset[str]()
    return frozenset(ours for one in named for ours in issuer.scopes.get(one, nothing))


def _bound_to(claims: Mapping[str, object]) -> str | None:
    """The thumbprint of the key that a token is bound to, "" for none; None where it is bound otherwise (RFC 7800)."""
    if "cnf" not in claims:
        return ""
    match claims["cnf"]:
        case {"jkt": str(jkt), **others} if jkt and not others:
            return jkt
    return None
