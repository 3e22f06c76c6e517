"""Request lines and what stands before them (RFC 9112, sections 2.2 and 3; RFC 9110, section 9)."""

from tests.wire.rows import HOST, Pass, Row, passes, refuse, request, shown

SECTION = "RFC 9112, 3"
AS_1_1 = Pass()


def line(raw: bytes) -> bytes:
    return raw + b"\r\n" + HOST + b"\r\n\r\n"


VERSIONS = [
    # version, status; 505 is for who wishes to send it (RFC 9110, 15.6.6)
    (b"HTTP/0.9", 505),
    (b"HTTP/1.2", 505),
    (b"HTTP/1.9", 505),
    (b"HTTP/2.0", 505),
    (b"HTTP/3.0", 505),
    (b"HTTP/0.0", 505),
    (b"HTTP/9.1", 505),
    (b"HTTP/2", 400),
    (b"HTTP/1", 400),
    (b"HTTP/1.", 400),
    (b"HTTP/.1", 400),
    (b"HTTP/1.1.1", 400),
    (b"HTTP/1.11", 400),
    (b"HTTP/11.1", 400),
    (b"HTTP/01.1", 400),
    (b"HTTP/1.01", 400),
    (b"HTTP/1,1", 400),
    (b"HTTP/1:1", 400),
    (b"HTTP/+1.1", 400),
    (b"HTTP/-1.1", 400),
    (b"HTTP/1.x", 400),
    (b"HTTP/a.b", 400),
    (b"HTTP-1.1", 400),
    (b"HTTP1.1", 400),
    (b"HTTP//1.1", 400),
    (b"HTTP/ 1.1", 400),
    (b"HTTP /1.1", 400),
    (b"http/1.1", 400),
    (b"Http/1.1", 400),
    (b"HTTPS/1.1", 400),
    (b"HTTQ/1.1", 400),
    (b"ICY/1.1", 400),
    (b"RTSP/1.0", 400),
    (b"HTTP/1.1\x00", 400),
    (b"HTTP/1.1x", 400),
    (b"/1.1", 400),
    ("HTTP/1.\u0661".encode(), 400),
]

# RFC 9112, 3: a recipient may split on any white space instead (bare CR among it), so long as it does so soundly.
MERGED = Pass(target=b"/row")
SEPARATORS = [
    ("two spaces before the target", b"GET  /row HTTP/1.1", MERGED),
    ("two spaces before the version", b"GET /row  HTTP/1.1", MERGED),
    ("a tab before the target", b"GET\t/row HTTP/1.1", MERGED),
    ("a tab before the version", b"GET /row\tHTTP/1.1", MERGED),
    ("a vertical tab before the target", b"GET\x0b/row HTTP/1.1", MERGED),
    ("a form feed before the version", b"GET /row\x0cHTTP/1.1", MERGED),
    ("a bare CR before the version", b"GET /row \rHTTP/1.1", MERGED),
    ("a bare CR before the target", b"GET \r/row HTTP/1.1", MERGED),
    ("a space behind the version", b"GET /row HTTP/1.1 ", MERGED),
    ("a tab behind the version", b"GET /row HTTP/1.1\t", MERGED),
    ("a bare CR behind the version", b"GET /row HTTP/1.1\r", MERGED),
    ("a space before the method", b" GET /row HTTP/1.1", MERGED),
    ("a tab before the method", b"\tGET /row HTTP/1.1", MERGED),
    ("a no-break space before the target", "GET\u00a0/row HTTP/1.1".encode("latin-1"), None),
    ("no space before the target", b"GET/row HTTP/1.1", None),
    ("no space before the version", b"GET /rowHTTP/1.1", None),
    ("a space in the target", b"GET /row a HTTP/1.1", None),
    ("a second request line behind the first", b"GET /row HTTP/1.1 GET /hidden HTTP/1.1", None),
    ("a third word that is no version", b"GET /row foo", None),
    ("HTTP/0.9 without a version", b"GET /row", None),
    ("no target", b"GET HTTP/1.1", None),
    ("an empty target", b"GET  HTTP/1.1", None),
    ("no method", b"/row HTTP/1.1", None),
    ("a version alone", b"HTTP/1.1", None),
    ("a status line", b"HTTP/1.1 200 OK", None),
]

