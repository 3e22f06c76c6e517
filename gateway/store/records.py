"""Records that go into the store or come out of it, where `model` has no noun for them."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from gateway.model import (
    OFFLINE_ACCESS,
    Client,
    ClientProperties,
    MacAlgorithm,
    TokenType,
    User,
)
from gateway.oauth.authorize import AuthorizationRequest
from gateway.oauth.openid import Authentication


@dataclass(frozen=True, slots=True)
class Logo:
    """A client's picture, and the name that its content gives it (`oauth.client_metadata.logo_name`)."""

    name: str
    content: bytes = field(repr=False)


_OF_TOKENS: Final = frozenset({"token_type", "token_format", "mac_drafts", "mac_algorithm"})
DECIDABLE: Final = _OF_TOKENS | {"scopes", "grant_types", "dpop_required", "confidential", "jwks", "sector"}
"""What an operator may decide of a client that describes itself, and the client would say otherwise."""


class NewClient(ClientProperties, frozen=True, kw_only=True):
    """A client to register, or what one is to be from now on."""

    logo: Logo | None = None  # a new one; `about` has its name

    @classmethod
    def like(cls, client: Client) -> "NewClient":
        """A client that is there already, to be changed."""
        return cls(**client.properties())

    @property
    def sector(self) -> str | None:
        """The host whose clients all know a person by the same subject (pairwise; Core, section 8.1), None where the
        client knows people by their own."""
        return self.openid.sector

    def decided_after(self, before: Client) -> "NewClient":
        """The change of an operator, with the names of all that is decided then; none of a client that an operator made
        and that says nothing of itself. What is taken back is the client's to say again."""
        if before.verified:
            return replace(self, decided=frozenset())
        was = NewClient.like(before)
        changed = {name for name in DECIDABLE if getattr(self, name) != getattr(was, name)} | self.decided
        lifted = {name for name in changed if getattr(self, name) in (None, False)}
        return replace(self, decided=frozenset((before.decided | changed) - lifted))

    def within(self, before: Client) -> "NewClient":
        """What a client says of itself, within what an operator decided of it. It may narrow that further, and demand
        more of itself; trust is no such decision, and ends with what it was put in.

            groups, pushed requests                 the operator's alone
            scopes, grant types                     those that the operator left
            DPoP, a secret, subjects of a sector    stay; the sector is the operator's
            keys                                    may be replaced by its own, and by nothing else
            kind of tokens                          the operator's
        """
        decided = before.decided
        scopes = self.scopes & before.scopes if "scopes" in decided else self.scopes
        asks_for = self.default_scopes and (self.default_scopes & (scopes | {OFFLINE_ACCESS}) or None)
        keys = self.jwks or (before.jwks if "jwks" in decided else None)
        demanded = keys is not None or ("confidential" in decided and before.confidential)
        sector = before.openid.sector if "sector" in decided else self.openid.sector
        return replace(
            self,
            **{name: getattr(before, name) for name in _OF_TOKENS & decided},
            decided=decided,
            allow_groups=before.allow_groups,
            par_required=before.par_required,
            scopes=scopes,
            default_scopes=asks_for,
            grant_types=self.grant_types & before.grant_types if "grant_types" in decided else self.grant_types,
            dpop_required=self.dpop_required or ("dpop_required" in decided and before.dpop_required),
            jwks=keys,
            confidential=self.confidential or demanded,
            openid=replace(self.openid, sector=sector),
        )


class Unauthenticated(Struct, frozen=True):
    """A client's secret that authenticates nobody; the cause is for the log alone."""

    cause: str


class SignInCandidate(Struct, frozen=True, kw_only=True):
    """Whom a sign-in form may mean, and the hash to check the password against."""

    user: User
    password_hash: str


class SignedInBrowser(Struct, frozen=True, kw_only=True):
    """A browser that a person is signed in with, as they are shown it; `last_seen_at` is right to some minutes."""

    session_id: str
    signed_in_at: datetime
    last_seen_at: datetime
    address: str | None
    user_agent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """An authorization request after sign-in, and the answer that it got, once it has one.

    `code` is the one that the answer held, for as long as it can be redeemed; `spent` says that it was. `granted` is
    what the person had allowed the client before, at just these resources, as far as it was asked for.
    """

    flow_id: str
    subject: str
    request: AuthorizationRequest
    expires_at: datetime
    decision: Literal["granted", "denied"] | None = None
    allowed: frozenset[str] = frozenset()
    code: str | None = field(default=None, repr=False)
    spent: bool = False
    granted: frozenset[str] = frozenset()


class IssuedTokens(Struct, frozen=True, kw_only=True):
    """A token response's content (RFC 6749, section 5.1), the only time that the plaintexts exist."""

    access_token: str
    token_type: TokenType
    expires_in: int
    scope: str
    refresh_token: str | None = None
    mac_key: str | None = None
    mac_algorithm: MacAlgorithm | None = None
    authentication: Authentication | None = None  # what an ID token tells of, where the scope `openid` is among these
    jkt: str | None = None  # of the key that it is bound to

    def body(self) -> dict[str, str | int]:
        """The members of the JSON answer but for an ID token; absent ones are left out."""
        members: dict[str, str | int | None] = {
            "access_token": self.access_token,
            "token_type": self.token_type if self.jkt is None else "DPoP",  # RFC 9449, section 5
            "expires_in": self.expires_in,
            "scope": self.scope,
            "refresh_token": self.refresh_token,
            "mac_key": self.mac_key,
            "mac_algorithm": self.mac_algorithm,
        }
        return {name: value for name, value in members.items() if value is not None}

    def __repr__(self) -> str:
        return f"IssuedTokens({self.token_type}, scope={self.scope!r})"
