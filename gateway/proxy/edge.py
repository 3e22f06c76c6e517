"""What a route does besides passing calls on, made ready when the configuration is loaded.

Most routes do nothing of it and have no `Edge`: a call on them looks once whether there is one.
"""

import re
from collections.abc import Mapping
from typing import Final, final

from gateway.config import Headers
from gateway.config import Route as ConfiguredRoute
from gateway.errors import Refused
from gateway.guard import Allowed
from gateway.http1 import Field, Fields, RequestHead, ResponseHead, websocket
from gateway.model import format_scope
from gateway.routing.cors import NAMES, Cors, preflight_for
from gateway.routing.fields import Shape, shaped
from gateway.routing.networks import Networks
from gateway.routing.shaping import Changes
from gateway.schemes import SCHEMES

_NONE: Final = frozenset[bytes]()
_PLAIN_TEXT: Final = b"Content-Type: text/plain; charset=utf-8\r\n"
_NO_URI: Final = re.compile(rb"[^\x21\x23-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e]")  # RFC 3986, section 2
_BODILESS: Final = (204, 304)  # RFC 9110, section 6.4.1
_OF_LIMITS: Final = ("RateLimit", "RateLimit-Policy")  # by which a page knows when to wait
_OTHER_ORIGIN: Final = Refused(
    "forbidden_origin",
    "Pages of this origin may not call this service.",
    "the preflight's Origin is none of cors.origins",
    mend="add the page's origin to the route's cors.origins, as the browser writes it in Origin",
)


_NO_SOCKET: Final = Refused(
    "forbidden_origin",
    "Pages of this origin may not open a WebSocket here.",
    "the handshake's Origin is none of websocket.origins",
    mend="add the page's origin to the route's websocket.origins, as the browser writes it in Origin",
)


@final
class OwnAnswer:
    """An answer of the route's own: whole `lines` of its head, and its body. With a `location` it leads there and to
    what the upstream would have been asked for. One that is `whole` gets no fields of what else the route does."""

    __slots__ = ("_body", "_lines", "_location", "status", "whole")

    def __init__(
        self, status: int, lines: bytes, body: bytes = b"", *, location: bytes | None = None, whole: bool = False
    ) -> None:
        self.whole: Final = whole
        self.status: Final = status
        self._lines: Final = lines
        self._body: Final = body
        self._location: Final = location

    def to(self, method: bytes, target: bytes) -> tuple[ResponseHead, bytes]:
        """Its head and its body, for a request of this method; `target` is what the upstream would get."""
        lines = self._lines
        if self._location is not None:
            lines += b"Location: %b%b\r\n" % (self._location, _NO_URI.sub(_escaped, target))
        body = b"" if method == b"HEAD" else self._body
        stated = None if self.status in _BODILESS else len(self._body)
        head = ResponseHead(self.status, b"", 1, Fields.of(lines), len(body), stated, False, True, _NONE)
        return head, body

    def description(self, target: bytes) -> str:
        """What it does, in words behind "the route"."""
        if self._location is None:
            return f"answers {self.status} by itself"
        where = self._location + target.partition(b"?")[0]
        return f"leads to {where.decode('ascii', 'backslashreplace')} ({self.status})"


def _escaped(found: re.Match[bytes]) -> bytes:
    return b"%%%02X" % found[0][0]


