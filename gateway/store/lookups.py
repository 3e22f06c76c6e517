"""Tokens that come back: is it live, what does it stand for, and its end (RFC 7009, RFC 7662)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.crypto import TokenPrefix, UnsealError, digest
from gateway.model import AccessToken, Client, Identity, format_scope
from gateway.store.base import Base
from gateway.store.database import Row
from gateway.store.tokens import MAC_KEY

LANES: Final = 2  # questions for many tokens that may be under way at once
_LONGEST: Final = 4096  # characters of a token


@dataclass(frozen=True, slots=True)
class FoundTokens:
    """Those of some access tokens that are not revoked, by digest; their time is for the caller to judge.

    `server` tells the server that answered from any other, also from itself before a restart. None if nothing was
    found.
    """

    server: float | None
    tokens: Mapping[bytes, AccessToken]


@dataclass(frozen=True, slots=True)
class ExplainedToken:
    """Why a token is dead (None: it lives), and what there is of it."""

    why_dead: str | None
    known: Mapping[str, object]


class TokenLookups(Base):
    """Access and refresh tokens by what the client presents."""

    async def access_token(self, token: str) -> AccessToken | None:
        """The live token, or None when it is unknown, expired, revoked, or its client, user or grant is dead.

        An invented token is refused without a query.
        """
        if not self._may_be(token, "gwa_"):
            return None
        hashed = digest(token)
        row = await self._database.row("access_token_find", digest=hashed, now=self.now())
        return None if row is None else self._access_token_of(row, hashed)

    async def access_tokens(self, digests: Sequence[bytes]) -> FoundTokens:
        """Many at once, in one statement, on a connection kept for that: `LANES` such calls at a time."""
        rows = await self._lookups.rows("access_tokens_find", digests=digests)
        found = ((row["digest"], self._access_token_of(row, row["digest"])) for row in rows)
        server = rows[0]["server"] if rows else None
        return FoundTokens(server, {hashed: token for hashed, token in found if token is not None})

    async def live_access_tokens(self, digests: Collection[bytes]) -> frozenset[bytes]:
        """Which of the access tokens with these digests still live; for what outlasts the call that opened it."""
        rows = await self._database.rows("access_tokens_live", digests=list(digests), now=self.now())
        return frozenset(row["digest"] for row in rows)

    async def introspect(self, token: str, client: Client | None) -> dict[str, object]:
        """RFC 7662 members for an access token, or a refresh token of `client` (None: the operator asks, of any).

        {"active": False} for anything else: dead, unknown, or a refresh token of another client, which whoever asks
        could only take for an access token (RFC 7662, section 4).
        """
        hashed, now = digest(token), self.now()
        row, token_type = None, None
        if self._may_be(token, "gwa_"):
            row = await self._database.row("access_token_find", digest=hashed, now=now)
            token_type = None if row is None else row["token_type"]
        if row is None and self._may_be(token, "gwr_"):
            row = await self._database.row(
                "refresh_token_find", digest=hashed, now=now, client_id=None if client is None else client.client_id
            )
        return {"active": False} if row is None else _introspection(row, token_type)

    async def explain_token(self, token: str) -> ExplainedToken:
        """What an operator wants to know of a token, and why it is dead if it is."""
        if not (self._may_be(token, "gwa_") or self._may_be(token, "gwr_")):
            return ExplainedToken("it was never issued here, or part of it is missing: its checksum does not match", {})
        row = await self._database.row("token_explain", digest=digest(token))
        if row is None:
            return ExplainedToken("it is unknown: never issued here, or it ended so long ago that it was removed", {})
        names = ("kind", "client_id", "client_name", "subject", "username", "issued_at", "expires_at")
        return ExplainedToken(_end_of(row, self.now()), {name: row[name] for name in names})

    async def revoke_token(self, token: str, client: Client | None) -> bool:
        """RFC 7009 for `client`, or the operator's act with None. A refresh token takes its family with it.

        False when nothing was revoked: unknown, dead already, or another client's.
        """
        if not (self._may_be(token, "gwa_") or self._may_be(token, "gwr_")):
            return False
        whose = None if client is None else client.client_id
        return (
            await self._database.value("token_revoke", digest=digest(token), client_id=whose, now=self.now())
            is not None
        )

    def _may_be(self, token: str, prefix: TokenPrefix) -> bool:
        """Whether a query is worth it: ours of that kind, or of another shape (imported from elsewhere)."""
        return 0 < len(token) <= _LONGEST and not self._keyring.is_invented(token, prefix)

    def _access_token_of(self, row: Row, hashed: bytes) -> AccessToken | None:
        mac_key = None
        if row["mac_key"] is not None:
            try:
                mac_key = self._keyring.unseal(MAC_KEY, hashed.hex(), row["mac_key"])
            except UnsealError:
                return None  # sealed with a master key that is gone: nobody can sign with it any more
        identity = Identity(
            subject=row["subject"] or row["client_id"],
            client_id=row["client_id"],
            username=row["username"],
            email=row["email"],
        )
        return AccessToken(
            digest=hashed,
            identity=identity,
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
        )


def _end_of(row: Row, now: datetime) -> str | None:
    """What ended a token; the operator's and the person's acts before what time does by itself."""
    beyond = frozenset(row["scopes"]) - frozenset(row["scopes"] if row["granted"] is None else row["granted"])
    ends: tuple[tuple[object, str], ...] = (
        (row["revoked_at"], "it was revoked at {at}"),
        (row["client_disabled_at"], "its client was disabled at {at}"),
        (row["client_ended"], "all tokens of its client were ended"),
        (row["user_disabled_at"], "its user was disabled at {at}"),
        (row["user_ended"], "all tokens of its user were ended, as when a password changes"),
        (row["grant_ended_at"], "the user took the client's access away at {at}"),
        (row["family_ended_at"], "all tokens of its sign-in ended at {at}, as when a refresh token is used twice"),
        (beyond, f"the user's consent no longer covers {format_scope(beyond)}"),
        (row["spent_at"], "it was used at {at}, and another one has taken its place"),
        (row["expires_at"] if row["expires_at"] <= now else None, "it expired at {at}"),
    )
    return next((said.format(at=_iso(value)) for value, said in ends if value), None)


def _iso(value: object) -> str:
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else ""


def _introspection(row: Row, token_type: str | None) -> dict[str, object]:
    resource = list(row["resource"])
    members: dict[str, object] = {
        "active": True,
        "scope": format_scope(frozenset(row["scopes"])),
        "client_id": row["client_id"],
        "username": row["username"],
        "token_type": token_type,
        "exp": int(row["expires_at"].timestamp()),
        "iat": int(row["issued_at"].timestamp()),
        "sub": row["subject"] or row["client_id"],
        "aud": resource[0] if len(resource) == 1 else resource or None,
    }
    return {name: value for name, value in members.items() if value is not None}
