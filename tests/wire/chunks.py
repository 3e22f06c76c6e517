"""Chunked bodies (RFC 9112, section 7): sizes, extensions, ends and trailers."""

from tests.wire.rows import Pass, Row, chunked, passes, posted, refuse, shown

SIZE = "RFC 9112, 7.1"
EXTENSION = "RFC 9112, 7.1.1"
TRAILER = "RFC 9112, 7.1.2"
END = b"0\r\n\r\n"
HELLO = posted(b"hello")

# A first line that is no chunk size; the data fits 5.
BAD_SIZES = [
    b"", b" ", b"x", b"g", b"5g", b"-", b"0x5", b"0X5", b"x5", b"h5", b"+5", b"-5", b"-0", b"5-", b"0_5", b"5_", b"5.0",
    b"5,", b" 5", b"\t5", b"5 5", b'"5"', b"'5'", b"(5)", b"\x0b5", b"5\x0b", b"5\x0c", b"\x005", b"5\x00", b"5\xa0",
    "\u0665".encode(), b"5=a", b"5:a", b"5/a", b"5#a", b"FFFFFFFFFFFFFFFF5", b"10000000000000005", b"8000000000000005",
    b"FFFFFFFFFFFFFFFB", b"5\r", b"\r5", b"5\\r", b"5 a", b"5 a=b",
]  # fmt: skip
# Sizes that 64 bits can hold: what reads them right may wait for the data.
HUGE = frozenset((b"8000000000000005", b"FFFFFFFFFFFFFFFB"))
# RFC 9112, 7.1: no limit to leading zeros is named, "recipients MUST anticipate" overflow; a space behind the size is
# outside the grammar, but readers that take it read the same
LOOSE_SIZES = [b"5 ", b"5\t", b"0000000000000000005"]
GOOD_SIZES = [b"5", b"05", b"000000000000005"]

# A line that ends otherwise than in CRLF, as data, each with its whole payload.
BAD_ENDS = [
    ("a bare LF behind the size", b"5\nhello\r\n" + END),
    ("a bare CR behind the size", b"5\rhello\r\n" + END),
    ("LF CR behind the size", b"5\n\rhello\r\n" + END),
    ("a bare LF behind the data", b"5\r\nhello\n" + END),
    ("a bare CR behind the data", b"5\r\nhello\r" + END),
    ("nothing behind the data", b"5\r\nhello" + END),
    ("one byte spilled behind the data", b"5\r\nhelloX\r\n" + END),
    ("two bytes spilled for the line end", b"5\r\nhelloXX" + END),
    ("a space behind the data", b"5\r\nhello \r\n" + END),
    ("two line ends behind the data", b"5\r\nhello\r\n\r\n" + END),
    ("a size that is too small", b"4\r\nhello\r\n" + END),
    ("a size that is too large", b"6\r\nhello\r\n" + END),
    ("a size that takes in the next chunk's line", b"8\r\nhello\r\n" + END),
    ("a request spilled behind the data", b"5\r\nhelloGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"),
]
# Here the fault is the second chunk's.
FIRST_CHUNK_SOUND = {"two line ends behind the data", "a size that takes in the next chunk's line"}
# The last chunk: nothing of the body has passed yet.
BAD_LAST = [
    ("a bare LF behind the last size", b"0\n\r\n"),
    ("a bare LF for the last line", b"0\r\n\n"),
    ("a bare CR for the last line", b"0\r\n\rX"),
    ("a space behind the last size", b"0 \r\n\r\n"),
    ("a space before the last size", b" 0\r\n\r\n"),
    ("a space for the last line", b"0\r\n \r\n\r\n"),
    ("a signed last size", b"-0\r\n\r\n"),
    ("a last size with a prefix", b"0x0\r\n\r\n"),
    ("a last size of 300 zeros", b"0" * 300 + b"\r\n\r\n"),
    ("a NUL behind the last size", b"0\x00\r\n\r\n"),
    ("a request behind the last size", b"0\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"),
]
LAST_READ_ALIKE = {"a space behind the last size", "a last size of 300 zeros", "a request behind the last size"}

