"""Limits, expectations, upgrades, HTTP/1.0, pipelining and cut-off requests."""

from tests.wire.rows import Pass, Row, chunked, passes, post, posted, refuse, request, shown

EXPECT = "RFC 9110, 10.1.1"
UPGRADE = "RFC 9110, 7.8"
LIMIT = "THREATS, Defaults"
OLD = "RFC 9112, 9.3"
CUT = "RFC 9112, 8"

LIMITS = [
    refuse(
        "a target of 9000 bytes",
        LIMIT,
        request(target=b"/" + b"a" * 9000),
        414,
        lenient=Pass(target=b"/" + b"a" * 9000),
    ),
    refuse(
        "a query of 9000 bytes",
        LIMIT,
        request(target=b"/?" + b"a" * 9000),
        414,
        lenient=Pass(target=b"/?" + b"a" * 9000),
    ),
    refuse("a request line that never ends", LIMIT, b"GET /" + b"a" * 20000, 414, own=True),
    refuse("a method that never ends", LIMIT, b"G" * 20000, 414, own=True),
    refuse("a version that never ends", LIMIT, b"GET /row HTTP/1." + b"1" * 20000, 414, own=True),
    refuse("a field of 9000 bytes", LIMIT, request(b"X: " + b"a" * 9000), 431, lenient=Pass()),
    refuse("a field name of 9000 bytes", LIMIT, request(b"X" * 9000 + b": a"), 431, lenient=Pass()),
    refuse("a field that never ends", LIMIT, request(b"X: " + b"a" * 20000)[:-4], 431, own=True),
    refuse("101 fields", LIMIT, request(*[b"X: a"] * 100), 431, lenient=Pass()),
    refuse("1000 fields", LIMIT, request(*[b"X: a"] * 999), 431, lenient=Pass()),
    refuse("101 fields that never end", LIMIT, request(*[b"X: a"] * 101)[:-2], 431, own=True),
    refuse("a head of 70,000 bytes", LIMIT, request(*[b"X: " + b"a" * 7000] * 10), 431, lenient=Pass()),
    refuse("a Host of 9000 bytes", LIMIT, request(host=b"Host: " + b"a" * 9000), 431, own=True),
    refuse("a Cookie of 9000 bytes", LIMIT, request(b"Cookie: " + b"a" * 9000), 431, lenient=Pass()),
    refuse("a body over the route's limit", LIMIT, post(b"Content-Length: 2000000"), 413, own=True),
    refuse("a body of 18 digits", LIMIT, post(b"Content-Length: 999999999999999999"), 413, own=True),
    refuse("a chunk over the route's limit", LIMIT, chunked(b"200000\r\n" + b"a" * 1_100_000), 413, own=True),
    refuse("a chunk-size line over the route's limit", LIMIT, chunked(b"100001\r\n"), 413, own=True),
    refuse("a chunk-size line of 4 GiB", LIMIT, chunked(b"100000000\r\n"), 413, own=True),
    refuse("a chunk-size line of 4 GiB with an extension", LIMIT, chunked(b"100000000;a=b\r\n"), 413, own=True),
    refuse("a chunk-size line of 15 digits", LIMIT, chunked(b"FFFFFFFFFFFFFFF\r\n"), 413, own=True),
    refuse("a chunk of 4 GiB that begins", LIMIT, chunked(b"100000000\r\nhello"), 413, own=True),
    refuse(
        "a chunk-size line of 4 GiB behind a chunk",
        LIMIT,
        chunked(b"5\r\nhello\r\n100000000\r\n"),
        413,
        begun=True,
        own=True,
    ),
    refuse(
        "two chunks that are over the route's limit together",
        LIMIT,
        chunked(b"80000\r\n%b\r\n80001\r\n" % (b"a" * 0x80000)),
        413,
        begun=True,
        own=True,
    ),
    passes("100 fields", LIMIT, request(*[b"X: a"] * 99), Pass()),
    passes(
        "a target of 8000 bytes",
        LIMIT,
        request(target=b"/" + b"a" * 7990),
        Pass(target=b"/" + b"a" * 7990),
        refusable=True,
    ),
    passes("a field of 8000 bytes", LIMIT, request(b"X: " + b"a" * 8000), Pass(), refusable=True),
    passes("a head of 40,000 bytes", LIMIT, request(*[b"X: " + b"a" * 4000] * 10), Pass(), refusable=True),
    passes(
        "a body at the route's limit",
        LIMIT,
        post(b"Content-Length: 1048576", body=b"a" * 1048576),
        posted(b"a" * 1048576),
    ),
    passes(
        "a chunk at the route's limit",
        LIMIT,
        chunked(b"100000\r\n%b\r\n0\r\n\r\n" % (b"a" * 1048576)),
        posted(b"a" * 1048576),
    ),
]


