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
from collections.abc import Mapping
from typing import ClassVar, Final, final

from gateway.accept import prefers
from gateway.errors import Cause, Refused
from gateway.model import SESSION, SESSION_COOKIE, cookie_name
from gateway.routing import Route, cookies
from gateway.routing.call import Call
from gateway.routing.sign_in import sign_in_address
from gateway.schemes.scheme import INSUFFICIENT, Facts, Fault, Lifeless, Presented, Rules, Scheme

NO_SESSION: Final = Cause.of(
    "credential",
    "no session",
    mend="nothing: people are sent to sign in, and scripts are told to; if they come back without a session, "
    "see that cookies pass between the browser and the gateway",
)
MALFORMED_SESSION: Final = Cause.of(
    "credential",
    "malformed session",
    mend="nothing: whoever sends it is told to sign in; if many do, somebody is guessing",
)
OTHER_SITE: Final = Cause.of(
    "credential",
    "a call of another site",
    mend="if the page is yours, serve it from the origin of server.public_url; else it has tried "
    "to act in a person's name",
)
OTHER_HOST: Final = Cause.of(
    "credential",
    "a session at another host",
    mend="have people use the host of server.public_url; a proxy in front must pass Host on unchanged",
)
SESSIONS: Final = Lifeless(
    invented=Cause.of(
        "token",
        "invented session",
        mend="nothing: whoever sends it is told to sign in; once a master key is gone, that is everybody",
    ),
    unknown=Cause.of(
        "token",
        "unknown session",
        mend="nothing: they signed out, or were signed out; `gateway events --user NAME` tells which",
    ),
    expired=Cause.of("token", "expired session", mend="nothing: whoever comes with it is told to sign in"),
)

_TOKEN: Final = re.compile(r"gwb_[A-Za-z0-9_-]{40}")
_SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))  # RFC 9110, section 9.2.1
# What tells of an upgrade. A proxy that asks by forward auth keeps Upgrade to itself, as a field for one hop, and over
# HTTP/2 a WebSocket has neither that nor a key (RFC 8441, section 5): but its version it has (RFC 6455, section 4.1).
_UPGRADING: Final = frozenset((b"upgrade", b"sec-websocket-key", b"sec-websocket-version"))
_NOT_SIGNED_IN: Final = "Sign in to use this."
_OTHER_SITE: Final = "This is for pages of the same origin alone."


@final
class Session(Scheme):
    """A browser whose person has signed in at our own pages."""

    facts: ClassVar[Facts] = Facts(
        name=SESSION,
        spelling="Session",
        kind=SESSION,
        wanted="This is for people who have signed in, in a browser: send nothing in the Authorization field.",
        misused=Cause.of(
            "token",
            "a session token presented",
            " as ",
            mend="have the client send an access token: a session is for its browser alone",
        ),
        fields=(),
        cookie=SESSION_COOKIE,
        prefix="gwb_",
        error="login_required",
        unproven=_NOT_SIGNED_IN,
        lifeless=SESSIONS,
    )

    def __init__(self, rules: Rules) -> None:
        super().__init__(rules)
        self._cookie: Final = cookie_name(SESSION_COOKIE, secure=rules.secure).encode()
        port = "" if rules.port == (443 if rules.secure else 80) else f":{rules.port}"
        self._origin: Final = f"{rules.scheme}://{rules.host}{port}".encode()  # as browsers write it
        self._elsewhere: Final = f"People sign in at {rules.origin} only."

    def present(self, call: Call, credential: bytes) -> Presented | Fault:  # noqa: ARG002  # it is in a cookie
        """What the call claims by its cookie; a fault where it has none, or may not be made with one."""
        if not call.route.sign_in_page:
            return Fault(self._elsewhere, OTHER_HOST, "misdirected_request")
        token = cookies.read(call.values(b"cookie"), self._cookie)
        if token is None:
            return Fault(_NOT_SIGNED_IN, NO_SESSION, "login_required")
        if _TOKEN.fullmatch(token) is None:
            return Fault(_NOT_SIGNED_IN, MALFORMED_SESSION, "login_required")
        if not self._may_be_made(call):
            return Fault(_OTHER_SITE, OTHER_SITE, "cross_site_request")
        return Presented(self, token.encode("ascii"))

    def of_challenge(self, route: Route) -> Mapping[str, str | None]:
        """For a page's script, and of no token."""
        return {"scope": None, "resource_metadata": None, "sign_in": route.sign_in_page.decode("ascii") or None}

    def refuse(self, call: Call, refused: Refused, now: float) -> Refused:  # noqa: ARG002
        """As the way to sign in, where a person would see the page and could come back."""
        page = call.route.sign_in_page
        if refused.status != 401 or not page or call.authorization or not _navigates(call):
            return refused
        way = sign_in_address(page, call.target, again=refused.error == INSUFFICIENT)
        return refused.also(("Location", way), status=303) if way else refused

    def _may_be_made(self, call: Call) -> bool:
        """Whether it changes nothing, or a page of our own origin makes it."""
        upgrades = _upgrades(call)
        if call.method.upper() in _SAFE and not upgrades:
            return True
        origins = call.values(b"origin")
        if upgrades:  # which has an Origin in any browser (RFC 6455, section 4.1)
            return origins == (self._origin,)
        sites = call.values(b"sec-fetch-site")
        if sites:  # a page may withhold its origin, and says "null" then
            return sites == (b"same-origin",) and origins in ((), (self._origin,), (b"null",))
        return origins == (self._origin,)


def _navigates(call: Call) -> bool:
    """Whether a browser would show the answer in a window of its own, where people can sign in."""
    if call.method not in ("GET", "HEAD") or call.has_body or _upgrades(call):
        return False
    modes, places = call.values(b"sec-fetch-mode"), call.values(b"sec-fetch-dest")
    if modes or places:
        return modes == (b"navigate",) and places in ((), (b"document",))
    return prefers(call.values(b"accept"), b"text/html", over=b"application/json")


def _upgrades(call: Call) -> bool:
    """Whether what is asked for is not an answer but a connection, which a page of any site could read and write."""
    return not _UPGRADING.isdisjoint(call.names)
