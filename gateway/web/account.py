"""Pages of a person's own: sign in without an application, connected applications.

The account's other pages have modules of their own: `signed_in_browsers`, `new_password` and `logout`. What a
form did is told by the page that it leads to, from a note in the address that only we can have written.
"""

from itertools import groupby
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from gateway.model import Grant
from gateway.oauth import client_documents, redirect_uris
from gateway.oauth.authorize import is_identifier
from gateway.oauth.forms import Form
from gateway.routing import NoRoute, TargetError, canonical
from gateway.routing.sign_in import is_way_back
from gateway.web import browser, pages, sign_in
from gateway.web.browser import FormRefused
from gateway.web.flow import posted
from gateway.web.plane import Plane, endpoint_of, plane_of, query_of, target_of
from gateway.web.sign_in import NotSignedIn, To

_MOST_PLACES: Final = 3


async def show_login(request: web.Request) -> web.Response:
    """GET login: the form, also for somebody who is signed in and wants another account."""
    return await _login_page(request, query_of(request).get("login_hint") or "")


async def login(request: web.Request) -> web.Response:
    """POST login: a session, and on to where the person was going."""
    plane, form = plane_of(request), await posted(request)
    sign_in.require_ours(request, "login", form)
    outcome = await sign_in.attempt(request, form)
    if isinstance(outcome, NotSignedIn):
        return await _login_page(request, form.get("username") or "", outcome)
    return outcome.tell(plane, pages.redirect(_next_path(plane, query_of(request))))


async def _login_page(request: web.Request, username: str, refused: NotSignedIn | None = None) -> web.Response:
    plane, query = plane_of(request), query_of(request)
    session, back = await plane.session(request), _next_path(plane, query)
    known = To.CONFIRM if query.get("prompt") == "login" else To.USE_ANOTHER  # a route wants a more recent sign-in
    to = To.SIGN_IN if session is None else known
    return sign_in.form_page(
        request,
        "login",
        target_of(request),
        session=session,
        to=to,
        continue_to=back if to is To.USE_ANOTHER else None,
        other_account=f"{plane.prefix}/login?{urlencode({'next': back})}",
        purpose=_purpose(plane, back),
        refused=refused,
        username=username,
    )


def sign_in_first(request: web.Request) -> web.Response:
    """To the sign-in form, and from there back to the page that was asked for."""
    prefix = plane_of(request).prefix
    return pages.redirect(f"{prefix}/login?next={prefix}/{endpoint_of(request)}")


async def change_password(request: web.Request) -> web.Response:
    """GET /.well-known/change-password: to the page that changes a password, wherever it is."""
    return pages.redirect(f"{plane_of(request).prefix}/account/password")


async def show_account(request: web.Request) -> web.Response:
    """GET account: who is signed in, and the applications that were allowed something."""
    plane = plane_of(request)
    session = await plane.session(request)
    if session is None:
        return sign_in_first(request)
    grants = await plane.store.grants.of(session.user.subject)
    context = {
        "session": session,
        "applications": _applications(grants),
        "hosts": {
            grant.client_id: host for grant in grants if (host := client_documents.host_of(grant.client_id)) is not None
        },
        "returns": {
            grant.client_id: _shown(grant.client_redirect_uris)
            for grant in grants
            if not grant.client_verified and grant.client_redirect_uris
        },
        "today": plane.store.now().date(),
        "places": {route.resource: route.name for route in plane.routes},
        "words": await plane.scopes(),
        "removed": await _removed(plane, session.user.subject, query_of(request).get("removed") or ""),
        "csrf_token": browser.form_token(plane.keyring, "account", session.session_id),
    }
    return pages.page(request, "account.html", context)


async def withdraw(request: web.Request) -> web.Response:
    """POST account: end what one application was allowed, and everything that was issued from it."""
    plane, form = plane_of(request), await posted(request)
    session, client_id = await plane.session(request), form.get("client_id") or ""
    if session is None:
        raise FormRefused("withdrawal without a session")
    browser.open_form(plane.keyring, "account", session.session_id, form.get("csrf_token"))
    if form.repeated() is not None or not is_identifier(client_id):
        raise FormRefused("a malformed client_id")
    await plane.store.grants.withdraw(session.user.subject, client_id)
    return pages.redirect(f"{plane.prefix}/account?{urlencode({'removed': client_id})}")


async def _removed(plane: Plane, subject: str, client_id: str) -> str | None:
    """The application whose access was removed a moment ago, whatever an address claims."""
    return await plane.store.grants.withdrawn_lately(subject, client_id) if is_identifier(client_id) else None


def _shown(uris: tuple[str, ...]) -> str:
    """Where an application takes people, which tells it from others of its name."""
    places = list(dict.fromkeys(map(redirect_uris.place, uris)))
    more = len(places) - _MOST_PLACES
    return ", ".join(places[:_MOST_PLACES]) + (f" and {more} more" if more > 0 else "")


def _applications(grants: list[Grant]) -> list[list[Grant]]:
    """The grants of each application together, in their order."""
    return [list(of_one) for _, of_one in groupby(grants, key=lambda grant: grant.client_id)]


def _purpose(plane: Plane, path: str) -> str:
    """What somebody signs in for, by where they go next.

    Of that address the part is told that the operator wrote, the route's: the rest may be anybody's, who made a link.
    """
    if path.startswith(f"{plane.prefix}/device"):
        return "to connect a device"
    if path.startswith(f"{plane.prefix}/"):
        return "to see your account and your connected applications"
    server = plane.settings.config.server
    try:
        target = canonical(path.encode("ascii"))
        route = plane.opened.match(server.host.encode("ascii"), b"GET", target.path)
    except TargetError:
        return "to continue"
    if isinstance(route, NoRoute):
        return "to continue"
    return f"to continue to {server.origin.partition('://')[2]}{route.path.decode('ascii').rstrip('/')}"


def _next_path(plane: Plane, query: Form) -> str:
    """The address in `next` if it stays on this site, else the account page."""
    path = query.get("next") or ""
    return path if is_way_back(path) else f"{plane.prefix}/account"
