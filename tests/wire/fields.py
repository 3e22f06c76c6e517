"""Host and field lines (RFC 9112, sections 3.2 and 5; RFC 9110, section 5)."""

from tests.wire.rows import Pass, Row, passes, refuse, request, shown

HOST_SECTION = "RFC 9112, 3.2"
LINE = "RFC 9112, 5"
VALUE = "RFC 9110, 5.5"
ARRIVES = Pass()

BAD_HOSTS = [
    b"a/b", b"a/", b"u@a", b"u:p@a", b"a?b", b"a#b", b"http://a", b"//a", b"a\\b", b"a b", b"a\tb", b"a, b", b"a;b c",
    b"a<b>", b'a"b', b"a^b", b"a`b", b"a{b}", b"a|b", b"a:http", b"a:-80", b"a:+80", b"a:80:90", b"a:8 0", b"a:0x50",
    b"a:80/", b"a:80@b", b"[::1", b"::1]", b"[::1]x", b"[]", b"[::1]:x", b"[::g]", b"[a.b]x:1",
    b"a%", b"a%0", b"a%zz",
]  # fmt: skip
# Odd, but within the grammar of RFC 3986: a port of any number of digits, escapes in a registered name.
STRICT_HOSTS = [b"a:65536", b"a:99999", b"a:000080", b"a%41", b"a%2e", b"[v1.a]"]
GOOD_HOSTS = [
    b"a", b"A", b"a.b.c", b"a.", b"a:80", b"a:", b"a:0", b"a:65535", b"127.0.0.1", b"127.0.0.1:8080", b"[::1]",
    b"[::1]:80", b"[2001:DB8::1]", b"[::ffff:127.0.0.1]", b"xn--bcher-kva.example", b"a_b", b"a-b", b"~a", b"a!b", b"1",
]  # fmt: skip


def _hosts() -> list[Row]:
    rows = [refuse(f"Host {shown(value)}", HOST_SECTION, request(host=b"Host: " + value)) for value in BAD_HOSTS]
    rows += [
        refuse(f"Host {shown(value)}", HOST_SECTION, request(host=b"Host: " + value), lenient=ARRIVES)
        for value in STRICT_HOSTS
    ]
    rows += [
        passes(f"Host {shown(value)}", HOST_SECTION, request(host=b"Host: " + value), ARRIVES) for value in GOOD_HOSTS
    ]
    two = ((b"a", b"b"), (b"a", b"a"), (b"a", b""), (b"", b"a"))
    rows += [
        refuse(
            f"Hosts {shown(first)} and {shown(second)}",
            HOST_SECTION,
            request(b"Host: " + second, host=b"Host: " + first),
        )
        for first, second in two
    ]
    rows += [
        refuse("two Hosts in other case", HOST_SECTION, request(b"HOST: b")),
        refuse("two Hosts with a field between", HOST_SECTION, request(b"X: 1", b"Host: b")),
        refuse("no Host", HOST_SECTION, request(host=None)),
        refuse("no Host but others", HOST_SECTION, request(b"X-Host: a", b"X-Forwarded-Host: a", host=None)),
        refuse("an empty Host", HOST_SECTION, request(host=b"Host:"), lenient=ARRIVES),
        refuse("a Host of spaces", HOST_SECTION, request(host=b"Host:   "), lenient=ARRIVES),
        refuse("a Host with a NUL", HOST_SECTION, request(host=b"Host: a\x00b")),
        refuse("a Host in UTF-8", HOST_SECTION, request(host="Host: b\u00fccher.example".encode())),
        refuse("a Host longer than any name", HOST_SECTION, request(host=b"Host: " + b"a" * 254), lenient=ARRIVES),
        refuse("a space before Host's colon", "RFC 9112, 5.1", request(host=b"Host : a")),
        refuse("a folded Host", "RFC 9112, 5.2", request(host=b"Host:\r\n a"), lenient=ARRIVES),
        passes("a Host of 253 bytes", HOST_SECTION, request(host=b"Host: " + b"a" * 253), ARRIVES),
        passes("a Host without a space", HOST_SECTION, request(host=b"Host:a"), ARRIVES),
        passes("a Host within tabs", HOST_SECTION, request(host=b"hOsT:\t a \t"), ARRIVES),
        passes("a Host behind other fields", HOST_SECTION, request(b"X: 1", b"Host: a", host=None), ARRIVES),
    ]
    return rows


