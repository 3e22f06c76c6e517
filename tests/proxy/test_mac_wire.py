"""Bad MAC requests as raw bytes against a real gateway: what the client gets, and that nothing else happens.

Every row is refused with 401, or with 400 where it follows no grammar; with a challenge, unless HTTP itself is broken
before there is a route; with a Date, so that a client can see its clock's skew. Nothing reaches the upstream, and no
nonce is written.
"""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import asyncpg
import pytest
import pytest_asyncio
from oauthlib.oauth2.rfc6749.tokens import prepare_mac_header

from gateway.credentials import mac
from gateway.crypto import Keyring
from gateway.model import MacAlgorithm, MacDraft, TokenType
from gateway.store import NewClient, Store
from gateway.store.records import IssuedTokens
from tests.conftest import cloned_store
from tests.proxy.rig import Connection, RawUpstream, Reply
from tests.serving import PATIENCE, Gateway, serving, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = "api.example.com"
SKEW = 60
_ATTRIBUTES = ("id", "ts", "nonce", "ext", "mac")
_CAPPED = {"id": 256, "nonce": 128, "ext": 1024}


def _routes(port: int) -> list[dict[str, object]]:
    upstreams = [f"http://127.0.0.1:{port}"]
    return [
        {"name": "notes", "path": "/notes", "upstreams": upstreams, "auth": ["bearer", "mac"],
         "scopes": {"GET": ["read"], "*": ["write"]}},
        {"name": "bearer", "path": "/bearer", "upstreams": upstreams, "auth": ["bearer"]},
        {"name": "one", "path": "/own", "hosts": ["one.example.com"], "upstreams": upstreams, "auth": ["mac"]},
        {"name": "two", "path": "/own", "hosts": ["two.example.com"], "upstreams": upstreams, "auth": ["mac"]},
    ]  # fmt: skip


async def nonce_rows(dsn: str) -> int:
    """How many nonces the database remembers, in whatever tables."""
    connection = await asyncpg.connect(dsn)
    try:
        names = await connection.fetch(
            "select c.oid::regclass::text as name from pg_class c join pg_attribute a on a.attrelid = c.oid "
            "where c.relkind in ('r', 'p') and not c.relispartition and c.relname like '%nonces' and a.attname = 'key'"
        )
        assert names
        return sum([await connection.fetchval(f"select count(*) from {row['name']}") for row in names])
    finally:
        await connection.close()


@dataclass
class World:
    """A gateway that serves, its upstream, and tokens of every kind."""

    gateway: Gateway
    upstream: RawUpstream
    store: Store
    dsn: str
    tokens: dict[str, IssuedTokens] = field(default_factory=dict)
    nonces_before: int = 0

    async def begin(self) -> None:
        """A fresh token, and nothing counted yet."""
        await self.issue("good")
        self.upstream.requests.clear()
        self.upstream.connections = 0
        self.nonces_before = await nonce_rows(self.dsn)

    async def nonces(self) -> int:
        """How many nonces were written since then."""
        return await nonce_rows(self.dsn) - self.nonces_before

    async def issue(
        self, name: str, *, kind: TokenType = "mac", drafts: tuple[MacDraft, ...] = ("01",), **options: Any
    ) -> IssuedTokens:
        """A token with the scope `read`, by a client of its own."""
        algorithm: MacAlgorithm = options.get("algorithm", "hmac-sha-256")
        client, _ = await self.store.clients.create(
            NewClient(
                name=name,
                confidential=True,
                redirect_uris=(),
                grant_types=frozenset({"client_credentials"}),
                scopes=frozenset({"read", "write"}),
                token_type=kind,
                mac_drafts=drafts,
                mac_algorithm=algorithm,
            )
        )
        scopes = frozenset(options.get("scopes", {"read"}))
        self.tokens[name] = await self.store.tokens.issue(client.client_id, None, scopes, 3600, None)
        return self.tokens[name]

    def signed(self, **changes: Any) -> bytes:
        """A right GET of `/notes/1?b=1&a=2`, with some of it changed: see `_Request`."""
        return _Request(**{"tokens": self.tokens["good"], **changes}).to_bytes()

    async def send(self, data: bytes) -> Reply:
        """The answer to raw bytes on a fresh connection."""
        port = int(self.gateway.url.rpartition(":")[2])
        connection = Connection(*await asyncio.open_connection("127.0.0.1", port))
        try:
            await connection.send(data)
            return await connection.reply("HEAD" if data.startswith(b"HEAD ") else "GET")
        finally:
            connection.close()


