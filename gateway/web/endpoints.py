"""Endpoints for programs: token, revocation, introspection, pushed requests, and the documents that tell of them."""

from dataclasses import replace

from aiohttp import web

from gateway.errors import OAuthError, Refused, invalid_client
from gateway.figures import TOKENS_ISSUED
from gateway.model import RESOURCE_METADATA, Client
from gateway.oauth import device, grants, metadata, pushed
from gateway.oauth.forms import Form
from gateway.oauth.grants import ClientCredentialsGrant, CodeGrant, DeviceGrant, Grant, PasswordGrant, RefreshGrant
from gateway.routing.forwarded import neighbourhood
from gateway.schemes import BY_BEARER_TOKEN
from gateway.store import IssuedTokens
from gateway.store.tokens import PresentedCode
from gateway.web import clients, dpop_proofs, legacy, openid_connect
from gateway.web.answers import json
from gateway.web.client_authentication import authenticated
from gateway.web.plane import address_of, host_of, plane_of
from gateway.web.turns import PERIOD


async def token(request: web.Request) -> web.Response:
    """RFC 6749, section 3.2."""
    plane, form = plane_of(request), await _body(request)
    presented = plane.store.tokens.presented(form.get("code"))
    client = await authenticated(request, form, presented=presented)
    afresh = form.get("grant_type") in grants.NAMES_SCOPES
    known = frozenset(await plane.scopes()) if afresh else frozenset[str]()
    grant = grants.parse(form, client, known, plane.resources)
    jkt = await dpop_proofs.key_of(request, client)
    await openid_connect.prepare(plane, client)
    issued = await _issued(request, client, grant if jkt is None else replace(grant, jkt=jkt), presented)
    id_token = await openid_connect.id_token(plane, client, issued)
    TOKENS_ISSUED.add(1.0, form.get("grant_type") or "")
    members = issued.body() | ({} if id_token is None else {"id_token": id_token})
    return json(members, headers=dpop_proofs.offered(request))


async def revoke(request: web.Request) -> web.Response:
    """RFC 7009: an unknown token, and one of another client, are answered like a revoked one."""
    plane, form = plane_of(request), await _body(request)
    client = await authenticated(request, form)
    await plane.store.tokens.revoke(grants.token_of(form), client)
    return json({})


async def introspect(request: web.Request) -> web.Response:
    """RFC 7662, for clients that hold a secret: any access token, but refresh tokens of their own only."""
    plane, form = plane_of(request), await _body(request)
    client = await authenticated(request, form)
    if not client.confidential:
        raise invalid_client("introspection by a public client")
    found = await plane.store.tokens.introspect(grants.token_of(form), client)
    return json(found | {"iss": plane.issuer} if found.get("active") is True else {"active": False})


async def pushed_authorization_request(request: web.Request) -> web.Response:
    """RFC 9126, section 2: an authorization request, kept until a browser brings the reference to it."""
    plane, form = plane_of(request), await _body(request)
    client = await authenticated(request, form, anew=True)
    jkt = await dpop_proofs.key_of(request, client) if "DPoP" in request.headers else None
    asked = pushed.read(form, client, frozenset(await plane.scopes()), plane.resources, jkt)
    _admit(request, client)
    await clients.keep(request, client, place=neighbourhood(address_of(request)))
    reference = await plane.store.pushed.add(asked, pushed.LIFETIME)
    if reference is None:
        raise invalid_client("disabled client")
    answer = {"request_uri": pushed.request_uri(reference), "expires_in": pushed.LIFETIME}
    return json(answer, status=201, headers=dpop_proofs.offered(request))


async def device_authorization(request: web.Request) -> web.Response:
    """RFC 8628, section 3.1: a code for a device, and one that it shows to the person in front of it."""
    plane, form = plane_of(request), await _body(request)
    client = await authenticated(request, form)
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
    facts = await plane.announced.server()
    document = metadata.authorization_server(
        plane.issuer,
        base,
        facts.scopes,
        plane.resources,
        registration=plane.settings.config.registration.policy != "closed",
        documents=plane.documents.enabled,
        claims=[rule.name for rule in plane.claims],
        legacy=facts.legacy,
    )
    return _document(document, current=facts.current)


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
    schemes = BY_BEARER_TOKEN.intersection(scheme for route in found for scheme in route.schemes)
    named = {name for route in found for name in route.issuers}
    issuers = [plane.issuer, *(one.url for one in plane.settings.config.issuers if one.name in named)]
    return _document(metadata.protected_resource(found[0].resource, found[0].name, issuers, scopes, schemes))


async def jwks(request: web.Request) -> web.Response:
    """RFC 7517, section 5: the keys that sign, have signed, or are going to."""
    found = await plane_of(request).announced.keys()
    return _document({"keys": found.keys}, current=found.current)


def _admit(request: web.Request, client: Client) -> None:
    """Let a request be kept until a person comes for it.

    Raises OAuthError (429; RFC 9126, section 2.3) where too many come from one address, or of one client that anybody
    may be, or that anybody may have made.
    """
    trusted = client.confidential and client.verified
    if not trusted and not plane_of(request).requests.take(neighbourhood(address_of(request)), client.client_id):
        text = "Too many requests wait for people already. Try again in a minute."
        cause = "too many pushed requests and devices of one address or client"
        raise OAuthError(Refused("temporarily_unavailable", text, cause, status=429, retry_after=int(PERIOD)))


async def _body(request: web.Request) -> Form:
    return grants.body(request.headers.get("Content-Type", ""), await request.read())


async def _issued(request: web.Request, client: Client, grant: Grant, presented: PresentedCode | None) -> IssuedTokens:
    store = plane_of(request).store
    now = store.now()
    match grant:
        case CodeGrant():
            return await store.tokens.redeem(client, grant, now, presented=presented)
        case RefreshGrant():
            return await store.tokens.refresh(client, grant, now)
        case DeviceGrant():
            return await store.tokens.poll(client, grant, now)
        case PasswordGrant():
            return await legacy.by_password(request, client, grant)
        case ClientCredentialsGrant():
            return await store.tokens.client_credentials(client, grant, now)


def _document(document: metadata.Document, *, current: bool = True) -> web.Response:
    """What is only remembered, while the database is away, is asked for again the next time."""
    return web.json_response(document, headers={"Cache-Control": "public, max-age=300" if current else "no-cache"})
