"""Where an answer ends, and what never is one (RFC 9112, sections 6 to 8)."""

from tests.wire.answers import CHUNKED, CHUNKS, FORGED, HEAD, HELLO, LOOSE, OK, OLD, Answer, Relay, broken, relayed
from tests.wire.rows import shown

LENGTH = "RFC 9112, 6.3"
# 5: an invalid length makes the proxy answer 502
BAD_LENGTHS = [
    b"", b"+5", b"-5", b"0x5", b"5x", b"x", b"5.0", b"5 5", b"5,6", b"1_0", b"5;", b'"5"', b"\xb2", b"9" * 30, b"5e0",
    b"5\x0b", b"NaN",
]  # fmt: skip
EQUAL_LENGTHS = [b"5, 5", b"5,5", b"5\r\nContent-Length: 5"]
BAD_CODINGS = [
    b"gzip", b"identity", b"xchunked", b"chunked, gzip", b"chunked, chunked", b"", b"chunked;q=1", b'"chunked"',
    b"chunked x", b"\x0bchunked", b"chunked\r\nTransfer-Encoding: chunked", b"chunked\r\nTransfer-Encoding: identity",
    b"gzip, chunked",
]  # fmt: skip
CHUNK = "RFC 9112, 7.1"
BAD_SIZES = [
    b"", b"x", b"g", b"-5", b"+5", b"0x5", b" 5", b"5x", b"5.0", b"0_5", b"5 5", b"5\x00", b"\x0b5",
    b"FFFFFFFFFFFFFFFF5",
    b"10000000000000005", b"5\r",
]  # fmt: skip
BAD_CHUNKS = [
    ("a bare LF behind the size", b"5\nhello\r\n0\r\n\r\n"),
    ("a bare CR behind the size", b"5\rhello\r\n0\r\n\r\n"),
    ("an extension with a NUL", b"5;a=\x00\r\nhello\r\n0\r\n\r\n"),
    ("an extension with a bare LF", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
]
LATE_CHUNKS = [
    ("a bare LF behind the data", b"5\r\nhello\n0\r\n\r\n"),
    ("spilled data", b"5\r\nhelloX\r\n0\r\n\r\n"),
    ("two spilled bytes", b"5\r\nhelloXX0\r\n\r\n"),
    ("a size that is too small", b"4\r\nhello\r\n0\r\n\r\n"),
    ("a size that is too large", b"6\r\nhello\r\n0\r\n\r\n"),
    ("a bad second size", b"5\r\nhello\r\nx\r\n\r\n"),
    ("a bare LF as the end", b"5\r\nhello\r\n0\r\n\n"),
    ("a bare LF behind the last size", b"5\r\nhello\r\n0\n\r\n"),
    ("a malformed trailer", b"5\r\nhello\r\n0\r\nX : a\r\n\r\n"),
    ("an answer for a trailer", b"5\r\nhello\r\n0\r\n" + FORGED),
]
GOOD_CHUNKS = [
    ("one chunk", CHUNKS, b"hello"),
    ("a chunk a byte", b"1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n", b"hello"),
    ("leading zeros", b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
    ("capitals", b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    ("extensions", b'5;a=b;c="d;e"\r\nhello\r\n0;f\r\n\r\n', b"hello"),
    ("no data", b"0\r\n\r\n", b""),
    ("the end within the data", b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
    ("an answer for data", b"%x\r\n%b\r\n0\r\n\r\n" % (len(FORGED), FORGED), FORGED),
]
TRAILER_FIELDS = [
    b"Content-Length", b"Transfer-Encoding", b"Set-Cookie", b"Content-Type", b"Content-Encoding", b"Cache-Control",
    b"WWW-Authenticate", b"Location", b"X-Request-Id", b"Connection", b"X-Forwarded-For", b"X_A", b"Clear-Site-Data",
]  # fmt: skip


def _framing() -> list[Answer]:
    rows = [
        broken(f"length {shown(value)}", LENGTH, OK + b"Content-Length: %b\r\n\r\nhello" % value, closes=True)
        for value in BAD_LENGTHS
    ]
    rows += [
        broken(f"length {shown(value)}", LENGTH, OK + b"Content-Length: %b\r\n\r\nhello" % value, lenient=LOOSE)
        for value in EQUAL_LENGTHS
    ]
    rows += [
        broken(
            f"coding {shown(value)}",
            LENGTH,
            OK + b"Transfer-Encoding: %b\r\n\r\n" % value + CHUNKS,
            closes=True,
            own=True,
        )
        for value in BAD_CODINGS
    ]
    two = OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"
    both = OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS
    other = OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + CHUNKS
    old = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS
    long = OK + b"Content-Length: 40\r\n\r\nhello"
    return [
        *rows,
        broken("two differing lengths", LENGTH, two, closes=True),
        broken("a length and chunked", LENGTH, both, lenient=LOOSE),
        broken("chunked and a length", LENGTH, other, lenient=LOOSE),
        broken("chunked on HTTP/1.0", "RFC 9112, 6.1", old, closes=True, lenient=LOOSE),
        broken("a length that is a lie", "RFC 9112, 8", long, closes=True, begun=True),
        broken("a length and no body", "RFC 9112, 8", OK + b"Content-Length: 5\r\n\r\n", closes=True, begun=True),
        broken("chunks without an end", "RFC 9112, 8", OK + CHUNKED + b"\r\n5\r\nhello\r\n", closes=True, begun=True),
        broken("half a chunk", "RFC 9112, 8", OK + CHUNKED + b"\r\n5\r\nhe", closes=True, begun=True),
        broken(
            "chunks without trailers' end",
            "RFC 9112, 8",
            OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n",
            closes=True,
            begun=True,
        ),
        relayed("a length of 0", LENGTH, OK + b"Content-Length: 0\r\n\r\n", Relay(body=b"", length=0)),
        relayed("a length with zeros", LENGTH, OK + b"Content-Length: 0005\r\n\r\nhello"),
        relayed("until the connection closes", LENGTH, OK + b"\r\nhello", LOOSE, closes=True),
        relayed("nothing until the connection closes", LENGTH, OK + b"\r\n", Relay(body=b""), closes=True),
        relayed("until close on HTTP/1.0", LENGTH, b"HTTP/1.0 200 OK\r\n\r\nhello", LOOSE, closes=True),
        relayed("a length and a close", LENGTH, OK + b"Connection: close\r\n" + HELLO, closes=True),
        relayed(
            "an answer for a body",
            LENGTH,
            OK + b"Content-Length: %d\r\n\r\n" % len(FORGED) + FORGED,
            Relay(body=FORGED, length=len(FORGED)),
        ),
        relayed("until close to HTTP/1.0", LENGTH, OK + b"\r\nhello", Relay(closes=True), closes=True, request=OLD),
        relayed("chunks to HTTP/1.0", "RFC 9112, 7", OK + CHUNKED + b"\r\n" + CHUNKS, Relay(closes=True), request=OLD),
        relayed(
            "chunks with trailers to HTTP/1.0",
            "RFC 9112, 7.1.2",
            OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
            Relay(closes=True),
            request=OLD,
        ),
        relayed(
            "a length that Connection names",
            "RFC 9110, 7.6.1",
            OK + b"Connection: content-length, transfer-encoding\r\n" + HELLO,
        ),
        relayed("a length to HTTP/1.0", LENGTH, OK + HELLO, request=OLD),
        relayed("CHUNKED in capitals", LENGTH, OK + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n" + CHUNKS, LOOSE),
    ]


def _chunks() -> list[Answer]:
    rows = []
    for value in BAD_SIZES:
        data = OK + CHUNKED + b"\r\n" + value + b"\r\nhello\r\n0\r\n\r\n"
        rows.append(broken(f"chunk size {shown(value)}", CHUNK, data, begun=True, closes=True))
    for name, raw in (*BAD_CHUNKS, *LATE_CHUNKS):
        data = OK + CHUNKED + b"\r\n" + raw
        lenient = LOOSE if "NUL" in name or "trailer" in name else None  # discarded unread, the end stays the same
        rows.append(broken(f"chunks with {name}", CHUNK, data, begun=True, closes=True, lenient=lenient))
    for name, raw, body in GOOD_CHUNKS:
        rows.append(relayed(f"chunks with {name} pass", CHUNK, OK + CHUNKED + b"\r\n" + raw, Relay(body=body)))
    for field in TRAILER_FIELDS:
        raw = b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n" + field + b": 1\r\n\r\n"
        verdict = Relay(trailers=(("x-sum", "1"),))
        rows.append(
            relayed(
                f"trailer {field.decode()} stays", "RFC 9110, 6.5.1", OK + CHUNKED + b"\r\n" + raw, verdict, own=True
            )
        )
    return rows


NONE = Relay(body=b"")


def _bodiless() -> list[Answer]:
    """No body, whatever is said (RFC 9112, 6.3, rule 1): what follows is never the next answer."""
    head = OK + b"Content-Length: 5\r\n\r\n"
    none = b"HTTP/1.1 204 No Content\r\n"
    same = b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n'
    no, fresh = Relay(status=204, body=b""), Relay(status=304, body=b"")
    section = "RFC 9112, 6.3"
    return [
        relayed("HEAD with a length", section, head, Relay(body=b"", length=5), request=HEAD),
        relayed("HEAD with chunks announced", section, OK + CHUNKED + b"\r\n", NONE, request=HEAD),
        relayed("HEAD without framing", section, OK + b"\r\n", NONE, request=HEAD),
        relayed("HEAD with a body all the same", section, head + b"hello", Relay(body=b"", length=5), request=HEAD),
        relayed(
            "HEAD with an answer for a body",
            section,
            OK + b"Content-Length: 43\r\n\r\n" + FORGED,
            Relay(body=b"", length=43),
            request=HEAD,
        ),
        relayed("HEAD with chunks all the same", section, OK + CHUNKED + b"\r\n" + CHUNKS, NONE, request=HEAD),
        relayed("204", section, none + b"\r\n", no),
        relayed("204 with a length of 0", "RFC 9110, 8.6", none + b"Content-Length: 0\r\n\r\n", no),
        relayed("204 with a length", "RFC 9110, 8.6", none + b"Content-Length: 5\r\n\r\n", no, own=True),
        relayed("204 with a body all the same", section, none + HELLO, no, own=True),
        relayed("204 with chunks", section, none + CHUNKED + b"\r\n" + CHUNKS, no, own=True),
        relayed("204 with an answer for a body", section, none + b"\r\n" + FORGED, no),
        relayed("304", section, same + b"\r\n", fresh),
        relayed(
            "304 with a length",
            "RFC 9110, 8.6",
            same + b"Content-Length: 5\r\n\r\n",
            Relay(status=304, body=b"", length=5),
        ),
        relayed("304 with a body all the same", section, same + HELLO, Relay(status=304, body=b"", length=5)),
        relayed("304 with an answer for a body", section, same + b"\r\n" + FORGED, fresh),
        relayed("an answer behind the answer", "RFC 9112, 9.2", OK + HELLO + FORGED),
        relayed("an answer behind the chunks", "RFC 9112, 9.2", OK + CHUNKED + b"\r\n" + CHUNKS + FORGED, LOOSE),
        relayed("garbage behind the answer", "RFC 9112, 9.2", OK + HELLO + b"garbage"),
        relayed("a line end behind the answer", "RFC 9112, 9.2", OK + HELLO + b"\r\n"),
    ]


ROWS: list[Answer] = [*_framing(), *_chunks(), *_bodiless()]
