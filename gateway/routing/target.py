"""The one canonical target: what is matched is what is forwarded, byte for byte.

Nothing is ever rewritten. A target that two readers could understand differently is refused instead: dot segments,
backslashes and controls, malformed escapes, and on routes that do not keep them empty segments and encoded slashes.
Legal but suspicious ones pass as they were sent, unless some reading of them leads to another route (see
`RouteTable.match`).
"""

import re
from typing import Final, final
from urllib.parse import unquote_to_bytes

from gateway.errors import GatewayError
from gateway.http1.grammar import ALPHANUMERIC, table
from gateway.http1.scan import COMPILED

if COMPILED:
    from gateway.http1 import quick

    _plain_path: Final = quick.plain_path

# Controls, space, DEL and "#" never stand in a target; other bytes that browsers send raw may.
_TARGET: Final = re.compile(rb"[\x21\x22\x24-\x7e\x80-\xff]+")
# RFC 9110, section 4.2 and RFC 9112, section 3.2.2: absolute-form
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?#@]+)((?:[/?].*)?)", re.DOTALL)
# One of: a dot segment (also between encoded slashes, and before path parameters), a backslash, or an escape of what no
# path may hide: "\\", a control or DEL. Then anything that is no escape at all.
_AMBIGUOUS: Final = re.compile(
    rb"(?:/|%2[fF])(?:\.|%2[eE]){1,2}(?=[/;]|%2[fF]|%3[bB]|\Z)"
    rb"|\\"
    rb"|%(?:5[cC]|[01][0-9a-fA-F]|7[fF])"
    rb"|%(?![0-9a-fA-F]{2})"
)
# A path of which everybody reads the same: segments that are not empty and do not begin with a dot, without escapes and
# parameters; and a query.
_PLAIN: Final = re.compile(
    rb"(?=/)((?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*+)*+/?+)(\?[\x21\x22\x24-\x7e\x80-\xff]*+)?+"
)
_IN_SEGMENT: Final = table(ALPHANUMERIC + b"._~!$&'()*+,=:@-")
_IN_QUERY: Final = table(bytes(range(0x21, 0x7F)).replace(b"#", b"") + bytes(range(0x80, 0x100)))
_SLASHES: Final = re.compile(rb"//|%2[fF]")
_PARAMETERS: Final = re.compile(rb";[^/]*")
_QUERY_OR_FRAGMENT: Final = re.compile(rb"[?#].*", re.DOTALL)  # of a path that was decoded and is read once more
_EMPTY_SEGMENTS: Final = re.compile(rb"//+")


class TargetError(GatewayError):
    """A request target that is refused with 400; the text says why."""


@final
class Target:
    """A canonical request target in origin-form: `path`, and `query` with its "?" (b"" when there is none).

    `authority` is set where the client sent the absolute-form; a `plain` path is one that `is_plain` says so of.
    """

    __slots__ = ("authority", "path", "plain", "query")

    def __init__(self, path: bytes, query: bytes, authority: bytes | None, plain: bool) -> None:
        self.path: Final = path
        self.query: Final = query
        self.authority: Final = authority
        self.plain: Final = plain


def origin_form(target: bytes) -> bytes:
    """The path and the query of a target that may be in absolute form (RFC 9112, section 3.2.2)."""
    return target if target.startswith(b"/") else b"/" + target.partition(b"://")[2].partition(b"/")[2]


def canonical(raw: bytes) -> Target:
    """Split a request target without changing a byte of it. Raises TargetError for what no route takes."""
    end = _plain_path(raw, _IN_SEGMENT, _IN_QUERY) if COMPILED else _plain_by_pattern(raw)
    if end:
        return Target(raw[:end], raw[end:], None, True)  # what follows would say the same, after more looks
    if _TARGET.fullmatch(raw) is None:
        raise TargetError("The request target contains a character that is not allowed.")
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
        raise TargetError("The path contains a dot segment, a backslash, or an escape that hides one.")
    return Target(path, mark + query, authority, is_plain(path))


def _plain_by_pattern(raw: bytes) -> int:
    """Where the path of a plain target ends; 0 where the target is not plain. `quick.plain_path` says the same."""
    found = _PLAIN.fullmatch(raw)
    return 0 if found is None else found.end(1)


def is_plain(path: bytes) -> bool:
    """Whether everybody reads a path alike: it has no escapes, no path parameters and no empty segments."""
    return b"%" not in path and b";" not in path and b"//" not in path


def has_slashes_of_its_own(path: bytes) -> bool:
    """Whether a path has empty segments or encoded slashes, which only some routes keep."""
    return _SLASHES.search(path) is not None


def readings(path: bytes, prefix: bytes) -> set[bytes]:
    """The other paths that an upstream could take this one for, which gets it without `prefix`.

    Path parameters are dropped, before escapes are resolved or behind that, or both; where what the upstream gets
    begins with an empty segment, the next is taken for an authority (`//host/path`: RFC 3986, section 4.2); and empty
    segments are left out, also those that are so only without their parameters, so that `/;/admin` is `/admin`; what is
    decoded may be read as a URL once more, where `?` and `#` end the path. A
    reader that does so with some of them finds itself between two of these, and so at the same route.
    """
    decoded = unquote_to_bytes(path)
    if not any(sign in decoded for sign in (b";", b"//", b"?", b"#")):  # nearly always
        return {decoded} - {path}
    found = {path}
    found |= {_PARAMETERS.sub(b"", path)}
    found |= {unquote_to_bytes(one) for one in found}
    found |= {_PARAMETERS.sub(b"", one) for one in found}
    found |= {_QUERY_OR_FRAGMENT.sub(b"", one) for one in found}
    found |= {prefix + _without_authority(one[len(prefix) :]) for one in found if one.startswith(prefix + b"//")}
    found |= {_EMPTY_SEGMENTS.sub(b"/", one) for one in found}
    return found - {path}


def _without_authority(reference: bytes) -> bytes:
    end = reference.find(b"/", 2)
    return b"/" if end < 0 else reference[end:]