def _sized(size: int) -> bytes:
    """A field line of so many bytes, its CRLF included."""
    return b"X-A: " + b"a" * (size - 7)


def _line(size: int) -> bytes:
    """The target that makes the request line of a GET so many bytes long, its CRLF included."""
    return b"/" + b"a" * (size - 16)


def _boundaries() -> list[Row]:
    """Each limit, and one byte more (THREATS, Defaults): the same whole and byte by byte."""
    full = [_sized(8192)] * 7
    rest = 65536 - len(request(*full))
    extension = b";a=" + b"b" * 250
    ten = b"a" * 10
    return [
        passes("a request line at the limit", LIMIT, request(target=_line(8192)), Pass(target=_line(8192)), own=True),
        refuse("a request line a byte over the limit", LIMIT, request(target=_line(8193)), 414, own=True),
        passes("a field at the limit", LIMIT, request(_sized(8192)), Pass(), own=True),
        refuse("a field a byte over the limit", LIMIT, request(_sized(8193)), 431, own=True),
        passes("a head at the limit", LIMIT, request(*full, _sized(rest)), Pass(), own=True),
        refuse("a head a byte over the limit", LIMIT, request(*full, _sized(rest + 1)), 431, own=True),
        passes(
            "a chunk line at the limit",
            LIMIT,
            chunked(b"a%b\r\n%b\r\n0\r\n\r\n" % (extension[:253], ten)),
            posted(ten),
            own=True,
        ),
        refuse(
            "a chunk line a byte over the limit",
            LIMIT,
            chunked(b"0a%b\r\n%b\r\n0\r\n\r\n" % (extension[:253], ten)),
            own=True,
        ),
        refuse("a body a byte over the route's limit", LIMIT, post(b"Content-Length: 1048577"), 413, own=True),
        refuse(
            "an expected body over the route's limit",
            EXPECT,
            post(b"Expect: 100-continue", b"Content-Length: 1048577"),
            413,
            own=True,
        ),
    ]


def _expectations() -> list[Row]:
    rows = []
    for value in (b"100-continue", b"100-Continue", b"100-CONTINUE"):
        data = post(b"Expect: " + value, b"Content-Length: 5", body=b"hello")
        rows.append(passes(f"Expect: {value.decode()}", EXPECT, data, posted(b"hello")))
    data = chunked(b"5\r\nhello\r\n0\r\n\r\n", b"Expect: 100-continue")
    rows.append(passes("Expect with chunks", EXPECT, data, posted(b"hello")))
    old = post(b"Expect: 100-continue", b"Content-Length: 5", body=b"hello", version=b"HTTP/1.0")
    rows.append(passes("Expect on HTTP/1.0 is ignored", EXPECT, old, posted(b"hello", closes=True)))
    empty = request(b"Expect: 100-continue")
    rows.append(passes("Expect without a body", EXPECT, empty, Pass()))
    for value in (
        b"200-ok",
        b"",
        b"100-continue;a=b",
        b"100-continue, foo",
        b"foo=bar",
        b"100 continue",
        b"101-continue",
    ):
        data = post(b"Expect: " + value, b"Content-Length: 5", body=b"hello")
        rows.append(refuse(f"Expect: {shown(value)}", EXPECT, data, 417, lenient=posted(b"hello")))
    twice = post(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 5", body=b"hello")
    rows.append(refuse("Expect twice", EXPECT, twice, 417, lenient=posted(b"hello")))
    return rows


SETTINGS = b"HTTP2-Settings: AAMAAABkAAQAAP__"
# What asks for HTTP/2 or names several protocols is not passed on: the request goes up without it.
NO_UPGRADES = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" + SETTINGS,
    b"Connection: Upgrade\r\nUpgrade: H2C",
    b"Connection: Upgrade\r\nUpgrade: h2",
    b"Connection: Upgrade\r\nUpgrade: HTTP/2.0",
    b"Connection: Upgrade\r\nUpgrade: TLS/1.0",
    b"Connection: Upgrade\r\nUpgrade: websocket, h2c",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket",
    b"Connection: upgrade\r\nUpgrade:\th2c ",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Connection: keep-alive\r\nUpgrade: websocket",
    b"Connection: Upgrade\r\nUpgrade:",
]  # fmt: skip
KEY = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
UPGRADED = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"))


