"""What OAuth 2.1 has given up, for the clients that an operator names: the implicit grant and the password grant.

Both are made of what there is anyway, so that each limit and each revocation holds for them too. A token at once is the
redemption of a code that never leaves this process. A password is a sign-in whose session ends at once: it consents,
as the operator has said for this client, its code is redeemed, and nothing else of it stays.
"""

from typing import Final

from aiohttp import web
from msgspec.structs import replace

from gateway.errors import OAuthError, Refused, invalid_grant
from gateway.figures import TOKENS_ISSUED
from gateway.model import Client, Session
from gateway.oauth.authorize import AuthorizationRequest
from gateway.oauth.grants import CodeGrant, PasswordGrant
from gateway.store import IssuedTokens, SignInCandidate
from gateway.web import browser, sign_in
from gateway.web.plane import Plane, plane_of
from gateway.web.sign_in import NotSignedIn

_MOMENT: Final = 60.0  # seconds that a session for one password lives at most


async def token_at_once(plane: Plane, client: Client, code: str, redirect_uri: str) -> dict[str, str]:
    """The members of an answer that brings a token, for a code that nobody else has seen (RFC 6749, section 4.2.2).

    There is never a refresh token. Raises OAuthError where client or person ended a moment ago.
    """
    grant = CodeGrant(code, redirect_uri, code_verifier=None)
    issued = await plane.store.tokens.redeem(client, grant, plane.store.now(), by="implicit", refreshable=False)
    TOKENS_ISSUED.add(1.0, "implicit")
    return {name: str(value) for name, value in issued.body().items()}


async def another_code(
    plane: Plane, request: AuthorizationRequest, session: Session, scopes: frozenset[str]
) -> str | None:
    """A code for the token that goes beside another code, of the grant that this one came from; None if that ended."""
    token_only = replace(request, scopes=scopes, code_challenge=None, response_types=frozenset({"token"}))
    ttl = plane.settings.config.tokens.code_ttl
    return await plane.store.flows.issue_code(session.session_id, token_only, ttl, remember=False)


async def by_password(request: web.Request, client: Client, grant: PasswordGrant) -> IssuedTokens:
    """Tokens for a person's username and password (RFC 6749, section 4.3), within the limits of guessing.

    Raises OAuthError: `invalid_grant`, with status 429 where too many attempts came before, and 503.
    """
    plane = plane_of(request)
    store, token = plane.store, browser.new_session_token(plane.keyring)
    login = sign_in.storable(grant.username)
    candidate = await store.users.sign_in_candidate(login)

    async def start(found: SignInCandidate) -> Session | None:
        return await store.sessions.start(found.user.subject, token, _MOMENT, password_hash=found.password_hash)

    session = await sign_in.proven(request, login, candidate, grant.password, start, "password grant")
    if isinstance(session, NotSignedIn):
        error = "temporarily_unavailable" if session.status == 503 else "invalid_grant"
        wait = session.retry_after or 0
        raise OAuthError(Refused(error, session.text, status=session.status, retry_after=wait))
    try:
        asked = AuthorizationRequest(
            client_id=client.client_id, redirect_uri="", scopes=grant.scopes, resource=grant.resource
        )
        ttl = plane.settings.config.tokens.code_ttl
        code = await store.flows.issue_code(session.session_id, asked, ttl, remember=True)
        if code is None:
            raise invalid_grant("The account or the client was disabled a moment ago.")
        return await store.tokens.redeem(client, CodeGrant(code, "", None, jkt=grant.jkt), store.now(), by="password")
    finally:
        await store.sessions.end(token)
