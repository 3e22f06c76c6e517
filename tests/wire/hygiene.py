"""Which fields reach the upstream (RFC 9110, section 7.6; INTERFACES, "What the upstream receives")."""

from tests.wire.rows import Pass, Row, passes, posted, refuse, request, shown

HOP = "RFC 9110, 7.6.1"
OURS = "INTERFACES"
MAX_FORWARDS = "RFC 9110, 7.6.2"

# Fields by which a client could speak for a proxy, for us, for another path or method, or for another user.
SPOOFED = [
    b"X-Forwarded-For: 6.6.6.6", b"x-forwarded-for: 6.6.6.6", b"X-FORWARDED-FOR: 6.6.6.6", b"X-fOrWaRdEd-FoR:6.6.6.6",
    b"X-Forwarded-For:", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: evil.test", b"X-Forwarded-Port: 666",
    b"X-Forwarded-Server: evil.test", b"X-Forwarded-Prefix: /evil", b"X-Forwarded-Scheme: evil", b"X-Forwarded-Ssl: on",
    b"X-Forwarded-Uri: /evil", b"X-Forwarded-Path: /evil", b"X-Forwarded-Method: EVIL", b"X-Forwarded-By: evil",
    b"X-Forwarded-User: root", b"x-forwarded-USER: root", b"X-Forwarded-Email: root@evil.test",
    b"X-Forwarded-Groups: root", b"X-Forwarded-Access-Token: evil", b"X-Forwarded-Client-Cert: evil",
    b"X-Forwarded-: evil", b"X-Forwarded-Preferred-Username: root", b"Forwarded: for=6.6.6.6;host=evil.test",
    b"FORWARDED: for=6.6.6.6", b"X-Auth-Subject: root", b"x-auth-subject: root", b"X-AUTH-SUBJECT: root",
    b"X-Auth-Client-Id: evil", b"X-Auth-Scope: everything", b"x-Auth-scopE: everything", b"X-Auth-Token-Type: bearer",
    b"X-Request-Id: evil", b"x-request-ID: evil", b"X-Real-IP: 6.6.6.6", b"X-Original-URL: /evil",
    b"X-Original-Host: evil.test", b"X-Rewrite-URL: /evil", b"X-HTTP-Method-Override: DELETE", b"X-HTTP-Method: DELETE",
    b"X-Method-Override: DELETE", b"Proxy: http://evil.test", b"Authorization: Bearer evil",
    b"authorization: Basic ZTpl",
]  # fmt: skip
UNDERSCORED = [
    b"X_Forwarded_For: 6.6.6.6", b"X_FORWARDED_USER: root", b"X-Forwarded_For: 6.6.6.6", b"X_Auth_Subject: root",
    b"x-auth_subject: root", b"X_Request_Id: evil", b"HTTP_PROXY: evil", b"_: evil", b"_X-A: evil", b"X-A_: evil",
    b"Authorization_: evil", b"X__Auth__Scope: everything",
]  # fmt: skip
HOP_BY_HOP = [
    b"Connection: keep-alive", b"connection: Keep-Alive", b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive",
    b"Proxy-Authorization: Basic ZTpl", b"TE: gzip", b"te: deflate;q=0.5", b"Connection: TE\r\nTE: gzip",
    b"Upgrade: foo/1", b"Proxy-Authenticate: Basic", b"Proxy-Authentication-Info: a=b", b"Connection:",
    b"Connection: ,,keep-alive,", b"Connection: keep-alive, foo",
]  # fmt: skip
# RFC 9110, 7.6.1: what Connection names is for this hop only; names that it may not name are not lost
NOMINATED = [
    (b"Connection: X-A\r\nX-A: 1", (b"X-A",)),
    (b"Connection: x-a\r\nX-A: 1", (b"X-A",)),
    (b"X-A: 1\r\nConnection: X-A", (b"X-A",)),
    (b"Connection: keep-alive, X-A, X-B\r\nX-A: 1\r\nX-B: 2", (b"X-A", b"X-B")),
    (b"Connection: X-A\r\nConnection: X-B\r\nX-A: 1\r\nX-B: 2", (b"X-A", b"X-B")),
    (b"Connection: ,X-A ,\t,X-B\r\nX-A: 1\r\nX-A: 2\r\nX-B: 3", (b"X-A", b"X-B")),
    (b"Connection: X-A;q=1\r\nX-B: 1", ()),
    (b"Connection: cookie\r\nCookie: a=1", (b"Cookie",)),
    (b"Connection: content-length, transfer-encoding, te, trailer", ()),
]
NOT_LOST = [
    (b"Connection: Host", b"Host: a"),
    (b"Connection: X-Forwarded-For", b"X-Forwarded-For: "),
    (b"Connection: X-Auth-Subject, X-Request-Id", b"X-Request-Id: "),
    (b"Connection: Via", b"Via: "),
    (b"Connection: keep-alive, X-Forwarded-Proto, X-Forwarded-Host", b"X-Forwarded-Host: a"),
]
COOKIES = [
    (b"a=1; gateway_session=evil", b"a=1"),
    (b"gateway_session=evil; a=1", b"a=1"),
    (b"a=1; __Host-gateway_session=evil; b=2", b"a=1; b=2"),
    (b"a=1;gateway_session=evil;b=2", b"a=1;b=2"),
    (b"a=gateway_session=evil", b"a=gateway_session=evil"),
    (b"xgateway_session=1", b"xgateway_session=1"),
    (b'a=1;  b="2"; c=3=4', b'a=1;  b="2"; c=3=4'),
    (b'a="; gateway_session=evil; b="', b'a="; b="'),
    (b"a=b gateway_session=evil", b"a=b gateway_session=evil"),
    (b"gateway_session=evil", None),
    (b"gateway_session", None),
    (b" gateway_session =evil", None),
    (b"gateway_session=evil; gateway_session=evil2; __Host-gateway_session=evil", None),
]  # fmt: skip
WITH_TRAILERS = ((b"TE", b"trailers"), (b"Connection", b"TE"))


