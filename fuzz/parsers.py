"""Each parser of ours by itself: what must hold for any bytes, and what they may cost.

Nothing but a parser's own error escapes, and what it takes means the same when it is written down and read again.
"""

import io
import json
import os
import random
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final
from urllib.parse import quote_from_bytes

from fuzz.mutation import CREDENTIAL_SEEDS, REQUEST_SEEDS, RESPONSE_SEEDS, TARGET_SEEDS, mutated
from fuzz.slowness import BOUND, SIZE, Climb, Take
from gateway import observe
from gateway.config import ConfigError, load
from gateway.credentials import MalformedCredential, content_digest, in_query, mac, signatures, split, structured
from gateway.credentials.components import Message
from gateway.errors import OAuthError
from gateway.http1 import Malformed, RequestHead, RequestReader, ResponseReader, parse_host
from gateway.model import OWN_COOKIES, parse_scope
from gateway.oauth import (
    client_assertion,
    client_authentication,
    client_documents,
    device,
    dpop,
    foreign,
    forms,
    jwk,
    jws,
    redirect_uris,
    registration,
)
from gateway.proxy.answers import prefers_html
from gateway.routing import NoRoute, RouteTable, TargetError, canonical, cookies
from gateway.routing.forwarded import hops, is_trusted
from gateway.routing.proxy_protocol import Introduction, IntroductionReader, NoIntroduction

SESSION: Final = b"__Host-gateway_session"
TRUSTED: Final = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
_MENTIONS: Final = cookies.mentioning([name.encode() for name in OWN_COOKIES])
_NO_ROUTES: Final = RouteTable(())
_log = observe.get_logger("fuzz")


@dataclass(frozen=True, slots=True)
class Parser:
    """A parser with what it is fed: `check` holds for any bytes, `take` is what may take `bound` seconds for 8 KiB."""

    seeds: Sequence[bytes]
    take: Take
    check: Take | None = None
    bound: float = BOUND

    def invariant(self, chance: random.Random) -> bytes:
        """Let mutated bytes show that what must hold does not."""
        data = mutated(chance, self.seeds)
        (self.check or self.take)(data)
        return data

    def climb(self) -> Climb:
        """A search for what takes it longest."""
        pieces = [piece for seed in self.seeds for piece in (seed, *seed.replace(b";", b"=").split(b"=")) if piece]
        return Climb([*pieces, *TOKENS], self.bound)


TOKENS: Final = (
    *(bytes((byte,)) for byte in b" \t\r\n;,=&?%:/.\\\"'()[]{}#@*+-_~a0A\x00\x7f\xff"),
    b"%61", b"a=", b"://a:", b"//", b"/a", b"/;", b"/..", b"a.", b";a", b'"a"', b"a:b@", b"x-a: b\r\n", b"k=1\n",
    b"[[routes]]\n",
)  # fmt: skip

# -- cookies ------------------------------------------------------------------------------------------------

COOKIES: Final = [
    b"__Host-gateway_session=abc; theme=dark", b"a=1; __Host-gateway_session=x; __Host-gateway_session=y",
    b'a="; __Host-gateway_session=x; b="', b"x=y __Host-gateway_session=EVIL", b" __Host-gateway_session = x ",
    b"__Host-gateway_session", b"=__Host-gateway_session=x", b"a,__Host-gateway_session=x", b";;a;=;",
]  # fmt: skip


def cookies_taken(data: bytes) -> None:
    cookies.read([data], SESSION)
    cookies.without(data, (SESSION,), SESSION)
    _MENTIONS(data)


def cookies_checked(data: bytes) -> None:
    value = cookies.read([data], SESSION)
    kept = cookies.without(data, (SESSION,), SESSION)
    assert cookies.read([kept], SESSION) is None, data
    assert value is None or (value.isascii() and not set(value) & set(' ";,\\')), data
    assert value is None or cookies.read([b"a=1", data], SESSION) == value, data
    assert cookies.read([data, data], SESSION) is None, data
    assert SESSION not in data or _MENTIONS(data) or data.strip(b" \t") != SESSION, data


# -- forms, queries, scopes, redirect URIs -------------------------------------------------------------------

FORMS: Final = [
    b"grant_type=authorization_code&code=gwc_a&redirect_uri=https%3A%2F%2Fa.test%2Fcb", b"scope=a+b&scope=c",
    b"a&=b&&=", b"client_id=x&state=%ff%00%zz%", b"%61ccess_token=x", b"a=b=c&d=%26%3D%2B",
    b"resource=https://a.test/x&resource=",
]  # fmt: skip


