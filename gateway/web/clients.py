"""Clients that nobody registered for: what a stranger says of one, with what the operator decides, is the client."""

from aiohttp import web

from gateway.config import Config
from gateway.errors import OAuthError, Refused
from gateway.model import Client
from gateway.oauth import client_documents
from gateway.oauth.authorize import PageError
from gateway.oauth.registration import Registration
from gateway.routing.forwarded import neighbourhood
from gateway.store.records import NewClient
from gateway.web.documents import TooManyFetches
from gateway.web.plane import address_of, plane_of
from gateway.web.turns import PERIOD


def described(config: Config, said: Registration) -> NewClient:
    """The client that says so of itself. All of it is made anew, so that no trust in what it said before is left for
    what it says now."""
    return NewClient(
        name=said.name,
        confidential=said.confidential,
        redirect_uris=said.redirect_uris,
        grant_types=said.grant_types,
        scopes=said.scopes,
        default_scopes=said.default_scopes,
        token_type="bearer" if said.dpop_required else config.tokens.type,  # DPoP binds no other
        token_format=config.tokens.format,
        dpop_required=said.dpop_required,
        mac_drafts=config.mac.drafts[:1],
        mac_algorithm=config.mac.algorithms[0],
        jwks=said.jwks,
        verified=False,
        about=said.about,
        openid=said.openid,
    )


async def current(request: web.Request, client_id: str, known: Client | None) -> Client | None:
    """The client of that identifier, also a disabled one, where the database has been asked for the one that is
    `known`. Where a document describes it, that is read first.

    Raises PageError where the document cannot be used.
    """
    plane = plane_of(request)
    if not plane.documents.enabled and client_documents.host_of(client_id) is not None:
        return None  # known from a time when there were such clients
    if not plane.documents.is_one(client_id) or (known is not None and known.disabled_at is not None):
        return known
    scopes = frozenset(await plane.scopes())
    place = neighbourhood(address_of(request))
    said = await plane.documents.read(client_id, scopes, place, known=known is not None)
    new = described(plane.settings.config, said)
    new = new if known is None else new.within(known)
    return Client(
        client_id=client_id,
        created_at=plane.store.now() if known is None else known.created_at,
        disabled_at=None,
        **new.properties(),
    )


async def signing(request: web.Request, client_id: str, known: Client | None) -> Client | None:
    """The client whose keys an assertion is judged by: one that a document describes as that is now, or as it was
    `known` last where the document cannot be had. Where nobody asked for it the client may have given up its keys.

    Raises PageError where it is not known and its document cannot be used; OAuthError (429) where nobody asked.
    """
    try:
        return await current(request, client_id, known)
    except TooManyFetches as exc:
        text = "Too many documents of clients were asked for. Try again in a minute."
        refused = Refused("temporarily_unavailable", text, str(exc), status=429, retry_after=int(PERIOD))
        raise OAuthError(refused) from exc
    except PageError:
        if known is None:
            raise
        return known


async def keep(request: web.Request, client: Client, *, place: str | None = None) -> None:
    """Let the database know a client that a document describes, as it is now; every other one is known.

    `place` is where it comes from when no person is there. Raises OAuthError (429) beyond that place's limit.
    """
    plane = plane_of(request)
    if not plane.documents.is_one(client.client_id):
        return
    idle = plane.settings.config.registration.unused_ttl
    if not await plane.store.registrations.keep(client.client_id, NewClient.like(client), idle=idle, place=place):
        text = "Too many clients came from this address. Try again in an hour."
        cause = "too many clients from one address"
        raise OAuthError(Refused("temporarily_unavailable", text, cause, status=429, retry_after=3600))
