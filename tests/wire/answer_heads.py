"""Heads of answers: status lines, fields, interim answers (RFC 9112, sections 4 and 5; RFC 9110, section 15)."""

from tests.wire.answers import ASKED, FORGED, HELLO, LOOSE, OK, OLD, SWITCH, Answer, Relay, broken, gone, relayed
from tests.wire.rows import shown

STATUS = "RFC 9112, 4"
STATUS_LINES = [
    (b"HTTP/1.1 200 \r\n", 200), (b"HTTP/1.1 200\r\n", 200), (b"HTTP/1.1 200 All  right\t!\r\n", 200),
    (b"HTTP/1.1 200 \xc3\xa4\r\n", 200), (b"HTTP/1.1 200 " + b"a" * 500 + b"\r\n", 200),
    (b"HTTP/1.1 201 Created\r\n", 201),
    (b"HTTP/1.1 226 IM Used\r\n", 226), (b"HTTP/1.1 299 Odd\r\n", 299), (b"HTTP/1.1 300 Choices\r\n", 300),
    (b"HTTP/1.1 399 Odd\r\n", 399), (b"HTTP/1.1 400 Bad Request\r\n", 400), (b"HTTP/1.1 401 Unauthorized\r\n", 401),
    (b"HTTP/1.1 418 Teapot\r\n", 418), (b"HTTP/1.1 451 Legal\r\n", 451), (b"HTTP/1.1 500 Fault\r\n", 500),
    (b"HTTP/1.1 502 Theirs\r\n", 502), (b"HTTP/1.1 503 Busy\r\n", 503), (b"HTTP/1.1 599 Odd\r\n", 599),
    (b"HTTP/1.0 200 OK\r\n", 200),
]  # fmt: skip
BAD_STATUS_LINES = [
    b"HTTP/2.0 200 OK\r\n", b"HTTP/0.9 200 OK\r\n", b"HTTP/1.2 200 OK\r\n", b"HTTP/1 200 OK\r\n",
    b"HTTP/1.10 200 OK\r\n",
    b"HTTP/1.1 20 OK\r\n", b"HTTP/1.1 2000 OK\r\n", b"HTTP/1.1 099 OK\r\n", b"HTTP/1.1 000 OK\r\n",
    b"HTTP/1.1 600 OK\r\n",
    b"HTTP/1.1 999 OK\r\n", b"HTTP/1.1 -20 OK\r\n", b"HTTP/1.1 2x0 OK\r\n", b"HTTP/1.1  200 OK\r\n",
    b"HTTP/1.1\t200 OK\r\n",
    b"HTTP/1.1 OK\r\n", b"HTTP/1.1\r\n", b"HTTP/1.1 200OK\r\n", b"http/1.1 200 OK\r\n", b" HTTP/1.1 200 OK\r\n",
    b"\r\nHTTP/1.1 200 OK\r\n", b"ICY 200 OK\r\n", b"HTTPS/1.1 200 OK\r\n", b"HTTP/1.1 200 O\x00K\r\n",
    b"HTTP/1.1 200 O\rK\r\n", b"HTTP/1.1 200 O\x1bK\r\n", b"GET / HTTP/1.1\r\n", b"<html>\r\n", b"\x00\r\n",
]  # fmt: skip
# RFC 9112, 4: recipients may split on other white space, and take a higher minor version for 1.1; RFC 9110, 15: an
# unknown status is its class's x00, even outside the classes
TOLERABLE = frozenset(
    (
        b"HTTP/2.0 200 OK\r\n", b"HTTP/0.9 200 OK\r\n", b"HTTP/1.2 200 OK\r\n",
        b"HTTP/1.1 600 OK\r\n", b"HTTP/1.1 999 OK\r\n", b"HTTP/1.1  200 OK\r\n",
        b"HTTP/1.1\t200 OK\r\n", b"\r\nHTTP/1.1 200 OK\r\n", b" HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 O\x1bK\r\n",
    )
)  # fmt: skip

