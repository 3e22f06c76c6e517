"""Clients that register themselves, and manage what they registered (RFC 7591, RFC 7592).

    POST register                 201 with the client, its secret and its registration access token
    GET  register/{client_id}     200 with what is registered    each by the registration access token
    PUT                           200 with what is registered from now on
    DELETE                        204

Who may register is `registration.policy`: with "closed" there is no such endpoint, but who registered before may still
manage that. One registration of a worker is written at a time, so that a flood of them makes no other request wait.
"""

from typing import Final

from aiohttp import web

from gateway import observe
from gateway.credentials import authorization, bearer
from gateway.credentials.authorization import MalformedCredential
from gateway.errors import OAuthError, Refused
from gateway.oauth import registration
from gateway.routing.forwarded import neighbourhood
from gateway.store.acting import acts
from gateway.store.registrations import NotAdmitted, Registered
from gateway.web import clients
from gateway.web.answers import REGISTER, json
from gateway.web.plane import Plane, address_of, claimed_by, concerned, plane_of

_TOKENS: Final = (
    "`gateway registration create-token` makes an initial access token; a client manages what it registered by the "
    "registration access token that it got then"
)

log = observe.get_logger("gateway.web")


async def register(request: web.Request) -> web.Response:
    """RFC 7591, section 3: a new client. Nothing is written of a request that is refused."""
    plane = plane_of(request)
    settings, place = plane.settings.config.registration, neighbourhood(address_of(request))
    token = _token(request)
    if token is None and settings.policy == "token":
        raise _refused_token("no initial access token")
    asked = registration.read(await _members(request), frozenset(await plane.scopes()))
    if (
        token is not None
        and asked.sector_identifier_uri is not None
        and not await plane.store.registrations.admits(token)
    ):
        raise _refused_token("unknown, expired or used-up token")  # whom we do not know has us fetch nothing
    await plane.sectors.confirm(asked, place)
    async with plane.registrations.turn(place, REGISTER):
        made = _admitted(
            await plane.store.registrations.add(
                clients.described(plane.settings.config, asked),
                asked.extras,
                idle=settings.unused_ttl,
                place=place,
                initial_token=token,
            )
        )
    claimed_by(request, made.client.client_id)
    log.info("client registered itself", **concerned(request))
    return json(_information(plane, made, made.token), status=201)


async def read(request: web.Request) -> web.Response:
    """RFC 7592, section 2.1."""
    found = await _found(request)
    return json(_information(plane_of(request), found, _token(request)))


async def update(request: web.Request) -> web.Response:
    """RFC 7592, section 2.2: what is sent replaces all that was registered."""
    plane, client_id, place = plane_of(request), request.match_info["client_id"], neighbourhood(address_of(request))
    await _found(request)
    members = await _members(request)
    secret = registration.secret_of(members, client_id)
    asked = registration.read(members, frozenset(await plane.scopes()))
    await plane.sectors.confirm(asked, place)
    async with plane.registrations.turn(place, REGISTER):
        changed = _admitted(
            await plane.store.registrations.change(
                client_id,
                _token(request) or "",
                clients.described(plane.settings.config, asked),
                asked.extras,
                secret=secret,
                place=place,
            )
        )
    log.info("client changed its registration", **concerned(request))
    return json(_information(plane, changed, _token(request)))


async def delete(request: web.Request) -> web.Response:
    """RFC 7592, section 2.3: the client is gone, with all that was issued to it."""
    found = await _found(request)
    await plane_of(request).store.clients.delete(found.client.client_id)
    log.info("client deleted its registration", **concerned(request))
    return web.Response(status=204, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})


async def _found(request: web.Request) -> Registered:
    """The client that a request manages. Raises OAuthError unless it proves that it may (RFC 7592, section 2.1)."""
    plane, client_id, token = plane_of(request), request.match_info["client_id"], _token(request)
    claimed_by(request, client_id)
    if token is None:
        raise _refused_token("no registration access token")
    found = await plane.store.registrations.find(client_id, token)
    if found is None:
        raise _refused_token("unknown registration access token, or another client's")
    acts(f"client:{client_id}")
    if found.client.disabled_at is not None:
        raise OAuthError(Refused("access_denied", "This client is disabled.", "disabled client"))
    return found


def _token(request: web.Request) -> str | None:
    """The bearer token of a request, None where it has none. Raises OAuthError for another credential."""
    fields = request.headers.getall("Authorization", [])
    if not fields:
        return None
    try:
        scheme, rest = authorization.split(fields[0].encode("utf-8", "surrogateescape"))
        if len(fields) > 1 or scheme != "bearer":
            raise _refused_token("more than one credential, or another scheme")
        bearer.check(rest)
        return rest.decode("ascii")
    except MalformedCredential as exc:
        raise _refused_token(str(exc)) from exc


async def _members(request: web.Request) -> dict[str, object]:
    return registration.members_of(request.headers.get("Content-Type", ""), await request.read())


def _admitted(outcome: Registered | NotAdmitted) -> Registered:
    match outcome:
        case NotAdmitted.TOO_MANY:
            text = "Too many clients were registered from this address. Try again in an hour."
            cause = "too many registrations from one address"
            raise OAuthError(Refused("temporarily_unavailable", text, cause, status=429, retry_after=3600))
        case NotAdmitted.TOKEN:
            raise _refused_token("unknown, expired or used-up token")
        case NotAdmitted.SECRET:
            raise OAuthError(Refused("invalid_client_metadata", "client_secret must be the client's own."))
        case Registered():
            return outcome


def _refused_token(cause: str) -> OAuthError:
    return OAuthError(
        Refused("invalid_token", "The token is missing, unknown, expired or used up.", cause, mend=_TOKENS)
    )


def _information(plane: Plane, found: Registered, token: str | None) -> dict[str, object]:
    """The answer about a client, by the token that manages it: whoever has shown that is told it again."""
    location = f"{plane.settings.config.server.origin}{plane.prefix}/{REGISTER}/{found.client.client_id}"
    return registration.information(found.client, found.extras, location, secret=found.secret, token=token)
