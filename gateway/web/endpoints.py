"""Endpoints for programs: token, revocation, introspection, pushed requests, and the documents that tell of them."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from math import ceil
from urllib.parse import urlsplit

from aiohttp import web

from gateway.errors import OAuthError, invalid_client, too_many_secrets
from gateway.figures import TOKENS_ISSUED
from gateway.model import RESOURCE_METADATA, Client
from gateway.oauth import (
    client_assertion,
    client_authentication,
    client_documents,
    device,
    grants,
    metadata,
    pushed,
)
from gateway.oauth.client_assertion import Assertion
from gateway.oauth.forms import Form
from gateway.oauth.grants import ClientCredentialsGrant, CodeGrant, DeviceGrant, Grant, PasswordGrant, RefreshGrant
from gateway.routing.forwarded import neighbourhood
from gateway.store import IssuedTokens
from gateway.store.acting import acts
from gateway.web import clients, legacy, openid_connect, proofs
from gateway.web.answers import json
from gateway.web.plane import Plane, address_of, claimed_by, endpoint_of, host_of, plane_of, query_of
from gateway.web.turns import PERIOD


async def token(request: web.Request) -> web.Response:
    """RFC 6749, section 3.2."""
    plane, form = plane_of(request), await _body(request)
    client = await _authenticated(request, plane, form)
    afresh = form.get("grant_type") in grants.NAMES_SCOPES
    known = frozenset(await plane.scopes()) if afresh else frozenset[str]()
    grant = grants.parse(form, client, known, plane.resources)
    bound = replace(grant, jkt=await proofs.key_of(request, client))
    await openid_connect.prepare(plane, client)
    issued = await _issued(request, plane, client, bound)
    id_token = await openid_connect.id_token(plane, client, issued)
    TOKENS_ISSUED.add(1.0, form.get("grant_type") or "")
    members = issued.body() | ({} if id_token is None else {"id_token": id_token})
    return json(members, headers=proofs.offered(request))


async def revoke(request: web.Request) -> web.Response:
    """RFC 7009: an unknown token, and one of another client, are answered like a revoked one."""
    plane, form = plane_of(request), await _body(request)
    client = await _authenticated(request, plane, form)
    await plane.store.tokens.revoke(grants.token_of(form), client)
    return json({})


async def introspect(request: web.Request) -> web.Response:
    """RFC 7662, for clients that hold a secret: any access token, but refresh tokens of their own only."""
    plane, form = plane_of(request), await _body(request)
    client = await _authenticated(request, plane, form)
    if not client.confidential:
        raise invalid_client("introspection by a public client")
    found = await plane.store.tokens.introspect(grants.token_of(form), client)
    return json(found | {"iss": plane.issuer} if found.get("active") is True else {"active": False})


async def pushed_authorization_request(request: web.Request) -> web.Response:
    """RFC 9126, section 2: an authorization request, kept until a browser brings the reference to it."""
    plane, form = plane_of(request), await _body(request)
    client = await _authenticated(request, plane, form, anew=True)
    jkt = await proofs.key_of(request, client) if "DPoP" in request.headers else None
    parameters = pushed.parameters(form, client, frozenset(await plane.scopes()), plane.resources, jkt)
    _admit(request, client)
    await clients.keep(request, client, place=neighbourhood(address_of(request)))
    reference = await plane.store.pushed.add(client.client_id, parameters, pushed.LIFETIME)
    if reference is None:
        raise invalid_client("disabled client")
    answer = {"request_uri": pushed.request_uri(reference), "expires_in": pushed.LIFETIME}
    return json(answer, status=201, headers=proofs.offered(request))


async def device_authorization(request: web.Request) -> web.Response:
    """RFC 8628, section 3.1: a code for a device, and one that it shows to the person in front of it."""
    plane, form = plane_of(request), await _body(request)
    client = await _authenticated(request, plane, form)
    scopes, resource = device.parse(form, client, frozenset(await plane.scopes()), plane.resources)
    _admit(request, client)
    codes = await plane.store.devices.start(client.client_id, scopes, resource)
    if codes is None:
        raise invalid_client("disabled client")
    device_code, user_code = codes[0], device.shown(codes[1])
    page = f"{plane.settings.config.server.origin}{plane.prefix}/device"
    return json(
        {
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={user_code}",
            "expires_in": device.LIFETIME,
            "interval": device.PACE,
        }
    )


async def authorization_server(request: web.Request) -> web.Response:
    """RFC 8414, and the same document at OpenID Connect Discovery's address."""
    plane = plane_of(request)
    base = plane.settings.config.server.origin + plane.prefix
    document = metadata.authorization_server(
        plane.issuer,
        base,
        await plane.scopes(),
        plane.resources,
        registration=plane.settings.config.registration.policy != "closed",
        documents=plane.documents.enabled,
        claims=[rule.name for rule in plane.claims],
        legacy=await plane.store.clients.legacy_grant_types(),
    )
    return _document(document)


async def protected_resource(request: web.Request) -> web.Response:
    """RFC 9728, section 3.1: the document at the inserted path of a route that needs a credential."""
    plane = plane_of(request)
    path = request.rel_url.raw_path.removeprefix(RESOURCE_METADATA).encode("utf-8", "surrogateescape")
    host = host_of(request)
    hosts = (host.encode(), None) if host == plane.settings.config.server.host else (host.encode(),)
    found = [route for route in plane.routes if route.path == (path or b"/") and path != b"/" and route.host in hosts]
    if not found:
        raise web.HTTPNotFound
    scopes = {name for route in found for names in route.scopes.values() for name in names}
    schemes = {scheme for route in found for scheme in route.schemes}
    named = {name for route in found for name in route.issuers}
    issuers = [plane.issuer, *(one.url for one in plane.settings.config.issuers if one.name in named)]
    return _document(metadata.protected_resource(found[0].resource, found[0].name, issuers, scopes, schemes))


