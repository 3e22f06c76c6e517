"""The nouns that every layer shares, in RFC 6749's terms: frozen data, no behaviour beyond their own grammar."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, cast

from msgspec import Struct, field
from msgspec.structs import fields

TokenType = Literal["bearer", "mac"]
TokenFormat = Literal["opaque", "jwt"]  # of bearer tokens: what names them, or RFC 9068
MacDraft = Literal["00", "01"]
MacAlgorithm = Literal["hmac-sha-256", "hmac-sha-1"]
SigningAlgorithm = Literal["RS256", "ES256", "EdDSA"]  # by which we sign what others verify (RFC 7518, RFC 8037)
GrantType = Literal[
    "authorization_code",
    "refresh_token",
    "client_credentials",
    "urn:ietf:params:oauth:grant-type:device_code",
    "implicit",
    "password",
]

DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"  # RFC 8628, section 3.4
LEGACY_GRANT_TYPES: tuple[GrantType, ...] = ("implicit", "password")  # OAuth 2.1 has neither; for named clients alone
GRANT_TYPES: tuple[GrantType, ...] = ("authorization_code", "refresh_token", "client_credentials", DEVICE_CODE)
CLIENT_ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")  # by which clients sign: assertions, DPoP proofs
SIGNING_ALGORITHMS: tuple[SigningAlgorithm, ...] = ("RS256", "ES256", "EdDSA")

# The kinds of tokens, as the guard holds them, by the names of the schemes that are theirs (`gateway.schemes`).
BEARER: Final = "bearer"  # RFC 6750
DPOP: Final = "dpop"  # RFC 9449: a bearer token that is bound to a key
MAC: Final = "mac"  # draft-ietf-oauth-v2-http-mac
SESSION: Final = "session"  # of a browser whose person has signed in

# The browser's cookies are ours alone: the proxy takes them from what upstreams see, and from what upstreams set.
COOKIE_MARK = "gateway_"  # stands in each of their names
SESSION_COOKIE = f"{COOKIE_MARK}session"
FORM_COOKIE = f"{COOKIE_MARK}form"  # binds a sign-in form to the browser that it was given to
KNOWN_BROWSER_COOKIE = f"{COOKIE_MARK}known_browser"
_COOKIES = (SESSION_COOKIE, FORM_COOKIE, KNOWN_BROWSER_COOKIE)
OWN_COOKIES: frozenset[str] = frozenset(_COOKIES) | {f"__Host-{name}" for name in _COOKIES}


def cookie_name(name: str, *, secure: bool) -> str:
    """The name under which a browser has a cookie of ours; on https no other host can set it (RFC 6265bis, 4.1.3.2)."""
    return f"__Host-{name}" if secure else name


# Where clients find us, wherever the routes lead: documents about the issuer (RFC 8414, OpenID Connect Discovery,
# RFC 7517), and about each route at this path with the route's own path behind it (RFC 9728, section 3.1).
ISSUER_METADATA = (
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
    "/.well-known/jwks.json",
)
RESOURCE_METADATA = "/.well-known/oauth-protected-resource"

# Where password managers look for the page that changes a password (W3C, A Well-Known URL for Changing Passwords).
CHANGE_PASSWORD = "/.well-known/change-password"  # noqa: S105  # an address

# The one scope that is of no resource: whoever asks for it wants to have access while the person is away, by a refresh
# token (OpenID Connect Core, section 11).
OFFLINE_ACCESS: Final = "offline_access"

# How people are authenticated: `acr` (OpenID Connect Core, section 2), and what may be asked for by `acr_values`.
ACR: Final = "password"

# RFC 6749, section 3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


def is_scope_token(text: str) -> bool:
    """Whether `text` is one well-formed scope name (RFC 6749, section 3.3)."""
    return _SCOPE_TOKEN.fullmatch(text) is not None


def parse_scope(text: str) -> frozenset[str]:
    """The scope names of a space-delimited `scope` value; the order is free and repeats count once.

    Raises ValueError when a name is malformed or the spacing is not single spaces (RFC 6749, section 3.3).
    """
    if text == "":
        return frozenset()
    names = text.split(" ")
    for name in names:
        if not is_scope_token(name):
            raise ValueError(f"malformed scope: {name!r}")
    return frozenset(names)


def format_scope(names: frozenset[str]) -> str:
    """The `scope` value for a set of names, sorted so that equal sets read alike."""
    return " ".join(sorted(names))


class Owner(Struct, frozen=True, kw_only=True):
    """The person who answers for a client."""

    subject: str
    username: str
    name: str | None

    @property
    def shown(self) -> str:
        """The name that people are shown."""
        return self.name or self.username


class About(Struct, frozen=True, kw_only=True):
    """What people are shown of a client besides its name (RFC 7591, section 2). `logo` is a picture's name."""

    description: str | None = None
    owner: Owner | None = None
    homepage: str | None = None
    privacy: str | None = None
    terms: str | None = None
    logo: str | None = None


