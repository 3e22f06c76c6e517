"""What a route does besides passing calls on, made ready when the configuration is loaded.

Most routes do nothing of it and have no `Edge`: a call on them looks once whether there is one.
"""

import re
from typing import Final, final

from gateway.config import Route as ConfiguredRoute
from gateway.guard import Refused
from gateway.http1 import Fields, ResponseHead
from gateway.proxy.answers import refusal
from gateway.routing.networks import Networks

_NONE: Final = frozenset[bytes]()
_PLAIN_TEXT: Final = b"Content-Type: text/plain; charset=utf-8\r\n"
_NO_URI: Final = re.compile(rb"[^\x21\x23-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e]")  # RFC 3986, section 2
_BODILESS: Final = (204, 304)  # RFC 9110, section 6.4.1


@final
class OwnAnswer:
    """An answer of the route's own: whole `lines` of its head, and its body. With a `location` it leads there and to
    what the upstream would have been asked for."""

    __slots__ = ("_body", "_lines", "_location", "status")

    def __init__(self, status: int, lines: bytes, body: bytes = b"", *, location: bytes | None = None) -> None:
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
        head = ResponseHead(self.status, b"", 1, Fields(lines), len(body), stated, False, True, _NONE)
        return head, body

    def told(self, target: bytes) -> str:
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

    __slots__ = ("_networks", "answer")

    def __init__(self, networks: Networks | None, answer: OwnAnswer | None) -> None:
        self._networks: Final = networks
        self.answer: Final = answer

    @property
    def looks_at_addresses(self) -> bool:
        """Whether it hangs on the client's address who may call."""
        return self._networks is not None

    def refusal(self, address: str) -> Refused | None:
        """Why a client at this address may not call, whoever it is."""
        why_not = "" if self._networks is None else self._networks.why_not(address)
        return refusal(403, "This address may not call this service.", cause=why_not) if why_not else None


def edge_of(route: ConfiguredRoute) -> Edge | None:
    """What a configured route does besides passing calls on; None where that is nothing."""
    networks = Networks(route.allow, route.deny) if route.allow or route.deny else None
    answer = _answer_of(route)
    return None if networks is None and answer is None else Edge(networks, answer)


def _answer_of(route: ConfiguredRoute) -> OwnAnswer | None:
    if (redirection := route.redirection) is not None:
        return OwnAnswer(redirection.status, b"", location=redirection.origin.encode("ascii"))
    if route.respond is None:
        return None
    given, body = route.respond.headers, route.respond.body.encode()
    lines = b"".join(b"%b: %b\r\n" % (name.encode("ascii"), value.encode("ascii")) for name, value in given.items())
    typed = not body or any(name.lower() == "content-type" for name in given)
    return OwnAnswer(route.respond.status, lines if typed else lines + _PLAIN_TEXT, body)
