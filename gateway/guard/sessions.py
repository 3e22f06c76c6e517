"""The session of a browser as a credential: its cookie, where a call carries nothing else that says who makes it.

    a session that lives                              judged as a token is: cached, watched, bounded by groups
    none, or none that lives, and a navigation        303 to the sign-in page, and from there back to the very address
                              and anything else       401 login_required, which a page's script can read
    a call of another site that may change something  403 cross_site_request, whatever the session

A browser sends the cookie whoever has made it call. SameSite=Lax keeps it from what other sites embed, fetch or post,
but not from what their siblings do (a site is more than an origin), nor in every browser. So a method that may change
something, and an upgrade, needs a page of our own origin behind it: browsers say so in Sec-Fetch-Site, and in Origin
where they are older or the connection is plain (Fetch Metadata; RFC 6454, section 7).
"""

import re
from typing import Final

from gateway.accept import prefers
from gateway.config import Server
from gateway.guard import causes
from gateway.guard.proofs import Bound, Signer
from gateway.guard.schemes import Presented
from gateway.guard.verdict import CROSS_SITE, INSUFFICIENT, LOGIN_REQUIRED, MISDIRECTED, Fault, Refused
from gateway.http1 import Fields
from gateway.model import SCHEMES, SESSION, SESSION_COOKIE, cookie_name
from gateway.routing import cookies
from gateway.routing.call import Call
from gateway.routing.sign_in import sign_in_address

_TOKEN: Final = re.compile(r"gwb_[A-Za-z0-9_-]{40}")
_SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))  # RFC 9110, section 9.2.1
# What tells of an upgrade. A proxy that asks by forward auth keeps Upgrade to itself, as a field for one hop, and over
# HTTP/2 a WebSocket has neither that nor a key (RFC 8441, section 5): but its version it has (RFC 6455, section 4.1).
_UPGRADING: Final = frozenset((b"upgrade", b"sec-websocket-key", b"sec-websocket-version"))
_NOT_SIGNED_IN: Final = "Sign in to use this."
_OTHER_SITE: Final = "This is for pages of the same origin alone."


class SessionScheme:
    """A browser whose person has signed in at our own pages."""

    name: Final = SESSION
    kind: Final = SCHEMES[SESSION].token_type
    lifeless: Final = causes.SESSIONS
    error: Final = LOGIN_REQUIRED
    unproven: Final = _NOT_SIGNED_IN

    def __init__(self, server: Server) -> None:
        self._cookie: Final = cookie_name(SESSION_COOKIE, secure=server.secure).encode()
        scheme, default = ("https", 443) if server.secure else ("http", 80)
        port = "" if server.port == default else f":{server.port}"
        self._origin: Final = f"{scheme}://{server.host}{port}".encode()  # as browsers write it
        self._elsewhere: Final = f"People sign in at {server.origin} only."

    def present(self, call: Call, _credential: bytes) -> Presented | Fault:
        """What the call claims by its cookie; a fault where it has none, or may not be made with one."""
        if not call.route.sign_in_page:
            return Fault(self._elsewhere, causes.OTHER_HOST, MISDIRECTED)
        token = cookies.read(_values(call, b"cookie"), self._cookie)
        if token is None:
            return Fault(_NOT_SIGNED_IN, causes.NO_SESSION, LOGIN_REQUIRED)
        if _TOKEN.fullmatch(token) is None:
            return Fault(_NOT_SIGNED_IN, causes.MALFORMED_SESSION, LOGIN_REQUIRED)
        if not self._may_be_made(call):
            return Fault(_OTHER_SITE, causes.OTHER_SITE, CROSS_SITE)
        return Presented(self, token.encode("ascii"))

    def prove(self, _call: Call, _presented: Presented, _signer: Signer | Bound | None, _now: float) -> None:
        return None

    def _may_be_made(self, call: Call) -> bool:
        """Whether it changes nothing, or a page of our own origin makes it."""
        upgrades = _upgrades(call)
        if call.method.upper() in _SAFE and not upgrades:
            return True
        origins = _values(call, b"origin")
        if upgrades:  # which has an Origin in any browser (RFC 6455, section 4.1)
            return origins == (self._origin,)
        sites = _values(call, b"sec-fetch-site")
        if sites:  # a page may withhold its origin, and says "null" then
            return sites == (b"same-origin",) and origins in ((), (self._origin,), (b"null",))
        return origins == (self._origin,)


def to_sign_in(call: Call, refused: Refused) -> bytes:
    """Where a person is led who is refused so, but could sign in; empty where nobody would see the page."""
    if refused.status != 401 or not call.route.sign_in_page or not _navigates(call):
        return b""
    return sign_in_address(call.route.sign_in_page, call.target, again=refused.error == INSUFFICIENT)


def _navigates(call: Call) -> bool:
    """Whether a browser would show the answer in a window of its own, where people can sign in."""
    if call.method not in ("GET", "HEAD") or call.has_body or _upgrades(call):
        return False
    modes, places = _values(call, b"sec-fetch-mode"), _values(call, b"sec-fetch-dest")
    if modes or places:
        return modes == (b"navigate",) and places in ((), (b"document",))
    return prefers(_values(call, b"accept"), b"text/html", over=b"application/json")


def _upgrades(call: Call) -> bool:
    """Whether what is asked for is not an answer but a connection, which a page of any site could read and write."""
    fields = call.fields
    names = fields.names.known if isinstance(fields, Fields) else frozenset([lower for lower, _, _ in fields])
    return not _UPGRADING.isdisjoint(names)


def _values(call: Call, name: bytes) -> tuple[bytes, ...]:
    """Every value of a field."""
    fields = call.fields
    if isinstance(fields, Fields):
        return fields.values(name)
    return tuple([value for lower, _, value in fields if lower == name])
