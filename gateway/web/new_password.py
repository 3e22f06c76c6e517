"""A person's own change of password, which ends every other session.

The old password is asked for, under the same limits of guessing as at sign-in and counted together with it: who found
an open browser gains no second way to guess. This browser goes on with a new session, since the old one's identifier
may be what somebody has copied.
"""

from typing import Final

from aiohttp import web
from msgspec import Struct

from gateway import observe, password_rules
from gateway.model import Session
from gateway.oauth.forms import Form
from gateway.password_rules import Weakness
from gateway.store import SignInCandidate
from gateway.web import account, browser, pages, sign_in
from gateway.web.browser import FormRefused
from gateway.web.flow import posted
from gateway.web.plane import address_of, concerned, plane_of, query_of
from gateway.web.sign_in import NotSignedIn

_PAGE: Final = "password"
_NOTE: Final = "password-changed"
_FIELDS: Final = frozenset({"csrf_token", "username", "current_password", "new_password", "repeated_password"})

log = observe.get_logger("gateway.web")


class Unchanged(Struct, frozen=True):
    """The reason why the password stays as it is, and the field that it is about."""

    text: str
    field: str
    status: int = 400
    retry_after: int | None = None


async def show(request: web.Request) -> web.Response:
    """GET account/password: the form."""
    session = await plane_of(request).session(request)
    return account.sign_in_first(request) if session is None else _form_page(request, session)


async def change(request: web.Request) -> web.Response:
    """POST account/password: the new password, if the old one is right, and a new session for this browser."""
    plane, form = plane_of(request), await posted(request)
    session = await plane.session(request)
    if session is None:
        raise FormRefused("a new password without a session")
    browser.open_form(plane.keyring, _PAGE, session.session_id, form.get("csrf_token"))
    if form.names - _FIELDS or form.repeated() is not None:
        raise FormRefused("fields that the password form does not have")
    refused = _fault(form, session, plane.settings.config.passwords.min_length)
    if refused is not None:
        return _form_page(request, session, refused)
    token = browser.new_session_token(plane.keyring)
    outcome = await _proven(request, session, form, token)
    if isinstance(outcome, NotSignedIn):
        text = "That’s not your current password." if outcome.status == 400 else outcome.text
        wrong = Unchanged(text, "current_password", outcome.status, outcome.retry_after)
        return _form_page(request, session, wrong)
    log.info("password changed", **concerned(request, subject=outcome.user.subject))
    note = browser.note(plane.keyring, _NOTE, outcome.session_id, "changed")
    response = pages.redirect(f"{plane.prefix}/account/password?changed={note}")
    return sign_in.signed_in(request, outcome, token).tell(plane, response)


async def _proven(request: web.Request, session: Session, form: Form, token: str) -> Session | NotSignedIn:
    plane, user = plane_of(request), session.user

    async def begin_anew(found: SignInCandidate) -> Session | None:
        if found.user.subject != user.subject:  # renamed a moment ago, and somebody else has the name
            return None
        return await plane.store.sessions.renew(
            session,
            token,
            browser.SESSION_LIFETIME,
            old_hash=found.password_hash,
            new_hash=await plane.passwords.hashed(form.get("new_password") or "", address_of(request)),
            user_agent=request.headers.get("User-Agent"),
        )

    candidate = await plane.store.users.sign_in_candidate(user.username)
    current = form.get("current_password") or ""
    return await sign_in.proven(request, user.username, candidate, current, begin_anew, "password change")


def _fault(form: Form, session: Session, least: int) -> Unchanged | None:
    """The reason why the form cannot be what the person wants, before the old password is looked at."""
    current, new, repeated = (form.get(f"{which}_password") for which in ("current", "new", "repeated"))
    if current is None:
        return Unchanged("Enter your current password.", "current_password")
    if new is None:
        return Unchanged("Enter a new password.", "new_password")
    names = filter(None, (session.user.username, session.user.email))
    match password_rules.weakness_of(new, least, names):
        case Weakness.LENGTH:
            if len(new) < least:
                return Unchanged(f"Too short. Use at least {least} characters.", "new_password")
            return Unchanged(f"Use at most {password_rules.LONGEST:,} characters, all of them visible.", "new_password")
        case Weakness.NAME:
            text = "That’s your own name or email address, which is guessed first. Choose another password."
            return Unchanged(text, "new_password")
        case Weakness.MOST_USED:
            text = "That’s among the most used passwords, which are guessed first. Choose another password."
            return Unchanged(text, "new_password")
        case None:
            pass
    if new == current:
        return Unchanged("That’s the password you have. Choose a new one.", "new_password")
    if new != repeated:
        return Unchanged("The new passwords don’t match. Enter the same one twice.", "repeated_password")
    return None


def _form_page(request: web.Request, session: Session, refused: Unchanged | None = None) -> web.Response:
    plane, here = plane_of(request), session.session_id
    changed = browser.note_of(plane.keyring, _NOTE, here, query_of(request).get("changed"))
    context = {
        "session": session,
        "refused": refused,
        "changed": changed is not None and refused is None,
        "least": plane.settings.config.passwords.min_length,
        "csrf_token": browser.form_token(plane.keyring, _PAGE, here),
    }
    status, retry_after = (200, None) if refused is None else (refused.status, refused.retry_after)
    return pages.page(request, "new_password.html", context, status=status, retry_after=retry_after)
