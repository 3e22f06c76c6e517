"""Signing out: by a person, or as an application asks for it (OpenID Connect RP-Initiated Logout 1.0).

    GET logout, or a form of another site (which goes on as a link)
      │ whoever is signed in nowhere ──────────────────────────▶ "You’re signed out", or back to the application
      │ id_token_hint of this very session ──▶ the session ends ─▶ applications in frames, if any ─▶ back, or the page
      ▼ else
    a question ── POST with its token ──▶ the session ends ──▶ likewise

The browser is sent back to an application only where a good hint says which one it is and the address is registered for
that; in all other cases the page says that somebody is signed out (section 3). A hint that is not ours counts as none.
What else ends with the session, and that other applications are told, is the database's
(`sql/migrations/0010_logouts.sql`).
"""

from typing import Final
from urllib.parse import urlencode

from aiohttp import web
from msgspec import Struct

from gateway.model import Client, Session
from gateway.oauth import redirect_uris
from gateway.oauth.authorize import PageError
from gateway.oauth.forms import Form
from gateway.oauth.openid import Hint
from gateway.web import answers, browser, openid_connect, pages
from gateway.web.flow import posted
from gateway.web.plane import Plane, plane_of, query_of, target_of

_ASKED: Final = frozenset(
    {"id_token_hint", "client_id", "post_logout_redirect_uri", "state", "logout_hint", "ui_locales"}
)
_MOST_FRAMES: Final = 20
_WHILE: Final = 3  # seconds that applications in frames have before the browser goes on


class _Asked(Struct, frozen=True):
    """What a request for a logout is: its hint, if that is ours, and where the browser goes afterwards."""

    hint: Hint | None
    client: Client | None
    back_to: str | None

    @property
    def shown(self) -> Client | None:
        """The application whose homepage is a way on: one that an operator registered, since anybody may name any."""
        client = self.client
        good = client is not None and client.verified and client.disabled_at is None and client.about.homepage
        return client if good else None


async def show(request: web.Request) -> web.Response:
    """GET logout: the session ends, or a question to whoever is signed in."""
    plane = plane_of(request)
    asked = await _asked(plane, query_of(request))
    session, token = await plane.session(request), plane.session_token(request)
    if session is None or token is None:
        return _gone(request, asked)
    if asked.hint is not None and asked.hint.session_id == session.session_id:
        return await _end(request, session, token, asked)
    context = {
        "session": session,
        "client": asked.client,
        "action": target_of(request),
        "csrf_token": browser.form_token(plane.keyring, "logout", session.session_id),
    }
    return pages.page(request, "sign_out.html", context, redirect_uri=asked.back_to)


async def answer(request: web.Request) -> web.Response:
    """POST logout: the answer to the question, or an application's request as a form."""
    plane, form = plane_of(request), await posted(request)
    if "csrf_token" not in form.names and form.names & _ASKED:
        return answers.as_link(request, answers.LOGOUT, form)
    if (refusal := answers.from_elsewhere(request)) is not None:
        return refusal
    asked = await _asked(plane, query_of(request))
    session, token = await plane.session(request), plane.session_token(request)
    if session is None or token is None:
        response = pages.redirect(_afterwards(plane, asked))
        plane.cookies.end_session(response)
        return response
    browser.open_form(plane.keyring, "logout", session.session_id, form.get("csrf_token"))
    return await _end(request, session, token, asked)


async def _asked(plane: Plane, query: Form) -> _Asked:
    """Raises PageError for an address that the application did not register."""
    text, named = query.get("id_token_hint"), query.get("client_id")
    hint = None if text is None else await openid_connect.read_hint(plane, text)
    if hint is not None and named is not None and named != hint.client_id:  # section 2
        hint = None
    client_id = named if hint is None else hint.client_id
    client = None if client_id is None else await plane.store.clients.find(client_id)
    uri = query.get("post_logout_redirect_uri")
    if hint is None or client is None or client.disabled_at is not None or uri is None:
        return _Asked(hint, client, None)
    if uri not in client.openid.post_logout_redirect_uris or query.repeated() is not None:
        text = "This application’s return address isn’t registered. Please tell its developer."
        raise PageError(text, "unregistered post_logout_redirect_uri", uri)
    state = query.get("state")
    members = () if state is None else (("state", state.encode("utf-8", "surrogateescape")),)
    return _Asked(hint, client, redirect_uris.with_parameters(uri, members) if members else uri)


async def _end(request: web.Request, session: Session, token: str, asked: _Asked) -> web.Response:
    """The session ends here and on the server; applications that a browser tells are told by the page."""
    plane = plane_of(request)
    frames = await plane.store.logouts.frames(session.session_id, _MOST_FRAMES)
    await plane.store.sessions.end(token)
    if frames:
        members = urlencode({"iss": plane.issuer, "sid": session.session_id})
        addresses = [f"{uri}{'&' if '?' in uri else '?'}{members}" for _, uri in frames]
        response = _gone(request, asked, addresses)
    else:
        response = pages.redirect(_afterwards(plane, asked))
    plane.cookies.end_session(response)
    return response


def _afterwards(plane: Plane, asked: _Asked) -> str:
    """Where a browser goes whose session has ended: back to the application, or to the page that says so."""
    known = None if asked.shown is None else asked.shown.client_id
    query = "" if known is None else f"?{urlencode({'client_id': known})}"
    return asked.back_to or f"{plane.prefix}/{answers.LOGOUT}{query}"


def _gone(request: web.Request, asked: _Asked, frames: list[str] | None = None) -> web.Response:
    """Nobody is signed in here: back to the application, or the page that says so."""
    back_to = asked.back_to
    if back_to is not None and not frames:
        return pages.redirect(back_to)
    response = pages.page(
        request, "signed_out.html", {"frames": frames or [], "back_to": back_to, "client": asked.shown}
    )
    if frames:
        sources = " ".join(sorted({redirect_uris.form_action_source(address) for address in frames}))
        response.headers["Content-Security-Policy"] += f"; frame-src {sources}"
        if back_to is not None:
            response.headers["Refresh"] = f"{_WHILE}; url={back_to}"
    return response
