"""What header fields become on their way through, both ways.

To the upstream: hop-by-hop fields, whatever claims to come from a proxy or from us, credentials and our own cookies
are taken away; who asks and how it reached us is put in their place. To the client: hop-by-hop fields, and what
could take over the issuer's origin, are taken away.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, final

from gateway.http1 import Field, Fields, Names, Selection
from gateway.model import COOKIE_MARK, OWN_COOKIES
from gateway.routing import cookies

# RFC 9110, section 7.6.1, with the ones that are hop-by-hop although Connection may not name them
HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-authentication-info",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    )
)

IDENTITY: Final = frozenset(
    (b"x-auth-subject", b"x-auth-client-id", b"x-auth-scope", b"x-auth-token-type", b"x-auth-jwt")
)

# Fields by which a client could speak for a proxy, for us, or for another method or path than the one judged.
DECEIVING: Final = IDENTITY | frozenset(
    (
        b"forwarded",
        b"forwarded-for",
        b"x-forwarded",
        b"x-request-id",
        b"x-original-forwarded-for",
        b"x-real-ip",
        b"client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"x-envoy-external-address",
        b"remote-user",
        b"x-remote-user",
        b"x-auth-user",
        b"x-auth-groups",
        b"remote-groups",
        b"front-end-https",
        b"x-url-scheme",
        b"x-original-url",
        b"x-original-uri",
        b"x-original-host",
        b"x-original-method",
        b"x-envoy-original-path",
        b"x-script-name",
        b"x-rewrite-url",
        b"x-http-path-override",
        b"x-http-method-override",
        b"x-http-method",
        b"x-method-override",
        b"proxy",  # RFC 3875's HTTP_PROXY
    )
)
DECEIVING_PREFIX: Final = b"x-forwarded-"
# Some servers make "_" of all else in a variable's name (RFC 3875, section 4.1.18), so that `x.auth.subject` is to them
# what x-auth-subject is.
_AS_VARIABLES: Final = bytes(byte if chr(byte).isalnum() and byte < 0x80 else ord("-") for byte in range(256))

# The framing is written anew for the next hop, Host by the route's rule, and of a WebSocket's extensions some pass.
_REWRITTEN: Final = frozenset((b"content-length", b"host", b"expect", b"sec-websocket-extensions"))
_TO_UPSTREAM_NEVER: Final = HOP_BY_HOP | DECEIVING | _REWRITTEN
_TO_CLIENT_NEVER: Final = HOP_BY_HOP | {b"content-length", b"x-request-id"}

# An upstream's answer on the issuer's host must not reach into its pages, nor hear of them: the last three have
# browsers report the addresses of the origin (Reporting API, Network Error Logging), alt-svc leads them elsewhere.
TAKES_OVER_ORIGIN: Final = frozenset(
    (b"service-worker-allowed", b"clear-site-data", b"alt-svc", b"nel", b"report-to", b"reporting-endpoints")
)

# RFC 9110, section 6.5.1: fields that are needed before the body, or that say who asks, are no trailers
_NO_TRAILER: Final = (
    _TO_UPSTREAM_NEVER
    | TAKES_OVER_ORIGIN
    | frozenset(
        (
            b"cookie",
            b"set-cookie",
            b"content-encoding",
            b"content-type",
            b"content-range",
            b"trailer",
            b"cache-control",
            b"max-forwards",
            b"range",
            b"age",
            b"date",
            b"expires",
            b"location",
            b"retry-after",
            b"vary",
            b"www-authenticate",
        )
    )
)


_OWN_COOKIES: Final = frozenset(name.encode() for name in OWN_COOKIES)
_MARK_OF_OURS: Final = COOKIE_MARK.encode()  # where it is not mentioned, there is none of them
mentions_ours: Final = cookies.mentioning(_OWN_COOKIES)


_NOTHING: Final = frozenset[bytes]()
_COOKIE: Final = frozenset((b"cookie",))


@final
class Shape:
    """What an operator makes of a message's fields: those of the names `cut` are cut out, and `lines` put behind."""

    __slots__ = ("cut", "lines")

    def __init__(self, cut: frozenset[bytes], lines: bytes) -> None:
        self.cut: Final = cut
        self.lines: Final = lines


def with_lines(shape: Shape | None, lines: bytes) -> Shape | None:
    """A shape that puts these lines behind too."""
    if not lines:
        return shape
    return Shape(_NOTHING, lines) if shape is None else Shape(shape.cut, shape.lines + lines)


def to_upstream(
    fields: Fields, nominated: frozenset[bytes], *, own: bool, but: frozenset[bytes], shape: Shape | None = None
) -> bytes:
    """A request's end-to-end field lines, as they came, but for its `shape`, with what must not pass cut out.

    `nominated` are the names in the Connection field; `own` says that it goes to our own pages, which alone see our
    cookies; `but` names what else is cut out.
    """
    names = fields.names
    if shape is not None:  # also what a server may read as one of these names
        but |= frozenset([name for name in names.known if name.translate(_AS_VARIABLES) in shape.cut])
    cut = _among(names, nominated) | but if nominated else but
    values = () if own or b"cookie" in cut else fields.values(b"cookie")
    if all(value.find(_MARK_OF_OURS) < 0 for value in values):  # `in` takes the mark for a number first
        return fields.cut(_upwards.of(names, cut))
    kept = [_of_others(value) for value in values]
    rewritten = b"".join([b"Cookie: " + value + b"\r\n" for value in kept if value])
    return fields.cut(_upwards.of(names, _and_cookie(cut))) + rewritten