FIELDS = [
    ("a space before the colon", b"X-A : b", "RFC 9112, 5.1", LOOSE),
    ("a tab before the colon", b"X-A\t: b", "RFC 9112, 5.1", LOOSE),
    ("a fold", b"X-A: b\r\n c", "RFC 9112, 5.2", LOOSE),
    ("a fold over a length", b"X-A: b\r\n Content-Length: 50", "RFC 9112, 5.2", LOOSE),
    ("a bare LF", b"X-A: b\nX-B: c", "RFC 9112, 2.2", LOOSE),
    ("a bare CR", b"X-A: b\rX-B: c", "RFC 9112, 2.2", LOOSE),
    ("a NUL", b"X-A: b\x00c", "RFC 9110, 5.5", LOOSE),
    ("an ESC", b"X-A: b\x1bc", "RFC 9110, 5.5", LOOSE),
    ("a DEL", b"X-A: b\x7fc", "RFC 9110, 5.5", LOOSE),
    ("no colon", b"X-A", "RFC 9112, 5", None),
    ("no name", b": b", "RFC 9112, 5", None),
    ("a name that is no token", b"X(A): b", "RFC 9112, 5", None),
    ("a NUL in a name", b"X\x00A: b", "RFC 9112, 5", None),
    ("a second status line", b"HTTP/1.1 200 OK", "RFC 9112, 5", None),
    ("9000 bytes", b"X-A: " + b"a" * 9000, "THREATS, Defaults", LOOSE),
    ("100 others", b"\r\n".join([b"X: a"] * 100), "THREATS, Defaults", LOOSE),
    ("a head of 70,000 bytes", b"\r\n".join([b"X: " + b"a" * 7000] * 10), "THREATS, Defaults", LOOSE),
]  # fmt: skip

EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def _interim() -> list[Answer]:
    section = "RFC 9110, 15.2"
    return [
        relayed("103 before the answer", section, EARLY + OK + HELLO, Relay(length=5, interim=(103,)), own=True),
        relayed("100 before the answer", section, CONTINUE + OK + HELLO, Relay(length=5, interim=(100,)), own=True),
        relayed(
            "102 and 103",
            section,
            b"HTTP/1.1 102 Processing\r\n\r\n" + EARLY + OK + HELLO,
            Relay(length=5, interim=(102, 103)),
            own=True,
        ),
        relayed(
            "199 before the answer",
            section,
            b"HTTP/1.1 199 Odd\r\n\r\n" + OK + HELLO,
            Relay(length=5, interim=(199,)),
            own=True,
        ),
        relayed(
            "103 with a length",
            section,
            b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + OK + HELLO,
            Relay(length=5, interim=(103,)),
            own=True,
        ),
        relayed("103 to HTTP/1.0", section, EARLY + OK + HELLO, request=OLD),
        relayed("16 interim answers", section, EARLY * 16 + OK + HELLO, Relay(length=5, interim=(103,) * 16), own=True),
        broken("17 interim answers", "THREATS, Limits", EARLY * 17 + OK + HELLO, own=True),
        broken("an interim answer alone", section, CONTINUE, closes=True),
        broken(
            "100 with a body",
            section,
            b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello" + OK + HELLO,
            closes=True,
        ),
        broken("101 that nobody asked for", "RFC 9110, 7.8", SWITCH % b"websocket" + FORGED, closes=True),
        broken(
            "101 to another protocol", "RFC 9110, 7.8", SWITCH % b"h2c" + FORGED, request=ASKED, closes=True, own=True
        ),
        broken(
            "101 to several protocols",
            "RFC 9110, 7.8",
            SWITCH % b"websocket, h2c",
            request=ASKED,
            closes=True,
            own=True,
        ),
        broken(
            "101 without a protocol",
            "RFC 9110, 15.2.2",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            request=ASKED,
            closes=True,
            own=True,
        ),
        relayed(
            "101 that was asked for",
            "RFC 9110, 7.8",
            SWITCH % b"websocket" + b"\x81\x00",
            Relay(status=101, body=b"", tunnel=b"\x81\x00"),
            request=ASKED,
            closes=True,
            own=True,
        ),
    ]


