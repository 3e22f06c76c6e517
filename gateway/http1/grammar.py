"""HTTP/1.1 on the wire: the grammar in one block, strict, and the limits that bound it (RFC 9110, RFC 9112).

Everything is matched in full. What RFC 9112 lets a recipient tolerate (bare LF, folded lines, white space before a
colon) is refused, since two readers that tolerate differently are how requests are smuggled.
"""

import re
from functools import lru_cache
from typing import Final

from gateway.errors import GatewayError

LINE_LIMIT: Final = 8 * 1024  # one line of a head, its CRLF included
HEAD_LIMIT: Final = 64 * 1024  # a whole head
FIELD_LIMIT: Final = 100  # fields of a head or a trailer section
CHUNK_LINE_LIMIT: Final = 256  # a chunk-size line with its extensions
CHUNK_EXTENSIONS_LIMIT: Final = 16 * 1024  # all chunk extensions of a message together
INTERIM_LIMIT: Final = 16  # 1xx answers to one request

ALPHANUMERIC: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def table(allowed: bytes) -> bytes:
    """One byte for each that there is: 1 for those that are allowed, and 0."""
    return bytes(byte in allowed for byte in range(256))


TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"  # RFC 9110, section 5.6.2
IS_TOKEN: Final = table(ALPHANUMERIC + b"!#$%&'*+-.^_`|~")  # which bytes fit that
TARGET: Final = rb"[\x21-\x7e\x80-\xff]"  # of which the routes take less (`routing.target`)
VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]*"  # RFC 9110, section 5.5, without its controls
_FIELDS = b"{0,%d}+" % FIELD_LIMIT  # so that no more of them are ever looked at
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'  # RFC 9110, section 5.6.4

# RFC 9110, section 7.8: protocol-name ["/" protocol-version]
PROTOCOL: Final = re.compile(rb"(" + TOKEN + rb"++)(?:/" + TOKEN + rb"++)?")

# RFC 9112, section 3: method SP request-target SP HTTP-version
REQUEST_LINE: Final = re.compile(rb"(" + TOKEN + rb"{1,32}+) (" + TARGET + rb"++) HTTP/(\d)\.(\d)\r\n")
# RFC 9112, section 4; the space before an absent reason is often left out, and nothing hangs on it
STATUS_LINE: Final = re.compile(rb"HTTP/(\d)\.(\d) (\d{3})(?: (" + VALUE + rb"))?\r\n")
# RFC 9112, section 5
FIELD_LINE: Final = re.compile(TOKEN + rb"++:" + VALUE + rb"+\r\n")
FIELD_LINES: Final = re.compile(rb"(?:" + TOKEN + rb"++:" + VALUE + rb"+\r\n)" + _FIELDS)

# RFC 9112, section 7.1: chunk-size [ chunk-ext ] CRLF
CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,15})((?:[ \t]*;[ \t]*"
    + TOKEN
    + rb"++(?:[ \t]*=[ \t]*(?:"
    + TOKEN
    + rb"++|"
    + _QUOTED
    + rb"))?)*)\r\n"
)

# RFC 9112, section 3.2 and RFC 3986, section 3.2.2: host [ ":" port ]
HOST: Final = re.compile(
    rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9\-._~!$&'()*+,;=]{1,253})(?::([0-9]{0,5}))?",
)

Field = tuple[bytes, bytes, bytes]  # lower-case name, name as sent, value without surrounding white space


class Malformed(GatewayError):
    """A message that breaks the grammar or a limit: the status that says so, and why. The connection is closed."""

    def __init__(self, status: int, description: str) -> None:
        super().__init__(status, description)
        self.status: Final = status
        self.description: Final = description

    def __str__(self) -> str:
        return f"{self.status}: {self.description}"


def is_length(value: bytes) -> bool:
    """Whether this is a Content-Length: 1*DIGIT, bounded (RFC 9110, section 8.6)."""
    return len(value) <= 18 and value.isdigit()


_LONGEST_KEPT: Final = 64  # bytes of a Connection field that is remembered


def nominated(values: tuple[bytes, ...]) -> frozenset[bytes]:
    """The names that all Connection fields nominate, in lower case; each is looked at once, however often it stands.

    Nearly everybody sends one of three values, and none of those is long.
    """
    if len(values) == 1 and len(values[0]) <= _LONGEST_KEPT:
        return _nominated_by(values[0])
    return _nominated(values)


@lru_cache(maxsize=64)
def _nominated_by(value: bytes) -> frozenset[bytes]:
    return _nominated((value,))


def _nominated(values: tuple[bytes, ...]) -> frozenset[bytes]:
    named = set(b",".join(values).lower().split(b","))
    return frozenset([member for part in named if (member := part.strip(b" \t"))])


def list_members(value: bytes) -> list[bytes]:
    """The members of a comma-separated list of tokens, in lower case, empty ones left out (RFC 9110, 5.6.1)."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]