def form_taken(data: bytes) -> None:
    with suppress(OAuthError):
        form = forms.parse(data)
        form.repeated(but=frozenset(("resource",)))
        form.all("resource")


def form_checked(data: bytes) -> None:
    try:
        form = forms.parse(data)
    except OAuthError:
        return
    pairs = ([text.encode("utf-8", "surrogateescape") for text in pair] for pair in form.fields)
    written = b"&".join(b"=".join(quote_from_bytes(part, safe="").encode() for part in pair) for pair in pairs)
    assert forms.parse(written) == form, data
    assert "access_token" not in form.names or in_query(b"/?" + data), data


def client_taken(data: bytes) -> None:
    with suppress(OAuthError):
        client_authentication.parse([data.decode("latin-1")], forms.Form(), forms.Form())


URIS: Final = [b"https://a.test/cb", b"http://127.0.0.1:4711/cb?x", b"http://[::1]/", b"com.example:/cb", b"a.b-c:%41/"]


def uri_taken(data: bytes) -> None:
    text = data.decode("latin-1")
    redirect_uris.is_registered(("http://127.0.0.1/cb", "https://a.test/cb"), text)
    redirect_uris.shown_host(text)
    redirect_uris.form_action_source(text)
    with suppress(ValueError):
        parse_scope(text)


# -- what clients sign, and what people type -----------------------------------------------------------------

ASSERTIONS: Final = [
    b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJjIiwic3ViIjoiYyIsImF1ZCI6Imh0dHBzOi8vYS50ZXN0IiwiZXhwIjo5LCJqdGkiOiJ4In0.AAAA",
    b"eyJhbGciOiJub25lIn0.e30.", b"e30.e30.e30", b"eyJhbGciOiJSUzI1NiIsImNyaXQiOltdfQ.W10.AA", b"..", b"a.b-c_.d=",
]  # fmt: skip
_FOREIGN_CLAIMS: Final = (
    b'{"iss":"https://i.test","sub":"ada","aud":"us","client_id":"app","scope":"r w","iat":1562262600,"exp":1562262700}'
)
FOREIGN: Final = [
    b".".join(jws.encoded(part).encode() for part in (header, claims, b"signature"))
    for header in (b'{"alg":"ES256","typ":"at+jwt","kid":"1"}', b'{"alg":"none"}', b'{"alg":"RS256","crit":["b64"]}')
    for claims in (
        _FOREIGN_CLAIMS,
        _FOREIGN_CLAIMS.replace(b'"us"', b'["us",1]'),
        b'{"iss":"https://i.test","exp":1e999}',
    )
]
ISSUER: Final = foreign.Trusted(
    name="corp",
    url="https://i.test",
    jwks_uri="",
    audience=frozenset({"us"}),
    algorithms=("ES256", "RS256"),
    token_types=("at+jwt", "JWT"),
    subject_claim="sub",
    client_claim="client_id",
    scopes_claim="scope",
    scopes={"r": frozenset({"read"}), "w": frozenset({"write"})},
    leeway=30.0,
)
PROOFS: Final = [  # the first is the example of RFC 9449, section 4.1
    (
        b"eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJo"
        b"RjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19."
        b"eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0"
        b"IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
    ),
    *ASSERTIONS,
]
KEY_SETS: Final = [
    b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}',
    (b'{"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", '
    b'"y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}'),
    b'{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "use": "sig", "key_ops": ["verify"], "alg": "RS256"}]}',
    b'{"keys": [{"kty": "oct", "k": "AA"}]}', b'{"keys": [], "keys": []}', b'{"keys": [[[[1e999]]]]}',
]  # fmt: skip
USER_CODES: Final = [b"WDJB-MJHT", b"wdjb mjht", b"WDJB\xe2\x80\x93MJHT", b"WDJB\xc5\xbfMJH", b"A" * 64]


def assertion_taken(data: bytes) -> None:
    with suppress(OAuthError):
        client_assertion.parse(data.decode("utf-8", "surrogateescape"))


def assertion_checked(data: bytes) -> None:
    try:
        found = client_assertion.parse(data.decode("utf-8", "surrogateescape"))
    except OAuthError:
        return
    assert found.header["alg"] in jws.ALGORITHMS, data
    assert found.client_id, data
    assert data.startswith(found.signed + b"."), data