async def jwks(request: web.Request) -> web.Response:
    """RFC 7517, section 5: the keys that sign, have signed, or are going to."""
    return _document({"keys": await plane_of(request).store.signing_keys.published()})


def _admit(request: web.Request, client: Client) -> None:
    """Let a request be kept until a person comes for it.

    Raises OAuthError (429; RFC 9126, section 2.3) where too many come from one address, or of one client that anybody
    may be, or that anybody may have made.
    """
    trusted = client.confidential and client.verified
    if not trusted and not plane_of(request).requests.take(neighbourhood(address_of(request)), client.client_id):
        text = "Too many requests wait for people already. Try again in a minute."
        cause = "too many pushed requests and devices of one address or client"
        raise OAuthError("temporarily_unavailable", text, 429, cause, retry_after=int(PERIOD))


async def _body(request: web.Request) -> Form:
    return grants.body(request.headers.get("Content-Type", ""), await request.read())


async def _authenticated(request: web.Request, plane: Plane, form: Form, *, anew: bool = False) -> Client:
    """The client of a request; `anew` where one may be that nobody has met yet.

    Turns are for what the database does: what clients have elsewhere is fetched between them, however slow it comes.
    """
    claim = client_authentication.parse(request.headers.getall("Authorization", []), form, query_of(request))
    claimed_by(request, claim.client_id)
    place = neighbourhood(address_of(request))
    turn = partial(plane.authentications.turn, place, claim.client_id)
    if claim.secret is not None:
        async with turn():
            client = await _by_secret(plane, claim.client_id, claim.secret, place)
    else:
        async with turn():
            known = await plane.store.clients.find(claim.client_id)
        if claim.assertion is not None:
            client = await _by_assertion(request, claim.assertion, known, turn, anew=anew)
        else:
            client = _without_secret(await clients.current(request, claim.client_id, known) if anew else known)
    if isinstance(client, str):
        raise invalid_client(client)
    acts(f"client:{client.client_id}")
    return client


async def _by_secret(plane: Plane, client_id: str, secret: str, place: str) -> Client | str:
    """The client that has the secret, or for the log why there is none. Raises OAuthError (429) where too many wrong
    ones came from there, whether or not there is such a client."""
    found = await plane.store.clients.authenticate(client_id, secret)
    if isinstance(found, str) and (wait := await plane.store.guesses.secret(client_id, place).wrong()) > 0:
        raise too_many_secrets(found, ceil(wait))
    return found


async def _by_assertion(
    request: web.Request,
    assertion: Assertion,
    known: Client | None,
    turn: Callable[[], AbstractAsyncContextManager[None]],
    *,
    anew: bool,
) -> Client | str:
    """The client that signed the assertion, which counts once over all workers, or for the log why it is not heard."""
    plane, client_id = plane_of(request), assertion.client_id
    found = await clients.signing(request, client_id, known) if known is not None or anew else None
    if found is None:
        return "unknown client"
    if found.disabled_at is not None:
        return "disabled client"
    if found.jwks is None:
        return "an assertion of a client without keys"
    base = plane.settings.config.server.origin + plane.prefix
    # The pushed requests' endpoint names itself too (RFC 9126, section 2).
    audience = {plane.issuer, f"{base}/token", *([f"{base}/par"] if endpoint_of(request) == "par" else [])}
    keys = await _keys(request, plane, assertion, found, known=known is not None) or found.jwks
    once = client_assertion.verify(assertion, client_id, keys, audience, plane.store.seconds())
    async with turn():
        spent = await plane.store.nonces.spend_untimed([(once.key, datetime.fromtimestamp(once.until, UTC))])
        if once.key not in spent:
            return "client assertion: its jti was used before"
        if known is not None:  # of others nothing is written before their request is found good
            await clients.keep(request, found)  # so that keys that it gave up open nothing when its document is away
    return found


async def _keys(request: web.Request, plane: Plane, assertion: Assertion, client: Client, *, known: bool) -> str | None:
    """The keys at the client's address, if it has one, among which there should be the one that the assertion names.

    What a client registered is no word of the host that it names; what the document of a `known` one says of that
    document's own host is.
    """
    if client.jwks_uri is None:
        return None
    kid = assertion.header.get("kid")
    host = client_documents.host_of(client.client_id)
    its_own = known and host is not None and urlsplit(client.jwks_uri).hostname == host
    return await plane.client_keys.at(
        client.jwks_uri,
        kid if isinstance(kid, str) else None,
        neighbourhood(address_of(request)),
        limited=not client.verified,
        known=client.client_id if its_own else None,
    )


def _without_secret(found: Client | None) -> Client | str:
    """The client, if it may ask without a secret, or for the log the reason why not."""
    if found is None:
        return "unknown client"
    if found.disabled_at is not None:
        return "disabled client"
    return "no secret from a confidential client" if found.confidential else found


async def _issued(request: web.Request, plane: Plane, client: Client, grant: Grant) -> IssuedTokens:
    store, now = plane.store, plane.store.now()
    match grant:
        case CodeGrant():
            return await store.tokens.redeem(client, grant, now)
        case RefreshGrant():
            return await store.tokens.refresh(client, grant, now)
        case DeviceGrant():
            return await store.tokens.poll(client, grant, now)
        case PasswordGrant():
            return await legacy.by_password(request, client, grant)
        case ClientCredentialsGrant():
            return await store.tokens.client_credentials(client, grant, now)


def _document(document: metadata.Document) -> web.Response:
    return web.json_response(document, headers={"Cache-Control": "public, max-age=300"})