def _upgrades() -> list[Row]:
    rows = []
    for raw in NO_UPGRADES:
        verdict = Pass(gone=frozenset((b"upgrade", b"connection", b"http2-settings")))
        rows.append(
            passes(
                f"an upgrade by {shown(raw[:70])}",
                UPGRADE,
                request(raw),
                verdict,
                own=b"h2c" not in raw or b"websocket" in raw,
            )
        )
    for raw in (b"Connection: Upgrade", b"Connection: keep-alive, upgrade"):
        data = request(raw, b"Upgrade: websocket", KEY)
        verdict = Pass(added=UPGRADED, unreadable=frozenset(("llhttp",)))
        rows.append(passes(f"a WebSocket that is declined, {shown(raw)}", UPGRADE, data, verdict, own=True))
    old = request(b"Connection: Upgrade", b"Upgrade: websocket", KEY, version=b"HTTP/1.0")
    verdict = Pass(gone=frozenset((b"upgrade", b"connection")), closes=True)
    rows.append(passes("an upgrade on HTTP/1.0 is ignored", UPGRADE, old, verdict))
    h2c = post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", SETTINGS, b"Content-Length: 5", body=b"hello")
    gone = (b"upgrade", b"connection", b"http2-settings")
    rows.append(passes("h2c with a body", UPGRADE, h2c, posted(b"hello", gone=gone)))
    body = request(b"Connection: Upgrade", b"Upgrade: websocket", KEY, b"Content-Length: 5", body=b"hello")
    verdict = Pass(body=b"hello", added=UPGRADED, unreadable=frozenset(("llhttp",)))
    rows.append(passes("a WebSocket with a body that is declined", UPGRADE, body, verdict, own=True))
    return rows


def _old() -> list[Row]:
    old = b"HTTP/1.0"
    kept = Pass()
    once = Pass(closes=True)
    return [
        passes("HTTP/1.0", OLD, request(version=old), once),
        passes("HTTP/1.0 without Host", OLD, request(version=old, host=None), Pass(closes=True), own=True),
        passes("HTTP/1.0 that stays", OLD, request(b"Connection: keep-alive", version=old), kept),
        passes("HTTP/1.0 that stays, in capitals", OLD, request(b"Connection: Keep-Alive", version=old), kept),
        passes("HTTP/1.0 that stays and closes", OLD, request(b"Connection: keep-alive, close", version=old), once),
        passes("HTTP/1.0 with Keep-Alive alone", OLD, request(b"Keep-Alive: timeout=5", version=old), once),
        passes("HTTP/1.0 with Proxy-Connection", OLD, request(b"Proxy-Connection: keep-alive", version=old), once),
        passes("HTTP/1.0 HEAD", OLD, request(version=old, method=b"HEAD"), Pass(method=b"HEAD", closes=True)),
        passes("HEAD", "RFC 9110, 9.3.2", request(method=b"HEAD"), Pass(method=b"HEAD")),
        refuse("two Hosts on HTTP/1.0", "RFC 9112, 3.2", request(b"Host: b", version=old)),
        refuse("a bad Host on HTTP/1.0", "RFC 9112, 3.2", request(host=b"Host: a/b", version=old)),
        refuse(
            "an absolute-form on HTTP/1.0 for another host",
            "RFC 9112, 3.2.2",
            request(target=b"http://b/", version=old),
            own=True,
        ),
        refuse(
            "a folded field on HTTP/1.0",
            "RFC 9112, 5.2",
            request(b"X-A: b\r\n c", version=old),
            lenient=Pass(closes=True, gone=frozenset((b"x-a",))),
        ),
    ]


# A client that ends its side: what has come is a whole request or none (RFC 9112, 8)
def _cuts() -> list[Row]:
    whole = post(b"Content-Length: 5", body=b"hello")
    in_chunks = chunked(b"5\r\nhello\r\n0\r\n\r\n")
    parts = [
        ("in the method", whole[:2], False),
        ("behind the request line", whole[:20], False),
        ("in a field", whole[:25], False),
        ("before the empty line", whole[:-7], False),
        ("within the empty line", whole[:-6], False),
        ("before the body", whole[:-5], True),
        ("within the body", whole[:-1], True),
        ("in a chunk size", in_chunks[:-14], True),
        ("within a chunk", in_chunks[:-10], True),
        ("before the last chunk", in_chunks[:-5], True),
        ("within the last chunk", in_chunks[:-3], True),
        ("before the trailers' end", in_chunks[:-2], True),
    ]
    return [
        refuse(f"a request that ends {name}", CUT, data, 0, 400, 408, begun=begun, ends=True)
        for name, data, begun in parts
    ]


ROWS: list[Row] = [
    *LIMITS,
    *_boundaries(),
    *_expectations(),
    *_upgrades(),
    *_old(),
    *_cuts(),
    passes("a client that ends its side behind a request", "RFC 9112, 9.6", request(), Pass(), own=True, ends=True),
]
