"""Where a request's body ends (RFC 9112, section 6; RFC 9110, section 8.6)."""

from tests.wire.rows import HOST, ROW, Pass, Row, chunked, passes, post, posted, refuse, request, shown

LENGTH = "RFC 9110, 8.6"
CODING = "RFC 9112, 6.1"
BODY = "RFC 9112, 6.3"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
HELLO = posted(b"hello")
# RFC 9112, 6.3, rule 3: a proxy may go by Transfer-Encoding alone, but then closes
HELLO_CLOSED = posted(b"hello", closes=True)
# RFC 9112, 6.1: so does the one that takes a coding on HTTP/1.0
EMPTY = posted()

BAD_LENGTHS = [
    b"", b" ", b"+5", b"-5", b"-0", b"+0", b"0x5", b"0X5", b"5x", b"x5", b"5.0", b"5.", b".5", b"5e0", b"1_0", b"5 5",
    b"5\t5", b"5;", b"5; q=1", b'"5"', b"'5'", b"five", b"5,", b",5", b"5,6", b"5,,5", b"0,5", b"5 0", b"(5)", b"0b11",
    b"0o5", b"5h", b"NaN", b"\xb2", "\u0665".encode(), b"5\x0b", b"\x0c5", b"5\x00", b"5\xa0", b"0005,5",
    b"18446744073709551621", b"9223372036854775813", b"9" * 30, b"0" * 40 + b"5", b"4294967301 ",
]  # fmt: skip
# Read as 5 by whoever takes a list of equal lengths for one (RFC 9110, 8.6), or leading zeros without end.
FIVES = {
    b"0" * 40 + b"5": Pass(method=b"POST", body=b"hello", unreadable=frozenset(("h11",))),
    b"5,": HELLO,
    b",5": HELLO,
    b"5,,5": HELLO,
    b"0005,5": HELLO,
}
TOO_LARGE = {b"4294967301 ": 413}
# Valid, if nobody's message: what reads them right may wait for it, what reads them modulo 2^32 or 2^64 takes 5
HUGE = frozenset((b"18446744073709551621", b"9223372036854775813", b"9" * 30, b"4294967301 "))

TWO_LENGTHS = [
    ("two differing lengths", b"Content-Length: 5\r\nContent-Length: 6", None),
    ("two differing lengths, the longer first", b"Content-Length: 6\r\nContent-Length: 5", None),
    ("two equal lengths", b"Content-Length: 5\r\nContent-Length: 5", HELLO),
    ("two equal lengths in other case", b"Content-Length: 5\r\ncontent-length: 5", HELLO),
    ("two lengths with a field between", b"Content-Length: 5\r\nX: 1\r\nContent-Length: 0", None),
    ("a zero and a length", b"Content-Length: 0\r\nContent-Length: 5", None),
    ("an empty and a length", b"Content-Length:\r\nContent-Length: 5", None),
    ("two numerically equal lengths", b"Content-Length: 5\r\nContent-Length: 05", HELLO),
    ("a list of equal lengths", b"Content-Length: 5, 5", HELLO),
    ("three lengths", b"Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 5", HELLO),
]

# What is not exactly "chunked": 501 where the framing would still be known (RFC 9112, 6.1), else 400.
CODINGS = [
    (b"gzip, chunked", 501), (b"deflate, chunked", 501), (b"compress, chunked", 501), (b"br, chunked", 501),
    (b"identity, chunked", 501), (b"foo, chunked", 501), (b"gzip, deflate, chunked", 501), (b"gzip;q=1, chunked", 501),
    (b"chunked, gzip", 400), (b"chunked, identity", 400), (b"chunked, chunked", 400), (b"chunked,chunked", 400),
    (b"gzip", 400), (b"identity", 400), (b"deflate", 400), (b"", 400), (b"  ", 400), (b"foo", 400), (b"none", 400),
    (b"xchunked", 400), (b"chunkedx", 400), (b"x chunked", 400), (b"chunked x", 400), (b"chunk", 400),
    (b"chunked;", 400), (b"chunked;q=1", 400), (b"chunked; a=b", 400), (b'"chunked"', 400), (b"'chunked'", 400),
    (b"(chunked)", 400), (b"chunked\x0b", 400), (b"\x0bchunked", 400), (b"\x0cchunked", 400), (b"chunked\x00", 400),
    (b"\x00chunked", 400), (b"chun\x00ked", 400), (b"chunked\xa0", 400), (b"\xa0chunked", 400), (b"chunked\x7f", 400),
    (b"chunke\xc4\x91", 400), (b"chun-ked", 400), (b"chunked.", 400), (b"chunked/1", 400), (b"chunked=1", 400),
    (b"trailers", 400), (b"close", 400), (b"5", 400), (b"CHUNKED, gzip", 400), (b"chunked\r", 400), (b"\rchunked", 400),
    (b"chunked\r\n ", 400), (b"\r\n chunked", 400), (b"gzip\r\n , chunked", 400), (b"cow, chunked", 501),
]  # fmt: skip
# RFC 9110, 5.6.1: empty members of a list are ignored by recipients that read it as one
EMPTY_MEMBERS = [b"chunked,", b",chunked", b", chunked ,", b"chunked, ,"]
# RFC 9112, 5.2 and 2.2: a fold or a bare CR may become a space
UNFOLDED = frozenset((b"\r\n chunked", b"chunked\r\n ", b"chunked\r", b"\rchunked"))

