"""Routes that answer by themselves, lead elsewhere, rewrite the path, or are for some networks only."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ConfigError, parse
from gateway.proxy.finished import Finished
from gateway.store import Store
from tests.proxy.rig import Reply, Rig, rig

NONE: dict[str, Any] = {"auth": "none", "upstreams": []}
# fmt: off
ROUTES: list[dict[str, Any]] = [
    {**NONE, "name": "moved", "path": "/old/notes", "redirect": "https://new.example.com/v2"},
    {**NONE, "name": "host", "path": "/host", "redirect": {"to": "https://new.example.com", "status": 308}},
    {**NONE, "name": "here", "path": "/here", "redirect": "/there"},
    {**NONE, "name": "root", "path": "/root", "redirect": "/"},
    {**NONE, "name": "kept", "path": "/kept", "redirect": "https://new.example.com/", "encoded_slashes": "keep"},
    {**NONE, "name": "closed", "path": "/closed",
     "respond": {"status": 503, "body": "Zurück um zwölf.", "headers": {"Retry-After": "3600"}}},
    {**NONE, "name": "json", "path": "/json",
     "respond": {"status": 200, "body": "{}", "headers": {"content-type": "application/json"}}},
    {**NONE, "name": "empty", "path": "/empty", "respond": {"status": 204}},
    {**NONE, "name": "shut", "path": "/shut", "auth": ["bearer"], "respond": {"status": 200, "body": "in"}},
    {"auth": "none", "name": "rewritten", "path": "/api/notes", "strip_prefix": "/api", "rewrite_prefix": "/v2"},
    {"auth": "none", "name": "prefixed", "path": "/plain", "rewrite_prefix": "/v3"},
    {"auth": "none", "name": "whole", "path": "/whole", "strip_prefix": "/whole", "rewrite_prefix": "/v4"},
    {"auth": "none", "name": "inner", "path": "/inner", "allow": ["10.0.0.0/8", "2001:db8::/32"], "deny": ["10.6.6.6"]},
    {"auth": ["bearer"], "name": "local", "path": "/local", "deny": ["192.0.2.0/24"]},
]
# fmt: on


@pytest.fixture
async def running(tmp_path: Path, no_database: Store) -> AsyncIterator[Rig]:
    async with rig(tmp_path, no_database, routes=ROUTES, server={"trusted_proxies": ["127.0.0.1"]}) as made:
        yield made


def call(target: str, *fields: str, method: str = "GET") -> bytes:
    lines = (f"{method} {target} HTTP/1.1", "Host: gateway.test", *fields, "", "")
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize(
    ("target", "status", "location"),
    [
        ("/old/notes", 307, "https://new.example.com/v2"),
        ("/old/notes/1?x=/y&z=%2F", 307, "https://new.example.com/v2/1?x=/y&z=%2F"),
        ("/host", 308, "https://new.example.com/"),
        ("/host/a%20b", 308, "https://new.example.com/a%20b"),
        ("/here/1", 307, "/there/1"),
        ('/here/{x}|"<y>', 307, "/there/%7Bx%7D%7C%22%3Cy%3E"),
        ("/here/é?q=ü", 307, "/there/%C3%A9?q=%C3%BC"),
        ("/root", 307, "/"),
        ("/root/1", 307, "/1"),
        ("/kept//evil.test", 307, "https://new.example.com//evil.test"),
    ],
)
async def test_redirect_keeps_what_follows_the_route_and_the_query(
    running: Rig, target: str, status: int, location: str
) -> None:
    for method in ("GET", "DELETE", "HEAD"):
        reply = await running.talk(call(target, method=method), method=method)
        assert (reply.status, reply.one("location"), reply.body) == (status, location, b"")
        assert reply.one("content-length") == "0"
        assert len(reply.one("x-request-id")) > 10
    assert running.upstream.connections == 0


@pytest.mark.parametrize(
    "target", ["/root//evil.test", "/root/%2Fevil.test", "/root/\\evil.test", "/root/..//evil.test"]
)
async def test_redirect_leads_to_no_host_that_the_caller_names(running: Rig, target: str) -> None:
    reply = await running.talk(call(target))
    assert (reply.status, reply.all("location")) == (400, [])


async def test_route_answers_by_itself(running: Rig) -> None:
    reply = await running.talk(call("/closed/for/now?x=1"))
    assert (reply.status, reply.body.decode()) == (503, "Zurück um zwölf.")
    assert reply.one("retry-after") == "3600"
    assert reply.one("content-type") == "text/plain; charset=utf-8"
    assert reply.one("date")
    reply = await running.talk(call("/json"))
    assert (reply.one("content-type"), reply.body) == ("application/json", b"{}")
    reply = await running.talk(call("/closed", method="HEAD"), method="HEAD")
    assert (reply.status, reply.one("content-length"), reply.body) == (503, str(len("Zurück um zwölf.".encode())), b"")
    reply = await running.talk(call("/empty"))
    assert (reply.status, reply.all("content-length"), reply.all("content-type")) == (204, [], [])
    assert running.upstream.connections == 0


@pytest.mark.parametrize(
    ("fields", "body", "stays"),
    [
        (["Content-Length: 5"], b"12345", True),
        (["Content-Length: 5", "Expect: 100-continue"], b"", False),
        (["Content-Length: 1000000"], b"1", False),
        (["Transfer-Encoding: chunked"], b"5\r\n12345\r\n0\r\n\r\n", False),
        (["Transfer-Encoding: chunked"], b"", False),
    ],
)
async def test_body_is_dropped_or_ends_the_connection_and_is_never_the_next_request(
    running: Rig, fields: list[str], body: bytes, stays: bool
) -> None:
    connection = await running.connect()
    await connection.send(call("/closed", *fields, method="POST") + body)
    reply = await connection.reply("POST")
    assert (reply.status, reply.complete, connection.interim) == (503, True, [])
    assert reply.all("connection") == ([] if stays else ["close"])
    if stays:
        await connection.send(call("/json"))
        assert (await connection.reply()).body == b"{}"
    else:
        assert await connection.closed()
    connection.close()


async def test_answers_of_its_own_follow_each_other_on_one_connection(running: Rig) -> None:
    connection = await running.connect()
    await connection.send(call("/json") + call("/here") + call("/closed") + call("/json"))
    assert [(await connection.reply()).status for _ in range(4)] == [200, 307, 503, 200]
    connection.close()
    reply = await running.talk(b"GET /json HTTP/1.0\r\n\r\n")
    assert (reply.status, reply.body) == (200, b"{}")


async def test_its_own_answer_is_for_those_who_may_call(running: Rig) -> None:
    reply = await running.talk(call("/shut"))
    assert reply.status == 401
    assert reply.all("www-authenticate")


@pytest.mark.parametrize(
    ("target", "upstream"),
    [
        ("/api/notes/1?x=1", "/v2/notes/1?x=1"),
        ("/api/notes", "/v2/notes"),
        ("/plain/%61", "/v3/plain/%61"),
        ("/whole", "/v4"),
        ("/whole/1", "/v4/1"),
    ],
)
async def test_upstream_sees_the_rewritten_path(running: Rig, target: str, upstream: str) -> None:
    assert (await running.talk(call(target))).status == 200
    assert running.upstream.requests[-1].target == upstream


@pytest.mark.parametrize(
    ("chain", "status"),
    [
        ("10.1.2.3", 200),
        ("2001:db8::1", 200),
        ("::ffff:10.1.2.3", 200),
        ("10.6.6.6", 403),
        ("::ffff:10.6.6.6", 403),
        ("11.0.0.1", 403),
        ("10.1.2.3, 11.0.0.1", 403),  # what the client says of itself
        ("11.0.0.1, 10.1.2.3", 200),
        ("10.1.2.3:443", 403),  # no address: the proxy's own counts
        ("", 403),
    ],
)
async def test_who_may_call_goes_by_the_clients_address(running: Rig, chain: str, status: int) -> None:
    reply = await running.talk(call("/inner", f"X-Forwarded-For: {chain}"))
    assert reply.status == status
    assert len(running.upstream.requests) == (status == 200)
    if status == 403:
        told = json.loads(reply.body)
        assert (told["error"], told["error_description"]) == ("forbidden", "This address may not call this service.")
        assert "10.0.0.0" not in reply.body.decode()


async def test_no_credential_is_looked_at_from_a_denied_address(running: Rig) -> None:
    reply = await running.talk(call("/local", "X-Forwarded-For: 192.0.2.7"))
    assert (reply.status, reply.all("www-authenticate")) == (403, [])
    assert (await running.talk(call("/local", "X-Forwarded-For: 192.0.3.7"))).status == 401


async def test_address_is_not_an_untrusted_clients_to_say(tmp_path: Path, no_database: Store) -> None:
    async with rig(tmp_path, no_database, routes=ROUTES) as made:
        reply = await made.talk(call("/inner", "X-Forwarded-For: 10.1.2.3"))
    assert reply.status == 403


async def test_it_is_told_what_the_route_did(running: Rig) -> None:
    heard: list[Finished] = []
    running.proxy.listeners.append(heard.append)
    replies = [await running.talk(call(target)) for target in ("/closed", "/here/1?secret=x", "/inner")]
    steps = [_steps(running, reply) for reply in replies]
    assert steps[0]["upstream"] == ("not needed", "the route answers 503 by itself")
    assert steps[1]["upstream"] == ("not needed", "the route leads to /there/1 (307)")
    assert steps[2]["address"] == ("refused", "the address 127.0.0.1 is in none of the networks that the route allows")
    assert [one["outcome"] for one in map(_told(running), replies)] == ["passed", "passed", "refused"]
    assert [(one.status, one.complete, one.upstream) for one in heard] == [
        (503, True, ""),
        (307, True, ""),
        (403, True, ""),
    ]
    assert heard[0].sent == len("Zurück um zwölf.".encode())


def _told(running: Rig) -> Any:
    def told(reply: Reply) -> Any:
        [found] = json.loads(json.dumps(running.proxy.recall(reply.one("x-request-id"))))["calls"]
        return found

    return told


def _steps(running: Rig, reply: Reply) -> dict[str, tuple[str, str]]:
    return {step["step"]: (step["outcome"], step["text"]) for step in _told(running)(reply)["steps"]}


@pytest.mark.parametrize(
    ("route", "path", "message"),
    [
        ({"upstreams": ["http://x"], "redirect": "/b"}, "redirect", "excludes upstreams"),
        ({"upstreams": ["http://x"], "respond": {"status": 200}}, "respond", "excludes upstreams"),
        ({"redirect": "/b", "respond": {"status": 200}}, "redirect", "excludes respond"),
        ({"redirect": ""}, "upstreams", "must be set"),
        ({"redirect": "//evil"}, "redirect", "plain segments"),
        ({"redirect": "javascript:alert(1)"}, "redirect", "must be where to"),
        ({"redirect": "https://u:p@x/"}, "redirect", "must not contain a user"),
        ({"redirect": "https://x/?y"}, "redirect", "must be where to"),
        ({"redirect": "https://x/a b"}, "redirect", "plain segments"),
        ({"redirect": "/a\r\nSet-Cookie: x=y"}, "redirect", "plain segments"),
        ({"redirect": "/a/b"}, "redirect", "round in circles"),
        ({"redirect": "/", "path": "/"}, "redirect", "round in circles"),
        ({"redirect": "/", "encoded_slashes": "keep"}, "redirect", "name the whole URL"),
        ({"redirect": "/b", "strip_prefix": "/a"}, "strip_prefix", "no use beside redirect"),
        ({"redirect": {"to": "/b", "status": 200}}, "redirect.status", "must be 301, 302, 303, 307 or 308"),
        ({"redirect": {"status": 308}}, "redirect.to", "must be set"),
        ({"redirect": 1}, "redirect", 'must be text such as "https://new.example.com/notes", or { to'),
        ({"respond": {}}, "respond.status", "must be set, such as 503"),
        ({"respond": {"status": 101}}, "respond.status", "must be at least 200"),
        ({"respond": {"status": 204, "body": "x"}}, "respond.body", "has none"),
        ({"respond": {"status": 200, "body": "x" * 65537}}, "respond.body", "at most 65536 bytes"),
        ({"respond": {"status": 200, "headers": {"Content-Length": "5"}}}, "respond.headers.Content-Length", "frames"),
        ({"respond": {"status": 200, "headers": {"X-Request-Id": "5"}}}, "respond.headers.X-Request-Id", "own"),
        ({"respond": {"status": 200, "headers": {"NEL": "{}"}}}, "respond.headers.NEL", "sign-in pages"),
        (
            {"respond": {"status": 200, "headers": {"Set-Cookie": "__Host-gateway_session=x"}}},
            "respond.headers.Set-Cookie",
            "cookie of the gateway's own",
        ),
        ({"respond": {"status": 200, "headers": {"A": "b\r\nC: d"}}}, "respond.headers.A", "printable ASCII"),
        ({"respond": {"status": 200, "headers": {"A_B": "c"}}}, "respond.headers.A_B", "name of a header field"),
        ({"upstreams": ["http://x"], "allow": ["10.0.0.1/8"]}, "allow[0]", "no bits set"),
        ({"upstreams": ["http://x"], "deny": ["all"]}, "deny[0]", "must be an address or a network"),
    ],
)
def test_route_that_could_not_do_what_it_says_is_a_fault(route: dict[str, Any], path: str, message: str) -> None:
    tables = {
        "server": {"public_url": "http://gateway.test"},
        "routes": [{"name": "r", "path": "/a", "auth": "none", **route}],
    }
    with pytest.raises(ConfigError) as raised:
        parse(tables)
    [fault] = raised.value.faults
    assert fault.path == f"routes[0].{path}"
    assert message in fault.message


def test_redirect_below_another_routes_path_is_no_circle() -> None:
    routes = [
        {"name": "r", "path": "/a", **NONE, "redirect": "/a/b/c"},
        {"name": "b", "path": "/a/b", "auth": "none", "upstreams": ["http://127.0.0.1:9"]},
    ]
    assert len(parse({"server": {"public_url": "http://gateway.test"}, "routes": routes}).routes) == 2
