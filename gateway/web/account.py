"""Pages of a person's own: sign in without an application, connected applications.

The account's other pages have modules of their own: `signed_in_browsers`, `new_password` and `logout`. What a
form did is told by the page that it leads to, from a note in the address that only we can have written.
"""

from itertools import groupby
from urllib.parse import urlencode

from aiohttp import web

from gateway.model import Grant
from gateway.oauth import client_documents
from gateway.oauth.authorize import is_identifier
from gateway.oauth.forms import Form
from gateway.routing.sign_in import is_way_back
from gateway.web import browser, pages, sign_in
from gateway.web.browser import FormRefused
from gateway.web.flow import posted
from gateway.web.plane import Plane, endpoint_of, plane_of, query_of, target_of
from gateway.web.sign_in import NotSignedIn


async def show_login(request: web.Request) -> web.Response:
    """GET login: the form, also for somebody who is signed in and wants another account."""
    plane, query = plane_of(request), query_of(request)
    session = await plane.session(request)
    again = session is not None and query.get("prompt") == "login"  # a route wants a sign-in that is more recent
    known = session.user.username if session is not None and again else ""
    return sign_in.form_page(
        request,
        "login",
        target_of(request),
        session=None if again else session,
        continue_to=None if session is None or again else _next_path(plane, query),
        purpose=_purpose(plane, query),
        username=query.get("login_hint") or known,
    )


async def login(request: web.Request) -> web.Response:
    """POST login: a session, and on to where the person was going."""
    plane, form = plane_of(request), await posted(request)
    sign_in.require_ours(request, "login", form)
    outcome = await sign_in.attempt(request, form)
    if isinstance(outcome, NotSignedIn):
        username = form.get("username") or ""
        purpose = _purpose(plane, query_of(request))
        return sign_in.form_page(
            request, "login", target_of(request), purpose=purpose, refused=outcome, username=username
        )
    return outcome.tell(plane, pages.redirect(_next_path(plane, query_of(request))))


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


def _applications(grants: list[Grant]) -> list[list[Grant]]:
    """The grants of each application together, in their order."""
    return [list(of_one) for _, of_one in groupby(grants, key=lambda grant: grant.client_id)]


def _purpose(plane: Plane, query: Form) -> str:
    """What somebody signs in for, by where they go next."""
    path = _next_path(plane, query)
    if path.startswith(f"{plane.prefix}/device"):
        return "to connect a device"
    if not path.startswith(f"{plane.prefix}/"):
        return "to continue" if query.get("prompt") != "login" else "once more to continue"
    return "to see your account and your connected applications"


def _next_path(plane: Plane, query: Form) -> str:
    """The address in `next` if it stays on this site, else the account page."""
    path = query.get("next") or ""
    return path if is_way_back(path) else f"{plane.prefix}/account"