@final
class Edge:
    """What one route does besides passing calls on. `answer` is given in the upstream's place to whoever may call."""

    __slots__ = (
        "_cors",
        "_downwards",
        "_networks",
        "_sockets_of",
        "_upwards",
        "answer",
        "asserts_identity",
        "names_the_call",
        "verifies",
    )

    def __init__(
        self,
        networks: Networks | None,
        cors: Cors | None,
        answer: OwnAnswer | None,
        upwards: Changes | None,
        downwards: Changes | None,
        asserts_identity: bool = False,
        sockets_of: frozenset[bytes] | None = None,
        verifies: bool = False,
    ) -> None:
        self._networks: Final = networks
        self._cors: Final = cors
        self._upwards: Final = upwards
        self._downwards: Final = downwards
        self._sockets_of: Final = sockets_of  # the origins of pages that may open WebSockets; None for any
        self.answer: Final = answer
        self.verifies: Final = verifies  # other calls than the one that is made (`verifying`)
        self.asserts_identity: Final = asserts_identity  # the upstream gets a JWT (`asserting`)
        # whether fields of its messages are made of what is known of the call (`named`)
        self.names_the_call: Final = any(one is not None and one.named for one in (upwards, downwards))

    @property
    def crosses_origins(self) -> bool:
        """Whether pages of other origins may call."""
        return self._cors is not None

    @property
    def looks_at_addresses(self) -> bool:
        """Whether it hangs on the client's address who may call."""
        return self._networks is not None

    def own_answer(self, head: RequestHead, address: str) -> OwnAnswer | Refused | None:
        """What a call from this address gets before anybody looks whose it is; None where it goes on."""
        why_not = "" if self._networks is None else self._networks.why_not(address)
        if why_not:
            return Refused("forbidden", "This address may not call this service.", why_not)
        if self._sockets_of is not None and head.upgrade == websocket.PROTOCOL:
            origins = head.fields.values(b"origin")
            if origins and (len(origins) > 1 or origins[0] not in self._sockets_of):
                return _NO_SOCKET
        if self._cors is None or not (asked := preflight_for(head.method, head.fields)):
            return None
        if not self._cors.admits(head.fields):
            return _OTHER_ORIGIN
        return OwnAnswer(204, self._cors.preflight(asked, head.fields), whole=True)

    def lines_of_refusal(self, head: RequestHead) -> bytes:
        """What the head of a refusal says besides."""
        return b"" if self._cors is None else self._cors.lines(head.fields, refused=True)

    def shape_request(self, known: Mapping[str, str | None]) -> Shape | None:
        """What becomes of the fields of a request on its way up."""
        return None if self._upwards is None else self._upwards.shape(known)

    def shape_trailer(self, trailer: tuple[Field, ...]) -> tuple[Field, ...]:
        """What becomes of a request's trailer section."""
        return trailer if self._upwards is None else shaped(trailer, Shape(self._upwards.cut, b""))

    def shape_answer(self, head: RequestHead, known: Mapping[str, str | None]) -> Shape | None:
        """What becomes of the fields of the answer to this request."""
        shape = None if self._downwards is None else self._downwards.shape(known)
        if self._cors is None:
            return shape
        lines = self._cors.lines(head.fields)
        return Shape(NAMES, lines) if shape is None else Shape(NAMES | shape.cut, shape.lines + lines)


VERIFYING: Final = Edge(None, None, None, None, None, verifies=True)


def named(allowed: Allowed | None, request_id: bytes, address: str) -> dict[str, str | None]:
    """What fields may name of a call, None where it is not known."""
    known: dict[str, str | None] = {"request_id": request_id.decode("ascii"), "address": address}
    if allowed is not None and allowed.subject is not None:
        known |= {
            "subject": allowed.subject,
            "username": allowed.username,
            "email": allowed.email,
            "client_id": allowed.client_id,
            "scope": format_scope(allowed.scopes),
            "groups": ",".join(allowed.groups) or None,
        }
    return known


def edge_of(route: ConfiguredRoute) -> Edge | None:
    """What a configured route does besides passing calls on; None where that is nothing."""
    networks = Networks(route.allow, route.deny) if route.allow or route.deny else None
    cors, answer = _cors_of(route), _answer_of(route)
    upwards, downwards = _changes_of(route.request_headers), _changes_of(route.response_headers)
    origins = () if route.websocket is None else route.websocket.origins
    sockets_of = frozenset(one.encode("ascii") for one in origins) if origins else None
    parts = (networks, cors, answer, upwards, downwards, sockets_of)
    if all(part is None for part in parts) and not route.identity_jwt:
        return None
    return Edge(networks, cors, answer, upwards, downwards, route.identity_jwt, sockets_of)


def _changes_of(headers: Headers | None) -> Changes | None:
    if headers is None or not (headers.set or headers.add or headers.remove):
        return None
    return Changes(headers.set, headers.add, headers.remove)


def _cors_of(route: ConfiguredRoute) -> Cors | None:
    if (rules := route.cors) is None:
        return None
    accepted = [SCHEMES[scheme] for scheme in route.schemes]
    credential = [field for facts in accepted for field in (*facts.fields, *facts.besides)]
    return Cors(
        origins=rules.origins,
        methods=rules.methods,
        headers=tuple(dict.fromkeys((*credential, *rules.headers))),
        exposed=(*rules.expose, *(_OF_LIMITS if route.rate or route.quota else ())),
        credentials=rules.credentials,
        max_age=int(rules.max_age),
    )


def _answer_of(route: ConfiguredRoute) -> OwnAnswer | None:
    if (redirection := route.redirection) is not None:
        return OwnAnswer(redirection.status, b"", location=redirection.origin.encode("ascii"))
    if route.respond is None:
        return None
    given, body = route.respond.headers, route.respond.body.encode()
    lines = b"".join(b"%b: %b\r\n" % (name.encode("ascii"), value.encode("ascii")) for name, value in given.items())
    typed = not body or any(name.lower() == "content-type" for name in given)
    return OwnAnswer(route.respond.status, lines if typed else lines + _PLAIN_TEXT, body)
