"""Pages of other origins: the CORS protocol of the Fetch standard, in raw bytes and in a browser."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import async_playwright

from gateway.config import ConfigError, parse
from gateway.proxy import Limits
from gateway.store import Store
from tests.browser import chromium
from tests.proxy.rig import RawUpstream, Reply, Rig, rig
from tests.streams import accepting

APP, OTHER = "https://app.example.com", "https://evil.example"
LISTED: dict[str, Any] = {"origins": [APP, "http://localhost:3000"]}
# fmt: off
ROUTES: list[dict[str, Any]] = [
    {"name": "listed", "path": "/listed", "auth": ["bearer"],
     "cors": {**LISTED, "headers": ["X-Trace"], "expose": ["X-Total"]}},
    {"name": "open", "path": "/open", "auth": "none", "cors": {"origins": ["*"], "headers": ["*"], "expose": ["*"]}},
    {"name": "cookies", "path": "/cookies", "auth": "none", "cors": {**LISTED, "credentials": True, "max_age": "1h"}},
    {"name": "signed", "path": "/signed", "auth": ["signature"], "cors": {**LISTED, "methods": ["PUT"]}},
    {"name": "put", "path": "/by-method", "auth": "none", "methods": ["PUT"], "cors": LISTED},
    {"name": "rest", "path": "/by-method", "auth": "none"},
    {"name": "inner", "path": "/inner", "auth": "none", "cors": LISTED, "deny": ["127.0.0.0/8"]},
    {"name": "closed", "path": "/closed", "auth": "none", "cors": LISTED, "upstreams": [], "respond": {"status": 503}},
    {"name": "down", "path": "/down", "auth": "none", "cors": LISTED, "upstreams": ["http://127.0.0.1:9"]},
    {"name": "none", "path": "/none", "auth": ["bearer"]},
    {"name": "get", "path": "/get", "auth": "none", "methods": ["GET"], "cors": LISTED},
    {"name": "patch", "path": "/get", "auth": "none", "methods": ["PATCH"]},
    {"name": "only-inner", "path": "/only-inner", "auth": "none", "methods": ["GET"]},
]
# fmt: on
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVary: Accept\r\nX-Total: 3\r\n"
    b"Access-Control-Allow-Origin: https://evil.example\r\naccess-control-allow-CREDENTIALS: true\r\n"
    b"Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: X-Secret\r\n\r\nok"
)


@pytest.fixture
async def running(tmp_path: Path, no_database: Store) -> AsyncIterator[Rig]:
    async with rig(tmp_path, no_database, routes=ROUTES, upstream=RawUpstream(ANSWER)) as made:
        yield made


def call(target: str, *fields: str, method: str = "GET") -> bytes:
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: gateway.test", *fields, "", "")).encode()


def preflight(target: str, origin: str = APP, method: str = "GET", *fields: str) -> bytes:
    return call(target, f"Origin: {origin}", f"Access-Control-Request-Method: {method}", *fields, method="OPTIONS")


def said(reply: Reply) -> dict[str, list[str]]:
    """What an answer says of CORS."""
    return {
        name.removeprefix("access-control-"): reply.all(name) for name, _ in reply.fields if name.startswith("access-")
    }


async def test_preflight_is_answered_without_a_token(running: Rig) -> None:
    reply = await running.talk(preflight("/listed/1", APP, "DELETE", "Access-Control-Request-Headers: authorization"))
    assert (reply.status, reply.body, reply.all("vary")) == (204, b"", ["Origin"])
    assert said(reply) == {
        "allow-origin": [APP],
        "max-age": ["600"],
        "allow-methods": ["DELETE"],
        "allow-headers": ["Authorization, X-Trace"],
    }
    assert running.upstream.connections == 0


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            preflight("/open", OTHER, "PATCH", "Access-Control-Request-Headers: X-A, x-b"),
            {"allow-origin": ["*"], "max-age": ["600"], "allow-methods": ["PATCH"], "allow-headers": ["x-a, x-b"]},
        ),
        (preflight("/open", "null"), {"allow-origin": ["*"], "max-age": ["600"], "allow-methods": ["GET"]}),
        (
            preflight("/cookies", "http://localhost:3000"),
            {
                "allow-origin": ["http://localhost:3000"],
                "allow-credentials": ["true"],
                "max-age": ["3600"],
                "allow-methods": ["GET"],
            },
        ),
        (
            preflight("/signed", APP, "DELETE"),
            {
                "allow-origin": [APP],
                "allow-methods": ["PUT"],
                "max-age": ["600"],
                "allow-headers": ["Signature, Signature-Input, Content-Digest"],
            },
        ),
        (preflight("/by-method", APP, "PUT"), {"allow-origin": [APP], "allow-methods": ["PUT"], "max-age": ["600"]}),
        (
            preflight("/listed", APP, "VERSION-CONTROL"),
            {
                "allow-origin": [APP],
                "allow-methods": ["VERSION-CONTROL"],
                "max-age": ["600"],
                "allow-headers": ["Authorization, X-Trace"],
            },
        ),
        (preflight("/closed"), {"allow-origin": [APP], "allow-methods": ["GET"], "max-age": ["600"]}),
    ],
)
async def test_preflight_says_what_the_route_lets_pages_do(
    running: Rig, data: bytes, expected: dict[str, list[str]]
) -> None:
    reply = await running.talk(data)
    assert (reply.status, said(reply)) == (204, expected)
    assert running.upstream.connections == 0


@pytest.mark.parametrize(
    "origin",
    [
        OTHER,
        "null",
        "HTTPS://app.example.com",
        "https://app.example.com.",
        "https://app.example.com:443",
        "https://app.example.com/",
        "https://app.example.com, https://evil.example",
        "https://app.example.com https://evil.example",
        "https://app.example.com.evil.example",
        "http://app.example.com",
        "*",
        "",
    ],
)
async def test_origin_that_is_not_listed_is_told_nothing(running: Rig, origin: str) -> None:
    reply = await running.talk(preflight("/cookies", origin))
    assert (reply.status, json.loads(reply.body)["error"]) == (403, "forbidden_origin")
    assert (said(reply), reply.all("vary")) == ({}, ["Origin"])
    reply = await running.talk(call("/cookies", f"Origin: {origin}"))
    assert (reply.status, said(reply)) == (200, {})
    assert reply.all("vary") == ["Accept", "Origin"]


async def test_two_origins_are_none(running: Rig) -> None:
    reply = await running.talk(call("/cookies", f"Origin: {APP}", f"Origin: {APP}"))
    assert (reply.status, said(reply)) == (200, {})
    twice = preflight("/listed", APP, "GET", f"Origin: {APP}")
    assert (await running.talk(twice)).status == 401  # no preflight: a call like any other


@pytest.mark.parametrize(
    "data",
    [
        call("/listed", f"Origin: {APP}", method="OPTIONS"),
        call("/listed", "Access-Control-Request-Method: PUT", method="OPTIONS"),
        preflight("/listed", APP, "P T"),
        preflight("/listed", APP, "GET", "Access-Control-Request-Method: PUT"),
        preflight("/none"),
        call("/listed", f"Origin: {APP}", "Access-Control-Request-Method: PUT"),
        call("/listed", f"Origin: {APP}", "Access-Control-Request-Method: PUT", method="options"),
    ],
)
async def test_what_is_no_preflight_needs_a_token(running: Rig, data: bytes) -> None:
    assert (await running.talk(data)).status == 401
    assert running.upstream.connections == 0


async def test_preflight_for_a_route_without_cors_goes_on_like_any_call(running: Rig) -> None:
    reply = await running.talk(preflight("/by-method", APP, "DELETE"))
    assert (reply.status, running.upstream.requests[-1].method) == (200, "OPTIONS")
    assert said(reply)["expose-headers"] == ["X-Secret"]  # the upstream's own


async def test_refusals_can_be_read_by_the_page(running: Rig) -> None:
    expose = "WWW-Authenticate, Retry-After, X-Request-Id"
    reply = await running.talk(call("/listed", f"Origin: {APP}"))
    assert reply.status == 401
    assert said(reply) == {"allow-origin": [APP], "expose-headers": [f"X-Total, {expose}"]}
    assert reply.all("vary") == ["Origin"]
    for target, status in (("/inner", 403), ("/down", 502)):
        reply = await running.talk(call(target, f"Origin: {APP}"))
        assert (reply.status, said(reply)) == (status, {"allow-origin": [APP], "expose-headers": [expose]})
    reply = await running.talk(call("/listed", f"Origin: {APP}", "Content-Length: 2000000", method="POST"))
    assert (reply.status, reply.all("access-control-allow-origin")) == (401, [APP])
    reply = await running.talk(call("/cookies", f"Origin: {APP}", "Content-Length: 2000000", method="POST"))
    assert (reply.status, reply.all("access-control-allow-credentials")) == (413, ["true"])
    reply = await running.talk(call("/closed", f"Origin: {APP}"))
    assert (reply.status, said(reply)) == (503, {"allow-origin": [APP]})
    assert (await running.talk(preflight("/inner"))).status == 403  # whatever it asks, from that address


async def test_page_can_read_that_a_method_is_not_supported(running: Rig) -> None:
    reply = await running.talk(call("/get", f"Origin: {APP}", "Content-Length: 0", method="POST"))
    assert (reply.status, reply.one("allow"), reply.all("access-control-allow-origin")) == (405, "GET, PATCH", [APP])
    for origin in (f"Origin: {OTHER}", "X-Origin: none"):
        reply = await running.talk(call("/get", origin, "Content-Length: 0", method="POST"))
        assert (reply.status, said(reply), reply.all("vary")) == (405, {}, ["Origin"])
    reply = await running.talk(call("/only-inner", f"Origin: {APP}", method="DELETE"))
    assert (reply.status, said(reply), reply.all("vary")) == (405, {}, [])
    assert (await running.talk(preflight("/get", APP, "POST"))).status == 405


@pytest.mark.parametrize("call_of_a_page", ["bad chunk", "slow body", "no handshake", "late"])
async def test_refusals_within_a_call_can_be_read_too(call_of_a_page: str, tmp_path: Path, no_database: Store) -> None:
    async def silent(*_: object) -> None:
        await asyncio.Event().wait()

    origin = f"Origin: {APP}"
    data, status = {
        "bad chunk": (call("/r", origin, "Transfer-Encoding: chunked", method="POST") + b"zz\r\n", 400),
        "slow body": (call("/r", origin, "Content-Length: 5", method="POST") + b"ab", 408),
        "no handshake": (call("/r", origin, "Connection: Upgrade", "Upgrade: websocket"), 426),
        "late": (call("/r", origin), 504),
    }[call_of_a_page]
    routes = [{"name": "r", "path": "/r", "auth": "none", "cors": LISTED, "timeout": "1s"}]
    limits = Limits(body_idle=0.3, tick=0.05)
    async with rig(tmp_path, no_database, routes=routes, limits=limits, upstream=RawUpstream(handler=silent)) as made:
        reply = await made.talk(data)
        assert (reply.status, reply.all("access-control-allow-origin")) == (status, [APP])


async def test_what_the_upstream_says_of_cors_is_replaced(running: Rig) -> None:
    reply = await running.talk(call("/cookies", f"Origin: {APP}"))
    assert said(reply) == {"allow-origin": [APP], "allow-credentials": ["true"]}
    assert (reply.all("vary"), reply.one("x-total")) == (["Accept", "Origin"], "3")
    reply = await running.talk(call("/open", f"Origin: {OTHER}"))
    assert (said(reply), reply.all("vary")) == ({"allow-origin": ["*"], "expose-headers": ["*"]}, ["Accept"])
    assert running.upstream.requests[-1].one("origin") == OTHER
    reply = await running.talk(call("/cookies"))
    assert (said(reply), reply.all("vary")) == ({}, ["Accept", "Origin"])


async def test_preflight_is_explained(running: Rig) -> None:
    for origin, outcome, step in ((APP, "passed", None), (OTHER, "refused", "cors")):
        reply = await running.talk(preflight("/listed", origin))
        [told] = json.loads(json.dumps(running.proxy.recall(reply.one("x-request-id"))))["calls"]
        assert (told["outcome"], told["route"]) == (outcome, "listed")
        assert next((one["step"] for one in told["steps"] if one["outcome"] == "refused"), None) == step


@pytest.mark.parametrize(
    ("cors", "path", "message"),
    [
        ({}, "origins", "must be set"),
        ({"origins": []}, "origins", "at least one entry"),
        ({"origins": ["null"]}, "origins[0]", "any page can have"),
        ({"origins": ["https://app.example.com/"]}, "origins[0]", "without a path"),
        ({"origins": ["https://App.example.com"]}, "origins[0]", 'write "https://app.example.com"'),
        ({"origins": ["https://app.example.com:443"]}, "origins[0]", 'write "https://app.example.com"'),
        ({"origins": ["app.example.com"]}, "origins[0]", "must be an origin"),
        ({"origins": ["https://*.example.com"]}, "origins[0]", "must be an origin"),
        ({"origins": [APP, "*"]}, "origins", "name it alone"),
        ({"origins": ["*"], "credentials": True}, "credentials", "any page could act with people's cookies"),
        ({"origins": [APP], "credentials": True, "expose": ["*"]}, "expose", "name the fields"),
        ({"origins": [APP], "methods": ["DELETE"]}, "methods", "DELETE is not among the route's methods"),
        ({"origins": [APP], "methods": ["*"]}, "methods", "leave it empty"),
        ({"origins": [APP], "headers": ["A\r\nB: c"]}, "headers[0]", "name of a header field"),
        ({"origins": [APP], "max_age": "2d"}, "max_age", "duration"),
    ],
)
def test_rules_that_let_in_too_much_or_nothing_are_a_fault(cors: dict[str, Any], path: str, message: str) -> None:
    route = {"name": "r", "path": "/a", "auth": "none", "upstreams": ["http://x"], "methods": ["GET"], "cors": cors}
    with pytest.raises(ConfigError) as raised:
        parse({"server": {"public_url": "http://gateway.test"}, "routes": [route]})
    [fault] = raised.value.faults
    assert fault.path == f"routes[0].cors.{path}"
    assert message in fault.message


# -- in a browser ----------------------------------------------------------------------------------------------------

_FETCH = """async ([url, init]) => {
    try {
        const reply = await fetch(url, init)
        const names = ["www-authenticate", "x-total", "x-hidden"]
        return [reply.status, await reply.text(), names.map(name => reply.headers.get(name))]
    } catch (fault) { return [0, String(fault), []] }
}"""


@asynccontextmanager
async def page_server() -> AsyncIterator[str]:
    """An empty page at an origin of its own."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\nConnection: close\r\n\r\n<p/>"
        )
        await writer.drain()

    async with accepting(serve) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.browser
