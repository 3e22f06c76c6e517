"""Which header fields an operator may put into messages, and which are the gateway's own to say."""

from typing import Final

from gateway.model import OWN_COOKIES
from gateway.routing import cookies
from gateway.routing.fields import HOP_BY_HOP, TAKES_OVER_ORIGIN

_FRAMING: Final = HOP_BY_HOP | {b"content-length", b"trailer", b"host", b"expect"}
_mentions_ours: Final = cookies.mentioning(frozenset(name.encode() for name in OWN_COOKIES))


def barred_from_answers(name: str, value: str) -> str:
    """The reason for which a field may not be put into answers; empty where it may."""
    lower = name.lower().encode()
    if lower in _FRAMING:
        return "frames the message or is for one connection only, so the gateway writes it"
    if lower == b"x-request-id":
        return "is the gateway's own, by which calls are found in its log"
    if lower in TAKES_OVER_ORIGIN:
        return "reaches into the sign-in pages where they share the host, so no answer has it"
    if lower == b"set-cookie" and _mentions_ours(value.encode()):
        return "names a cookie of the gateway's own"
    return ""
