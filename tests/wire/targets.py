"""Request targets (RFC 9112, section 3.2; RFC 3986): one canonical form is matched and forwarded, byte for byte."""

from tests.wire.rows import Pass, Row, passes, refuse, request, shown

SECTION = "RFC 9112, 3.2.1"
ABSOLUTE = "RFC 9112, 3.2.2"
# RFC 9110, 7.7: a proxy must not change path and query, so that what others forward has every byte too.

# Dot and empty segments, in every disguise: refused here, since upstreams resolve them each in its own way
AMBIGUOUS = [
    b"//", b"//a", b"///a", b"/a//b", b"/a//", b"//a@b/c", b"//a:80/b", b"/.", b"/./", b"/./a", b"/a/.", b"/a/./b",
    b"/..", b"/../", b"/../a", b"/a/..", b"/a/../b", b"/a/b/../../c", b"/a/../../b", b"/%2e", b"/%2E", b"/%2e/a",
    b"/%2e%2e", b"/%2E%2E/a", b"/a/%2e%2e/b", b"/.%2e/a", b"/%2e./a", b"/a/.%2E", b"/..;/a", b"/..;a=b/c", b"/.;/a",
    b"/a/..;x", b"/..%3b/a", b"/..%3B", b"/%2e%2e;/a", b"/%2e%2e%3b/a",
    b"/a%2fb", b"/a%2Fb", b"/%2f", b"/a%2f..%2fb", b"/..%2fa", b"/a%5cb", b"/a%5Cb", b"/..%5ca", b"/%5c..%5ca",
    b"/a\\b", b"/\\a", b"/..\\a", b"\\a", b"/a%00", b"/%00", b"/a%00.html", b"/a%01", b"/a%0a", b"/a%0d%0aX:%20b",
    b"/a%09b", b"/a%1fb", b"/a%7f", b"/.%00/a",
]  # fmt: skip
MALFORMED = [b"/a%", b"/a%2", b"/a%zz", b"/a%2x", b"/a%x2", b"/%u002e", b"/%%2e", b"/a%-1", b"/a% ", b"/a%2\xb2"]
# Characters that no target has (RFC 3986), yet parts of the framing are known.
FRAGMENTS = [b"/a#b", b"/#", b"/a?b#c", b"/a#b?c", b"#", b"/a%23#b"]
OTHER_FORMS = [
    b"*", b"a", b"a/b", b"a:80", b"?a", b"http:/a", b"http:a", b"http//a/", b"http:///a", b"http://", b"http://?a",
    b"http:///", b"ftp://a/", b"file:///etc/passwd", b"javascript:x", b"gopher://a/", b"ws://a/", b"://a/", b".", b"..",
    b"../a", b"%2fa", b"http://u@a/", b"http://u:p@a/", b"http://a:x/", b"http://b/", b"http://a:81/",
    b"http://a.b/", b"https://b/row", b"http://a/../b", b"http://a//b", b"http://a/%2e%2e", b"http://a#b",
    b"http://a\\@b/", b"http://a\\/b",
]  # fmt: skip
CONTROLS = [bytes((byte,)) for byte in (0, 1, 8, 11, 12, 27, 31, 127)]

LEGAL = [
    b"/", b"/?", b"/a", b"/a/", b"/a/b/", b"/a?", b"/a??", b"/a?b=c&d", b"/a?b?c", b"/a?b/c", b"/a?//", b"/a?../..",
    b"/a?%2f%5c%00", b"/a?http://b/", b"/a%20b", b"/a+b", b"/a%2Bb", b"/%41", b"/a%C3%A4", b"/a%c3%a4", b"/%ff%fe",
    b"/%252e%252e/a", b"/%252f", b"/a;b", b"/a;b=c;d/e", b"/;a", b"/a%3Bb", b"/a%3fb", b"/a%23b", b"/...", b"/....",
    b"/.a", b"/a.", b"/..a", b"/a..", b"/a..b", b"/.%41", b"/~a", b"/%7Ea", b"/a:b", b"/a@b", b"/a,b", b"/a=b", b"/a&b",
    b"/a!b$c'd(e)f*g", b"/*", b"/a-b_c.d~e", b"/a:80", b"/http://x".replace(b"//", b"/"), b"/A", b"/a/A", b"/0",
    b"/%e2%80%8b", b"/a%80", b"/a?b=%20&c=%2b", b"/favicon.ico", b"/a?" + b"b" * 2000, b"/" + b"a/" * 500,
    b"/a?[b]=c", b'/a?b="'.replace(b'"', b"%22"),
]  # fmt: skip
# Legal nowhere, sent raw by browsers all the same: byte for byte or refused, never rewritten
RAW = [
    b"/a{b}",
    b"/a|b",
    b"/a^b",
    b'/a"b"',
    b"/<a>",
    b"/a`b",
    b"/[a]",
    b"/a?b={c}|^",
    b"/a?b=\\c",
    b"/a?b=%zz",
    b"/a?%",
]
BINARY = ["/\u00e4".encode(), b"/\xe4", b"/a?b=\xff", "/a?\u20ac".encode(), b"/\x80"]
# httptools and h11 read ASCII targets only.
UNREADABLE = frozenset(("h11", "llhttp"))

