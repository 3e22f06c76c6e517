"""Signing in: the form, and one attempt with a username and a password; and whatever else a password must prove.

An attempt, in order: who is meant → may it be tried now → is the password right → may it be tried *still*. The last
question is why guesses that run side by side learn nothing beyond the limit: it is asked after a right password and
after a wrong one. Whether the account exists changes neither the answer nor the time that it takes.
"""

import math
from collections.abc import Awaitable, Callable
from enum import Enum

from aiohttp import web
from msgspec import Struct

from gateway import observe
from gateway.errors import Refused
from gateway.figures import SIGN_INS
from gateway.model import Client, Session, User
from gateway.oauth import redirect_uris
from gateway.oauth.forms import Form
from gateway.store import SignInCandidate
from gateway.store.acting import acts
from gateway.store.guesses import Standing
from gateway.web import answers, browser, pages, words
from gateway.web.browser import FormRefused, KnownBrowser
from gateway.web.passwords import Busy
from gateway.web.plane import Plane, address_of, concerned, plane_of, prefers_json, tell_refusal

_LONGEST_LOGIN = 320  # an email address (RFC 3696, section 3)
_FIELDS = frozenset({"username", "password", "csrf_token", "decision"})
_BUSY_SECONDS = 2
_ACCOUNTS = "`gateway user list` shows all accounts; many unknown names from one address mean that somebody is guessing"
_PASSWORDS = "`gateway user set-password NAME` sets a new one if they have forgotten theirs"
_DISABLED = "`gateway user enable NAME` lets them sign in again"
_TOO_MANY = "too many attempts"
_UNLOCK = "`gateway user unlock NAME` lets them try again at once; attempts from many addresses may be an attack"
_MORE_WORKERS = "raise server.authorization_workers if the machine has room; a flood of sign-ins may be an attack"

log = observe.get_logger("gateway.web")


class SignedIn(Struct, frozen=True):
    """A new session, the token that its browser gets, and the browser as it is remembered from now on."""

    session: Session
    token: str
    browser: KnownBrowser

    def tell(self, plane: Plane, response: web.Response) -> web.Response:
        """Put the session into the browser: a new identifier, so that one planted before is worth nothing."""
        plane.cookies.start_session(response, self.token, self.browser)
        return response


class To(Enum):
    """What somebody signs in for; the value is the page's heading."""

    SIGN_IN = "Sign in"
    CONFIRM = "Confirm it’s you"  # the one who is signed in, once more
    CHOOSE = "Choose an account"
    USE_ANOTHER = "Use another account"  # as they wanted


class NotSignedIn(Struct, frozen=True):
    """A failed attempt to sign in, in words that tell nobody which half was wrong."""

    status: int
    text: str
    retry_after: int | None = None


async def attempt(request: web.Request, form: Form) -> SignedIn | NotSignedIn:
    """One attempt to sign in; success ends the session that the browser had before."""
    plane = plane_of(request)
    username, password = form.get("username"), form.get("password")
    if username is None or password is None:
        return NotSignedIn(400, "Enter your username and password.")
    login, token = storable(username), browser.new_session_token(plane.keyring)
    candidate = await plane.store.users.sign_in_candidate(login)

    async def start(found: SignInCandidate) -> Session | None:
        return await plane.store.sessions.start(
            found.user.subject,
            token,
            browser.SESSION_LIFETIME,
            password_hash=found.password_hash,
            user_agent=request.headers.get("User-Agent"),
        )  # None when the account was disabled or deleted a moment ago

    session = await proven(request, login, candidate, password, start)
    if isinstance(session, NotSignedIn):
        return session
    old = plane.session_token(request)
    if old is not None:
        await plane.store.sessions.end(old)
    log.info("signed in", **concerned(request, subject=session.user.subject))
    return signed_in(request, session, token)


def signed_in(request: web.Request, session: Session, token: str) -> SignedIn:
    """A session that began with this request."""
    known = plane_of(request).cookies.known_browser(request)
    return SignedIn(session, token, known.with_account(session.user.subject))


async def proven(
    request: web.Request,
    login: str,
    candidate: SignInCandidate | None,
    password: str,
    act: Callable[[SignInCandidate], Awaitable[Session | None]],
    purpose: str = "sign-in",
) -> Session | NotSignedIn:
    """The session that `act` begins once the password has proven who asks, within the limits of guessing.

    `act` gives None where the account changed meanwhile, which counts as a wrong password. `purpose` is for the log.
    """
    try:
        return await _check_password(request, login, candidate, password, act, purpose)
    except Busy:
        SIGN_INS.add(1.0, "busy")
        cause = "too many password checks are waiting"
        tell_refusal(request, f"{purpose} refused", 503, cause, mend=_MORE_WORKERS)
        return NotSignedIn(503, "Many people are signing in right now. Try again in a moment.", _BUSY_SECONDS)