def _name(raw: bytes) -> bytes:
    return raw.partition(b":")[0]


def _cookies() -> list[Row]:
    rows = []
    for sent, kept in COOKIES:
        added = ((b"Cookie", kept),) if kept is not None else ()
        verdict = Pass(
            gone=frozenset((b"cookie",)) if kept != sent else frozenset(), added=added if kept != sent else ()
        )
        rows.append(passes(f"Cookie {shown(sent)}", OURS, request(b"Cookie: " + sent), verdict, own=True))
    return rows


def _nominated() -> list[Row]:
    rows = []
    for raw, names in NOMINATED:
        verdict = Pass(gone=frozenset(name.lower() for name in names))
        rows.append(passes(f"fields {shown(raw)}", HOP, request(raw), verdict))
    for raw, kept in NOT_LOST:
        name, _, value = kept.partition(b": ")
        verdict = Pass(added=((name, value),))
        rows.append(passes(f"fields {shown(raw)}", HOP, request(raw), verdict, own=True))
    return rows


def _hop_by_hop() -> list[Row]:
    rows = [
        passes(
            f"fields {shown(raw)}",
            HOP,
            request(raw),
            Pass(gone=frozenset((_name(raw).lower(),))),
            own=raw.startswith(b"Proxy-Auth"),  # RFC 9110, 11.7.2: a proxy may relay them
        )
        for raw in HOP_BY_HOP
    ]
    rows += [
        passes(f"fields {shown(raw)}", "RFC 9110, 10.1.4", request(raw), Pass(added=WITH_TRAILERS), own=True)
        for raw in (b"TE: trailers", b"TE: gzip, Trailers;q=1", b"Connection: TE\r\nTE: trailers")
    ]
    rows.append(passes("Max-Forwards on GET", MAX_FORWARDS, request(b"Max-Forwards: 0"), Pass()))
    for raw in (b"Connection: content-length", b"Connection: close, transfer-encoding, content-length"):
        closes = b"close" in raw
        data = request(raw, b"Content-Length: 5", method=b"POST", body=b"hello")
        rows.append(passes(f"a body under {shown(raw)}", HOP, data, posted(b"hello", closes=closes)))
    rows.append(passes("Connection: close", "RFC 9112, 9.6", request(b"Connection: close"), Pass(closes=True)))
    rows.append(
        passes("Connection: close among others", "RFC 9112, 9.6", request(b"Connection: x, CLOSE"), Pass(closes=True))
    )
    rows.append(
        passes(
            "Connection: close in a second field",
            "RFC 9112, 9.6",
            request(b"Connection: keep-alive", b"Connection: close"),
            Pass(closes=True),
        )
    )
    return rows


def _narrow() -> list[Row]:
    """A coding that is only called like trailers (RFC 9110, 10.1.4), and Max-Forwards (7.6.2)."""
    rows = list[Row]()
    rows += [
        passes(f"fields {shown(raw)}", "RFC 9110, 10.1.4", request(raw), Pass(gone=frozenset((b"te",))), own=True)
        for raw in (b"TE: xtrailers", b"TE: trailers-not", b"TE: gzip;a=trailers")
    ]
    for method in (b"TRACE", b"OPTIONS"):
        none = request(b"Max-Forwards: 0", method=method)
        answered = refuse(
            f"{method.decode()} with no forward left", MAX_FORWARDS, none, 200, 204, 400, 405, 501, sound=True
        )
        rows.append(answered)
        fewer = Pass(method=method, added=((b"Max-Forwards", b"4"),))
        rows.append(
            passes(
                f"{method.decode()} with a forward less",
                MAX_FORWARDS,
                request(b"Max-Forwards: 5", method=method),
                fewer,
                refusable=True,
            )
        )
    return rows


ROWS: list[Row] = [
    *(
        passes(f"field {shown(raw)}", OURS, request(raw), Pass(gone=frozenset((_name(raw).lower(),))), own=True)
        for raw in SPOOFED
    ),
    *(refuse(f"field {shown(raw)}", OURS, request(raw), own=True) for raw in UNDERSCORED),
    *_hop_by_hop(),
    *_nominated(),
    *_narrow(),
    *_cookies(),
    passes(
        "two spoofed fields",
        OURS,
        request(b"X-Real-IP: 1", b"X-A: 1", b"x-real-ip: 2"),
        Pass(gone=frozenset((b"x-real-ip",))),
        own=True,
    ),
]