BEFORE = [
    refuse("two empty lines before the request", "RFC 9112, 2.2", b"\r\n\r\n" + request(), lenient=AS_1_1),
    refuse("five empty lines before the request", "RFC 9112, 2.2", b"\r\n" * 5 + request(), lenient=AS_1_1),
    refuse("a bare LF before the request", "RFC 9112, 2.2", b"\n" + request(), lenient=AS_1_1),
    refuse("a bare CR before the request", "RFC 9112, 3", b"\r" + request(), lenient=AS_1_1),
    refuse("a space and a line end before the request", "RFC 9112, 2.2", b" \r\n" + request()),
    refuse("a NUL before the request", "RFC 9112, 2.2", b"\x00" + request()),
    refuse("a byte order mark before the request", "RFC 9112, 2.2", b"\xef\xbb\xbf" + request()),
    refuse("the HTTP/2 preface", "RFC 9113, 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    refuse("a TLS hello", "RFC 9112, 2.2", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03\r\n\r\n"),
    refuse(
        "PROXY protocol that nobody configured", "RFC 9112, 2.2", b"PROXY TCP4 6.6.6.6 1.1.1.1 1 80\r\n" + request()
    ),
    passes("one empty line before the request", "RFC 9112, 2.2", b"\r\n" + request(), AS_1_1),
]

# RFC 9110, 5.6.2: what is no token
NO_TOKEN = [bytes((byte,)) for byte in b'"(),/:;<=>?@[\\]{}\x00\x01\x1b\x7f\x80\xff']
LLHTTP = frozenset(("llhttp",))  # knows the registered methods only
METHODS = [
    # An unknown method is an upstream's to judge: 501 is the origin server's word (RFC 9110, 9.1).
    (b"DELETE", False),
    (b"OPTIONS", False),
    (b"PATCH", False),
    (b"PROPFIND", False),
    (b"PURGE", False),
    (b"M-SEARCH", False),
    (b"QUERY", True),
    (b"FOO", True),
    (b"get", True),
    (b"Get", True),
    (b"X", True),
    (b"!#$%&'*+-.^_`|~09Az", True),
    (b"M" * 32, True),
]
METHOD = "RFC 9110, 9.1"


def _versions() -> list[Row]:
    return [
        refuse(
            f"version {shown(version)}",
            "RFC 9112, 2.3",
            line(b"GET /row " + version),
            status,
            lenient=AS_1_1 if status == 505 else None,
        )
        for version, status in VERSIONS
    ]


def _methods() -> list[Row]:
    rows = [refuse(f"a method with {shown(byte)}", METHOD, line(b"G" + byte + b"T /row HTTP/1.1")) for byte in NO_TOKEN]
    for method, unknown in METHODS:
        verdict = Pass(method=method, unreadable=LLHTTP if unknown else frozenset())
        rows.append(passes(f"method {shown(method)}", METHOD, request(method=method), verdict, refusable=True))
    traced = Pass(method=b"TRACE")
    rows.append(passes("TRACE", "RFC 9110, 9.3.8", request(method=b"TRACE"), traced, refusable=True))
    rows.append(refuse("a method of 33 characters", METHOD, request(method=b"M" * 33), own=True))
    rows.append(refuse("a method of 9000 characters", METHOD, request(method=b"M" * 9000), 400, 414, own=True))
    for target in (b"a:443", b"a", b"/row", b"http://a/row", b"*"):
        data = request(method=b"CONNECT", target=target)
        rows.append(refuse(f"CONNECT {shown(target)}", "RFC 9110, 9.3.6", data, 405, own=True))
    return rows


ROWS: list[Row] = [
    *BEFORE,
    *_versions(),
    *(refuse(name, SECTION, line(raw), lenient=lenient) for name, raw, lenient in SEPARATORS),
    *_methods(),
    refuse("bare LFs for all line ends", "RFC 9112, 2.2", b"GET /row HTTP/1.1\nHost: a\n\n", lenient=AS_1_1),
    refuse("a bare LF behind the request line", "RFC 9112, 2.2", b"GET /row HTTP/1.1\nHost: a\r\n\r\n", lenient=AS_1_1),
    refuse("LF CR for a line end", "RFC 9112, 2.2", b"GET /row HTTP/1.1\n\rHost: a\r\n\r\n"),
]
