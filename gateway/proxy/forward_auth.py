"""Forward auth: another proxy asks, for each call that it got, whether that may pass, and passes it on by itself.

The question is a request for `verify`, which says in one of three ways which call it is about:

    X-Forwarded-Method, -Uri and -Host       Caddy and Traefik (`forward_auth`)
    X-Original-Method, and -URI or -URL      nginx (`auth_request`)
    the path behind `verify`, with the       Envoy (`ext_authz` over HTTP)
    question's own method and Host

The call is then judged as if it had come here: route, networks, credential, limits, nonce. The answer is 200 with who
calls, every identity field named and empty where nobody knows it (X-Auth-Jwt where the route has none), so that whoever
copies them overwrites what the client sent, and beside them the call's Cookie without our own, which no application is
to see; or the refusal, as 401 or 403, since that is all that these proxies know (nginx makes 500 of any other).

Who may ask is a trusted proxy: from anybody else, nothing of it is looked at. A question that says it in two ways is
refused, for one of them may be the client's own.
"""

import re
from typing import Final

from gateway.errors import Refused
from gateway.guard import Allowed, Judged, Pending, Turn
from gateway.http1 import RequestHead
from gateway.model import format_scope
from gateway.proxy.dispatch import Destination, Peer
from gateway.proxy.edge import OwnAnswer
from gateway.proxy.engine import Engine
from gateway.proxy.exchange import UNASSERTED, Client, Exchange
from gateway.routing.fields import foreign_cookies

_FORWARDED: Final = "X-Forwarded-Method and -Uri"
_ORIGINAL: Final = "X-Original-Method and -URI or -URL"
_BEHIND: Final = "the path behind verify"
_WAYS: Final = {
    _FORWARDED: frozenset((b"x-forwarded-method", b"x-forwarded-uri")),
    _ORIGINAL: frozenset((b"x-original-method", b"x-original-uri", b"x-original-url")),
}
_BODILESS: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE"))
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")  # RFC 9110, section 9.1
_TARGET: Final = re.compile(rb"/[^\x00-\x20\x7f]*")
_NO_ASSERTION: Final = b"X-Auth-Jwt: \r\n"

_STRANGER: Final = Refused(
    "untrusted_proxy",
    "Only a proxy in server.trusted_proxies may ask here.",
    "a question of forward auth from an address that is not in server.trusted_proxies",
)
OUR_OWN: Final = Refused(
    "forbidden", "The gateway's own pages are for nobody to pass on.", mend="lead these paths to the gateway"
)
_BODY: Final = Refused(
    "body_not_seen",
    "A signature that covers the body cannot be checked here, where the body does not come.",
    "a signed body, which forward auth does not see",
)


def asked(head: RequestHead, behind: bytes, peer: Peer) -> RequestHead | Refused:
    """The head of the call that a question is about; `behind` is what follows `verify` in its path, with the query."""
    if not peer.trusted:
        return _STRANGER
    ways = [way for way, names in _WAYS.items() if not names.isdisjoint(head.fields.names.known)]
    if behind.startswith(b"/"):
        ways.append(_BEHIND)
    if len(ways) != 1:
        said = f"in {len(ways)} ways: {'; '.join(ways)}" if ways else "in no way"
        return Refused("unclear_question", f"The question says {said} which call it is about, and must in one.")
    method, host, target = _said(head, behind, ways[0])
    known = method != b"CONNECT" and _METHOD.fullmatch(method) is not None
    for what, right in (("method", known), ("host", bool(host)), ("address", _TARGET.fullmatch(target) is not None)):
        if not right:
            text = f"The {what} of the call is missing, or is none, or is said more than once."
            return Refused("unclear_question", text)
    length = head.length or (0 if method.upper() in _BODILESS else None)  # whether there is a body, nobody says
    return RequestHead(
        method, target, 1, head.fields, length, host, head.keep_alive, head.connection, None, head.expects_continue
    )


