"""Tokens: issued from a code, from a refresh token, to a client itself, and as the operator's own act; and their end.

What is refreshed is one transaction: lock the row, decide (`gateway.oauth.decisions`), write everything in one
statement, commit, and only then answer or refuse: a refusal may have revoked something, which must stay written.

A code is redeemed without a transaction around: look, decide, and write everything in one statement, which locks the
row and writes nothing where it is not as it was when it was looked at. Then it is decided anew; two who come at once
wait for each other's row, and the second finds it spent.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from msgspec import Struct, structs

from gateway.config import Tokens as Lifetimes
from gateway.crypto import Keyring, digest, new_identifier, random_text
from gateway.errors import OAuthError, invalid_client
from gateway.faults import OperatorError
from gateway.model import Client, TokenType, format_scope
from gateway.oauth import access_tokens, device, grants
from gateway.oauth.authorize import AuthorizationRequest
from gateway.oauth.decisions import (
    CodeRecord,
    Issue,
    RefreshRecord,
    Refuse,
    Repeat,
    Replay,
    decide_code,
    decide_refresh,
    refuse_code,
    refuse_refresh,
)
from gateway.oauth.device import Answered, DeviceRecord, Wait
from gateway.oauth.grants import ClientCredentialsGrant, CodeGrant, DeviceGrant, RefreshGrant
from gateway.oauth.openid import Authentication
from gateway.store.access_tokens import LONGEST, MAC_KEY, may_be
from gateway.store.clients import client_of
from gateway.store.clock import Now
from gateway.store.database import Database, Row, Statements
from gateway.store.introspection import ExplainedToken, end_of, introspection
from gateway.store.records import IssuedTokens
from gateway.store.signing_keys import SigningKeys
from gateway.store.text import storable
from gateway.store.users import known_as

if TYPE_CHECKING:
    from gateway.oauth.signing import SigningKey

_MAC_KEY_BYTES: Final = 32
_SALT_BYTES: Final = 16
_LOOKS: Final = 3  # at a code that changes each time: it may be spent once, and ended by what its grant loses


class _Origin(Struct, frozen=True, kw_only=True):
    """What a token response comes from. Generations are those that the code or family saw; None means today's."""

    by: str
    subject: str | None = None
    client_generation: int | None = None
    user_generation: int | None = None
    family_id: str | None = None
    auth_time: datetime | None = None  # when and how the person signed in
    acr: str | None = None
    code: bytes | None = None  # the digest of one that is spent
    code_expires_at: datetime | None = None  # as it was decided on
    refresh_token: bytes | None = None  # likewise
    authentication: Authentication | None = None  # of the person in a browser


class _Access(Struct, frozen=True, kw_only=True):
    """The access token that is wanted."""

    scopes: frozenset[str]
    resource: tuple[str, ...]
    token_type: TokenType
    ttl: float
    key: "SigningKey | None" = None  # that makes a JWT of it
    jkt: str | None = None  # the thumbprint of the key that it is bound to


class _Refresh(Struct, frozen=True, kw_only=True):
    """The refresh token that goes out beside it, and whether its row is written now."""

    token: str
    new: bool = True


def _origin_of(
    row: Row, by: str, family_id: str, used: bytes | None, nonce: str | None, claims: Sequence[str]
) -> _Origin:
    authentication = Authentication(
        subject=row["subject"],
        session_id=row["session_id"],
        at=row["auth_time"],
        acr=row["acr"],
        nonce=nonce,
        id_token_claims=tuple(claims),
    )
    return _Origin(
        by=by,
        subject=row["subject"],
        client_generation=row["client_generation"],
        user_generation=row["user_generation"],
        family_id=family_id,
        auth_time=row["auth_time"],
        acr=None if row["auth_time"] is None else row["acr"],
        refresh_token=used,
        authentication=None if row["session_id"] is None else authentication,
    )


def _origin_of_code(row: Row, record: CodeRecord, by: str, code: bytes) -> _Origin:
    """The origin of a new family. The ID token of a code repeats its nonce; later ones have none (Core, 12.2)."""
    request = record.request
    origin = _origin_of(row, by, new_identifier("t"), None, request.nonce, request.id_token_claims)
    return structs.replace(origin, code=code, code_expires_at=record.expires_at)


def _origin_of_family(row: Row, by: str, used: bytes | None = None) -> _Origin:
    """The origin of a family's further tokens."""
    return _origin_of(row, by, row["family_id"], used, None, row["id_token_claims"])