@dataclass(kw_only=True)
class _Request:
    """A signed request. What stands in `sign` is signed instead of what is sent, `attributes` are sent as given.

    An attribute of None is left out; `text` writes the whole credential from the attributes. `off` is by how many
    seconds its time is another than that at which it is sent.
    """

    tokens: IssuedTokens
    method: str = "GET"
    target: str = "/notes/1?b=1&a=2"
    host: str = HOST
    sign: Mapping[str, Any] = field(default_factory=dict)
    off: int = 0
    key: str | None = None
    attributes: Mapping[str, str | None] = field(default_factory=dict)
    text: Callable[[dict[str, str]], str] | None = None
    fields: tuple[str, ...] = ()
    body: bytes = b""
    lines: Callable[[str], list[str]] | None = None

    def credential(self) -> str:
        ts, nonce = self.sign.get("ts", str(int(time.time()) + self.off)), self.sign.get("nonce", "n1")
        covered = mac.Covered(
            method=self.sign.get("method", self.method),
            target=self.sign.get("target", self.target).encode("latin-1"),
            host=self.sign.get("host", self.host).lower().partition(":")[0],
            port=self.sign.get("port", 443),
        )
        signed: dict[str, Any] = {name: self.sign.get(name) for name in ("ext", "bodyhash")}
        text = mac.normalized_string(covered, nonce=nonce, ts=ts, **signed)
        key = self.key or self.tokens.mac_key or "obviously-fake-key"
        algorithm = self.sign.get("algorithm", self.tokens.mac_algorithm or "hmac-sha-256")
        sent = {"id": self.tokens.access_token, "ts": ts, "nonce": nonce, **signed}
        sent |= {"mac": mac.sign(key.encode(), algorithm, text)} | dict(self.attributes)
        given = {name: value for name, value in sent.items() if value is not None}
        return self.text(given) if self.text else _listed(given)

    def to_bytes(self) -> bytes:
        lines = self.lines(self.credential()) if self.lines else [f"Authorization: {self.credential()}"]
        head = [f"{self.method} {self.target} HTTP/1.1", f"Host: {self.host}", *lines, *self.fields]
        if self.body:
            head.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*head, "", ""]).encode("latin-1") + self.body


def _listed(given: Mapping[str, str]) -> str:
    return "MAC " + ", ".join(f'{name}="{value}"' for name, value in given.items())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    server: str, template: str, tmp_path_factory: pytest.TempPathFactory, keyring: Keyring
) -> AsyncIterator[World]:
    """A real gateway with two workers, for all tests of this file."""
    async with AsyncExitStack() as stack:
        dsn, store = await stack.enter_async_context(cloned_store(server, template, keyring))
        upstream = await stack.enter_async_context(RawUpstream().serving())
        tables: dict[str, Any] = {
            # A trusted proxy: what its forwarding fields say must not count for signatures all the same.
            "server": {"public_url": f"https://{HOST}", "trusted_proxies": ["127.0.0.1"]},
            "mac": {"drafts": ["01", "00"], "algorithms": ["hmac-sha-256", "hmac-sha-1"], "skew": f"{SKEW}s"},
            "scopes": {"read": "Read", "write": "Write"},
        }
        folder = tmp_path_factory.mktemp("gateway")
        gateway = await stack.enter_async_context(serving(folder, dsn=dsn, routes=_routes(upstream.port), **tables))
        yield World(gateway, upstream, store, dsn)


@pytest_asyncio.fixture(loop_scope="module")
async def world(running: World) -> World:
    """The same, as if it were fresh."""
    await running.begin()
    return running


# -- the table -----------------------------------------------------------------------------------------------

Row = tuple[str, dict[str, Any]]