HOP = "RFC 9110, 7.6.1"
HYGIENE = [
    # name, section, lines, the fields that stay here, whether it is our rule alone
    ("Connection names a field", HOP, b"Connection: X-A\r\nX-A: 1\r\nX-B: 2", ("x-a",), False),
    ("Connection names two", HOP, b"connection: x-a, X-B\r\nX-A: 1\r\nX-B: 2\r\nX-C: 3", ("x-a", "x-b"), False),
    ("Keep-Alive", HOP, b"Keep-Alive: timeout=5", ("keep-alive",), False),
    ("Proxy-Connection", HOP, b"Proxy-Connection: keep-alive", ("proxy-connection",), False),
    ("Upgrade", HOP, b"Upgrade: h2c\r\nConnection: Upgrade", ("upgrade",), False),
    ("TE", HOP, b"TE: trailers", ("te",), True),
    ("Proxy-Authenticate", HOP, b"Proxy-Authenticate: Basic", ("proxy-authenticate",), True),
    ("X-Request-Id", "INTERFACES", b"X-Request-Id: evil", (), True),
    ("our cookie", "THREATS", b"Set-Cookie: gateway_session=evil\r\nSet-Cookie: a=1", ("gateway_session",), True),
    ("our __Host- cookie", "THREATS", b"Set-Cookie: __Host-gateway_session=evil; Secure", ("gateway_session",), True),
    ("our cookie in another's", "THREATS", b"Set-Cookie: a=1 gateway_session=evil", ("gateway_session",), True),
    ("Clear-Site-Data", "THREATS", b'Clear-Site-Data: "*"', ("clear-site-data",), True),
    ("Service-Worker-Allowed", "THREATS", b"Service-Worker-Allowed: /", ("service-worker-allowed",), True),
    ("a redirect", "THREATS", b"Location: http://other.test/?a=%zz#b", (), False),
    ("cookies", "RFC 6265, 3", b"Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\nset-cookie: a=3", (), False),
    ("obs-text", "RFC 9110, 5.5", b"X-A: \xe4\xff", (), False),
    ("empty values", "RFC 9110, 5.5", b"X-A:\r\nX-B:   ", (), False),
    ("white space", "RFC 9110, 5.5", b"X-A:\t b  c \t", (), False),
    ("a challenge", "RFC 9110, 11.6.1", b'WWW-Authenticate: Basic realm="a, b"', (), False),
    ("a Date", "RFC 9110, 6.6.1", b"Date: Sun, 06 Nov 1994 08:49:37 GMT", (), True),
    ("Server and Via", "RFC 9110, 7.6.3", b"Server: a/1 (b)\r\nVia: 1.1 c", (), True),
    ("100 fields", "THREATS, Defaults", b"\r\n".join([b"X: a"] * 99), (), True),
    ("a name with an underscore", "RFC 9112, 5", b"X_A: b", (), True),
    ("the order of names", "RFC 9110, 5.3", b"X-A: 1\r\nX-B: 2\r\nx-a: 3", (), False),
]


def _hygiene() -> list[Answer]:
    return [
        relayed(f"{name} in an answer", section, OK + raw + b"\r\n" + HELLO, gone(names), own=own)
        for name, section, raw, names, own in HYGIENE
    ]


def _heads() -> list[Answer]:
    rows = [
        relayed(
            f"status line {shown(line[:30])}",
            STATUS,
            line + HELLO,
            Relay(status=status, length=5),
            closes=b"1.0 " in line,
        )
        for line, status in STATUS_LINES
    ]
    for line in BAD_STATUS_LINES:
        lenient = LOOSE if line in TOLERABLE else None
        rows.append(broken(f"status line {shown(line)}", STATUS, line + HELLO, lenient=lenient))
    for name, raw, section, lenient in FIELDS:
        rows.append(broken(f"a field with {name}", section, OK + raw + b"\r\n" + HELLO, lenient=lenient))
    return [
        *rows,
        broken("nothing", "RFC 9112, 8", b"", closes=True),
        broken("a head without an end", "RFC 9112, 8", OK + b"Content-Length: 0\r\n", closes=True),
        broken("a status line without an end", "RFC 9112, 8", b"HTTP/1.1 200", closes=True),
        broken("HTTP/0.9", STATUS, b"<html>hello</html>", closes=True),
        broken("bare LFs", "RFC 9112, 2.2", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", lenient=LOOSE),
        broken("a status line that never ends", STATUS, b"HTTP/1.1 200 " + b"a" * 20000, own=True),
        broken("white space before the first field", "RFC 9112, 2.2", OK + b" X-A: b\r\n" + HELLO, lenient=LOOSE),
    ]


ROWS: list[Answer] = [*_heads(), *_interim(), *_hygiene()]