async def _check_password(
    request: web.Request,
    login: str,
    candidate: SignInCandidate | None,
    password: str,
    act: Callable[[SignInCandidate], Awaitable[Session | None]],
    purpose: str,
) -> Session | NotSignedIn:
    plane = plane_of(request)
    user = None if candidate is None else candidate.user
    subject = "unknown" if user is None else user.subject
    guess = plane.store.guesses.begin(login, user, plane.cookies.known_browser(request).allowance_for(subject))
    if (before := await guess.standing()).wait > 0:
        return _too_many(request, subject, before.wait, purpose)
    password_hash = None if candidate is None else candidate.password_hash
    right = await plane.passwords.matches(password_hash, password, address_of(request))
    now = await guess.standing()
    session = None
    if candidate is not None and right and not now.wait and not now.barred:
        acts(f"user:{candidate.user.subject}")
        session = await act(candidate)
    if session is None:
        cause, mend = _failure(user, now, right=right)
        guess.wrong(cause)
        if now.wait > 0:
            return _too_many(request, subject, now.wait, purpose)
        SIGN_INS.add(1.0, "wrong")
        tell_refusal(request, f"{purpose} failed", 400, cause, mend=mend, subject=subject, barred=now.barred)
        return NotSignedIn(400, "Incorrect username or password.")
    guess.right()
    SIGN_INS.add(1.0, "right")
    return session


def _failure(user: User | None, now: Standing, *, right: bool) -> tuple[str, str]:
    """The cause of a failed sign-in, and what to do about it: for the operator alone."""
    if now.wait > 0:
        return _TOO_MANY, _UNLOCK
    if user is None:
        return "no such account", _ACCOUNTS
    if user.disabled_at is not None:
        return "disabled account", _DISABLED
    if not right:
        return "wrong password", _PASSWORDS
    return "barred account, though the password is right" if now.barred else "changed account", _PASSWORDS


def form_page(
    request: web.Request,
    page: str,
    action: str,
    *,
    client: Client | None = None,
    redirect_uri: str | None = None,
    username: str = "",
    session: Session | None = None,
    to: To = To.SIGN_IN,
    continue_to: str | None = None,
    other_account: str | None = None,
    purpose: str = "",
    refused: NotSignedIn | None = None,
) -> web.Response:
    """The sign-in form of `page` (authorize or login), which posts to `action`, the address that shows it.

    `purpose` is what for, where no client asks; `continue_to` is where somebody who is signed in already may go on as
    who they are, and `other_account` where they may not be who is to confirm it.
    """
    if refused is not None and prefers_json(request):
        return _as_json(request, refused)
    plane = plane_of(request)
    secret = plane.cookies.secret_of(request)
    context = {
        "page": page,
        "action": action,
        "client": client,
        "client_host": None if redirect_uri is None else redirect_uris.shown_host(redirect_uri),
        "loopback": redirect_uri is not None and redirect_uris.is_loopback(redirect_uri),
        "private": redirect_uri is not None and redirect_uris.is_private(redirect_uri),
        "username": storable(username) or (session.user.username if session is not None and to is To.CONFIRM else ""),
        "session": session,
        "to": to.name,
        "heading": to.value,
        "continue_to": continue_to,
        "other_account": other_account,
        "purpose": purpose,
        "refused": refused,
        "csrf_token": browser.form_token(plane.keyring, f"sign-in/{page}", secret),
    }
    status, retry_after = (200, None) if refused is None else (refused.status, refused.retry_after)
    response = pages.page(
        request, "sign_in.html", context, status=status, redirect_uri=redirect_uri, retry_after=retry_after
    )
    plane.cookies.keep_form_secret(request, response, secret)
    return response


def require_ours(request: web.Request, page: str, form: Form) -> None:
    """Raises FormRefused unless this browser was given the sign-in form that it posts."""
    if form.names - _FIELDS or form.repeated() is not None or form.get("decision") not in (None, "deny"):
        raise FormRefused("fields that the sign-in form does not have")
    plane = plane_of(request)
    secret = plane.cookies.form_secret(request)
    browser.open_form(plane.keyring, f"sign-in/{page}", secret, form.get("csrf_token"))


def _as_json(request: web.Request, refused: NotSignedIn) -> web.Response:
    error = "access_denied" if refused.retry_after is None else "temporarily_unavailable"
    wait = refused.retry_after or 0
    return answers.as_json(request, Refused(error, refused.text, status=refused.status, retry_after=wait))


def _too_many(request: web.Request, subject: str, wait: float, purpose: str) -> NotSignedIn:
    SIGN_INS.add(1.0, "held_back")
    seconds = math.ceil(wait)
    tell_refusal(
        request,
        f"{purpose} held back: {_TOO_MANY}",
        429,
        _TOO_MANY,
        mend=_UNLOCK,
        alarming=True,
        subject=subject,
        retry_after=seconds,
    )
    return NotSignedIn(429, f"Too many attempts. Try again in {words.within(seconds)}.", seconds)


def storable(text: str) -> str:
    """A login as the database and a page can hold it: no NUL, no stray surrogate, not endless; it matches nobody."""
    clean = text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
    return clean.strip()[:_LONGEST_LOGIN]