def _attribute_rows() -> Iterator[Row]:
    """Every attribute: absent, twice, empty, unquoted, over-long, with control characters, with non-ASCII."""
    for name in _ATTRIBUTES:
        usual: dict[str, Any] = {"sign": {"ext": "a"}}
        if name != "ext":
            yield f"{name} absent", usual | {"attributes": {name: None}}
        yield f"{name} twice", usual | {"text": lambda given, name=name: _listed(given) + f', {name}="{given[name]}"'}
        yield f"{name} empty", usual | {"attributes": {name: ""}}
        yield (
            f"{name} unquoted",
            usual | {"text": lambda given, name=name: _listed(given).replace(f'"{given[name]}"', given[name])},
        )
        yield f"{name} in single quotes", usual | {"text": lambda given: _listed(given).replace('"', "'")}
        for what, text in (("control character", "\x01"), ("DEL", "\x7f"), ("tab", "\t"), ("NUL", "\x00")):
            yield f"{name} with a {what}", usual | {"attributes": {name: f"a{text}b"}}
        for what, text in (("CR LF", "\r\n"), ("LF", "\n"), ("CR", "\r"), ("quote", '"'), ("backslash", "\\")):
            yield f"{name} with a {what}", usual | {"attributes": {name: f"a{text}b"}}
        for text in ("\xe4", "\xff", "\x80", "\xc3\xa4"):
            yield f"{name} with {text!r}", usual | {"attributes": {name: f"a{text}b"}}
        if name in _CAPPED:
            yield f"{name} over-long", usual | {"attributes": {name: "a" * (_CAPPED[name] + 1)}}
            yield f"{name} far too long", usual | {"attributes": {name: "a" * 7000}}


def _value_rows() -> Iterator[Row]:
    for value in ("####", "AAA", "A===", "AAAA AAAA", "_-_-", "=" * 44, "%41%41%41%41"):
        yield f"mac {value!r}", {"attributes": {"mac": value}}
    for size in (0, 1, 16, 20, 31, 33, 64):
        yield f"mac of {size} bytes", {"attributes": {"mac": base64.b64encode(bytes(size)).decode()}}
    yield "mac of 32 other bytes", {"attributes": {"mac": base64.b64encode(bytes(32)).decode()}}
    for ts in (
        "-1",
        "0",
        "01",
        "1.5",
        "1e9",
        "+1",
        "now",
        "9" * 20,
        "1" * 16,
        "0x10",
        "\u0661".encode().decode("latin-1"),
    ):
        yield f"ts {ts!r}", {"attributes": {"ts": ts}}
    for off in (-(10**6), -3600, -SKEW - 2, SKEW + 3, 3600, 10**6):
        yield f"ts {off:+} s", {"off": off}
    now = int(time.time())
    yield "other ts than signed", {"sign": {"ts": str(now)}, "attributes": {"ts": str(now + 1)}}
    yield "other nonce than signed", {"attributes": {"nonce": "n2"}}
    yield "ext that was not signed", {"attributes": {"ext": "added"}}
    yield "ext that was signed and not sent", {"sign": {"ext": "a"}, "attributes": {"ext": None}}
    yield "attribute that no draft has", {"attributes": {"more": "1"}}
    yield "a bodyhash beside ts", {"attributes": {"bodyhash": "AAAA"}}
    yield "draft 00 by a client of draft 01", {"attributes": {"ts": None, "nonce": "1:n"}}
    yield "other key", {"key": "obviously-fake-other-key"}
    yield "algorithm of the client's own choice", {"sign": {"algorithm": "hmac-sha-1"}}


