"""OpenID Connect: who signed in, as clients are told by ID tokens and at the UserInfo endpoint (Core, sections 2, 5.3).

A person has one subject for a client, whichever way it is told: the person's own, or for a client with a sector the one
that its sector knows them by.
"""

from json import dumps as json_text
from typing import Final

from aiohttp import web

from gateway.credentials import authorization, bearer
from gateway.credentials.authorization import MalformedCredential
from gateway.errors import OAuthError, Refused, invalid_grant, invalid_request
from gateway.model import AccessToken, Client, Profile, parse_scope
from gateway.oauth import forms, openid
from gateway.oauth.openid import Hint
from gateway.store import IssuedTokens
from gateway.store.acting import acts
from gateway.web import dpop_proofs
from gateway.web.answers import json
from gateway.web.plane import Plane, claimed_by, plane_of


async def prepare(plane: Plane, client: Client) -> None:
    """Have the key at hand before anything is spent that an ID token is to tell of. Raises StoreUnavailable."""
    if "openid" in client.scopes:
        await plane.store.signing_keys.key(client.openid.id_token_alg)


async def id_token(plane: Plane, client: Client, issued: IssuedTokens) -> str | None:
    """The ID token beside an access token (section 3.1.3.3), None where no sign-in stands behind it.

    Raises OAuthError (invalid_grant) when the person is gone.
    """
    authentication = issued.authentication
    if authentication is None:
        return None
    store, names = plane.store, frozenset(authentication.id_token_claims)
    asked = bool(names) or any(rule.id_token for rule in plane.claims)
    subject = await store.users.known_as(authentication.subject, client)
    profile = await store.users.profile_of(authentication.subject) if asked else None
    if subject is None or (asked and profile is None):
        raise invalid_grant("The person is gone.", "deleted user")
    key, scopes = await store.signing_keys.key(client.openid.id_token_alg, issued.expires_in), parse_scope(issued.scope)
    claims = openid.id_token(
        plane.issuer,
        client.client_id,
        subject,
        authentication,
        now=int(store.seconds()),
        lifetime=issued.expires_in,
        access_token=issued.access_token,
        algorithm=key.algorithm,
        claims=None if profile is None else _claims(plane, profile, names, scopes, client, id_token=True),
    )
    return key.signed(claims, "JWT")


async def hinted(plane: Plane, client: Client, hint: str) -> str:
    """The subject of an `id_token_hint` that we gave this client, also of one that has expired (section 3.1.2.1).

    Raises OAuthError (invalid_request) for any other: of another client or issuer, another kind, or altered.
    """
    read = await read_hint(plane, hint)
    if read is None or read.client_id != client.client_id:
        raise invalid_request("id_token_hint is no ID token that was issued to this client.")
    return read.subject


async def read_hint(plane: Plane, hint: str) -> Hint | None:
    """What an `id_token_hint` says, None where it is no ID token of ours."""
    published = await plane.store.signing_keys.published()
    try:
        return openid.hinted(hint, json_text({"keys": published}), plane.issuer)
    except ValueError:
        return None


async def userinfo(request: web.Request) -> web.Response:
    """Section 5.3: what the client that holds this access token may know of the person who signed in."""
    plane, token = plane_of(request), await _token(request)
    client = await plane.store.clients.find(token.identity.client_id)
    profile = await plane.store.users.profile_of(token.identity.subject)
    if client is None or profile is None:
        raise _refused("invalid_token", "The access token is invalid.", "the person or the client is gone")
    subject = await plane.store.users.known_as(profile.user.subject, client)
    if subject is None:
        raise _refused("invalid_token", "The access token is invalid.", "the person is gone")
    names = openid.named_by(token.scopes, await plane.store.access_tokens.userinfo_claims(token))
    claims = {**_claims(plane, profile, names, token.scopes, client, id_token=False), "sub": subject}
    if client.openid.userinfo_alg is None:
        return json(claims)
    key = await plane.store.signing_keys.key(client.openid.userinfo_alg, _SIGNED_FOR)
    signed = key.signed({"iss": plane.issuer, "aud": client.client_id, **claims}, "JWT")
    headers = {"Cache-Control": "no-store", "Pragma": "no-cache"}
    return web.Response(text=signed, content_type="application/jwt", headers=headers)


def _claims(
    plane: Plane, profile: Profile, names: frozenset[str], scopes: frozenset[str], client: Client, *, id_token: bool
) -> dict[str, object]:
    """What a client is told of a person: the claims of these names, and the operator's own."""
    own = openid.mapped(profile, plane.claims, scopes, client.client_id, id_token=id_token)
    return openid.claims_of(profile, names) | own


_SIGNED_FOR: Final = 3600.0  # seconds in which a client may want to verify what it was told


async def _token(request: web.Request) -> AccessToken:
    """The live access token that a request presents (RFC 6750, sections 2.1 and 2.2), with the scope `openid`; one that
    is bound to a key comes with a proof of it (RFC 9449, section 7)."""
    plane, (scheme, text) = plane_of(request), await _presented(request)
    token = await plane.store.access_tokens.find(text)
    if token is None or token.token_type != "bearer":  # noqa: S105  # a kind
        raise _refused("invalid_token", "The access token is unknown, expired or revoked.", "no live bearer token")
    if (token.jkt is not None) != (scheme == "dpop"):
        raise _refused("invalid_token", "A token that is bound to a key comes as DPoP, any other as Bearer.", "scheme")
    if token.jkt is not None and await dpop_proofs.key_with(request, text) != token.jkt:
        raise _refused("invalid_token", "The access token is bound to another key.", "DPoP: a proof of another key")
    claimed_by(request, token.identity.client_id)
    acts(f"client:{token.identity.client_id}")
    if "openid" not in token.scopes:
        raise _refused("insufficient_scope", "The access token lacks the scope openid.", "a token without openid")
    return token


async def _presented(request: web.Request) -> tuple[str, str]:
    """The scheme and the token."""
    fields = request.headers.getall("Authorization", [])
    posted = request.method == "POST" and forms.is_form(request.headers.get("Content-Type", ""))
    form = forms.parse(await request.read()) if posted else forms.Form()
    in_body = form.get("access_token")
    if len(fields) + (in_body is not None) > 1 or form.repeated() is not None:
        raise _refused("invalid_request", "Present one access token, once.", "more than one credential")
    scheme = "bearer"
    if in_body is not None:
        raw = in_body.encode("utf-8", "surrogateescape")
    elif fields:
        try:
            scheme, raw = authorization.split(fields[0].encode("utf-8", "surrogateescape"))
        except MalformedCredential as exc:
            raise _refused("invalid_request", "The Authorization field is malformed.", str(exc)) from exc
        if scheme not in ("bearer", "dpop"):
            raise _refused("invalid_token", "Present the access token as a bearer token.", "another scheme")
    else:
        raise _refused("invalid_token", "Present an access token.", "no credential")
    try:
        bearer.check(raw)
    except MalformedCredential as exc:
        raise _refused("invalid_token", "The access token is malformed.", str(exc)) from exc
    return scheme, raw.decode("ascii")


def _refused(error: str, description: str, cause: str) -> OAuthError:
    return OAuthError(Refused(error, description, cause))
