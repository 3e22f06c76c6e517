"""Which pages in browsers may call a route across origins, and read the answer: the CORS protocol of the Fetch standard
(section "HTTP CORS protocol"), decided without a token. What the upstream says of it is replaced.

    a preflight      OPTIONS with Origin and Access-Control-Request-Method: answered here, and belongs to the route of
                     the method that it asks for
    any other call   passes or is refused as without an Origin; what is here decides whether the page may read that
"""

import re
from typing import Final, final

from gateway.http1 import Fields, list_members

NAMES: Final = frozenset(
    (
        b"access-control-allow-origin",
        b"access-control-allow-credentials",
        b"access-control-allow-methods",
        b"access-control-allow-headers",
        b"access-control-expose-headers",
        b"access-control-max-age",
        b"access-control-allow-private-network",
    )
)
ANY: Final = "*"
_OF_REFUSALS: Final = ("WWW-Authenticate", "Retry-After", "X-Request-Id")  # what a page needs of a refusal
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")  # RFC 9110, section 9.1
_METHOD: Final = b"access-control-request-method"
_MOST_ASKED: Final = 64  # names of fields that a preflight asks for


def preflight_for(method: bytes, fields: Fields) -> bytes:
    """The method that a preflight asks for; empty where it is none. One with two origins is none."""
    if method != b"OPTIONS" or len(fields.values(b"origin")) != 1:
        return b""
    asked = fields.values(_METHOD)
    return asked[0] if len(asked) == 1 and _TOKEN.fullmatch(asked[0]) else b""


@final
class Cors:
    """One route's rules. `methods` are empty for those of the route, and `headers` and `exposed` may hold "*"."""

    __slots__ = (
        "_any",
        "_credentials",
        "_echoes",
        "_exposed",
        "_exposed_of_refusals",
        "_names",
        "_origins",
        "_preflight",
    )

    def __init__(
        self,
        *,
        origins: tuple[str, ...],
        methods: tuple[str, ...],
        headers: tuple[str, ...],
        exposed: tuple[str, ...],
        credentials: bool,
        max_age: int,
    ) -> None:
        self._any: Final = ANY in origins
        self._origins: Final = frozenset(origin.encode("ascii") for origin in origins)
        self._credentials: Final = b"Access-Control-Allow-Credentials: true\r\n" if credentials else b""
        self._echoes: Final = ANY in headers
        self._names: Final = b"" if self._echoes else ", ".join(headers).encode("ascii")
        allowed = f"Access-Control-Allow-Methods: {', '.join(methods)}\r\n" if methods else ""
        self._preflight: Final = f"{allowed}Access-Control-Max-Age: {max_age}\r\n".encode("ascii")
        self._exposed: Final = _exposing(exposed)
        of_refusals = (*_OF_REFUSALS, "DPoP-Nonce") if "DPoP" in headers else _OF_REFUSALS
        self._exposed_of_refusals: Final = _exposing((*exposed, *of_refusals))

    def admits(self, fields: Fields) -> bool:
        """Whether the page that a call is from may read the answer."""
        origins = fields.values(b"origin")
        return len(origins) == 1 and (self._any or origins[0] in self._origins)

    def lines(self, fields: Fields, *, refused: bool = False) -> bytes:
        """The lines of an answer; one that is `refused` is the gateway's own."""
        if not self.admits(fields):
            return b"" if self._any else b"Vary: Origin\r\n"
        return self._admitting(fields) + (self._exposed_of_refusals if refused else self._exposed)

    def preflight(self, asked: bytes, fields: Fields) -> bytes:
        """The lines of the answer to a preflight of an origin that is admitted, which asks for this method. Whether
        method and fields are among those that may be used is the browser's to compare, which says it in its console."""
        lines = self._admitting(fields) + self._preflight
        if b"Allow-Methods" not in lines:
            lines += b"Access-Control-Allow-Methods: %b\r\n" % asked
        names = self._names
        if self._echoes:
            members = [one for value in fields.values(b"access-control-request-headers") for one in list_members(value)]
            names = b", ".join(members[:_MOST_ASKED])
            lines += b"Vary: Access-Control-Request-Headers\r\n"
        return lines + b"Access-Control-Allow-Headers: %b\r\n" % names if names else lines

    def _admitting(self, fields: Fields) -> bytes:
        if self._any:
            return b"Access-Control-Allow-Origin: *\r\n"
        origin = fields.values(b"origin")[0]
        return b"Access-Control-Allow-Origin: %b\r\nVary: Origin\r\n%b" % (origin, self._credentials)


def _exposing(names: tuple[str, ...]) -> bytes:
    if not names:
        return b""
    listed = ANY if ANY in names else ", ".join(dict.fromkeys(names))
    return f"Access-Control-Expose-Headers: {listed}\r\n".encode("ascii")
