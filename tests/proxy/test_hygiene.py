"""What must not pass, both ways, and what the gateway says instead."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.store import Store
from tests.proxy.rig import Rig, rig

SPOOFED = [
    "X-Forwarded-For: 6.6.6.6",
    "X-Forwarded-Proto: gopher",
    "X-Forwarded-Host: evil.test",
    "X-Forwarded-Port: 6",
    "X-Forwarded-User: root",
    "X-Forwarded-Email: root@evil.test",
    "X-Forwarded-Anything: evil",
    "x-FORWARDED-fOR: 6.6.6.6",
    "Forwarded: for=6.6.6.6",
    "X-Auth-Subject: root",
    "x-auth-subject: root",
    "X-Auth-Client-Id: evil",
    "X-Auth-Scope: everything",
    "X-Auth-Token-Type: bearer",
    "X.Auth.Subject: evil",
    "x-auth+subject: evil",
    "X~Forwarded-User: evil",
    "X-Forwarded.For: 6.6.6.6",
    "X!Original!URL: /evil",
    "X-Request-Id: evil",
    "X-Real-IP: 6.6.6.6",
    "X-Client-IP: 6.6.6.6",
    "Client-IP: 6.6.6.6",
    "Forwarded-For: 6.6.6.6",
    "X-Forwarded: for=6.6.6.6",
    "x!forwarded: for=6.6.6.6",
    "True-Client-IP: 6.6.6.6",
    "CF-Connecting-IP: 6.6.6.6",
    "X-Cluster-Client-IP: 6.6.6.6",
    "X-Original-Forwarded-For: 6.6.6.6",
    "X-Envoy-External-Address: 6.6.6.6",
    "Remote-User: evil",
    "X-Remote-User: evil",
    "X-Auth-User: evil",
    "X-Script-Name: /evil",
    "X-Original-Method: DELETE",
    "X-Original-URL: /evil",
    "X-Rewrite-URL: /evil",
    "X-HTTP-Method-Override: DELETE",
    "X-HTTP-Method: DELETE",
    "X-Method-Override: DELETE",
    "Proxy: http://evil.test",
    "Authorization: Bearer evil",
    "Proxy-Authorization: Basic evil",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "Cookie: gateway_session=evil",
    "Cookie: __Host-gateway_session=evil",
]


@pytest.mark.parametrize("field", SPOOFED)
async def test_no_client_speaks_for_a_proxy_or_for_us_on_a_public_route_either(field: str, public: Rig) -> None:
    reply = await public.talk(f"GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n".encode())
    assert reply.status == 200
    value = field.partition(": ")[2]
    name = field.partition(":")[0].lower()
    (request,) = public.upstream.requests
    assert value not in request.all(name)
    assert "evil" not in str(request)
    assert "6.6.6.6" not in str(request)
    assert request.one("x-forwarded-for") == "127.0.0.1"
    assert request.one("x-forwarded-proto") == "http"
    assert request.one("x-forwarded-host") == "a"
    assert request.one("x-request-id") == reply.one("x-request-id")


async def test_fields_named_by_connection_stay_on_their_hop(public: Rig) -> None:
    # RFC 9110, section 7.6.1
    public.upstream.answer = (
        b"HTTP/1.1 200 OK\r\nConnection: x-private\r\nX-Private: 1\r\nKeep-Alive: 5\r\nX-Public: 1\r\n"
        b"Proxy-Authenticate: x\r\nContent-Length: 0\r\n\r\n"
    )
    reply = await public.talk(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Secret, X-Auth-Subject, X-Forwarded-For, Host\r\n"
        b"X-Secret: 1\r\nX-Shared: 1\r\nTE: trailers, gzip\r\n\r\n"
    )
    (request,) = public.upstream.requests
    assert request.all("x-secret") == []
    assert request.one("x-shared") == "1"
    assert request.one("host") == "a"
    assert request.one("x-forwarded-for") == "127.0.0.1"
    assert (request.one("te"), request.one("connection")) == ("trailers", "TE")
    assert (reply.all("x-private"), reply.all("keep-alive"), reply.all("proxy-authenticate")) == ([], [], [])
    assert reply.one("x-public") == "1"


async def test_a_name_that_only_looks_odd_passes(public: Rig) -> None:
    await public.talk(b"GET / HTTP/1.1\r\nHost: a\r\nX.Auth: 1\r\nx!forwards: 2\r\n!#$%&'*+-.^`|~: 3\r\n\r\n")
    (request,) = public.upstream.requests
    assert [request.one(name) for name in ("x.auth", "x!forwards", "!#$%&'*+-.^`|~")] == ["1", "2", "3"]


async def test_our_cookies_stay_here_and_the_others_keep_every_byte(public: Rig) -> None:
    await public.talk(
        b'GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1;  b="2";gateway_session=x; __Host-gateway_session=y; c=3=4\r\n\r\n'
    )
    assert public.upstream.requests[0].one("cookie") == 'a=1;  b="2"; c=3=4'


async def test_an_upstream_cannot_reach_into_our_pages(public: Rig) -> None:
    public.upstream.answer = (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: gateway_session=x\r\nSet-Cookie: __Host-gateway_session=x; Secure\r\n"
        b"Set-Cookie: =gateway_session=x\r\nSet-Cookie: gateway_session\r\nSet-Cookie: theirs=1\r\n"
        b'Clear-Site-Data: "*"\r\nService-Worker-Allowed: /\r\nAlt-Svc: h3=":444"\r\nNEL: {"report_to": "a"}\r\n'
        b"Report-To: {}\r\nReporting-Endpoints: a=b\r\nX-Request-Id: evil\r\nContent-Length: 0\r\n\r\n"
    )
    reply = await public.talk(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert reply.all("set-cookie") == ["theirs=1"]
    assert {name for name, _ in reply.fields} == {"set-cookie", "date", "x-request-id", "content-length"}
    assert reply.one("x-request-id") != "evil"


async def test_authorization_passes_where_the_route_says_so(tmp_path: Path, no_database: Store) -> None:
    routes: list[dict[str, Any]] = [
        {"name": "open", "path": "/open", "auth": "none", "forward_authorization": True},
        {"name": "shut", "path": "/shut", "auth": "none"},
    ]
    async with rig(tmp_path, no_database, routes=routes) as running:
        for path in ("open", "shut"):
            await running.talk(f"GET /{path} HTTP/1.1\r\nHost: a\r\nAuthorization: Basic eDp5\r\n\r\n".encode())
        opened, shut = running.upstream.requests
    assert opened.all("authorization") == ["Basic eDp5"]
    assert shut.all("authorization") == []


SPOKEN_FOR = (
    b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n"
    b"X-Forwarded-Port: 666\r\nX-Forwarded-Prefix: /evil\r\nX-Request-Id: outer-1\r\nX-Forwarded-User: root\r\n"
)
FORWARDING = [f"x-forwarded-{name}" for name in ("for", "proto", "host", "port", "prefix", "user")]


@pytest.mark.parametrize(
    ("trusted", "host", "told"),
    [
        (["127.0.0.0/8"], "a.example", ["203.0.113.9, 127.0.0.1", "https", "a.example", "443"]),
        (["127.0.0.1"], "a.example:8443", ["203.0.113.9, 127.0.0.1", "https", "a.example:8443", "8443"]),
        (["10.0.0.0/8"], "a.example", ["127.0.0.1", "http", "a.example", "80"]),
        ([], "a.example:8080", ["127.0.0.1", "http", "a.example:8080", "8080"]),
    ],
)
async def test_a_trusted_proxy_says_the_client_and_the_scheme_but_host_and_port_are_those_of_host(
    trusted: list[str], host: str, told: list[str], tmp_path: Path, no_database: Store
) -> None:
    async with rig(tmp_path, no_database, server={"trusted_proxies": trusted}) as running:
        reply = await running.talk(b"GET / HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (host.encode(), SPOKEN_FOR))
        (seen,) = running.upstream.requests
        raw = bytes(running.upstream.raw)
    assert [value for name in FORWARDING for value in seen.all(name)] == told
    assert [word for word in (b"evil", b"666", b"root", b"outer-1") if word in raw] == []
    assert seen.one("x-request-id") == reply.one("x-request-id")


@pytest.mark.parametrize(
    ("trusted", "trusts", "kept"), [(True, True, True), (True, False, False), (False, True, False)]
)
async def test_an_identifier_is_taken_from_a_trusted_proxy_where_the_route_says_so(
    trusted: bool, trusts: bool, kept: bool, tmp_path: Path, no_database: Store
) -> None:
    routes = [{"name": "all", "path": "/", "auth": "none", "trust_request_id": trusts}]
    server = {"trusted_proxies": ["127.0.0.1"] if trusted else []}
    async with rig(tmp_path, no_database, server=server, routes=routes) as running:
        for given in ("outer-1", "a b", "x" * 65):
            reply = await running.talk(f"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: {given}\r\n\r\n".encode())
            seen = running.upstream.requests.pop()
            assert (seen.one("x-request-id") == given) is (kept and given == "outer-1")
            assert reply.one("x-request-id") == seen.one("x-request-id")


@pytest.mark.parametrize("path", ["/nowhere", "/a"])
async def test_the_client_is_the_same_in_the_field_and_in_the_log(
    path: str, tmp_path: Path, no_database: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first address from the right that is not trusted, also where there is no route to say so to."""
    routes: list[dict[str, Any]] = [{"name": "a", "path": "/a", "auth": "none", "max_body": "1KiB"}]
    server = {"trusted_proxies": ["127.0.0.1", "10.0.0.0/8"]}
    chain = b"X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\nX-Forwarded-For: 10.0.0.2\r\n"
    async with rig(tmp_path, no_database, server=server, routes=routes) as running:
        await running.talk(b"POST %b HTTP/1.1\r\nHost: a\r\n%bContent-Length: 2000\r\n\r\n" % (path.encode(), chain))
        await running.talk(b"GET /a HTTP/1.1\r\nHost: a\r\n%b\r\n" % chain)
        (seen,) = running.upstream.requests
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines() if '"refused"' in line]
    assert line["address"] == "203.0.113.9"
    assert seen.one("x-forwarded-for") == "203.0.113.9, 10.0.0.2, 127.0.0.1"


