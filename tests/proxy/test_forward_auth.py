"""Forward auth: the questions of proxies in front, and what they get for an answer."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.model import Client, User
from gateway.proxy import Limits
from gateway.proxy.asserting import Assertions
from gateway.proxy.finished import Finished
from gateway.store import Store
from tests.proxy.rig import Reply, Rig, rig
from tests.proxy.signing import MAC, Signer
from tests.proxy.test_credentials import ada, client, issued
from tests.proxy.test_identity_jwt import verified

__all__ = ["ada", "client"]

ROUTES: list[dict[str, Any]] = [
    {
        "name": "notes",
        "path": "/api/notes",
        "auth": ["bearer", "mac"],
        "scopes": {"GET": ["notes:read"], "*": ["notes:write"]},
    },
    {"name": "signed", "path": "/signed", "auth": ["mac"], "mac_body_hash": True},
    {"name": "open", "path": "/open", "auth": "none"},
    {"name": "proven", "path": "/proven", "auth": ["bearer"], "identity_jwt": True},
    {"name": "files", "path": "/files", "auth": "none", "encoded_slashes": "keep"},
    {"name": "inner", "path": "/inner", "auth": "none", "allow": ["10.0.0.0/8"]},
    {"name": "posts", "path": "/posts", "auth": "none", "methods": ["POST"]},
    {"name": "elsewhere", "path": "/", "hosts": ["other.test"], "auth": "none"},
    {"name": "pages", "path": "/pages", "auth": ["bearer"], "cors": {"origins": ["https://app.example.com"]}},
]
TRUSTING = {"trusted_proxies": ["127.0.0.1"]}
FORWARDED = "X-Forwarded-Method: {method}\r\nX-Forwarded-Uri: {uri}\r\nX-Forwarded-Host: gateway.test\r\n"
WAYS = {
    "Caddy, Traefik": ("GET", "/oauth2/verify", "auth:9000", FORWARDED),
    "nginx": ("GET", "/oauth2/verify", "gateway.test", "X-Original-Method: {method}\r\nX-Original-URI: {uri}\r\n"),
    "nginx in Kubernetes": (
        "GET",
        "/oauth2/verify",
        "auth:9000",
        "X-Original-Method: {method}\r\nX-Original-URL: https://gateway.test{uri}\r\n",
    ),
    "Envoy": ("{method}", "/oauth2/verify{uri}", "gateway.test", "Content-Length: 0\r\n"),
}
IDENTITY = (
    "x-auth-subject", "x-auth-client-id", "x-auth-scope", "x-auth-token-type", "x-forwarded-user", "x-forwarded-email",
    "x-auth-jwt",
)  # fmt: skip


@pytest.fixture
async def running(tmp_path: Path, store: Store) -> AsyncIterator[Rig]:
    async with rig(tmp_path, store, routes=ROUTES, server=TRUSTING, mac=MAC, limits=Limits(tick=0.02)) as made:
        yield made
        assert made.upstream.connections == made.plane.connections == 0  # nobody but the gateway judges


def stopped_at(running: Rig, reply: Reply) -> str:
    """The step at which `gateway explain` says that a call was refused."""
    told: Any = json.loads(json.dumps(running.proxy.recall(reply.one("x-request-id"))))
    (step,) = [step["step"] for step in told["calls"][0]["steps"] if step["outcome"] in ("refused", "failed")]
    return str(step)


def question(way: str, method: str, uri: str, *fields: str) -> bytes:
    """How a proxy of that kind asks."""
    own, path, host, told = WAYS[way]
    lines = told.format(method=method, uri=uri) + "".join(f"{field}\r\n" for field in fields)
    return f"{own} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".format(method=method, uri=uri).encode()


async def ask(running: Rig, data: bytes) -> Reply:
    return await running.talk(data, method="HEAD" if data.startswith(b"HEAD") else "GET")


@pytest.mark.parametrize("way", WAYS)
async def test_verdict_is_that_of_the_call_itself(
    way: str, running: Rig, store: Store, client: Client, ada: User
) -> None:
    told: list[Finished] = []
    running.proxy.listeners.append(told.append)
    bearer = f"Authorization: Bearer {await issued(store, client, 'notes:read')}"
    good = await ask(running, question(way, "GET", "/api/notes/1?a=%20b", bearer))
    assert (good.status, good.body) == (200, b"")
    assert {name: good.one(name) for name in IDENTITY} == {
        "x-auth-subject": ada.subject,
        "x-auth-client-id": client.client_id,
        "x-auth-scope": "notes:read",
        "x-auth-token-type": "bearer",
        "x-forwarded-user": "ada",
        "x-forwarded-email": "ada@example.test",
        "x-auth-jwt": "",
    }
    assert good.one("cache-control") == "no-store"
    head = await ask(running, question(way, "HEAD", "/api/notes/1", bearer))
    assert (head.status, head.complete) == (200, True)
    missing = await ask(running, question(way, "GET", "/api/notes/1"))
    assert missing.status == 401
    assert any("Bearer" in value and "error=" not in value for value in missing.all("www-authenticate"))
    low = await ask(running, question(way, "PUT", "/api/notes/1", bearer))
    assert low.status == 403
    assert any('error="insufficient_scope"' in value for value in low.all("www-authenticate"))
    heads = [(one.head.method, one.head.target) for one in told if one.head is not None]
    assert heads[0] == (b"GET", b"/api/notes/1?a=%20b")  # what is told of is the call, and not the question
    assert heads[-1] == (b"PUT", b"/api/notes/1")
    assert {one.route.name for one in told if one.route is not None} == {"notes"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("method", "uri", "status"),
    [
        ("GET", "/open/x", 200),
        ("GET", "/nowhere", 403),
        ("GET", "/posts", 403),
        ("POST", "/posts", 200),
        ("GET", "/open/..%2fapi", 403),
        ("GET", "/open/../api/notes", 403),
        ("GET", "/files/a%2Fb", 200),
        ("GET", "/inner", 403),
        ("GET", "/oauth2/token", 403),
        ("GET", "/oauth2/verify/open", 403),
        ("CONNECT", "/open", 403),
    ],
)
async def test_route_is_found_as_for_the_call_itself(
    way: str, method: str, uri: str, status: int, running: Rig
) -> None:
    if method == "CONNECT" and way == "Envoy":
        return  # which is no request that reaches this far
    reply = await ask(running, question(way, method, uri))
    assert reply.status == status
    if status == 200:
        assert [reply.one(name) for name in IDENTITY] == [""] * len(IDENTITY)  # so that a client's own are overwritten


@pytest.mark.parametrize("way", WAYS)
async def test_client_address_is_the_one_that_the_proxy_tells(way: str, running: Rig) -> None:
    assert (await ask(running, question(way, "GET", "/inner", "X-Forwarded-For: 10.1.2.3"))).status == 200
    assert (await ask(running, question(way, "GET", "/inner", "X-Forwarded-For: 192.0.2.1"))).status == 403


async def test_question_that_nobody_understands_is_explained_as_its_head(running: Rig) -> None:
    reply = await ask(running, question("nginx", "GET", "/x", "X-Original-URI: /y"))
    assert (reply.status, stopped_at(running, reply)) == (403, "head")


async def test_host_is_the_calls_own(running: Rig) -> None:
    for data, status in (
        (question("Caddy, Traefik", "GET", "/x").replace(b"Host: gateway.test", b"Host: other.test"), 200),
        (question("nginx", "GET", "/x").replace(b"Host: gateway.test", b"Host: other.test"), 200),
        (question("nginx in Kubernetes", "GET", "/x").replace(b"https://gateway.test", b"https://other.test"), 200),
        (question("Envoy", "GET", "/x").replace(b"Host: gateway.test", b"Host: other.test"), 200),
        (question("nginx", "GET", "/x", "X-Forwarded-Host: other.test"), 403),  # of which nginx knows nothing
        (question("Caddy, Traefik", "GET", "/x"), 403),
    ):
        assert (await ask(running, data)).status == status, data


@pytest.mark.parametrize("way", WAYS)
async def test_stranger_is_told_nothing(way: str, tmp_path: Path, store: Store, client: Client, ada: User) -> None:
    bearer = f"Authorization: Bearer {await issued(store, client, 'notes:read')}"
    for trusted in ([], ["10.0.0.0/8"]):
        async with rig(tmp_path, store, routes=ROUTES, server={"trusted_proxies": trusted}) as running:
            for data in (question(way, "GET", "/api/notes", bearer), question(way, "GET", "/open")):
                reply = await ask(running, data)
                assert (reply.status, b"untrusted_proxy" in reply.body) == (403, True)
                assert not reply.all("x-auth-subject")
            running.upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            spoofed = FORWARDED.format(method="GET", uri="/open")  # on a call: nobody looks at them
            reply = await running.talk(f"GET /api/notes HTTP/1.1\r\nHost: gateway.test\r\n{spoofed}\r\n".encode())
            assert (reply.status, running.upstream.connections) == (401, 0)


UNCLEAR = {
    "in no way": "GET /oauth2/verify HTTP/1.1\r\nHost: a\r\n",
    "in two": question("nginx", "GET", "/api/notes", "X-Forwarded-Uri: /open", "X-Forwarded-Method: GET"),
    "in two, one of them half": question("Caddy, Traefik", "GET", "/api/notes", "X-Original-URI: /open"),
    "in the path and in fields": question("Envoy", "GET", "/api/notes", "X-Forwarded-Uri: /open"),
    "without a method": "GET /oauth2/verify HTTP/1.1\r\nHost: a\r\nX-Forwarded-Uri: /open\r\n",
    "without an address": "GET /oauth2/verify HTTP/1.1\r\nHost: a\r\nX-Original-Method: GET\r\n",
    "two addresses": question("Caddy, Traefik", "GET", "/open", "X-Forwarded-Uri: /open"),
    "two methods": question("nginx", "GET", "/open", "X-Original-Method: GET"),
    "two hosts": question("Caddy, Traefik", "GET", "/open", "X-Forwarded-Host: a"),
    "a URI and a URL": question("nginx", "GET", "/open", "X-Original-URL: http://gateway.test/open"),
    "no path": question("nginx", "GET", "open"),
    "a space in the path": question("nginx", "GET", "/open /x"),
    "a URL in the place of a path": question("nginx", "GET", "http://gateway.test/open"),
    "a method that is none": question("nginx", "GE(T", "/open"),
    "a host that is none": question("Caddy, Traefik", "GET", "/open").replace(b"Host: gateway.test", b"Host: a/b"),
}


@pytest.mark.parametrize("what", UNCLEAR)
async def test_question_that_is_not_clear_is_refused(what: str, running: Rig) -> None:
    data = UNCLEAR[what]
    reply = await ask(running, data if isinstance(data, bytes) else f"{data}\r\n".encode())
    assert reply.status == 403


async def test_connection_is_kept_between_questions(running: Rig) -> None:
    connection = await running.connect()
    for uri, status in (("/open", 200), ("/api/notes", 401), ("/open", 200)):
        await connection.send(question("nginx", "GET", uri))
        assert (await connection.reply()).status == status
    await connection.send(question("Caddy, Traefik", "POST", "/posts", "Content-Length: 3") + b"abc")
    assert (await connection.reply()).status == 200
    await connection.send(question("nginx", "GET", "/open"))
    assert (await connection.reply()).status == 200
    connection.close()


async def test_preflight_of_an_admitted_page_passes_without_a_token(running: Rig) -> None:
    asks = ("Access-Control-Request-Method: PUT",)
    good = question("nginx", "OPTIONS", "/pages", "Origin: https://app.example.com", *asks)
    evil = question("nginx", "OPTIONS", "/pages", "Origin: https://evil.example", *asks)
    assert (await ask(running, good)).status == 200
    assert (await ask(running, evil)).status == 403


async def test_signed_call_passes_once_and_for_itself_alone(running: Rig, signer: Signer) -> None:
    once = f"Authorization: {signer.authorization(None, target='/api/notes/1')}"
    assert (await ask(running, question("nginx", "POST", "/api/notes/2", once))).status == 401
    assert (await ask(running, question("nginx", "POST", "/api/notes/1", once))).status == 200
    again = await ask(running, question("nginx", "POST", "/api/notes/1", once))
    assert (again.status, b"nonce" in again.body) == (401, True)


async def test_signature_that_covers_the_body_cannot_be_judged(running: Rig, signer: Signer) -> None:
    for body in (b"hello", b""):
        signed = f"Authorization: {signer.authorization(body, target='/signed')}"
        reply = await ask(running, question("nginx", "POST", "/signed", signed))
        assert (reply.status, b"body_not_seen" in reply.body) == (403, True)
        assert stopped_at(running, reply) == "body"
    unstated = f"Authorization: {signer.authorization(None, target='/signed')}"
    assert (await ask(running, question("nginx", "POST", "/signed", unstated))).status == 401
    empty = f"Authorization: {signer.authorization(b'', target='/signed', method='GET')}"
    assert (await ask(running, question("nginx", "GET", "/signed", empty))).status == 200  # which has none


@pytest.mark.parametrize("way", WAYS)
async def test_application_can_verify_who_calls_where_the_route_has_that(
    way: str, running: Rig, store: Store, client: Client, ada: User
) -> None:
    bearer = f"Authorization: Bearer {await issued(store, client, 'notes:read')}"
    asked = question(way, "GET", "/proven", bearer, "X-Auth-Jwt: evil")
    assert (await ask(running, asked)).status == 503  # no key yet
    running.proxy.assertions = Assertions("http://gateway.test", time.time)
    running.proxy.assertions.sign_with(await store.signing_keys.key("ES256"))
    told = await verified((await ask(running, asked)).one("x-auth-jwt"), store)
    assert (told["aud"], told["sub"], told["client_id"]) == (
        "http://gateway.test/proven",
        ada.subject,
        client.client_id,
    )
    assert (await ask(running, question(way, "GET", "/proven"))).status == 401
    assert (await ask(running, question(way, "GET", "/open", "X-Auth-Jwt: evil"))).all("x-auth-jwt") == [""]


async def test_browser_gets_a_page_for_a_refusal(running: Rig) -> None:
    reply = await ask(running, question("Caddy, Traefik", "GET", "/api/notes", "Accept: text/html"))
    assert (reply.status, reply.one("content-type")) == (401, "text/html; charset=utf-8")
    assert reply.body.endswith(b" /api/notes"), "the address that the person asked for, not the proxy's question"


async def test_explanation_is_of_the_call(running: Rig) -> None:
    reply = await ask(running, question("nginx", "GET", "/nowhere?token=secret"))
    calls: Any = running.proxy.recall(reply.one("x-request-id"))["calls"]
    (told,) = calls
    assert (told["status"], told["cause"]) == (403, "Nothing is served at this path.")
    steps = {step["step"]: step for step in told["steps"]}
    assert "GET for gateway.test" in steps["head"]["text"]
    assert steps["route"]["outcome"] == "refused"
    assert "secret" not in str(told)
