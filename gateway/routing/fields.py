"""What header fields become on their way through, both ways.

To the upstream: hop-by-hop fields, whatever claims to come from a proxy or from us, credentials and our own cookies
are taken away; who asks and how it reached us is put in their place. To the client: hop-by-hop fields, and what
could take over the issuer's origin, are taken away.
"""

import re
from collections.abc import Collection, Iterable
from typing import Final

from gateway.http1 import Field

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

IDENTITY: Final = frozenset((b"x-auth-subject", b"x-auth-client-id", b"x-auth-scope", b"x-auth-token-type"))

# Fields by which a client could speak for a proxy, for us, or for another method or path than the one judged.
_DECEIVING: Final = IDENTITY | frozenset(
    (
        b"forwarded",
        b"x-request-id",
        b"x-real-ip",
        b"x-original-url",
        b"x-original-host",
        b"x-rewrite-url",
        b"x-http-method-override",
        b"x-http-method",
        b"x-method-override",
        b"proxy",  # RFC 3875's HTTP_PROXY
    )
)
_DECEIVING_PREFIX: Final = b"x-forwarded-"
# Some servers make "_" of all else in a variable's name (RFC 3875, section 4.1.18), so that `x.auth.subject` is to them
# what x-auth-subject is.
_AS_VARIABLES: Final = bytes(byte if chr(byte).isalnum() and byte < 0x80 else ord("-") for byte in range(256))

# The framing is written anew for the next hop, and Host by the route's rule.
_REWRITTEN: Final = frozenset((b"content-length", b"host", b"expect"))
_TO_UPSTREAM_NEVER: Final = HOP_BY_HOP | _DECEIVING | _REWRITTEN
_TO_CLIENT_NEVER: Final = HOP_BY_HOP | {b"content-length", b"x-request-id"}

# An upstream's answer on the issuer's host must not reach into its pages, nor hear of them: the last three have
# browsers report the addresses of the origin (Reporting API, Network Error Logging), alt-svc leads them elsewhere.
_TAKES_OVER_ORIGIN: Final = frozenset(
    (b"service-worker-allowed", b"clear-site-data", b"alt-svc", b"nel", b"report-to", b"reporting-endpoints")
)

# RFC 9110, section 6.5.1: fields that are needed before the body, or that say who asks, are no trailers
_NO_TRAILER: Final = (
    _TO_UPSTREAM_NEVER
    | _TAKES_OVER_ORIGIN
    | frozenset(
        (
            b"authorization",
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
            b"signature",
            b"signature-input",
        )
    )
)

_COOKIE_PAIR = re.compile(rb"[^;]+")


def to_upstream(
    fields: Iterable[Field],
    connection: Collection[bytes],
    own_cookies: Collection[bytes],
) -> list[tuple[bytes, bytes]]:
    """A request's end-to-end fields but Authorization, in their order, with what must not pass taken out.

    `connection` are the names that the Connection field nominates; `own_cookies` the names of our cookies.
    """
    kept = []
    for lower, name, value in fields:
        read = lower.translate(_AS_VARIABLES)
        if read in _TO_UPSTREAM_NEVER or read.startswith(_DECEIVING_PREFIX) or lower in connection:
            continue
        if lower == b"cookie" and own_cookies:
            value = without_cookies(value, own_cookies)
            if not value:
                continue
        kept.append((name, value))
    return kept


def to_client(
    fields: Iterable[Field], connection: Collection[bytes], own_cookies: Collection[bytes]
) -> list[tuple[bytes, bytes]]:
    """A response's end-to-end fields. With `own_cookies`, those that could take over our pages are taken out."""
    kept = []
    for lower, name, value in fields:
        if lower in _TO_CLIENT_NEVER or lower in connection:
            continue
        if own_cookies and (
            lower in _TAKES_OVER_ORIGIN or (lower == b"set-cookie" and cookie_name(value) in own_cookies)
        ):
            continue
        kept.append((name, value))
    return kept


def trailers(fields: Iterable[Field]) -> list[tuple[bytes, bytes]]:
    """The trailer fields that may pass, either way: none that frames, routes, identifies or authenticates."""
    return [
        (name, value)
        for lower, name, value in fields
        if (read := lower.translate(_AS_VARIABLES)) not in _NO_TRAILER
        and not read.startswith(_DECEIVING_PREFIX)
        and b"_" not in lower
    ]


def cookie_name(set_cookie: bytes) -> bytes:
    """The name in a Set-Cookie value, as RFC 6265, section 5.2 reads it; b"" for a nameless cookie."""
    pair = set_cookie.split(b";", 1)[0]
    name, equals, value = pair.partition(b"=")
    name = name.strip(b" \t")
    # A browser sends a nameless cookie as its bare value, which a server may read as name and value.
    return name or (value if equals else pair).partition(b"=")[0].strip(b" \t")


def without_cookies(cookie: bytes, names: Collection[bytes]) -> bytes:
    """A Cookie value without the cookies of these names; the others keep every byte."""
    pairs = _COOKIE_PAIR.findall(cookie)
    kept = [pair for pair in pairs if pair.partition(b"=")[0].strip(b" \t") not in names]
    if len(kept) == len(pairs):
        return cookie
    return b";".join(kept).strip(b" \t")