def _list_rows() -> Iterator[Row]:
    for what, text in (
        ("no attributes", lambda _: "MAC"),
        ("blank only", lambda _: "MAC "),
        ("the token alone", lambda given: f"MAC {given['id']}"),
        ("semicolons", lambda given: _listed(given).replace(",", ";")),
        ("no commas", lambda given: _listed(given).replace(",", "")),
        ("two commas", lambda given: _listed(given).replace(",", ",,")),
        ("a comma at the end", lambda given: _listed(given) + ","),
        ("blanks around =", lambda given: _listed(given).replace("=", " = ")),
        ("an open quote", lambda given: _listed(given)[:-1]),
        ("another scheme", lambda given: _listed(given).replace("MAC", "HMAC", 1)),
        ("no scheme", lambda given: _listed(given).removeprefix("MAC ")),
        ("MAC and Bearer in one", lambda given: f"{_listed(given)}, Bearer {given['id']}"),
        ("Bearer and MAC in one", lambda given: f"Bearer {given['id']}, {_listed(given)}"),
        ("draft 03", lambda given: f'MAC kid="{given["id"]}", ts="{given["ts"]}", seq-nr="1", mac="{given["mac"]}"'),
        ("draft 05", lambda given: f'MAC kid="", ts={given["ts"]}, h="host", mac={given["mac"]}'),
        ("presented as bearer", lambda given: f"Bearer {given['id']}"),
    ):
        yield what, {"text": text}
    yield "two Authorization fields", {"lines": lambda value: [f"Authorization: {value}"] * 2}
    yield "MAC beside Bearer", {"lines": lambda value: [f"Authorization: {value}", "Authorization: Bearer a"]}
    yield "beside Signature fields", {"fields": ('Signature-Input: a=("@method")', "Signature: a=:AAAA:")}
    yield "token in the query too", {"target": "/notes/1?access_token=gwa_x"}


def _request_rows() -> Iterator[Row]:
    usual = "/notes/1?b=1&a=2"
    for what, target in (
        ("query reordered", "/notes/1?a=2&b=1"),
        ("query gone", "/notes/1"),
        ("question mark gone", "/notes/1b=1&a=2"),
        ("question mark more", "/notes/1?b=1&a=2?"),
        ("ampersand more", "/notes/1?b=1&a=2&"),
        ("parameter more", "/notes/1?b=1&a=2&c=3"),
        ("other path", "/notes/2?b=1&a=2"),
        ("slash more", "/notes/1/?b=1&a=2"),
        ("path percent-encoded", "/notes/%31?b=1&a=2"),
        ("query percent-encoded", "/notes/1?b=1&a=%32"),
        ("path in capitals", "/notes/1?B=1&a=2"),
        ("path parameter", "/notes/1;x?b=1&a=2"),
        ("absolute form", f"http://{HOST}/notes/1?b=1&a=2"),
        ("dot segment", "/notes/./1?b=1&a=2"),
        ("two dots", "/notes/2/../1?b=1&a=2"),
        ("escaped dots", "/notes/%2e%2e/notes/1?b=1&a=2"),
        ("empty segment", "/notes//1?b=1&a=2"),
        ("backslash", "/notes\\1?b=1&a=2"),
    ):
        yield what, {"target": target, "sign": {"target": usual}}
    for method in ("POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PROPFIND", "get", "Get"):
        yield f"method {method}", {"method": method, "sign": {"method": "GET"}}
    for what, host, port in (
        ("other host", "evil.example.com", 443),
        ("its own port 80", HOST, 80),
        ("its own port 8443", HOST, 8443),
        ("the listener's address", "127.0.0.1", 8080),
        ("another route's host", "one.example.com", 443),
    ):
        yield f"signed for {what}", {"sign": {"host": host, "port": port}}
    for name in ("X-Forwarded-Host", "X-Forwarded-Server", "X-Original-Host", "X-Host"):
        yield f"{name} claims the signed host", {"sign": {"host": "evil.test"}, "fields": (f"{name}: evil.test",)}
    yield (
        "Forwarded claims the signed host",
        {"sign": {"host": "evil.test"}, "fields": ("Forwarded: host=evil.test;proto=https",)},
    )
    yield "X-Forwarded-Port claims the signed port", {"sign": {"port": 8443}, "fields": ("X-Forwarded-Port: 8443",)}
    yield "X-Forwarded-Proto claims http", {"sign": {"port": 80}, "fields": ("X-Forwarded-Proto: http",)}
    yield "Host claims the signed one", {"host": "evil.test", "sign": {"host": "evil.test"}}
    yield "Host with a port that is signed", {"host": f"{HOST}:8443", "sign": {"port": 8443}}
    yield "Host with a user part", {"host": f"evil@{HOST}", "sign": {"host": HOST}}
    yield "two Host fields", {"fields": ("Host: evil.test",)}
    yield "method override", {"method": "POST", "sign": {"method": "GET"}, "fields": ("X-HTTP-Method-Override: GET",)}
    yield "original URL", {"sign": {"target": "/x"}, "fields": ("X-Original-URL: /x", "X-Rewrite-URL: /x")}
    for host, other in (("one.example.com", "two.example.com"), ("two.example.com", "one.example.com")):
        yield f"signed for {other}, sent to {host}", {"host": host, "target": "/own", "sign": {"host": other}}
    yield "signed for public_url, sent to a route of its own", {
        "host": "one.example.com", "target": "/own", "sign": {"host": HOST},
    }  # fmt: skip