async def test_a_page_reads_a_401_and_sends_a_put_after_its_preflight(tmp_path: Path, no_database: Store) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Total: 3\r\nX-Hidden: 4\r\n\r\nok"
    async with page_server() as origin, page_server() as stranger:
        rules = {"origins": [origin], "headers": ["Content-Type"], "expose": ["X-Total"]}
        routes: list[dict[str, Any]] = [
            {"name": "shut", "path": "/shut", "auth": ["bearer"], "cors": rules},
            {"name": "open", "path": "/open", "auth": "none", "cors": rules},
        ]
        async with (
            rig(tmp_path, no_database, routes=routes, upstream=RawUpstream(answer)) as made,
            async_playwright() as playwright,
            chromium(playwright) as browser,
        ):
            page, base = await browser.new_page(), f"http://127.0.0.1:{made.port}"
            await page.goto(origin)
            token = {"headers": {"Authorization": "Bearer gwa_invented"}}
            status, text, fields = await page.evaluate(_FETCH, [f"{base}/shut", token])
            assert (status, json.loads(text)["error"]) == (401, "invalid_token")
            assert fields[0].startswith("Bearer ")
            put = {"method": "PUT", "body": '{"a": 1}', "headers": {"Content-Type": "application/json"}}
            assert await page.evaluate(_FETCH, [f"{base}/open", put]) == [200, "ok", [None, "3", None]]
            [seen] = made.upstream.requests
            assert (seen.method, seen.body, seen.one("origin")) == ("PUT", b'{"a": 1}', origin)
            other = {"method": "PUT", "headers": {"X-Other": "1"}}
            assert (await page.evaluate(_FETCH, [f"{base}/open", other]))[0] == 0
            await page.goto(stranger)
            assert (await page.evaluate(_FETCH, [f"{base}/open", put]))[0] == 0
            assert (await page.evaluate(_FETCH, [f"{base}/shut", token]))[0] == 0
            assert len(made.upstream.requests) == 1