def proof_taken(data: bytes) -> None:
    with suppress(dpop.InvalidProof):
        dpop.parse([data.decode("latin-1")])


def proof_checked(data: bytes) -> None:
    try:
        found = dpop.parse([data.decode("latin-1")])
    except dpop.InvalidProof:
        return
    assert found.algorithm in found.key.algorithms, data
    assert data.startswith(found.signed + b"."), data
    nonces = dpop.Nonces((b"fuzz",))
    url = "https://server.example.com/token"
    fault = dpop.fault_of(found, method="POST", url=url, now=1562262616.0, window=60.0, nonces=nonces)
    assert fault is not None or data == PROOFS[0], data


def foreign_taken(data: bytes) -> None:
    found = foreign.read(data.decode("latin-1"))
    if found is not None:
        foreign.verify(found[1], ISSUER, 1562262616.0)


def foreign_checked(data: bytes) -> None:
    found = foreign.read(data.decode("latin-1"))
    if found is None:
        return
    claimed = foreign.verify(found[1], ISSUER, 1562262616.0)
    if isinstance(claimed, foreign.Unfit):
        return
    assert claimed.algorithm in ISSUER.algorithms, data
    assert claimed.ends_at > 1562262616.0, data
    assert ISSUER.audience.issuperset(claimed.audience), data
    assert claimed.audience, data
    for name in (claimed.subject, claimed.client_id):
        assert name.startswith("corp|"), data
        assert name.isprintable(), data
        assert name.strip() == name, data
    assert claimed.scopes <= {"read", "write"}, data


def keys_taken(data: bytes) -> None:
    with suppress(ValueError):
        kept = jwk.parse_set(data)
        assert jwk.parse_set(json.dumps(kept).encode()) == kept, data
        assert all(key.algorithms for key in jwk.keys_of(json.dumps(kept))), data


def user_code_taken(data: bytes) -> None:
    found = device.user_code_of(data.decode("utf-8", "surrogateescape"))
    assert found is None or device.user_code_of(device.shown(found)) == found, data


# -- clients that describe themselves ------------------------------------------------------------------------

DOCUMENTS: Final = [
    b'{"redirect_uris": ["https://a.test/cb"], "client_name": "A", "scope": "a b"}',
    b'{"client_id": "https://a.test/x", "redirect_uris": ["http://[::1]:1/"], "token_endpoint_auth_method": "none"}',
    b'{"client_uri": "https://a.test/", "contacts": ["a@b.test"], "jwks": {"keys": [{}]}, "application_type": "web"}',
    b"https://a.b.test:1/%2e/x?y", b"public, max-age=60, no-store", b'"\\u202e\\ud800"', b"[[[[{}]]]]", b"1e999",
]  # fmt: skip


def document_taken(data: bytes) -> None:
    text = data.decode("latin-1")
    client_documents.host_of(text)
    client_documents.lifetime(text, text)
    with suppress(OAuthError):
        members = registration.members_in(data)
        with suppress(OAuthError):
            client_documents.read("https://a.test/x", members, frozenset({"a"}))
        json.dumps(registration.read(members, frozenset({"a"})).extras)


# -- hosts and the forwarded chain ---------------------------------------------------------------------------

HOSTS: Final = [b"a.example:8443", b"[::1]:80", b"[2001:db8::1]", b"a", b"127.0.0.1:", b"A_b~!$&'()*+,;=.", b"a:65536"]


def host_taken(data: bytes) -> None:
    with suppress(Malformed):
        parse_host(data)


def host_checked(data: bytes) -> None:
    with suppress(Malformed):
        host, port = parse_host(data)
        assert port is None or 0 <= port <= 65535, data
        again = host if port is None else b"%b:%d" % (host, port)
        assert parse_host(again) == (host, port), data
        assert host == host.lower(), data
        assert not set(host) & set(b"/?#@\\ "), data


CHAINS: Final = [
    b"203.0.113.7, 10.0.0.1", b"::ffff:203.0.113.7,fd00::1 ,\t10.1.2.3", b"6.6.6.6, x, 10.0.0.1", b"[::1]:80",
    b"fe80::1%1", b"10.0.0.1," * 3, b"1.2.3.4:5",
]  # fmt: skip