def _token_rows(tokens: Mapping[str, IssuedTokens]) -> Iterator[Row]:
    good = tokens["good"]
    for what in ("revoked", "expired", "other", "bearer", "disabled"):
        yield f"id of a token that is {what}, signed with the good key", {
            "attributes": {"id": tokens[what].access_token},
        }  # fmt: skip
    for what in ("revoked", "expired", "bearer", "disabled"):
        yield f"a token that is {what}", {"tokens": tokens[what]}
    yield "the key of another client's token", {"key": tokens["other"].mac_key}
    yield "the token as the key", {"key": good.access_token}
    for what, token in (
        ("invented", "gwa_" + "A" * 40),
        ("cut", good.access_token[:-1]),
        ("longer", good.access_token + "A"),
        ("of a refresh token's kind", "gwr_" + good.access_token[4:]),
        ("imported", "imported-from-elsewhere"),
        ("in capitals", good.access_token.upper()),
        ("'; drop", "'; drop table nonces; --"),
    ):
        yield f"id {what}", {"attributes": {"id": token}}
    yield (
        "draft 00 with a body hash of no known length",
        {
            "tokens": tokens["draft 00"],
            "text": lambda given: f'MAC id="{given["id"]}", nonce="0:n", bodyhash="AAAA", mac="{given["mac"]}"',
        },
    )
    yield "draft 00 without a nonce's age", {"tokens": tokens["draft 00"], "attributes": {"ts": None}}


# Broken before there is a route whose schemes could be offered: HTTP itself refuses these.
_NO_ROUTE = (
    "with a control", "with a DEL", "with a NUL", "with a CR", "with a LF", "dot segment", "two dots", "escaped dots",
    "empty segment", "backslash", "user part", "two Host", "far too long",
)  # fmt: skip


async def _tokens(world: World) -> None:
    """One token of every kind that a request may name."""
    for name in ("revoked", "expired", "other", "disabled"):
        await world.issue(name)
    await world.issue("bearer", kind="bearer")
    await world.issue("draft 00", drafts=("00",))
    await world.store.tokens.revoke(world.tokens["revoked"].access_token, None)
    connection = await asyncpg.connect(world.dsn)
    try:
        await connection.execute("update clients set disabled_at = now() where name = 'disabled'")
        await connection.execute(
            "update access_tokens t set expires_at = $1 from clients c "
            "where c.client_id = t.client_id and c.name = 'expired'",
            datetime.now(UTC) - timedelta(seconds=1),
        )
    finally:
        await connection.close()


async def _fault(world: World, name: str, data: bytes) -> str | None:
    """What is wrong with the answer to a bad request, if anything is."""
    reply = await world.send(data)
    if reply.status not in (400, 401, *((431,) if "far too long" in name else ())):
        return f"{reply.status}"
    date = parsedate_to_datetime(reply.one("date"))
    if abs(date.timestamp() - time.time()) > 10:
        return f"Date {date}"
    offered = reply.all("www-authenticate")
    excused = any(what in name for what in _NO_ROUTE)
    if not any(challenge.startswith("MAC realm=") for challenge in offered) and not (excused and reply.status != 401):
        return f"{reply.status} with the challenges {offered}"
    if world.tokens["good"].access_token[4:20].encode() in reply.body:
        return "the answer repeats the token"
    return None