ABSOLUTE_FORMS = [
    (b"http://a/row", b"/row"),
    (b"http://a/row?b=c", b"/row?b=c"),
    (b"http://a", b"/"),
    (b"http://a/", b"/"),
    (b"http://a?b", b"/?b"),
    (b"HTTP://a/row", b"/row"),
    (b"hTTp://A/row", b"/row"),
    (b"http://a/row%20b?%zz", b"/row%20b?%zz"),
    (b"https://a/row", b"/row"),
]


def _seen(target: bytes, unreadable: frozenset[str] = frozenset()) -> Pass:
    return Pass(target=target, unreadable=unreadable)


def _ambiguous() -> list[Row]:
    return [
        refuse(f"target {shown(raw)}", SECTION, request(target=raw), sound=True, lenient=_seen(raw))
        for raw in AMBIGUOUS
    ]


def _malformed() -> list[Row]:
    rows = []
    for raw in MALFORMED:
        sound = b" " not in raw
        lenient = _seen(raw.rstrip(), UNREADABLE if b"\xb2" in raw else frozenset())
        rows.append(refuse(f"target {shown(raw)}", "RFC 3986, 2.1", request(target=raw), sound=sound, lenient=lenient))
    rows += [refuse(f"target {shown(raw)}", SECTION, request(target=raw), sound=True) for raw in FRAGMENTS]
    rows += [refuse(f"target with {shown(byte)}", SECTION, request(target=b"/row" + byte)) for byte in CONTROLS]
    rows += [refuse(f"query with {shown(byte)}", SECTION, request(target=b"/row?a" + byte)) for byte in CONTROLS[:4]]
    return rows


# RFC 9112, 3.2.2: a proxy goes by the target and ignores the Host field then; every server must take absolute-form
OTHERS = {
    b"http://b/": b"/",
    b"http://a:81/": b"/",
    b"http://a.b/": b"/",
    b"https://b/row": b"/row",
    b"http://a/../b": b"/../b",
    b"http://a//b": b"//b",
    b"http://a/%2e%2e": b"/%2e%2e",
    b"http://u@a/": b"/",
    b"http://u:p@a/": b"/",
    b"ws://a/": b"/",
    b"ftp://a/": b"/",
    b"gopher://a/": b"/",
}


def _other_forms() -> list[Row]:
    rows = []
    for raw in OTHER_FORMS:
        lenient = (_seen(OTHERS[raw]), _seen(raw)) if raw in OTHERS else None
        rows.append(refuse(f"target {shown(raw)}", SECTION, request(target=raw), sound=True, lenient=lenient))
    asterisk = request(method=b"OPTIONS", target=b"*")
    rows.append(
        refuse("OPTIONS *", "RFC 9112, 3.2.4", asterisk, sound=True, lenient=Pass(method=b"OPTIONS", target=b"*"))
    )
    rows.append(refuse("absolute-form without Host", ABSOLUTE, request(target=b"http://a/row", host=None)))
    return rows


def _legal() -> list[Row]:
    rows = [passes(f"target {shown(raw[:40])}", SECTION, request(target=raw), _seen(raw)) for raw in LEGAL]
    rows += [
        passes(f"target {shown(raw)}", "RFC 3986, 2", request(target=raw), _seen(raw), refusable=True) for raw in RAW
    ]
    rows += [
        passes(f"target {shown(raw)}", "RFC 3986, 2", request(target=raw), _seen(raw, UNREADABLE), refusable=True)
        for raw in BINARY
    ]
    rows += [
        passes(
            f"target {shown(raw)}",
            ABSOLUTE,
            request(target=raw),
            _seen(target),
            lenient=(_seen(raw), _seen(raw + b"/")),
            refusable=raw.startswith(b"https"),
        )
        for raw, target in ABSOLUTE_FORMS
    ]
    return rows


ROWS: list[Row] = [*_ambiguous(), *_malformed(), *_other_forms(), *_legal()]
