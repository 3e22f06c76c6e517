"""The one canonical target: what is matched is what is forwarded, byte for byte.

Nothing is ever rewritten. A target that two readers could understand differently is refused instead: dot segments,
empty segments, encoded slashes, backslashes and controls, malformed escapes. Legal but suspicious ones pass as they
were sent, unless their escapes or path parameters would lead to another route (see `RouteTable.match`).
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.errors import GatewayError

# Controls, space, DEL and "#" never stand in a target; other bytes that browsers send raw may.
_TARGET = re.compile(rb"[\x21\x22\x24-\x7e\x80-\xff]+")
# RFC 9110, section 4.2 and RFC 9112, section 3.2.2: absolute-form
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#@]+)((?:[/?].*)?)", re.DOTALL)
# One of: an empty segment, a dot segment (also before path parameters), a backslash, or an escape of what no path
# may hide: "/", "\\", a control or DEL. Then anything that is no escape at all.
_AMBIGUOUS = re.compile(
    rb"//"
    rb"|/(?:\.|%2[eE]){1,2}(?=[/;]|%3[bB]|\Z)"
    rb"|\\"
    rb"|%(?:2[fF]|5[cC]|[01][0-9a-fA-F]|7[fF])"
    rb"|%(?![0-9a-fA-F]{2})"
)
_PARAMETERS: Final = re.compile(rb";[^/]*")
_EMPTY_SEGMENTS: Final = re.compile(rb"//+")


class TargetError(GatewayError):
    """A request target that is refused with 400; the text says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """A canonical request target in origin-form: `path`, and `query` with its "?" (b"" when there is none).

    `authority` is set where the client sent the absolute-form.
    """

    path: bytes
    query: bytes
    authority: bytes | None = None


def canonical(raw: bytes) -> Target:
    """Split a request target without changing a byte of it. Raises TargetError for what is refused."""
    if _TARGET.fullmatch(raw) is None:
        raise TargetError("The request target holds a character that no target may.")
    authority = None
    if not raw.startswith(b"/"):
        found = _ABSOLUTE.fullmatch(raw)
        if found is None:
            raise TargetError("The request target is neither a path nor an http URL.")
        authority, raw = found.groups()
        if not raw.startswith(b"/"):
            raw = b"/" + raw  # RFC 9112, section 3.2.1: an empty path is sent as "/"
    path, mark, query = raw.partition(b"?")
    if _AMBIGUOUS.search(path):
        raise TargetError("The path holds an empty or dot segment, a backslash, or an escape that hides one.")
    return Target(path, mark + query, authority)


def readings(path: bytes) -> tuple[bytes, ...]:
    """The other paths that an upstream could take this one for: escapes resolved, path parameters dropped, and also
    the segments that are empty without theirs, so that `/;/admin` is `/admin`."""
    if b"%" not in path and b";" not in path:
        return ()
    decoded = unquote_to_bytes(path)
    bare = _PARAMETERS.sub(b"", decoded)
    return tuple({decoded, bare, _EMPTY_SEGMENTS.sub(b"/", bare)} - {path})