BAD_EXTENSIONS = [
    b";", b"; ", b";;", b";a;", b";=", b";=b", b";a=", b";a= ", b";a=;b", b";a b", b";a=b c", b";a\x00", b";a=\x00",
    b";a=\x01", b";\x7f", b";a=\x7f", b';a="b', b';a="b"c', b';a="\x00"', b';a="b\\', b";a='b c'", b";a=(b)", b";a=b,c",
    b";a=b\rc", b";a\r", b';a="b\rc"', b";a=b\nc", b';a="b\nc"', b";a\n", b";\n",
]  # fmt: skip
# Extensions that a recipient may ignore unread (RFC 9112, 7.1.1), as long as it finds the line's end alike
IGNORABLE = frozenset(value for value in BAD_EXTENSIONS if b"\r" not in value and b"\n" not in value)
GOOD_EXTENSIONS = [
    b";a", b";a=b", b";a=b;c=d", b"; a=b", b" ;a=b", b"\t;\ta\t=\tb", b';a="b"', b';a="b;c"', b';a="\\"b\\\\"',
    b';a=""',
    b";!#$%&'*+-.^_`|~=1", b';a="\xe4"', b";a" + b"a" * 200,
]  # fmt: skip

# RFC 9110, 6.5: a recipient may discard trailers, unread where the section's end is the same
BAD_TRAILERS = [
    ("a space before the colon", b"X-A : b"),
    ("no colon", b"X-A"),
    ("no name", b": b"),
    ("a fold", b"X-A: b\r\n c"),
    ("a fold of the first line", b" X-A: b"),
    ("a bare LF", b"X-A: b\nX-B: c"),
    ("a bare CR", b"X-A: b\rX-B: c"),
    ("a NUL", b"X-A: b\x00"),
    ("a name that is no token", b"X(A): b"),
    ("a request line", b"GET /hidden HTTP/1.1"),
]
# RFC 9110, 6.5.1: trailers that frame, route, authenticate or identify never pass
FORBIDDEN_TRAILERS = [
    b"Content-Length", b"Transfer-Encoding", b"Host", b"Connection", b"TE", b"Upgrade", b"Expect", b"Content-Encoding",
    b"Content-Type", b"Content-Range", b"Range", b"Authorization", b"Proxy-Authorization", b"Cookie", b"Set-Cookie",
    b"Max-Forwards", b"Cache-Control", b"Trailer", b"X-Forwarded-For", b"x-forwarded-user", b"X-Forwarded-Anything",
    b"X.Auth.Subject", b"x-forwarded+user",
    b"Forwarded", b"X-Auth-Subject", b"X-AUTH-SCOPE", b"X-Auth-Client-Id", b"X-Auth-Token-Type", b"X-Request-Id",
    b"X-Original-URL", b"X-HTTP-Method-Override", b"Keep-Alive", b"Proxy-Connection", b"X_Forwarded_For", b"X_Sum",
    b"DPoP", b"Signature", b"Signature-Input",
]  # fmt: skip


def _sizes() -> list[Row]:
    rows = []
    for value in BAD_SIZES:
        data = chunked(value + b"\r\nhello\r\n" + END)
        rows.append(refuse(f"chunk size {shown(value)}", SIZE, data, waits=value in HUGE))
        late = chunked(b"3\r\nabc\r\n" + value + b"\r\nhello\r\n" + END)
        rows.append(refuse(f"chunk size {shown(value)} behind a chunk", SIZE, late, begun=True, waits=value in HUGE))
    for value in LOOSE_SIZES:
        data = chunked(value + b"\r\nhello\r\n" + END)
        rows.append(refuse(f"chunk size {shown(value)}", SIZE, data, lenient=HELLO))
    for value in GOOD_SIZES:
        data = chunked(value + b"\r\nhello\r\n" + END)
        rows.append(passes(f"chunk size {shown(value)} passes", SIZE, data, HELLO))
    for value, size in ((b"A", 10), (b"a", 10), (b"1F", 31), (b"1f", 31), (b"fF", 255)):
        data = chunked(b"%b\r\n%b\r\n0\r\n\r\n" % (value, b"x" * size))
        rows.append(passes(f"chunk size {shown(value)} passes", SIZE, data, posted(b"x" * size)))
    return rows


