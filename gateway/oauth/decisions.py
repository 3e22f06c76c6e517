"""Decisions on codes and refresh tokens, without IO: Issue, Repeat, Refuse or Replay.

The store calls the decision, writes what it says while the row is locked and as it was, and answers afterwards.
Client authentication comes before all of this.

    code            unspent ──Issue──▶ spent ──again, with everything right──▶ Replay: its family is revoked
    refresh token   unspent ──Issue──▶ spent ──again──▶ Replay: its family is revoked
                                         └──within the grace, successor unused──▶ Repeat: the same successor

Whoever cannot prove that the code or token was theirs changes nothing: another client, redirect URI or verifier is
refused before anything is spent or revoked, or strangers could end other people's access. That something was spent
is a fact in its row, never a question of time, so a clock that is set back revives nothing.
"""

from datetime import datetime, timedelta

from msgspec import Struct

from gateway.errors import OAuthError, invalid_grant, invalid_scope, invalid_target
from gateway.model import OFFLINE_ACCESS
from gateway.oauth import pkce
from gateway.oauth.authorize import AuthorizationRequest
from gateway.oauth.grants import CodeGrant, RefreshGrant

# One text for every reason: a client's author finds the cause in the server's log, a thief learns nothing.
_CODE_REFUSED = "The authorization code is invalid, expired, revoked or was issued for another request."
_REFRESH_REFUSED = "The refresh token is invalid, expired, revoked or was issued to another client."


class CodeRecord(Struct, frozen=True, kw_only=True):
    """An authorization code, as its decision sees it: of the scopes asked for, `scopes` were allowed."""

    request: AuthorizationRequest
    subject: str
    scopes: frozenset[str]
    expires_at: datetime
    spent_at: datetime | None
    ended: str | None  # "revoked", or "of a disabled user" and the like: what it hangs on is no more


class RefreshRecord(Struct, frozen=True, kw_only=True):
    """A locked refresh token, as its decision sees it.

    `scopes` and `resource` are what was granted to begin with. `successor_spent` tells whether the token that
    followed it was itself used already.
    """

    client_id: str
    subject: str
    scopes: frozenset[str]
    resource: tuple[str, ...]
    expires_at: datetime
    spent_at: datetime | None
    successor_spent: bool
    ended: str | None
    jkt: str | None = None  # the thumbprint of the key that it is bound to (RFC 9449)


class Issue(Struct, frozen=True):
    """Spend it, and issue an access token with these scopes, limited to these resources.

    It is not `refreshable` where the person was asked for access while they are away, and did not allow that.
    """

    scopes: frozenset[str]
    resource: tuple[str, ...]
    refreshable: bool = True


class Repeat(Struct, frozen=True):
    """Issue an access token and answer the successor that exists already."""

    scopes: frozenset[str]
    resource: tuple[str, ...]


class Refuse(Struct, frozen=True):
    """Change nothing, and answer this error."""

    error: OAuthError


class Replay(Struct, frozen=True):
    """Revoke the family that came from it, then answer this error."""

    error: OAuthError


def cause_of_end(noun: str, ended: str) -> str:
    """What the log says of a code or token by its end, as the store tells it: "revoked", or "of a disabled client"."""
    return f"{ended} {noun}" if ended == "revoked" else f"{noun} {ended}"


def refuse_code(cause: str) -> Refuse:
    """The one refusal of a code; the cause is for the log."""
    return Refuse(invalid_grant(_CODE_REFUSED, cause))


def refuse_refresh(cause: str) -> Refuse:
    """The one refusal of a refresh token; the cause is for the log."""
    return Refuse(invalid_grant(_REFRESH_REFUSED, cause))


def decide_code(record: CodeRecord | None, client_id: str, grant: CodeGrant, now: datetime) -> Issue | Refuse | Replay:
    """The decision on a client's code (RFC 6749, section 4.1.3; replay: section 4.1.2 and RFC 9700, section 4.5)."""
    if record is None:
        return refuse_code("unknown code")
    request = record.request
    if request.client_id != client_id:
        return refuse_code("another client's code")
    if request.redirect_uri != grant.redirect_uri:
        return refuse_code("a redirect_uri other than that of the authorization request")
    if request.dpop_jkt not in (None, grant.jkt):  # RFC 9449, section 10
        return refuse_code("a DPoP proof of another key than dpop_jkt, or none")
    if not _verifier_fits(request.code_challenge, grant.code_verifier):
        return refuse_code("missing, wrong or unexpected code_verifier")
    if record.spent_at is not None:
        return Replay(invalid_grant(_CODE_REFUSED, "replayed code; what came from it is revoked"))
    if record.ended is not None:
        return refuse_code(cause_of_end("code", record.ended))
    if now >= record.expires_at:
        return refuse_code("expired code")
    if not _within(grant.resource, request.resource):
        return Refuse(_beyond_resource())
    refreshable = OFFLINE_ACCESS in record.scopes or OFFLINE_ACCESS not in request.scopes
    return Issue(record.scopes, grant.resource or request.resource, refreshable)


def decide_refresh(
    record: RefreshRecord | None, client_id: str, grant: RefreshGrant, now: datetime, grace: float = 0.0
) -> Issue | Repeat | Refuse | Replay:
    """The decision on a client's refresh token (RFC 6749, section 6; reuse: RFC 9700, section 4.14.2).

    Within `grace` seconds of its use, the immediate predecessor of an unused token is answered again, for clients
    whose answer was lost on the way.
    """
    if record is None:
        return refuse_refresh("unknown refresh token")
    if record.client_id != client_id:
        return refuse_refresh("another client's refresh token")
    if record.jkt not in (None, grant.jkt):  # RFC 9449, section 5
        return refuse_refresh("a DPoP proof of another key than the refresh token's, or none")
    if record.ended is not None:
        return refuse_refresh(cause_of_end("refresh token", record.ended))
    if record.spent_at is not None and not _in_grace(record, record.spent_at, now, grace):
        return Replay(invalid_grant(_REFRESH_REFUSED, "reused refresh token; its family is revoked"))
    if now >= record.expires_at:
        return refuse_refresh("expired refresh token")
    if grant.scopes is not None and not grant.scopes <= record.scopes:
        return Refuse(invalid_scope("The scope goes beyond what was granted."))
    if not _within(grant.resource, record.resource):
        return Refuse(_beyond_resource())
    scopes = record.scopes if grant.scopes is None else grant.scopes
    resource = grant.resource or record.resource
    return Issue(scopes, resource) if record.spent_at is None else Repeat(scopes, resource)


def _verifier_fits(challenge: str | None, verifier: str | None) -> bool:
    """A verifier that no challenge asked for is a sign of a downgrade (RFC 9700, section 2.1.1)."""
    if challenge is None or verifier is None:
        return challenge is None and verifier is None
    return pkce.matches(verifier, challenge)


def _in_grace(record: RefreshRecord, spent_at: datetime, now: datetime, grace: float) -> bool:
    """Whether this is a fresh repetition; workers' clocks may differ by as much as the grace."""
    return grace > 0 and not record.successor_spent and abs(now - spent_at) <= timedelta(seconds=grace)


def _within(asked: tuple[str, ...], granted: tuple[str, ...]) -> bool:
    """Whether the resources asked for are among those granted, where these were limited at all (RFC 8707, 2.2)."""
    return not granted or set(asked) <= set(granted)


def _beyond_resource() -> OAuthError:
    return invalid_target("The resource goes beyond what was granted.")