def _said(head: RequestHead, behind: bytes, way: str) -> tuple[bytes, bytes, bytes]:
    """The method, the host and the target of the call; empty what is not said once."""
    if way == _BEHIND:
        return head.method, head.host, behind
    if way == _FORWARDED:
        host = _one(head, b"x-forwarded-host") if b"x-forwarded-host" in head.fields else head.host
        return _one(head, b"x-forwarded-method"), host, _one(head, b"x-forwarded-uri")
    method = _one(head, b"x-original-method")
    if b"x-original-url" not in head.fields:
        return method, head.host, _one(head, b"x-original-uri")
    if b"x-original-uri" in head.fields:
        return method, b"", b""
    host, target = _split(_one(head, b"x-original-url"))
    return method, host, target


def _one(head: RequestHead, name: bytes) -> bytes:
    """The field's value; empty where it is not there once."""
    values = head.fields.values(name)
    return values[0] if len(values) == 1 else b""


def _split(url: bytes) -> tuple[bytes, bytes]:
    """The host and the target of a URL; both are empty where it is none."""
    scheme, mark, rest = url.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        return b"", b""
    host, slash, path = rest.partition(b"/")
    return host, slash + path if slash else b"/"


def understood(refused: Refused, head: RequestHead) -> Refused:
    """The refusal as the proxy that asks understands it.

    A person who has to sign in is led there by the answer that most of them pass on; nginx, which asks by X-Original-…,
    knows 401 alone, and finds the way in its Location.
    """
    if refused.location:
        nginx = not _WAYS[_ORIGINAL].isdisjoint(head.fields.names.known)
        return refused.also(status=401) if nginx else refused
    return refused if refused.status in (401, 403, 429) or refused.status >= 500 else refused.also(status=403)


def passing(allowed: Allowed, head: RequestHead, assertion: bytes) -> bytes:
    """What may be passed on with the call, in whole lines: who calls, empty where nobody is named, the `assertion` of
    that, if the route has one, and its cookies."""
    said = _identity(allowed) + (assertion or _NO_ASSERTION)
    return b"%bCookie: %b\r\nCache-Control: no-store\r\n" % (said, foreign_cookies(head.fields))


def _identity(allowed: Allowed) -> bytes:
    return (
        f"X-Auth-Subject: {allowed.subject or ''}\r\nX-Auth-Client-Id: {allowed.client_id or ''}\r\n"
        f"X-Auth-Scope: {format_scope(allowed.scopes)}\r\nX-Auth-Token-Type: {allowed.scheme}\r\n"
        f"X-Forwarded-User: {allowed.username or ''}\r\nX-Forwarded-Email: {allowed.email or ''}\r\n"
    ).encode()


class Verification(Exchange):
    """A question and its answer; `asked` is the head of the call that it is about."""

    __slots__ = ("_asked",)

    def __init__(
        self,
        engine: Engine,
        client: Client,
        head: RequestHead,
        asked: RequestHead,
        to: Destination,
        *,
        complete: bool,
        turn: Turn | None,
    ) -> None:
        super().__init__(engine, client, head, to, complete=complete, turn=turn)
        self._asked: Final = asked

    @property
    def call_head(self) -> RequestHead:
        """The call, for whoever is told of it."""
        return self._asked

    def _judged(self, judged: Judged) -> None:
        if isinstance(judged, Allowed):
            self._let_pass(judged)
        elif isinstance(judged, Refused):
            self.fail(judged)
        elif isinstance(judged, Pending):
            judged.then(self._verdict_came)
        else:
            self.fail(_BODY)

    def _let_pass(self, allowed: Allowed) -> None:
        """Answer that the call may pass, and what is to go with it."""
        self.allowed = allowed
        assertion = b""
        if self._asserts and allowed.subject is not None:
            if not self._engine.can_assert:
                self.fail(UNASSERTED)
                return
            assertion = self._engine.assertion(allowed, self.to)
        self.answer(OwnAnswer(200, passing(allowed, self._asked, assertion), whole=True))

    def fail(self, refused: Refused) -> None:
        """Refuse, as the proxy that asks understands it."""
        super().fail(understood(refused, self.head))