FOLDED = [
    ("by a space", b"X-A: b\r\n c"),
    ("by a tab", b"X-A: b\r\n\tc"),
    ("into an empty line", b"X-A: b\r\n "),
    ("before its value", b"X-A:\r\n b"),
    ("over a framing field", b"X-A: b\r\n Content-Length: 30"),
    ("over another request", b"X-A: b\r\n GET /hidden HTTP/1.1"),
]
UNFOLDED = Pass(gone=frozenset((b"x-a",)))
# RFC 9112, 5.1: white space before the colon is always refused; RFC 9112, 2.2 and RFC 9110, 5.5: a bare CR or a NUL
# is refused or becomes a space.
MALFORMED = [
    ("a space before the colon", b"X-A : b"),
    ("a tab before the colon", b"X-A\t: b"),
    ("a vertical tab before the colon", b"X-A\x0b: b"),
    ("a NUL before the colon", b"X-A\x00: b"),
    ("no colon", b"X-A"),
    ("a colon alone", b":"),
    ("no name", b": b"),
    ("a space within a name", b"X A: b"),
    ("a second request line", b"GET /hidden HTTP/1.1"),
    ("a name in UTF-8", "X-\u00c4: b".encode()),
    ("a name with a no-break space", b"X-A\xa0: b"),
]
# A proxy that leaves such a field out leaves nothing to misread.
DROPPABLE = {"a name in UTF-8", "a name with a no-break space", "a colon alone", "no name", "no colon"}
SPACED = [
    ("a bare CR as a line end", b"X-A: b\rX-B: c"),
    ("a bare CR within a value", b"X-A: b\rc"),
    ("a bare CR at a value's start", b"X-A:\rb"),
    ("a doubled CR", b"X-A: b\r"),
    ("a bare CR that hides a length", b"X-A: b\rContent-Length: 30"),
    ("a bare CR that hides a coding", b"X-A: b\rTransfer-Encoding: chunked"),
    ("a bare CR that hides a request", b"X-A: b\r\rGET /hidden HTTP/1.1\rHost: a\r\r"),
    ("a NUL as a value", b"X-A: \x00"),
    ("a NUL within a value", b"X-A: b\x00c"),
    ("a NUL that ends a name of ours", b"X-A: b\x00X-Auth-Subject: root"),
]
BARE_LF = [
    ("a bare LF behind a field", b"GET /row HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n"),
    ("a bare LF as the empty line", b"GET /row HTTP/1.1\r\nHost: a\r\n\n"),
    ("a bare LF before the empty line", b"GET /row HTTP/1.1\r\nHost: a\n\r\n"),
]
FIRST = [
    ("white space before the first field", b"GET /row HTTP/1.1\r\n Host: a\r\n\r\n"),
    ("a tab before the first field", b"GET /row HTTP/1.1\r\n\tHost: a\r\n\r\n"),
    ("a folded empty line before the first field", b"GET /row HTTP/1.1\r\n \r\nHost: a\r\n\r\n"),
    ("a folded field before Host", b"GET /row HTTP/1.1\r\n X-A: b\r\nHost: a\r\n\r\n"),
]
NO_TOKEN = [bytes((byte,)) for byte in b'"(),/;<=>?@[\\]{}\x01\x1b\x7f\x80']
# RFC 9110, 5.5: other controls are invalid; a recipient may keep them where that is safe
CONTROLS = [bytes((byte,)) for byte in (*range(1, 9), *range(11, 13), *range(14, 32), 127)]
KEPT_CONTROL = Pass(gone=frozenset((b"x-a",)), unreadable=frozenset(("h11", "llhttp")))
KEPT = [
    ("an empty value", b"X-A:"),
    ("a value of spaces", b"X-A:   "),
    ("no space behind the colon", b"X-A:b"),
    ("white space around a value", b"X-A: \t b \t "),
    ("white space within a value", b"X-A: b \t  c"),
    ("colons in a value", b"X-A: b: c:d"),
    ("obs-text in a value", b"X-A: \xe4\x80\xff"),
    ("UTF-8 in a value", "X-A: \u00e4\u20ac".encode()),
    ("a quoted string", b'X-A: "b\\"c, d"'),
    ("an open quote", b'X-A: "b'),
    ("markup and escapes", b"X-A: <b>%0d%0aX-B: c\\r\\n"),
    ("every token character in a name", b"!#$%&'*+-.^`|~09AZaz: b"),
    ("a name of one character", b"x: b"),
    ("a name of digits", b"123: b"),
    ("a name in odd case", b"x-CuStOm-NaMe: b"),
    ("a long name", b"X-" + b"a" * 200 + b": b"),
    ("a long value", b"X-A: " + b"a" * 4000),
    ("a field twice", b"X-A: 1\r\nX-A: 2"),
    ("a field twice with one between", b"X-A: 1\r\nX-B: 2\r\nx-a: 3"),
    ("a comment", b"User-Agent: a/1 (b; (c)) d"),
    ("a range", b"Range: bytes=0-1, 5-"),
    ("an If-Match list", b'If-Match: "a", W/"b"'),
    ("a Max-Forwards", b"Max-Forwards: 10"),
    ("a Cache-Control", b'Cache-Control: no-cache, foo="bar, baz"'),
    ("an Origin and a Referer", b"Origin: https://b.example\r\nReferer: https://b.example/x?y#z"),
]


ROWS: list[Row] = [
    *_hosts(),
    *(refuse(f"a field folded {name}", "RFC 9112, 5.2", request(raw), lenient=UNFOLDED) for name, raw in FOLDED),
    *(
        refuse(f"a field with {name}", LINE, request(raw), lenient=ARRIVES if name in DROPPABLE else None)
        for name, raw in MALFORMED
    ),
    *(refuse(f"a field with {name}", VALUE, request(raw), lenient=UNFOLDED) for name, raw in SPACED),
    *(refuse(name, "RFC 9112, 2.2", raw, lenient=Pass(gone=frozenset((b"x-a",)))) for name, raw in BARE_LF),
    # RFC 9112, 2.2: refused, or each such line consumed unread; without its Host the request is then refused too
    *(refuse(name, "RFC 9112, 2.2", raw) for name, raw in FIRST[:2]),
    *(refuse(name, "RFC 9112, 2.2", raw, lenient=UNFOLDED) for name, raw in FIRST[2:]),
    *(
        refuse(f"a field name with {shown(byte)}", LINE, request(b"X" + byte + b"A: b"), lenient=ARRIVES)
        for byte in NO_TOKEN
    ),
    *(
        refuse(f"a value with {shown(byte)}", VALUE, request(b"X-A: b" + byte + b"c"), lenient=KEPT_CONTROL)
        for byte in CONTROLS
    ),
    *(passes(f"a field with {name}", VALUE, request(raw), ARRIVES) for name, raw in KEPT),
]