def _code_record(row: Row) -> CodeRecord:
    return CodeRecord(
        request=AuthorizationRequest.from_json(row["request"]),
        subject=row["subject"],
        scopes=frozenset(row["code_scopes"]),
        expires_at=row["expires_at"],
        spent_at=row["spent_at"],
        ended=row["ended"],
    )


def _refresh_record(row: Row, *, successor_spent: bool) -> RefreshRecord:
    return RefreshRecord(
        client_id=row["client_id"],
        subject=row["subject"],
        scopes=frozenset(row["scopes"]),
        resource=tuple(row["resource"]),
        expires_at=row["expires_at"],
        spent_at=row["spent_at"],
        successor_spent=successor_spent,
        ended=row["ended"],
        jkt=row["jkt"],
    )


def _device_record(row: Row) -> DeviceRecord:
    return DeviceRecord(
        client_id=row["client_id"],
        expires_at=row["expires_at"],
        pace=row["pace"],
        polled_at=row["polled_at"],
        decision=row["decision"],
    )


def _of_device(outcome: IssuedTokens | OAuthError) -> IssuedTokens | OAuthError:
    """The refusal of a code in the words for a device."""
    if isinstance(outcome, IssuedTokens) or outcome.refused.error != "invalid_grant":
        return outcome
    cause = outcome.refused.cause
    return device.expired() if cause == "expired code" else device.refused(cause)


def _answer(outcome: IssuedTokens | OAuthError) -> IssuedTokens:
    if isinstance(outcome, OAuthError):
        raise outcome
    return outcome


def _gone() -> OAuthError:
    return invalid_client("the client or the user was disabled or deleted")


def _unusable(kind: str, name: str, *, disabled: bool) -> str:
    if disabled:
        return f"{kind} {name!r}: is disabled; `gateway {kind} enable {name}` enables it again"
    return f"no {kind} {name!r}; `gateway {kind} list` shows all"


class PresentedCode:
    """A code, found together with the client that brings it: for a client that need not prove who it is, so that what
    was found is looked at in the same moment."""

    def __init__(self, database: Database, code: str) -> None:
        self._database, self._code = database, digest(code)
        self.row: Row | None = None

    async def client(self, client_id: str) -> Client | None:
        """The client of that identifier, also a disabled one."""
        if not storable(client_id):
            return None
        self.row = await self._database.row("code_find", client_id=client_id, digest=self._code)
        return None if self.row is None or self.row["client_id"] is None else client_of(self.row)