class OpenID(Struct, frozen=True, kw_only=True):
    """How a client learns of people (OpenID Connect Registration 1.0, section 2)."""

    id_token_alg: SigningAlgorithm = "RS256"  # noqa: S105  # an algorithm
    userinfo_alg: SigningAlgorithm | None = None  # None: what the UserInfo endpoint answers is not signed
    # Clients of one sector know a person by the same subject, others by another; None: by the person's own.
    sector: str | None = None
    post_logout_redirect_uris: tuple[str, ...] = ()  # RP-Initiated Logout 1.0, section 3.1
    backchannel_logout_uri: str | None = None  # Back-Channel Logout 1.0, section 2.2
    frontchannel_logout_uri: str | None = None  # Front-Channel Logout 1.0, section 2

    def to_json(self) -> str:
        """All that differs from the defaults, to be stored."""
        default = OpenID()
        named = ((one.name, getattr(self, one.name)) for one in fields(self))
        return json.dumps({name: value for name, value in named if value != getattr(default, name)})

    @classmethod
    def from_json(cls, text: str) -> "OpenID":
        """What was stored. Members that are unknown here are left out; missing ones have their defaults."""
        if text == "{}":
            return PUBLIC_SUBJECT
        known = {one.name for one in fields(cls)}
        found: dict[str, Any] = {name: value for name, value in json.loads(text).items() if name in known}
        found |= {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
        return cls(**found)


PUBLIC_SUBJECT: Final = OpenID()


class ClientProperties(Struct, frozen=True, kw_only=True):
    """What an OAuth client is (RFC 6749, section 2). `confidential` means it holds a secret or a key.

    One more is a field here and a column in `sql/queries/clients.sql`; where the two are not the same,
    `store/clients.py` says how one becomes the other.
    """

    name: str
    confidential: bool
    redirect_uris: tuple[str, ...]
    grant_types: frozenset[GrantType]
    scopes: frozenset[str]  # the scopes it may ask for
    token_type: TokenType
    mac_drafts: tuple[MacDraft, ...]
    mac_algorithm: MacAlgorithm
    token_format: TokenFormat = "opaque"  # noqa: S105  # a kind, no token
    pkce_required: bool = True
    par_required: bool = False  # asks by pushed requests alone (RFC 9126, section 6)
    dpop_required: bool = False  # gets tokens that are bound to a key of its own alone (RFC 9449, section 5.2)
    # Its public keys as JSON, where it authenticates by them and has no secret (RFC 7523); or where they stand:
    # {"jwks_uri": "https://…"}.
    jwks: str | None = None
    default_scopes: frozenset[str] | None = None  # what a request asks for that names none; None for all of `scopes`
    openid: OpenID = PUBLIC_SUBJECT
    allow_groups: frozenset[str] = frozenset()  # whose people may use it at all; empty: everybody
    # Names of what an operator decided of it, which it does not undo where it describes itself.
    decided: frozenset[str] = frozenset()
    first_party: bool = False  # consent is not asked
    verified: bool = True  # registered by an operator, not by itself
    about: About = field(default_factory=About)

    def properties(self) -> dict[str, Any]:
        """All of these by their names."""
        return {name: getattr(self, name) for name in CLIENT_PROPERTIES}

    @property
    def has_secret(self) -> bool:
        """Whether it authenticates by a secret."""
        return self.confidential and self.jwks is None

    @property
    def jwks_uri(self) -> str | None:
        """The address of its keys, where they stand at one."""
        members = {} if self.jwks is None else json.loads(self.jwks)
        return cast("str | None", members.get("jwks_uri"))

    @property
    def may_have(self) -> frozenset[str]:
        """Every scope that a request of its may name: `offline_access` is for all that may use refresh tokens."""
        refreshes = "refresh_token" in self.grant_types
        return self.scopes | {OFFLINE_ACCESS} if refreshes else self.scopes - {OFFLINE_ACCESS}


CLIENT_PROPERTIES: Final = tuple(one.name for one in fields(ClientProperties))


class Client(ClientProperties, frozen=True, kw_only=True):
    """A client that is registered, or would be one by its document."""

    client_id: str
    created_at: datetime
    disabled_at: datetime | None


class User(Struct, frozen=True, kw_only=True):
    """A person who can sign in. `subject` is never reused."""

    subject: str
    username: str
    email: str | None
    name: str | None
    created_at: datetime
    disabled_at: datetime | None


class Profile(Struct, frozen=True, kw_only=True):
    """What applications may learn of a person (OpenID Connect Core, section 5.1).

    `claims` holds what only the operator tells us, by the claim's name; names and the email address are the user's own.
    """

    user: User
    email_verified: bool
    claims: Mapping[str, object]
    groups: tuple[str, ...]
    updated_at: datetime


class Scope(Struct, frozen=True, kw_only=True):
    """A scope and the plain words that the consent page says for it."""

    name: str
    description: str


class Grant(Struct, frozen=True, kw_only=True):
    """What one person allowed one client at the resources in `resource` (RFC 8707), which are all where it is empty."""

    grant_id: str
    subject: str
    client_id: str
    client_name: str
    client_verified: bool
    client_redirect_uris: tuple[str, ...]
    resource: tuple[str, ...]
    scopes: frozenset[str]
    created_at: datetime
    updated_at: datetime
    last_used_at: datetime | None  # to some minutes; None where no use was written down
    about: About


class Session(Struct, frozen=True, kw_only=True):
    """A browser that is signed in."""

    session_id: str
    user: User
    signed_in_at: datetime
    expires_at: datetime


class Identity(Struct, frozen=True, kw_only=True):
    """The user and client on whose behalf a call is made, as upstreams and introspection learn of them.

    `subject` is the user's, or the client's own identifier where no person stands behind the token
    (RFC 9068, section 2.2); the two kinds never collide, since their prefixes differ. `client_id` is empty for a person
    in their own browser.
    """

    subject: str
    client_id: str
    username: str | None = None
    email: str | None = None
    groups: tuple[str, ...] = ()  # that the person is in


class AccessToken(Struct, frozen=True, kw_only=True):
    """A live access token as the store knows it, or the session of a browser, which the guard holds as one; revoked,
    expired and disabled ones are never given out.

    `audience` holds the resource identifiers it is limited to (RFC 8707); empty means any route.
    `mac_key` is the plaintext key of a MAC token and is kept out of representations. Besides its client and its
    user, the token's life hangs on the family and the grant, if it came from one.
    """

    digest: bytes  # SHA-256 of the token
    identity: Identity
    scopes: frozenset[str]
    token_type: TokenType | Literal["session"]
    audience: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime
    mac_key: bytes | None
    mac_algorithm: MacAlgorithm | None
    mac_drafts: tuple[MacDraft, ...]
    family_id: str | None = None
    grant_id: str | None = None
    jkt: str | None = None  # the thumbprint of the key that it is bound to (RFC 9449)
    auth_time: datetime | None = None  # when and how the person behind it signed in (RFC 9470, section 6)
    acr: str | None = None

    def __repr__(self) -> str:
        return f"AccessToken({self.digest.hex()[:12]}…, {self.token_type}, {self.identity.subject})"