def chain_checked(data: bytes) -> None:
    found = hops([data], TRUSTED)
    read = [ip_address(text) for text in found]
    assert [str(ip) for ip in read] == list(found), data
    assert all(is_trusted(ip, TRUSTED) for ip in read[1:]), data
    assert len(found) <= data.count(b",") + 1, data


# -- signature fields ------------------------------------------------------------------------------------------

INPUTS: Final = [
    b'sig=("@method" "@target-uri");created=1618884473;nonce="n";keyid="gwa_a"',
    b'a=("@method" "@authority" "@path" "@query");created=1;nonce="n";keyid="gwa_a", b=();keyid="x"',
    b'sig=("x-a";sf "x-a";key="k" "x-a";bs "@query-param";name="q");created=1;nonce="n";keyid="a"',
    b'sig=("content-digest" "@method" "@target-uri");alg="hmac-sha256";expires=2;created=1;nonce="n";keyid="a";tag="t"',
    b'sig=:YWJj:;a=?1, b=@1618884473, c=%"x", d=1.5, e=*tok/en:x, f', b"a=1, a=2",
]  # fmt: skip


def signed_by(data: bytes) -> Message:
    """A request whose fields and query all are these bytes."""
    labels = b"sig=:YWJj:" if data.startswith(b"sig") else b"a=:YWJj:, b=:YWJj:"
    lines = ((b"signature-input", data), (b"signature", labels), (b"x-a", data), (b"priority", data))
    fields = tuple((name, name, value) for name, value in lines)
    return Message(method="GET", target=b"/p?q=" + data, scheme="https", authority="a.test", fields=fields)


def signature_taken(data: bytes) -> None:
    for part in (data, data[:4000], data[:1000]):  # fields are refused beyond their bounds
        with suppress(MalformedCredential):
            signatures.from_message(signed_by(part))
    with suppress(MalformedCredential):
        content_digest.parse([data[:1000]])


def signature_checked(data: bytes) -> None:
    signature_taken(data)
    with suppress(MalformedCredential):
        members = structured.dictionary([data], field="any", longest=SIZE)
        written = ", ".join(f"{key}={structured.serialised(member)}" for key, member in members.items())
        assert structured.dictionary([written.encode()], field="any", longest=2 * SIZE) == members, data


def credential_taken(data: bytes) -> None:
    with suppress(MalformedCredential):
        split(data)
    with suppress(MalformedCredential):
        mac.parse(data)
    mac.common_form(data)


# -- heads, targets, the log -----------------------------------------------------------------------------------


def request_taken(data: bytes) -> None:
    reader = RequestReader()
    reader.receive(data)
    with suppress(Malformed):
        while (event := reader.next_event()) is not None:
            if isinstance(event, RequestHead):
                prefers_html(event)
            elif not isinstance(event, bytes):
                reader.next_request()


def response_taken(data: bytes) -> None:
    reader = ResponseReader()
    reader.receive(data)
    with suppress(Malformed):
        while (event := reader.next_event()) is not None:
            del event


def target_taken(data: bytes) -> None:
    with suppress(TargetError):
        target = canonical(data)
        assert isinstance(_NO_ROUTES.match(b"a", b"GET", target.path), NoRoute)


LOGGED: Final = [
    b"postgresql://u:p@h/db", b"__Host-a=b; c", b"Authorization: Bearer x", b"?code=a&token=b",
    b'{"client_secret": "a"}',
    b"bearer basic token mac id=a", b"gwa_a", b"__Host-", b"://a:", b"%63%6f%64%65=a", b'\\"password\\": \\"x',
]  # fmt: skip


def logged_taken(data: bytes) -> str:
    text, written = data.decode("latin-1"), io.StringIO()
    with redirect_stderr(written):
        _log.error("refused", path=text, host=text)
    return written.getvalue()


def logged_checked(data: bytes) -> None:
    written, text = logged_taken(data), data.decode("latin-1")
    assert written.isascii(), data
    assert (written.count("\n"), written[-2:]) == (1, "}\n"), data
    assert len(written) <= 4096, data
    assert json.loads(written)["event"] == "refused", data
    once = observe.scrub(text)
    assert observe.scrub(once) == once, data


# -- the file --------------------------------------------------------------------------------------------------