async def test_the_authorization_plane_gets_cookies_and_authorization_but_no_spoofed_origin(public: Rig) -> None:
    public.plane.answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: gateway_session=x; HttpOnly\r\nContent-Length: 0\r\n\r\n"
    reply = await public.talk(
        b"GET /oauth2/login HTTP/1.1\r\nHost: gateway.test\r\n"
        b"Cookie: gateway_session=s\r\nAuthorization: Basic eDp5\r\n"
        b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nX-Request-Id: evil\r\n\r\n"
    )
    assert reply.all("set-cookie") == ["gateway_session=x; HttpOnly"]
    (seen,) = public.plane.requests
    assert (seen.one("cookie"), seen.one("authorization")) == ("gateway_session=s", "Basic eDp5")
    assert (seen.one("x-forwarded-for"), seen.one("x-forwarded-host")) == ("127.0.0.1", "gateway.test")
    assert seen.one("x-request-id") == reply.one("x-request-id")
    assert public.upstream.connections == 0


@pytest.mark.parametrize(
    ("target", "host", "status", "plane"),
    [
        ("/oauth2/login", "gateway.test", 200, True),
        ("/oauth2/login", "GATEWAY.test:80", 200, True),
        ("/oauth2/login", "other.test", 421, False),
        ("/oauth2", "other.test", 421, False),
        ("/.well-known/oauth-authorization-server", "gateway.test", 200, True),
        ("/.well-known/openid-configuration", "other.test", 421, False),
        ("/.well-known/jwks.json", "gateway.test", 200, True),
        ("/.well-known/jwks.json/x", "gateway.test", 200, False),
        ("/.well-known/oauth-protected-resource", "other.test", 200, True),
        ("/.well-known/oauth-protected-resource/api/x", "other.test", 200, True),
        ("/.well-known/other", "gateway.test", 200, False),
        ("/oauth2x", "gateway.test", 200, False),
        ("/%6fauth2/login", "gateway.test", 400, False),
        ("/oauth2;x/login", "gateway.test", 400, False),
    ],
)
async def test_the_authorization_plane_answers_on_the_issuer_s_host_only(
    target: str, host: str, status: int, plane: bool, public: Rig
) -> None:
    reply = await public.talk(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert reply.status == status
    assert bool(public.plane.requests) is plane
    assert bool(public.upstream.requests) is (status == 200 and not plane)


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("/shut", "a", 401),
        ("/;/shut", "a", 400),
        ("/;x=1/shut/in", "a", 400),
        ("/", "shut.test", 401),
        ("/", "shut.test.", 401),
        ("/", "Shut.Test.:80", 401),
    ],
)
async def test_no_other_spelling_of_a_path_or_host_leads_around_its_route(
    target: str, host: str, status: int, tmp_path: Path, no_database: Store
) -> None:
    routes: list[dict[str, Any]] = [
        {"name": "open", "path": "/", "auth": "none"},
        {"name": "shut-path", "path": "/shut", "auth": ["bearer"]},
        {"name": "shut-host", "path": "/", "hosts": ["shut.test"], "auth": ["bearer"]},
    ]
    async with rig(tmp_path, no_database, routes=routes) as running:
        reply = await running.talk(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert reply.status == status
        assert not running.upstream.connections


async def test_the_upstream_is_told_what_was_stripped_and_gets_kept_slashes_as_they_came(
    tmp_path: Path, no_database: Store
) -> None:
    routes: list[dict[str, Any]] = [
        {"name": "files", "path": "/api/files", "auth": "none", "strip_prefix": "/api", "encoded_slashes": "keep"},
        {"name": "shut", "path": "/api/files/shut", "auth": ["bearer"], "strip_prefix": "/api"},
        {"name": "whole", "path": "/whole", "auth": "none", "encoded_slashes": "keep"},
        {"name": "strict", "path": "/strict", "auth": "none", "strip_prefix": "/strict"},
    ]
    async with rig(tmp_path, no_database, routes=routes) as running:
        for target, status, got, prefix in (
            ("/api/files/a%2Fb//c?d=%2F//", 200, "/files/a%2Fb//c?d=%2F//", ["/api"]),
            ("/api/files//%2f%2Fa%20b/", 200, "/files//%2f%2Fa%20b/", ["/api"]),
            ("/whole//a%2Fb", 200, "/whole//a%2Fb", []),
            ("/strict/a", 200, "/a", ["/strict"]),
            ("/strict/a%2Fb", 400, None, []),
            ("/strict//a", 400, None, []),
            ("/api/files/..%2Fx", 400, None, []),
            ("/api/files/a%2F%2e%2e/x", 400, None, []),
            ("/api/files/a%5Cb", 400, None, []),
            ("/api/files%2Fshut", 400, None, []),
            ("/api/files/%2Fshut", 400, None, []),
            ("/api/files//shut", 400, None, []),
            ("/api//files/shut", 400, None, []),
            ("/whole%2f..%2fapi", 400, None, []),
            ("/whole%2F", 400, None, []),
        ):
            reply = await running.talk(
                f"GET {target} HTTP/1.1\r\nHost: a\r\nX-Forwarded-Prefix: /evil\r\n\r\n".encode()
            )
            assert reply.status == status, target
            seen = [(request.target, request.all("x-forwarded-prefix")) for request in running.upstream.requests]
            assert seen == ([(got, prefix)] if got is not None else []), target
            running.upstream.requests.clear()
