"""Which client a request comes from, at the endpoints for programs (RFC 6749, section 2.3; RFC 7523, section 3).

`oauth/client_authentication.py` reads what the request claims, and here it is proven: a secret by the database, an
assertion by the client's keys, wherever these stand; a public client's word is taken.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from math import ceil
from urllib.parse import urlsplit

from aiohttp import web

from gateway.errors import invalid_client, too_many_secrets
from gateway.model import Client
from gateway.oauth import client_assertion, client_authentication, client_documents
from gateway.oauth.client_assertion import Assertion
from gateway.oauth.forms import Form
from gateway.routing.forwarded import neighbourhood
from gateway.store import Unauthenticated
from gateway.store.acting import acts
from gateway.store.tokens import PresentedCode
from gateway.web import clients
from gateway.web.plane import Plane, address_of, claimed_by, endpoint_of, plane_of, query_of

_Turn = Callable[[], AbstractAsyncContextManager[None]]


async def authenticated(
    request: web.Request, form: Form, *, anew: bool = False, presented: PresentedCode | None = None
) -> Client:
    """The client of a request whose body is `form`; `anew` where one may be that nobody has met yet. A code that was
    `presented` is looked at in the same statement, where the client is taken at its word: what others sign, is proven
    with keys that may be slow to come, and much may have changed by then.

    Turns are for what the database does: what clients have elsewhere is fetched between them, however slow it comes.
    Raises OAuthError for a request that no client proves to be its own, PageError for an unmet client whose document
    cannot be used.
    """
    plane = plane_of(request)
    claim = client_authentication.parse(request.headers.getall("Authorization", []), form, query_of(request))
    claimed_by(request, claim.client_id)
    place = neighbourhood(address_of(request))
    turn = partial(plane.authentications.turn, place, claim.client_id)
    if claim.secret is not None:
        async with turn():
            client = await _by_secret(plane, claim.client_id, claim.secret, place)
    else:
        async with turn():
            at_its_word = presented if claim.assertion is None else None
            find = plane.store.clients.find if at_its_word is None else at_its_word.client
            known = await find(claim.client_id)
        if claim.assertion is not None:
            client = await _by_assertion(request, claim.assertion, known, turn, anew=anew)
        else:
            client = _by_name(await clients.current(request, claim.client_id, known) if anew else known)
    acts(f"client:{client.client_id}")
    return client


async def _by_secret(plane: Plane, client_id: str, secret: str, place: str) -> Client:
    """The client that has the secret. Raises OAuthError, with 429 where too many wrong ones came from there, whether or
    not there is such a client."""
    found = await plane.store.clients.authenticate(client_id, secret)
    if isinstance(found, Unauthenticated):
        wait = await plane.store.guesses.secret(client_id, place).wrong()
        raise too_many_secrets(found.cause, ceil(wait)) if wait > 0 else invalid_client(found.cause)
    return found


async def _by_assertion(
    request: web.Request,
    assertion: Assertion,
    known: Client | None,
    turn: _Turn,
    *,
    anew: bool,
) -> Client:
    """The client that signed the assertion, which counts once over all workers."""
    plane, client_id = plane_of(request), assertion.client_id
    found = await clients.signing(request, client_id, known) if known is not None or anew else None
    if found is None:
        raise invalid_client("unknown client")
    if found.disabled_at is not None:
        raise invalid_client("disabled client")
    if found.jwks is None:
        raise invalid_client("an assertion of a client without keys")
    base = plane.settings.config.server.origin + plane.prefix
    # The pushed requests' endpoint names itself too (RFC 9126, section 2).
    audience = {plane.issuer, f"{base}/token", *([f"{base}/par"] if endpoint_of(request) == "par" else [])}
    keys = await _keys(request, plane, assertion, found, known=known is not None) or found.jwks
    once = client_assertion.verify(assertion, client_id, keys, audience, plane.store.seconds())
    async with turn():
        spent = await plane.store.nonces.spend_untimed([(once.key, datetime.fromtimestamp(once.until, UTC))])
        if once.key not in spent:
            raise invalid_client("client assertion: its jti was used before")
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


def _by_name(found: Client | None) -> Client:
    """The client, if it may ask without a secret."""
    if found is None:
        raise invalid_client("unknown client")
    if found.disabled_at is not None:
        raise invalid_client("disabled client")
    if found.confidential:
        raise invalid_client("no secret from a confidential client")
    return found