TWO_CODINGS = [
    ("chunked in two fields", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400, None),
    ("chunked and identity in two fields", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400, None),
    ("identity and chunked in two fields", b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", 400, None),
    ("gzip and chunked in two fields", b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 400, None),
    ("chunked and cow in two fields", b"Transfer-Encoding: chunked\r\nTransfer-encoding: cow", 400, None),
    ("an empty coding and chunked", b"Transfer-Encoding:\r\nTransfer-Encoding: chunked", 400, HELLO),
    ("chunked and an empty coding", b"Transfer-Encoding: chunked\r\nTransfer-Encoding:", 400, HELLO),
]

# RFC 9112, 6.3, rule 3, in every order and disguise: request smuggling's own shape
BOTH = [
    ("a length before chunked", b"Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
    ("a length behind chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
    ("a zero length and chunked", b"Content-Length: 0\r\nTransfer-Encoding: chunked", 400),
    ("the chunks' own length and chunked", b"Content-Length: 15\r\nTransfer-Encoding: chunked", 400),
    ("a huge length and chunked", b"Content-Length: 99999999\r\nTransfer-Encoding: chunked", 400),
    ("a length and chunked in capitals", b"Content-Length: 5\r\nTRANSFER-ENCODING: CHUNKED", 400),
    ("a length and chunked with a tab", b"Content-Length: 5\r\nTransfer-Encoding:\tchunked", 400),
    ("a length and chunked with a field between", b"Content-Length: 5\r\nX: 1\r\nTransfer-Encoding: chunked", 400),
]
DISGUISED = [
    ("a length and identity", b"Content-Length: 5\r\nTransfer-Encoding: identity", 400),
    ("a length and an unknown coding", b"Content-Length: 5\r\nTransfer-Encoding: xchunked", 400),
    ("a length and an empty coding", b"Content-Length: 5\r\nTransfer-Encoding:", 400),
    ("a malformed length and chunked", b"Content-Length: x\r\nTransfer-Encoding: chunked", 400),
    ("an empty length and chunked", b"Content-Length:\r\nTransfer-Encoding: chunked", 400),
    ("two lengths and chunked", b"Content-Length: 5\r\nContent-Length: 6\r\nTransfer-Encoding: chunked", 400),
    ("a length and chunked with a space", b"Content-Length: 5\r\nTransfer-Encoding : chunked", 400),
    ("a length and chunked behind a NUL", b"Content-Length: 5\r\nTransfer-Encoding\x00: chunked", 400),
    ("a length and chunked without a colon", b"Content-Length: 5\r\nTransfer-Encoding chunked", 400),
    ("a length and chunked behind a space", b"Content-Length: 5\r\nX: 1\r\n Transfer-Encoding: chunked", 400),
    ("chunked and a length with a space", b"Transfer-Encoding: chunked\r\nContent-Length : 5", 400),
    ("chunked and a length with a tab", b"Transfer-Encoding: chunked\r\nContent-Length\t: 5", 400),
    ("gzip, chunked and a length", b"Transfer-Encoding: gzip, chunked\r\nContent-Length: 5", 400),
]
# On the way to "-" for "_": a rule of ours, since CGI-like upstreams read them alike.
UNDERSCORED = [
    ("a coding with an underscore", b"Transfer_Encoding: chunked\r\nContent-Length: 5"),
    ("a length with an underscore", b"Content_Length: 50\r\nContent-Length: 5"),
]


def _lengths() -> list[Row]:
    rows = []
    for value in BAD_LENGTHS:
        data = post(b"Content-Length: " + value, body=b"hello")
        rows.append(
            refuse(
                f"length {shown(value)}",
                LENGTH,
                data,
                TOO_LARGE.get(value, 400),
                lenient=FIVES.get(value),
                waits=value in HUGE,
            )
        )
    for value in (b"5", b"05", b"0005", b"5 ", b"\t5", b"000000000000000005"):
        data = post(b"Content-Length:" + value, body=b"hello")
        rows.append(passes(f"length {shown(value)} passes", LENGTH, data, HELLO))
    rows += [refuse(name, LENGTH, post(raw, body=b"hello"), lenient=lenient) for name, raw, lenient in TWO_LENGTHS]
    return rows


def _codings() -> list[Row]:
    rows = []
    for value, status in CODINGS:
        data = post(b"Transfer-Encoding: " + value, body=CHUNKS)
        rows.append(
            refuse(f"coding {shown(value)}", CODING, data, status, lenient=HELLO if value in UNFOLDED else None)
        )
    for value in EMPTY_MEMBERS:
        data = post(b"Transfer-Encoding: " + value, body=CHUNKS)
        rows.append(refuse(f"coding {shown(value)}", CODING, data, 400, 501, lenient=HELLO))
    for value in (b"chunked", b"Chunked", b"CHUNKED", b"\tchunked", b"chunked \t", b"cHuNkEd"):
        data = post(b"Transfer-Encoding:" + value, body=CHUNKS)
        rows.append(passes(f"coding {shown(value)} passes", CODING, data, HELLO))
    rows += [
        refuse(name, CODING, post(raw, body=CHUNKS), status, lenient=lenient)
        for name, raw, status, lenient in TWO_CODINGS
    ]
    rows += [refuse(name, BODY, post(raw, body=CHUNKS), status, lenient=HELLO_CLOSED) for name, raw, status in BOTH]
    rows += [
        refuse(
            name,
            BODY,
            post(raw, body=CHUNKS),
            status,
            lenient=posted(CHUNKS[:5]) if "\r\n " in str(raw, "ascii") else None,
        )
        for name, raw, status in DISGUISED
    ]
    rows += [refuse(name, "INTERFACES", post(raw, body=b"hello"), own=True) for name, raw in UNDERSCORED]
    return rows


def _old() -> list[Row]:
    """HTTP/1.0 knows no Transfer-Encoding (RFC 9112, 6.1), and no connection that stays unasked (9.3)."""
    old = b"HTTP/1.0"
    coded = post(b"Transfer-Encoding: chunked", body=CHUNKS, version=old)
    kept = post(b"Connection: keep-alive", b"Transfer-Encoding: chunked", body=CHUNKS, version=old)
    both = post(b"Transfer-Encoding: chunked", b"Content-Length: 15", body=CHUNKS, version=old)
    late = post(b"Content-Length: 15", b"Transfer-Encoding: chunked", body=CHUNKS, version=old)
    return [
        refuse("chunked on HTTP/1.0", CODING, coded, lenient=HELLO_CLOSED),
        refuse("chunked on a kept HTTP/1.0 connection", CODING, kept, lenient=HELLO_CLOSED),
        refuse("both lengths on HTTP/1.0", CODING, both, lenient=HELLO_CLOSED),
        refuse("both lengths on HTTP/1.0, the other way", CODING, late, lenient=HELLO_CLOSED),
        refuse(
            "gzip on HTTP/1.0",
            CODING,
            post(b"Transfer-Encoding: gzip", b"Content-Length: 5", body=b"hello", version=old),
        ),
        passes(
            "a length on HTTP/1.0",
            "RFC 9112, 9.3",
            post(b"Content-Length: 5", body=b"hello", version=old),
            posted(b"hello", closes=True),
        ),
        passes(
            "a length on a kept HTTP/1.0 connection",
            "RFC 9112, 9.3",
            post(b"Connection: keep-alive", b"Content-Length: 5", body=b"hello", version=old),
            HELLO,
        ),
    ]


HIDDEN_BODY = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def _bodies() -> list[Row]:
    """A body is a body, whatever the method and whatever it looks like (RFC 9110, 9.3.1)."""
    rows = []
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"PUT", b"PATCH"):
        length = b"Content-Length: %d" % len(HIDDEN_BODY)
        data = request(length, method=method, body=HIDDEN_BODY)
        seen = Pass(method=method, body=HIDDEN_BODY)
        rows.append(passes(f"{method.decode()} with a request for a body", BODY, data, seen, refusable=True))
        payload = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN_BODY), HIDDEN_BODY)
        data = request(b"Transfer-Encoding: chunked", method=method, body=payload)
        rows.append(passes(f"{method.decode()} with a request in chunks", BODY, data, seen, refusable=True))
    rows += [
        passes("a POST without framing has no body", BODY, post(), EMPTY),
        passes("a POST of length 0", BODY, post(b"Content-Length: 0"), EMPTY),
        passes("a GET of length 0", BODY, request(b"Content-Length: 0"), Pass()),
        passes("a POST of no chunks", BODY, chunked(b"0\r\n\r\n"), EMPTY),
        passes("a body of line ends", BODY, post(b"Content-Length: 4", body=b"\r\n\r\n"), posted(b"\r\n\r\n")),
        passes(
            "a body of every byte",
            BODY,
            post(b"Content-Length: 256", body=bytes(range(256))),
            posted(bytes(range(256))),
        ),
        passes(
            "a body of 20,000 bytes", BODY, post(b"Content-Length: 20000", body=b"ab" * 10000), posted(b"ab" * 10000)
        ),
        passes(
            "an end before the head's last line end is no end",
            BODY,
            b"POST %b HTTP/1.1\r\n%b\r\nX-A: 0\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" % (ROW, HOST),
            posted(b"0\r\n\r\n"),
        ),
    ]
    return rows


ROWS: list[Row] = [*_lengths(), *_codings(), *_old(), *_bodies()]