def _ends() -> list[Row]:
    rows = []
    for name, payload in BAD_ENDS:
        rows.append(refuse(name, SIZE, chunked(payload), begun=name in FIRST_CHUNK_SOUND))
        rows.append(refuse(f"{name}, behind a chunk", SIZE, chunked(b"3\r\nabc\r\n" + payload), begun=True))
    for name, payload in BAD_LAST:
        lenient = posted() if name in LAST_READ_ALIKE else None
        rows.append(refuse(name, SIZE, chunked(payload), 400, lenient=lenient))
        lenient = posted(b"abc") if name in LAST_READ_ALIKE else None
        late = chunked(b"3\r\nabc\r\n" + payload)
        rows.append(refuse(f"{name}, behind a chunk", SIZE, late, begun=True, lenient=lenient))
    tiny = b"".join(b"1\r\n%c\r\n" % byte for byte in b"a body in chunks of one byte")
    return [
        *rows,
        refuse("a chunk size that never ends", SIZE, chunked(b"5" * 300)),
        passes("chunks of one byte", SIZE, chunked(tiny + END), posted(b"a body in chunks of one byte")),
        passes("a chunk that looks like the end", SIZE, chunked(b"5\r\n0\r\n\r\n\r\n" + END), posted(b"0\r\n\r\n")),
        passes("a last size of four zeros", SIZE, chunked(b"5\r\nhello\r\n0000\r\n\r\n"), HELLO),
        passes(
            "a chunk of 20,000 bytes", SIZE, chunked(b"4E20\r\n%b\r\n" % (b"ab" * 10000) + END), posted(b"ab" * 10000)
        ),
    ]


def _extensions() -> list[Row]:
    rows = []
    for value in BAD_EXTENSIONS:
        data = chunked(b"5" + value + b"\r\nhello\r\n" + END)
        lenient = HELLO if value in IGNORABLE else None
        rows.append(refuse(f"chunk extension {shown(value)}", EXTENSION, data, lenient=lenient))
    for value in GOOD_EXTENSIONS:
        data = chunked(b"5" + value + b"\r\nhello\r\n0" + value + b"\r\n\r\n")
        rows.append(passes(f"chunk extension {shown(value[:30])} passes", EXTENSION, data, HELLO, refusable=True))
    long = b"5;a=" + b"b" * 300 + b"\r\nhello\r\n" + END
    rows.append(refuse("a chunk extension of 300 bytes", EXTENSION, chunked(long), own=True))
    endless = b"1;%b\r\nx\r\n" % (b"a" * 200) * 100
    rows.append(refuse("100 chunk extensions of 200 bytes", EXTENSION, chunked(endless + END), begun=True, own=True))
    return rows


def _trailers() -> list[Row]:
    rows = []
    for name, raw in BAD_TRAILERS:
        data = chunked(b"5\r\nhello\r\n0\r\n" + raw + b"\r\n\r\n")
        rows.append(refuse(f"a trailer with {name}", TRAILER, data, begun=True, lenient=HELLO))
        rows.append(
            refuse(
                f"a trailer with {name} and no body",
                TRAILER,
                chunked(b"0\r\n" + raw + b"\r\n\r\n"),
                lenient=posted(),
            )
        )
    for field in FORBIDDEN_TRAILERS:
        data = chunked(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n" + field + b": 1\r\n\r\n")
        verdict = Pass(method=b"POST", body=b"hello", trailers=((b"X-Sum", b"1"),))
        rows.append(passes(f"trailer {field.decode()} stays", TRAILER, data, verdict, own=True))
    many = b"5\r\nhello\r\n0\r\nX-A: 1\r\nX-B:2\r\nx-a: 3\r\n\r\n"
    kept = Pass(method=b"POST", body=b"hello", trailers=((b"X-A", b"1"), (b"X-B", b"2"), (b"x-a", b"3")))
    hundred = b"5\r\nhello\r\n0\r\n" + b"X: a\r\n" * 101 + b"\r\n"
    long = b"5\r\nhello\r\n0\r\nX: " + b"a" * 9000 + b"\r\n\r\n"
    rows += [
        passes("trailers pass in their order", TRAILER, chunked(many, b"Trailer: X-A, X-B"), kept, own=True),
        refuse("101 trailers", TRAILER, chunked(hundred), 431, begun=True, lenient=HELLO),
        refuse("a trailer of 9000 bytes", TRAILER, chunked(long), 431, begun=True, lenient=HELLO),
    ]
    return rows


ROWS: list[Row] = [*_sizes(), *_ends(), *_extensions(), *_trailers()]
