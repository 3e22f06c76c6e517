"""Access tokens by what the client presents: which of them live, what they stand for, and what they sign with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from msgspec import Struct

from gateway.crypto import Keyring, TokenPrefix, UnsealError, as_bytes, digest
from gateway.model import AccessToken, Identity, MacAlgorithm, MacDraft, TokenType
from gateway.store.changes import Mark
from gateway.store.clock import Now
from gateway.store.database import Database, Row
from gateway.store.replicas import Replicas

LANES: Final = 4  # questions for many tokens, or sessions, that may be under way at once
MAC_KEY: Final = "mac-key"  # the purpose that MAC keys are sealed for
LONGEST: Final = 4096  # characters of a token, as `credentials.bearer` takes it
_OTHERS: Final = 200  # tokens of one client whose keys are worth a try


class EndedToken(Struct, frozen=True):
    """An access token that was ended before its time, or that nobody can sign with: how, and whose it was."""

    how: str | None  # as the view access_token_ends says; None where its key is lost
    identity: Identity


class FoundTokens(Struct, frozen=True):
    """The access tokens of a look-up by digest: those that live, whose time the caller compares, and those that ended.

    `server` tells the server that answered from any other, also from itself before a restart. None if nothing was
    found.
    """

    server: float | None
    tokens: Mapping[bytes, AccessToken]
    ended: Mapping[bytes, EndedToken]


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningToken:
    """An access token, dead or alive. `key` is None for a bearer token, and where its master key is gone.

    `living` says whether all that it hangs on lives; the caller compares its time. `others` are the keys of
    its client's newest other tokens, with the times when they were issued.
    """

    token_type: TokenType
    client_id: str
    key: bytes | None = field(repr=False)
    algorithm: MacAlgorithm | None
    drafts: tuple[MacDraft, ...]
    expires_at: datetime
    revoked_at: datetime | None
    living: bool
    others: tuple[tuple[datetime, bytes], ...] = field(repr=False)


def may_be(keyring: Keyring, token: str, prefix: TokenPrefix) -> bool:
    """Whether a token is worth a query: one of ours of that kind, or of another shape (imported from elsewhere)."""
    return 0 < len(token) <= LONGEST and not keyring.is_invented(as_bytes(token), prefix)


def _identity_of(row: Row) -> Identity:
    return Identity(
        subject=row["subject"] or row["client_id"],
        client_id=row["client_id"],
        username=row["username"],
        email=row["email"],
        groups=tuple(row["groups"] or ()),
    )


class AccessTokens:
    """Access tokens. `lookups` are connections that nothing but the lookup of many uses; `replicas` are asked by
    `find_near` alone, and None where there is none."""

    def __init__(
        self, database: Database, lookups: Database, now: Now, keyring: Keyring, replicas: Replicas | None = None
    ) -> None:
        self._database, self._lookups, self._now, self._keyring = database, lookups, now, keyring
        self.replicas: Final = replicas

    async def find(self, token: str) -> AccessToken | None:
        """The live token, or None when it is unknown, expired, revoked, or its client, user or grant is dead.

        An invented token is refused without a query.
        """
        if not may_be(self._keyring, token, "gwa_"):
            return None
        hashed = digest(token)
        row = await self._database.row("access_token_find", digest=hashed, now=self._now())
        return None if row is None else self._access_token_of(row, hashed)

    async def userinfo_claims(self, token: AccessToken) -> tuple[str, ...]:
        """The claims that the request behind a token named one by one for the UserInfo endpoint (Core, section 5.5)."""
        return tuple(await self._database.value("family_userinfo_claims", family_id=token.family_id) or ())

    async def find_many(self, digests: Sequence[bytes]) -> FoundTokens:
        """Many at once, in one statement, on a connection kept for that: `LANES` such calls at a time."""
        rows = await self._lookups.rows("access_tokens_find", digests=digests)
        tokens, ended = dict[bytes, AccessToken](), dict[bytes, EndedToken]()
        for row in rows:
            hashed: bytes = row["digest"]
            token = self._access_token_of(row, hashed) if row["ended"] is None else None
            if token is not None:
                tokens[hashed] = token
            else:
                ended[hashed] = EndedToken(row["ended"], _identity_of(row))
        return FoundTokens(rows[0]["server"] if rows else None, tokens, ended)

    async def find_near(self, digests: Sequence[bytes], newest: Mark) -> Mapping[bytes, AccessToken] | None:
        """Those that live by a replica that has replayed a change, but for their time; None where none could say.

        What is not among them may live nevertheless.
        """
        rows = None if self.replicas is None else await self.replicas.find(digests, newest)
        if rows is None:
            return None
        found = {row["digest"]: self._access_token_of(row, row["digest"]) for row in rows}
        return {hashed: token for hashed, token in found.items() if token is not None}

    async def signing(self, token: str) -> SigningToken | None:
        """An access token by what the client presents; None if it is unknown."""
        hashed = digest(token)
        row = await self._database.row("signing_token_find", digest=hashed)
        if row is None:
            return None
        others = await self._database.rows(
            "signing_tokens_of_client", client_id=row["client_id"], digest=hashed, most=_OTHERS
        )
        keys = ((other["issued_at"], self._key_of(other, other["digest"])) for other in others)
        return SigningToken(
            token_type=row["token_type"],
            client_id=row["client_id"],
            key=self._key_of(row, hashed),
            algorithm=row["mac_algorithm"],
            drafts=tuple(row["mac_drafts"]),
            expires_at=row["expires_at"],
            revoked_at=row["revoked_at"],
            living=row["living"],
            others=tuple((issued_at, key) for issued_at, key in keys if key is not None),
        )

    def renew(self) -> None:
        """Let the lookup of many ask the server that is the primary now."""
        self._lookups.renew()

    def _access_token_of(self, row: Row, hashed: bytes) -> AccessToken | None:
        mac_key = self._key_of(row, hashed)
        if mac_key is None and row["mac_key"] is not None:
            return None  # nobody can sign with it any more
        return AccessToken(
            digest=hashed,
            identity=_identity_of(row),
            scopes=frozenset(row["scopes"]),
            token_type=row["token_type"],
            audience=tuple(row["resource"]),
            issued_at=row["issued_at"],
            expires_at=row["expires_at"],
            mac_key=mac_key,
            mac_algorithm=row["mac_algorithm"],
            mac_drafts=tuple(row["mac_drafts"]),
            family_id=row["family_id"],
            grant_id=row["grant_id"],
            jkt=row["jkt"],
            auth_time=row["auth_time"],
            acr=row["acr"],
        )

    def _key_of(self, row: Row, hashed: bytes) -> bytes | None:
        """The key that a token signs with; None if there is none, or the master key that sealed it is gone."""
        if row["mac_key"] is None:
            return None
        try:
            return self._keyring.unseal(MAC_KEY, hashed.hex(), row["mac_key"])
        except UnsealError:
            return None