async def test_bad_request_is_refused_and_leaves_no_trace(world: World) -> None:
    await _tokens(world)
    rows = [*_attribute_rows(), *_value_rows(), *_list_rows(), *_request_rows(), *_token_rows(world.tokens)]
    faults = {}
    for name, changes in rows:
        fault = await _fault(world, name, world.signed(**changes))
        if fault is not None:
            faults[name] = fault
    assert not faults
    assert len(rows) > 150
    assert world.upstream.connections == 0
    assert await world.nonces() == 0
    # The request that all of these spoil is a good one, and its nonce has not been spent.
    good = world.signed()
    assert (await world.send(good)).status == 200
    assert await world.nonces() == 1
    assert (await world.send(good)).status == 401
    assert len(world.upstream.requests) == 1


async def test_what_is_allowed_is_not_refused(world: World) -> None:
    number = 0
    for changes in (
        {"off": 5 - SKEW},
        {"off": SKEW - 5},
        {"host": HOST.upper()},
        {"host": f"{HOST}:443"},
        {"host": "evil.test", "sign": {"host": HOST}},  # any host leads there, and the public one is covered
        {"host": "ONE.example.com", "target": "/own", "sign": {"host": "one.example.com"}},
        {"sign": {"ext": "e" * 1024}},
        {"sign": {"nonce": "n" * 128}},
        {"target": "/notes/1?"},
        {"target": "/notes/%C3%A4;x?a=%zz&&"},
        {"fields": ("X-Forwarded-Host: evil.test", "Forwarded: host=evil.test")},
        {"text": lambda given: _listed(dict(reversed(given.items())))},
        {"text": lambda given: _listed(given).replace(", ", " ,\t")},
        {"text": lambda given: _listed(given).replace("MAC", "mac", 1).replace("nonce=", "NONCE=")},
    ):
        number += 1
        given: dict[str, Any] = dict(changes)
        given["sign"] = {"nonce": f"n{number}", **given.get("sign", {})}
        assert (await world.send(world.signed(**given))).status == 200, changes
    assert await world.nonces() == number == len(world.upstream.requests)


async def test_insufficient_scope_is_403_and_keeps_the_nonce(world: World) -> None:
    same = {"ts": str(int(time.time()))}
    reply = await world.send(world.signed(method="DELETE", sign=same))
    assert reply.status == 403
    used = [challenge.startswith("MAC ") for challenge in reply.all("www-authenticate")]
    errors = ['error="insufficient_scope"' in challenge for challenge in reply.all("www-authenticate")]
    assert errors == used  # RFC 6750, section 3: of the scheme that was used
    assert all('scope="write"' in challenge for challenge in reply.all("www-authenticate"))
    assert len(reply.all("date")) == 1
    assert (world.upstream.connections, await world.nonces()) == (0, 0)
    assert (await world.send(world.signed(sign=same))).status == 200, "the same nonce at the same time"


async def refused_and_logged(world: World, request: bytes) -> tuple[Reply, dict[str, Any]]:
    """The refusal of a request and its line in the log; sent again where a flood of refusals had the line counted."""
    async with asyncio.timeout(PATIENCE):
        while True:
            reply = await world.send(request)
            request_id = json.loads(reply.body)["request_id"]

            def logged(request_id: str = request_id) -> list[dict[str, Any]]:
                return [line for line in world.gateway.logs if line.get("request_id") == request_id]

            with suppress(TimeoutError):
                await until(logged, 2)
                (line,) = logged()
                return reply, line


async def test_client_is_told_the_class_and_the_operator_the_cause(world: World) -> None:
    stale = str(int(time.time()) + 500)
    for changes, said, cause in (
        ({"key": "obviously-fake"}, "unknown, expired or revoked, or its signature does not match", "wrong MAC"),
        ({"attributes": {"id": "imported"}}, "its signature does not match", "unknown token"),
        ({"attributes": {"id": "gwa_" + "A" * 40}}, "its signature does not match", "invented token"),
        ({"sign": {"ts": stale}}, "timestamp is more than 60 seconds off; compare your clock", "timestamp"),
        ({"attributes": {"ts": "x"}}, "The attribute ts is malformed", "malformed credential"),
        ({"text": lambda _: 'MAC kid="a", mac="AAAA"'}, "Accepted: draft 01", "drafts 03 to 05"),
    ):
        reply, line = await refused_and_logged(world, world.signed(**changes))
        told = json.loads(reply.body)
        assert said in told["error_description"]
        (challenge,) = (value for value in reply.all("www-authenticate") if value.startswith("MAC "))
        assert f'error="{told["error"]}"' in challenge
        assert reply.one("x-request-id") == told["request_id"]
        assert cause in line["cause"]
        assert (line["status"], line["path"]) == (reply.status, "/notes/1")
    good = world.tokens["good"]
    for secret in (good.access_token, good.mac_key or "-"):
        assert secret not in world.gateway.log_text