class Tokens:
    """Token responses, and what became of their tokens. What refuses raises OAuthError, after the commit."""

    def __init__(
        self,
        database: Database,
        now: Now,
        keyring: Keyring,
        lifetimes: Lifetimes,
        signing_keys: SigningKeys,
        issuer: str,
    ) -> None:
        self._database, self._now, self._keyring, self._lifetimes = database, now, keyring, lifetimes
        self._signing_keys, self._issuer = signing_keys, issuer
        self._needs: grants.Needs = {}

    def serve(self, needs: grants.Needs) -> None:
        """From now on tokens are for the resources of the routes, which have these `needs`."""
        self._needs = needs

    def presented(self, code: str | None) -> PresentedCode | None:
        """A code that comes to be redeemed; None where it cannot be one of ours."""
        ours = code is not None and self._keyring.is_ours(code, "gwc_")
        return PresentedCode(self._database, code) if code is not None and ours else None

    async def redeem(
        self,
        client: Client,
        grant: CodeGrant,
        now: datetime,
        *,
        by: str = "authorization_code",
        refreshable: bool = True,
        presented: PresentedCode | None = None,
    ) -> IssuedTokens:
        """Tokens for a code, once (RFC 6749, section 4.1.3), for a client that is authenticated already; with a refresh
        token where the client may use one, unless it is not to be `refreshable`. `by` is the grant, for the record, and
        `presented` what was found of the code when the client was looked for.

        A replay with everything right revokes what came from the code; whatever else is wrong changes nothing.
        """
        if not self._keyring.is_ours(grant.code, "gwc_"):
            raise refuse_code("invented code").error
        key = await self._key_for(client)
        found = None if presented is None else presented.row
        outcome = await self._redeem(
            self._database, client, grant, now, key, by=by, refreshable=refreshable, found=found
        )
        return _answer(outcome)

    async def poll(self, client: Client, grant: DeviceGrant, now: datetime) -> IssuedTokens:
        """Tokens for a device code that a person has allowed, once (RFC 8628, section 3.4).

        Until then each question counts, over all workers: who asks too fast has to slow down.
        """
        if not self._keyring.is_ours(grant.device_code, "gwd_"):
            raise device.refused("invented device code")
        key = await self._key_for(client)
        async with self._database.transaction() as statements:
            outcome = await self._poll(statements, client, grant, now, key)
        return _answer(outcome)

    async def _poll(
        self, statements: Statements, client: Client, grant: DeviceGrant, now: datetime, key: "SigningKey | None"
    ) -> IssuedTokens | OAuthError:
        hashed = digest(grant.device_code)
        row = await statements.row("device_code_poll", digest=hashed)
        match Answered() if row is None else device.decide(_device_record(row), client.client_id, now):
            case Wait(pace, error):
                await statements.row("device_code_polled", digest=hashed, pace=pace, now=now)
                return error
            case OAuthError() as error:
                return error
            case Answered():
                allowed = CodeGrant(grant.device_code, redirect_uri="", code_verifier=None, resource=grant.resource)
                allowed = replace(allowed, jkt=grant.jkt)
                outcome = await self._redeem(statements, client, allowed, now, key, by="device_code")
                return _of_device(outcome)

    async def _redeem(
        self,
        statements: Statements | Database,
        client: Client,
        grant: CodeGrant,
        now: datetime,
        key: "SigningKey | None",
        *,
        by: str,
        refreshable: bool = True,
        found: Row | None = None,
    ) -> IssuedTokens | OAuthError:
        code, outcome = digest(grant.code), _gone()
        for _ in range(_LOOKS):
            row = found or await statements.row("code_find", client_id=client.client_id, digest=code)
            found = None
            if row is None or row["request"] is None:
                return refuse_code("unknown code").error
            record = _code_record(row)
            match decide_code(record, client.client_id, grant, now):
                case Refuse(error):
                    return error
                case Replay(error):
                    await statements.row("family_revoke", family_id=row["family_id"], why="code.replayed", now=now)
                    return error
                case Issue(scopes, resource, allowed):
                    refreshable = refreshable and allowed and "refresh_token" in client.grant_types
                    origin = _origin_of_code(row, record, by, code)
                    access = self._access(client, scopes, resource, key, grant.jkt)
                    first = _Refresh(token=self._keyring.new_token("gwr_")) if refreshable else None
                    issued = await self._issue(statements, client, origin, access, first, now)
                    if not isinstance(issued, OAuthError) or issued.refused.error != outcome.refused.error:
                        return issued
        return outcome

    async def refresh(self, client: Client, grant: RefreshGrant, now: datetime) -> IssuedTokens:
        """New tokens for a refresh token, which is spent by it (RFC 6749, section 6).

        Reuse revokes the family (RFC 9700, section 4.14.2), but for the configured grace.
        """
        if not grant.refresh_token.isascii() or self._keyring.is_invented(grant.refresh_token.encode(), "gwr_"):
            raise refuse_refresh("invented refresh token").error
        key = await self._key_for(client)
        async with self._database.transaction() as statements:
            outcome = await self._rotate(statements, client, grant, now, key)
        return _answer(outcome)

    async def _rotate(
        self, statements: Statements, client: Client, grant: RefreshGrant, now: datetime, key: "SigningKey | None"
    ) -> IssuedTokens | OAuthError:
        used = digest(grant.refresh_token)
        row = await statements.row("refresh_lock", digest=used)
        if row is None:
            return refuse_refresh("unknown refresh token").error
        spent = row["successor"] is not None
        successor_spent = spent and await statements.value("successor_find", digest=row["successor"]) is not False
        record = _refresh_record(row, successor_spent=successor_spent)
        successors = self._keyring.successors(grant.refresh_token, row["salt"])
        match decide_refresh(record, client.client_id, grant, now, self._lifetimes.refresh_grace):
            case Refuse(error):
                return error
            case Replay(error):
                await statements.row("family_revoke", family_id=row["family_id"], why="refresh.reused", now=now)
                return error
            case Issue(scopes, resource):
                origin = _origin_of_family(row, "refresh_token", used)
                follows = _Refresh(token=successors[0])
            case Repeat(scopes, resource):
                origin = _origin_of_family(row, "refresh_token")
                same = [token for token in successors if digest(token) == row["successor"]]
                if not same:
                    return refuse_refresh("its successor was made with a master key that is gone").error
                follows = _Refresh(token=same[0], new=False)
        return await self._issue(
            statements, client, origin, self._access(client, scopes, resource, key, grant.jkt), follows, now
        )

    async def client_credentials(self, client: Client, grant: ClientCredentialsGrant, now: datetime) -> IssuedTokens:
        """An access token for the client itself (RFC 6749, section 4.4): without a refresh token."""
        access = self._access(client, grant.scopes, grant.resource, await self._key_for(client), grant.jkt)
        return _answer(await self._issue(self._database, client, _Origin(by="client_credentials"), access, None, now))

    async def issue(
        self, client_id: str, username: str | None, scopes: frozenset[str], ttl: float, token_type: TokenType | None
    ) -> IssuedTokens:
        """The operator's own act (`gateway token issue`): no grant type or consent is needed.

        Raises OperatorError for an unknown or disabled client or user.
        """
        found = await self._database.row("client_find", client_id=client_id)
        if found is None or found["disabled_at"] is not None:
            raise OperatorError(_unusable("client", client_id, disabled=found is not None))
        person = None if username is None else await self._database.row("user_find", username=username)
        if username is not None and (person is None or person["disabled_at"] is not None):
            raise OperatorError(_unusable("user", username, disabled=person is not None))
        client, subject = client_of(found), None if person is None else person["subject"]
        kind = token_type or client.token_type
        key = await self._key_for(client, ttl) if kind == "bearer" else None
        access = _Access(scopes=scopes, resource=(), token_type=kind, ttl=ttl, key=key)
        origin = _Origin(by="operator", subject=subject)
        outcome = await self._issue(self._database, client, origin, access, None, self._now())
        if isinstance(outcome, OAuthError) and outcome.refused.error == "invalid_scope":
            raise OperatorError(f"--scope: {outcome.refused.description}")
        if isinstance(outcome, OAuthError):
            raise OperatorError(f"client {client_id!r}: it or the user was disabled or deleted meanwhile")
        return outcome

    async def introspect(self, token: str, client: Client | None) -> dict[str, object]:
        """RFC 7662 members for an access token, or a refresh token of `client` (None: the operator asks, of any).

        {"active": False} for anything else: dead, unknown, or a refresh token of another client, which whoever asks
        could only take for an access token (RFC 7662, section 4).

        Who the person is, an API of the operator's is told. Whoever is told of a token of its own, and strangers, learn
        no more than the token's client may: the subject as it knows them (OpenID Connect Core, section 8.1), and the
        username by the scope `profile` alone.
        """
        hashed, now = digest(token), self._now()
        row, token_type = None, None
        if may_be(self._keyring, token, "gwa_"):
            row = await self._database.row("access_token_find", digest=hashed, now=now)
            token_type = None if row is None else row["token_type"]
        if row is None and may_be(self._keyring, token, "gwr_"):
            row = await self._database.row(
                "refresh_token_find", digest=hashed, now=now, client_id=None if client is None else client.client_id
            )
        if row is None:
            return {"active": False}
        members = introspection(row, token_type)
        if client is None or (client.verified and client.client_id != row["client_id"]):
            return members
        return await self._as_its_client_knows(row, members)

    async def _as_its_client_knows(self, row: Row, members: dict[str, object]) -> dict[str, object]:
        if "profile" not in row["scopes"]:
            members.pop("username", None)
        if row["subject"] is None:
            return members
        found = await self._database.row("client_find", client_id=row["client_id"])
        subject = None if found is None else await known_as(self._database, row["subject"], client_of(found))
        return {"active": False} if subject is None else members | {"sub": subject}  # somebody was deleted meanwhile

    async def explain(self, token: str) -> ExplainedToken:
        """A token's facts for an operator, and the reason why it is dead, if it is."""
        if not (may_be(self._keyring, token, "gwa_") or may_be(self._keyring, token, "gwr_")):
            return ExplainedToken(
                "it was never issued here, or part of it is missing, or it rests on a master key that was dropped: its "
                "checksum does not match",
                {},
            )
        row = await self._database.row("token_explain", digest=digest(token))
        if row is None:
            return ExplainedToken("it is unknown: never issued here, or it ended so long ago that it was removed", {})
        names = ("kind", "client_id", "client_name", "subject", "username", "issued_at", "expires_at")
        return ExplainedToken(end_of(row, self._now()), {name: row[name] for name in names})

    async def revoke(self, token: str, client: Client | None) -> bool:
        """RFC 7009 for `client`, or the operator's act with None. A refresh token takes its family with it.

        False when nothing was revoked: unknown, dead already, or another client's.
        """
        if not (may_be(self._keyring, token, "gwa_") or may_be(self._keyring, token, "gwr_")):
            return False
        return await self.revoke_digest(digest(token), None if client is None else client.client_id)

    async def revoke_digest(self, hashed: bytes, client_id: str | None = None) -> bool:
        """End a token that is known by its digest, a refresh token with its family; `client_id` is whose it must be,
        None for the operator. False when nothing was revoked."""
        ended = await self._database.value("token_revoke", digest=hashed, client_id=client_id, now=self._now())
        return ended is not None

    async def _key_for(self, client: Client, ttl: float | None = None) -> "SigningKey | None":
        """The key that signs a client's tokens, where they are JWTs. It is asked for before a transaction begins."""
        if client.token_format != "jwt":  # noqa: S105  # a kind, no token
            return None
        ttl = self._lifetimes.access_ttl if ttl is None else ttl
        return await self._signing_keys.key(self._lifetimes.jwt_algorithm, ttl)

    def _access(
        self,
        client: Client,
        scopes: frozenset[str],
        resource: tuple[str, ...],
        key: "SigningKey | None",
        jkt: str | None,
    ) -> _Access:
        """What a client may have today at these resources: scopes that an operator has taken from it are left out, and
        those that only other resources ask for."""
        return _Access(
            scopes=grants.fitting(scopes & client.may_have, resource, self._needs),
            resource=resource,
            token_type=client.token_type,
            ttl=self._lifetimes.access_ttl,
            key=key,
            jkt=jkt if client.token_type == "bearer" else None,  # noqa: S105  # MAC tokens have a key of their own
        )

    async def _new_token(
        self, statements: Statements | Database, client: Client, origin: _Origin, access: _Access, now: datetime
    ) -> str | None:
        """A fresh access token: opaque, or a JWT (RFC 9068, section 2) whose identifier has our keyed check.

        A JWT is read by its client too, so it tells the person as that knows them (section 6); routes know them by the
        token's digest. None where the person is gone.
        """
        if access.key is None or access.token_type != "bearer":  # noqa: S105  # a kind, no token
            return self._keyring.new_token("gwa_")
        subject = client.client_id if origin.subject is None else await known_as(statements, origin.subject, client)
        if subject is None:
            return None
        claims = access_tokens.claims(
            jti=self._keyring.new_token("gwj_"),
            issuer=self._issuer,
            subject=subject,
            client_id=client.client_id,
            scopes=access.scopes,
            audience=access.resource,
            issued_at=int(now.timestamp()),
            ttl=int(access.ttl),
            auth_time=None if origin.auth_time is None else int(origin.auth_time.timestamp()),
            acr=origin.acr,
            jkt=access.jkt,
        )
        return access.key.signed(claims, access_tokens.TYPE)

    async def _issue(
        self,
        statements: Statements | Database,
        client: Client,
        origin: _Origin,
        access: _Access,
        refresh: _Refresh | None,
        now: datetime,
    ) -> IssuedTokens | OAuthError:
        """Write all that one response stands for, in one statement; nothing when client or user died meanwhile."""
        token = await self._new_token(statements, client, origin, access, now)
        if token is None:
            return _gone()
        if len(token) > LONGEST:
            return access_tokens.too_long(LONGEST)
        hashed = digest(token)
        signs = access.token_type == "mac"  # noqa: S105  # a token type, no secret
        mac_key = random_text(_MAC_KEY_BYTES) if signs else None
        mac_algorithm = None if mac_key is None else client.mac_algorithm
        new_refresh = None if refresh is None or not refresh.new else digest(refresh.token)
        written = await statements.value(
            "tokens_issue",
            access_token=hashed,
            client_id=client.client_id,
            subject=origin.subject,
            client_generation=origin.client_generation,
            user_generation=origin.user_generation,
            scopes=sorted(access.scopes),
            resource=list(access.resource),
            token_type=access.token_type,
            mac_key=None if mac_key is None else self._keyring.seal(MAC_KEY, hashed.hex(), mac_key.encode()),
            mac_algorithm=mac_algorithm,
            family_id=origin.family_id,
            jkt=access.jkt,
            family_jkt=None if client.confidential else access.jkt,  # RFC 9449, section 5
            code=origin.code,
            code_expires_at=origin.code_expires_at,
            by=origin.by,
            used=origin.refresh_token,
            successor=new_refresh,
            salt=secrets.token_bytes(_SALT_BYTES),
            now=now,
            access_expires_at=now + timedelta(seconds=access.ttl),
            refresh_expires_at=None if new_refresh is None else now + timedelta(seconds=self._lifetimes.refresh_ttl),
        )
        if written is None:
            return _gone()
        return IssuedTokens(
            access_token=token,
            token_type=access.token_type,
            expires_in=int(access.ttl),
            scope=format_scope(access.scopes),
            refresh_token=None if refresh is None else refresh.token,
            mac_key=mac_key,
            mac_algorithm=mac_algorithm,
            authentication=origin.authentication if "openid" in access.scopes else None,
            jkt=access.jkt,
        )
