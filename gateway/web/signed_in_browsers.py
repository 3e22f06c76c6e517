"""The browsers that a person is signed in with: each can be signed out, and all at once.

A form names a browser by its session's public identifier, which signs nobody in. Signing out counts at once on every
worker, since every page asks the database for its session.
"""

from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from aiohttp import web
from msgspec import Struct

from gateway import observe
from gateway.store.records import SignedInBrowser
from gateway.web import account, browser, pages, user_agent, words
from gateway.web.browser import FormRefused
from gateway.web.flow import posted
from gateway.web.plane import concerned, plane_of, query_of
from gateway.web.user_agent import Device

_PAGE: Final = "sessions"
_NOTE: Final = "signed-out"
_FIELDS: Final = frozenset({"csrf_token", "session_id", "everywhere"})
_MOST: Final = 50

log = observe.get_logger("gateway.web")


class Shown(Struct, frozen=True):
    """One browser, as the page tells of it."""

    session_id: str
    device: Device
    here: bool
    signed_in: str
    last_seen: str
    address: str | None

    @classmethod
    def of(cls, found: SignedInBrowser, here: str, now: datetime) -> "Shown":
        """`here` is the session that looks at the page."""
        return cls(
            found.session_id,
            user_agent.of(found.user_agent),
            found.session_id == here,
            words.since(now - found.signed_in_at),
            words.since(now - found.last_seen_at),
            found.address,
        )


async def show(request: web.Request) -> web.Response:
    """GET account/sessions: this browser first, then the others by when they were last seen."""
    plane = plane_of(request)
    session = await plane.session(request)
    if session is None:
        return account.sign_in_first(request)
    now, here = plane.store.now(), session.session_id
    found = await plane.store.sessions.of(session.user.subject, _MOST + 1)
    shown = sorted((Shown.of(one, here, now) for one in found[:_MOST]), key=lambda one: not one.here)
    context = {
        "session": session,
        "browsers": shown,
        "most": _MOST if len(found) > _MOST else None,
        "signed_out": browser.note_of(plane.keyring, _NOTE, here, query_of(request).get("signed_out")),
        "csrf_token": browser.form_token(plane.keyring, _PAGE, here),
    }
    return pages.page(request, "sessions.html", context)


async def sign_out(request: web.Request) -> web.Response:
    """POST account/sessions: one browser, or everywhere, this one too."""
    plane, form = plane_of(request), await posted(request)
    session, everywhere, session_id = await plane.session(request), form.get("everywhere"), form.get("session_id")
    if session is None:
        raise FormRefused("signing out a browser without a session")
    browser.open_form(plane.keyring, _PAGE, session.session_id, form.get("csrf_token"))
    if form.names - _FIELDS or form.repeated() is not None or (everywhere is None) == (session_id is None):
        raise FormRefused("fields that the list of browsers does not have")
    ended = await plane.store.sessions.end_of(session.user.subject, session_id)
    log.info("signed out", **concerned(request, browsers=len(ended)))
    if any(one.session_id == session.session_id for one in ended):
        response = pages.redirect(f"{plane.prefix}/logout")
        plane.cookies.end_session(response)
        return response
    names = [user_agent.of(one.user_agent).name for one in ended]
    note = {"signed_out": browser.note(plane.keyring, _NOTE, session.session_id, names[0])} if names else {}
    return pages.redirect(f"{plane.prefix}/account/sessions?{urlencode(note)}".removesuffix("?"))