async def test_every_refusal_has_a_date(world: World) -> None:
    for head in (
        "GET /notes HTTP/1.1",
        "GET /notes HTTP/1.1\r\nAuthorization: MAC x",
        "GET /notes HTTP/1.1\r\nAuthorization: Bearer x\r\nAccept: text/html",
        "GET /bearer HTTP/1.1\r\nAuthorization: MAC x",
        "GET /nothing HTTP/1.1",
        "GET /notes/../x HTTP/1.1",
        "GET /notes HTTP/1.1\r\nbad line",
        "GET /notes HTTP/9.9",
        "POST /notes HTTP/1.1\r\nContent-Length: 99999999",
        "GET /oauth2/token HTTP/1.1",
        "GET /oauth2/nothing HTTP/1.1",
        "GET /oauth2/authorize HTTP/1.1\r\nAccept: text/html",
        "POST /oauth2/introspect HTTP/1.1\r\nContent-Length: 0",
    ):
        reply = await world.send(f"{head}\r\nHost: {HOST}\r\n\r\n".encode())
        assert 400 <= reply.status < 600, head
        assert abs(parsedate_to_datetime(reply.one("date")).timestamp() - time.time()) < 10, head


# -- another implementation's client -------------------------------------------------------------------------


async def _by_oauthlib(world: World, tokens: IssuedTokens, *, body: str | None, **options: Any) -> bytes:
    method: Literal["GET", "POST"] = "GET" if body is None else "POST"
    target = "/notes/1?b=1&a=2" if body is None else "/notes"
    assert tokens.mac_algorithm is not None
    header = prepare_mac_header(
        tokens.access_token, f"https://{HOST}{target}", tokens.mac_key or "", method, body=body,
        hash_algorithm=tokens.mac_algorithm, **options,
    )  # fmt: skip
    lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}", f"Authorization: {header['Authorization']}"]
    content = (body or "").encode()
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content


@pytest.mark.parametrize("algorithm", ["hmac-sha-1", "hmac-sha-256"])
async def test_client_of_oauthlib_passes_once_by_both_drafts(world: World, algorithm: MacAlgorithm) -> None:
    passed = 0
    drafts: tuple[MacDraft, MacDraft] = ("00", "01")
    for draft, name in enumerate(drafts):
        tokens = await world.issue(f"oauthlib {name}", drafts=(name,), algorithm=algorithm, scopes={"read", "write"})
        options: dict[str, Any] = {"draft": draft}
        if draft == 0:
            options["issue_time"] = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=5)
        for body in (None, "hello=world%21", "ä"):
            request = await _by_oauthlib(world, tokens, body=body, **options)
            replies = await asyncio.gather(*(world.send(request) for _ in range(4)))
            assert sorted(reply.status for reply in replies) == [200, 401, 401, 401], (draft, body)
            passed += 1
            assert len(world.upstream.requests) == await world.nonces() == passed
            assert world.upstream.requests[-1].body == (body or "").encode()


async def test_body_that_oauthlib_did_not_hash_is_refused(world: World) -> None:
    tokens = await world.issue("oauthlib", drafts=("00",), scopes={"write"})
    issued_at = datetime.now(UTC).replace(tzinfo=None)
    request = await _by_oauthlib(world, tokens, body="hello=world", issue_time=issued_at)
    reply = await world.send(request.replace(b"hello=world", b"hello=w0rld"))
    assert reply.status == 401
    assert any('error="invalid_token"' in challenge for challenge in reply.all("www-authenticate"))
    assert (len(world.upstream.requests), await world.nonces()) == (0, 0)
    assert (await world.send(request)).status == 200, "its nonce has not been spent"