FILES: Final = [
    b'[server]\npublic_url = "https://a.test"\nlisten = "127.0.0.1:0"\n',
    b'[[routes]]\nname = "a"\npath = "/a"\nauth = "none"\nupstreams = ["http://127.0.0.1:1"]\nhosts = ["a", "b"]\n',
    b'[database]\nurl = "postgresql://a:b@c/d"\n', b'[scopes]\nread = "Read"\n[tokens]\naccess = "1h"\n',
    b"a.b.c = 1\n", b"x = [[[{a = 1}]]]\n", b'"\\u0061" = """\nx"""\n', b"d = 1979-05-27\n",
]  # fmt: skip


FILE: Final = os.memfd_create("gateway.toml")


def file_taken(data: bytes) -> None:
    os.ftruncate(FILE, 0)
    os.pwrite(FILE, data, 0)
    with suppress(ConfigError):
        load(Path(f"/proc/self/fd/{FILE}"))


# -- the PROXY protocol -------------------------------------------------------------------------------------

_SECOND: Final = b"\r\n\r\n\0\r\nQUIT\n"
INTRODUCTIONS: Final = [
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\nGET", b"PROXY TCP6 2001:db8::1 ::1 65535 1\r\n", b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN ::1 x\r\n", _SECOND + b"\x21\x11\0\x0c" + b"\x0a\0\0\1\x0a\0\0\2\0\1\1\xbb",
    _SECOND + b"\x20\0\0\0GET", _SECOND + b"\x21\x21\0\x24" + bytes(36),
    _SECOND + b"\x21\x11\0\x13" + bytes(12) + b"\x03\0\4abcd", _SECOND + b"\x21\x31\0\xd8" + bytes(216),
]  # fmt: skip


def introduced(data: bytes, step: int) -> tuple[Introduction | str, int]:
    """What comes of a connection that brings these bytes, so many at a time, and how many were taken."""
    reader, taken = IntroductionReader(), 0
    try:
        for end in range(step, len(data) + step, step):
            while reader.done is None and taken < min(end, len(data)):
                taken += reader.take(data[taken:end])
    except NoIntroduction as fault:
        return str(fault), 0
    return reader.done or "", taken


def introduction_checked(data: bytes) -> None:
    whole = introduced(data, max(1, len(data)))
    bytewise = introduced(data, 1)
    assert isinstance(whole[0], str) == isinstance(bytewise[0], str), data
    assert isinstance(whole[0], str) or whole == bytewise, data
    if not isinstance(whole[0], str) and whole[0].address:
        ip_address(whole[0].address)


PARSERS: Final = {
    "cookies": Parser(COOKIES, cookies_taken, cookies_checked),
    "forms": Parser(FORMS, form_taken, form_checked),
    "queries": Parser(FORMS, lambda data: in_query(b"/?" + data)),
    "clients": Parser([b"Basic YTpi", b"basic  YQ==", b"Basic JTQxOiUyMg=="], client_taken),
    "addresses": Parser(URIS, uri_taken),
    "documents": Parser(DOCUMENTS, document_taken),
    "assertions": Parser(ASSERTIONS, assertion_taken, assertion_checked),
    "proofs": Parser(PROOFS, proof_taken, proof_checked),
    "foreign-tokens": Parser(FOREIGN, foreign_taken, foreign_checked),
    "keys": Parser(KEY_SETS, keys_taken),
    "user-codes": Parser(USER_CODES, user_code_taken),
    "hosts": Parser(HOSTS, host_taken, host_checked),
    "chains": Parser(CHAINS, lambda data: hops([data], TRUSTED), chain_checked),
    "introductions": Parser(INTRODUCTIONS, lambda data: introduced(data, 4096), introduction_checked),
    "signatures": Parser(INPUTS, signature_taken, signature_checked),
    "schemes": Parser([b"Bearer gwa_a", b"MAC " + CREDENTIAL_SEEDS[0], *CREDENTIAL_SEEDS], credential_taken),
    "heads": Parser(REQUEST_SEEDS, request_taken),
    "answers": Parser(RESPONSE_SEEDS, response_taken),
    "paths": Parser(TARGET_SEEDS, target_taken),
    "lines": Parser(LOGGED, logged_taken, logged_checked),
    "files": Parser(FILES, file_taken, bound=0.05),  # an operator's, and read at a start and a reload
}


def slowness(chance: random.Random) -> bytes:
    """One more step of the search for what takes one of the parsers longest."""
    name = chance.choice(sorted(PARSERS))
    if name not in _climbs:
        _climbs[name] = PARSERS[name].climb()
    return _climbs[name].step(PARSERS[name].take, chance)


_climbs: dict[str, Climb] = {}