@lru_cache(maxsize=64)  # nearly always what the route's schemes make of it
def _and_cookie(cut: frozenset[bytes]) -> frozenset[bytes]:
    return cut | _COOKIE


def _of_others(field: bytes) -> bytes:
    """A Cookie field without our cookies."""
    return cookies.without(field, _OWN_COOKIES, _MARK_OF_OURS)


def foreign_cookies(fields: Fields) -> bytes:
    """The cookies that are not ours, in one field as RFC 9113, section 8.2.3 joins them; empty where there are none."""
    kept = [_of_others(value) for value in fields.values(b"cookie")]
    return b"; ".join([value for value in kept if value])


def to_client(fields: Fields, nominated: frozenset[bytes], *, own: bool, shape: Shape | None = None) -> bytes:
    """A response's end-to-end field lines, as they came, but for its `shape`. Unless it is `own`, of our pages, what
    could take those over is cut out."""
    if shape is not None:
        return _to_client(fields, nominated | shape.cut, own) + shape.lines
    return _to_client(fields, nominated, own)


def _to_client(fields: Fields, nominated: frozenset[bytes], own: bool) -> bytes:
    names = fields.names
    if own:
        return fields.cut(_downwards.of(names, _among(names, nominated)))
    but = _among(names, nominated) | TAKES_OVER_ORIGIN if nominated else TAKES_OVER_ORIGIN
    lines = fields.cut(_downwards.of(names, but))
    if b"set-cookie" not in names.places or b"set-cookie" in nominated:
        return lines
    values = fields.values(b"set-cookie")
    if all(value.lower().find(_MARK_OF_OURS) < 0 for value in values):
        return lines
    kept = [b"Set-Cookie: " + value + b"\r\n" for value in values if not mentions_ours(value)]
    return fields.cut(_choose_downwards(names, but | {b"set-cookie"})) + b"".join(kept)


def _choose_upwards(names: Names, but: frozenset[bytes]) -> Selection:
    """The lines of a request that pass, but those of some names."""
    cut = names.known & (_TO_UPSTREAM_NEVER | but)
    return names.without(cut | {name for name in names.known if _deceives(name)})


def _choose_downwards(names: Names, but: frozenset[bytes]) -> Selection:
    """The lines of a response that pass, but those of some names."""
    return names.without(names.known & (_TO_CLIENT_NEVER | but))


@final
class _Chosen:
    """What is chosen of sections, worked out once for each sequence of names and what is cut out besides."""

    __slots__ = ("_choose", "_of_names")

    def __init__(self, choose: Callable[[Names, frozenset[bytes]], Selection]) -> None:
        self._choose: Final = choose
        self._of_names: Final[dict[Names, dict[frozenset[bytes], Selection]]] = {}

    def of(self, names: Names, but: frozenset[bytes]) -> Selection:
        chosen = self._of_names.get(names)
        selection = None if chosen is None else chosen.get(but)
        return self._add(names, but) if selection is None else selection

    def _add(self, names: Names, but: frozenset[bytes]) -> Selection:
        selection = self._choose(names, but)
        if names.short:
            if names not in self._of_names and len(self._of_names) >= _SEQUENCES:
                del self._of_names[next(iter(self._of_names))]  # the one that came first
            chosen = self._of_names.setdefault(names, {})
            if len(chosen) >= _SELECTIONS:
                chosen.clear()
            chosen[but] = selection
        return selection


_SEQUENCES: Final = 128  # of names that are remembered; clients and upstreams send few
_SELECTIONS: Final = 4  # of one sequence, by what Connection nominates
_upwards: Final = _Chosen(_choose_upwards)
_downwards: Final = _Chosen(_choose_downwards)


def _among(names: Names, nominated: frozenset[bytes]) -> frozenset[bytes]:
    """Those nominated that are there. Of the others any number can be sent, which is nothing to remember."""
    return nominated & names.known


def _deceives(name: bytes) -> bool:
    """Whether a server may read the name as that of a field which must not pass."""
    read = name.translate(_AS_VARIABLES)
    return read in _TO_UPSTREAM_NEVER or read.startswith(DECEIVING_PREFIX)


def shaped(trailer: tuple[Field, ...], shape: Shape) -> tuple[Field, ...]:
    """A trailer section without what its message's shape cuts out."""
    return tuple([field for field in trailer if field[0].translate(_AS_VARIABLES) not in shape.cut])


def trailers(fields: Iterable[Field], credentials: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """The trailer fields that may pass, either way: none that frames, routes or identifies, and none of `credentials`
    (lower case)."""
    return [
        (name, value)
        for lower, name, value in fields
        if (read := lower.translate(_AS_VARIABLES)) not in _NO_TRAILER
        and read not in credentials
        and not read.startswith(DECEIVING_PREFIX)
        and b"_" not in lower
    ]
