"""The ties of a browser to what it may do: its cookies, and the `csrf_token` of every form.

    form          csrf_token                                            bound to
    sign-in       a signature                                           the form cookie and the page
    consent       the flow, its person, end and request, signed         the form cookie
    account, …    a signature                                           the session and the page

A token is worth nothing in another browser, for another page or for another flow. Sign-in and consent are bound to the
browser rather than to its session, which another tab may have changed meanwhile.
"""

import re
from typing import Final

from aiohttp import web
from msgspec import Struct

from gateway.crypto import Keyring, random_text
from gateway.errors import GatewayError
from gateway.model import FORM_COOKIE, KNOWN_BROWSER_COOKIE, SESSION_COOKIE, cookie_name
from gateway.routing import cookies

SESSION_LIFETIME: Final = 12 * 3600.0
_KNOWN_LIFETIME: Final = 365 * 86400
_MOST_ACCOUNTS: Final = 5  # that one browser is remembered for
_FORM_SECRET = re.compile(r"[A-Za-z0-9_-]{22}")
_FRESH: web.RequestKey[str] = web.RequestKey("form_secret", str)


class FormRefused(GatewayError):
    """A form that was not given to this browser, or that was altered: 403, and nothing happens."""


class KnownBrowser(Struct, frozen=True):
    """A browser that has signed in before, and to which accounts."""

    identifier: str
    subjects: tuple[str, ...] = ()

    def allowance_for(self, account: str) -> str | None:
        """The browser's identifier where it has an allowance of its own for the account."""
        return self.identifier if account in self.subjects else None

    def with_account(self, subject: str) -> "KnownBrowser":
        others = [known for known in self.subjects if known != subject]
        return KnownBrowser(self.identifier, (subject, *others)[:_MOST_ACCOUNTS])


class BrowserCookies:
    """Our cookies: HttpOnly, SameSite=Lax, and on https Secure with the `__Host-` prefix (RFC 6265bis, 4.1.3.2)."""

    def __init__(self, keyring: Keyring, *, secure: bool) -> None:
        self._keyring, self._secure = keyring, secure

    def session(self, request: web.Request) -> str | None:
        return self._read(request, SESSION_COOKIE)

    def start_session(self, response: web.Response, token: str, browser: KnownBrowser) -> None:
        """Give the browser its new session, and remember it for its accounts."""
        self._write(response, SESSION_COOKIE, token, int(SESSION_LIFETIME))
        value = "~".join((browser.identifier, *browser.subjects))
        signed = f"{value}.{self._keyring.sign('known-browser', value)}"
        self._write(response, KNOWN_BROWSER_COOKIE, signed, _KNOWN_LIFETIME)

    def end_session(self, response: web.Response) -> None:
        name = self._name(SESSION_COOKIE)
        response.del_cookie(name, path="/", secure=self._secure, httponly=True, samesite="Lax")

    def form_secret(self, request: web.Request) -> str | None:
        secret = self._read(request, FORM_COOKIE)
        return secret if secret is not None and _FORM_SECRET.fullmatch(secret) else None

    def secret_of(self, request: web.Request) -> str:
        """The form cookie's secret; a fresh one where the browser has none, the same all through one request."""
        secret = self.form_secret(request)
        if secret is not None:
            return secret
        if _FRESH not in request:
            request[_FRESH] = random_text(16)
        return request[_FRESH]

    def keep_form_secret(self, request: web.Request, response: web.Response, secret: str) -> None:
        """Give the browser the secret that a form of this answer is bound to, unless it has it."""
        if self.form_secret(request) != secret:
            self._write(response, FORM_COOKIE, secret, None)

    def known_browser(self, request: web.Request) -> KnownBrowser:
        """The browser as we remember it; a new one where it shows nothing of ours."""
        value, _, signature = (self._read(request, KNOWN_BROWSER_COOKIE) or "").rpartition(".")
        if not value or not self._keyring.verify("known-browser", value, signature):
            return KnownBrowser(random_text(16))
        identifier, *subjects = value.split("~")
        return KnownBrowser(identifier, tuple(subjects))

    def _name(self, name: str) -> str:
        return cookie_name(name, secure=self._secure)

    def _read(self, request: web.Request, name: str) -> str | None:
        fields = (value for field, value in request.raw_headers if field.lower() == b"cookie")
        return cookies.read(fields, self._name(name).encode())

    def _write(self, response: web.Response, name: str, value: str, max_age: int | None) -> None:
        response.set_cookie(
            self._name(name), value, path="/", max_age=max_age, secure=self._secure, httponly=True, samesite="Lax"
        )


def new_session_token(keyring: Keyring) -> str:
    """A fresh secret that a browser is signed in by; the database holds its digest."""
    return keyring.new_token("gwb_")


def is_session_token(keyring: Keyring, text: str) -> bool:
    """Whether a text may be a session token; any other need not be looked up."""
    return keyring.is_ours(text, "gwb_")


def form_token(keyring: Keyring, page: str, bound: str, row: str = "") -> str:
    """The `csrf_token` of a form, bound to a session or to a form cookie; `row` is named in it."""
    return f"{row}.{keyring.sign('form', _message(page, bound, row))}"


def open_form(keyring: Keyring, page: str, bound: str | None, csrf_token: str | None) -> str:
    """The row that a form is about. Raises FormRefused unless it was given to this session or browser for this page."""
    row, dot, signature = (csrf_token or "").rpartition(".")
    if bound is None or not dot or not keyring.verify("form", _message(page, bound, row), signature):
        raise FormRefused("missing or foreign csrf_token")
    return row


def note(keyring: Keyring, kind: str, session_id: str, text: str) -> str:
    """A note that the next page of this session finds in its address: nobody else can make it say something."""
    return form_token(keyring, f"note/{kind}", session_id, text)


def note_of(keyring: Keyring, kind: str, session_id: str, note: str | None) -> str | None:
    """The text of a note of that kind, None unless it was made for this session."""
    try:
        return open_form(keyring, f"note/{kind}", session_id, note)
    except FormRefused:
        return None


def _message(page: str, bound: str, row: str) -> str:
    return f"{page}\0{bound}\0{row}"
