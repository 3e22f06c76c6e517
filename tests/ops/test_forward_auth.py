"""The snippets of docs/forward-auth.md on the real nginx, Caddy, Envoy and Traefik."""

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.oauth import jws
from tests.ops.proxies import PROGRAMS, running
from tests.serving import ROOT, Gateway, free_ports, serving, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
HOST = "notes.example.com"
# Where `make clients` and `make bench` install.
_MADE = (ROOT / ".venv" / name / "bin" for name in ("clients", "bench"))
_PLACES = os.pathsep.join((os.environ.get("PATH", ""), *map(str, _MADE)))
FOUND = {
    name: PROGRAMS.get(name) or shutil.which(name, path=_PLACES) for name in ("nginx", "caddy", "envoy", "traefik")
}
LANGUAGE = {"nginx": "nginx", "caddy": "caddyfile", "envoy": "yaml", "traefik": "yaml"}
ORIGIN = f"https://{HOST}"
PASSWORD = "correct horse battery staple"
SESSION = "__Host-gateway_session"
IDENTITY = (
    "x-auth-subject", "x-auth-client-id", "x-auth-scope", "x-auth-token-type", "x-forwarded-user", "x-auth-jwt",
)  # fmt: skip


def snippet(name: str, replaced: Mapping[str, str]) -> str:
    """The first block of its language below its heading in the page, with a test's ports in it."""
    page = (ROOT / "docs" / "forward-auth.md").read_text()
    found = re.search(rf"^## (?i:{name})$.*?^```{LANGUAGE[name]}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    text = found[1]
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@dataclass
class Site:
    """A gateway that is asked, an API that is not behind it, a token with the scope notes:read, and a session."""

    gateway: Gateway
    api: int
    token: str
    session: str
    arrived: list[dict[str, str]] = field(default_factory=list)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    arrived: list[dict[str, str]] = []

    async def told(request: web.Request) -> web.StreamResponse:
        arrived.append({name: ", ".join(request.headers.getall(name)) for name in map(str.lower, request.headers)})
        if "Upgrade" in request.headers:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_str("secret")
            return socket
        answer = web.json_response({"path": request.raw_path, "size": len(await request.read())})
        for cookie in request.query.getall("set", []):
            answer.headers.add("Set-Cookie", cookie)
        return answer

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", told)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    scopes = {"GET": ["read"], "*": ["write"]}
    notes = {"name": "notes", "path": "/notes", "auth": ["bearer"], "scopes": scopes, "identity_jwt": True}
    public = {"name": "open", "path": "/open", "auth": "none"}
    wiki = {"name": "wiki", "path": "/wiki", "auth": ["session"]}
    routes = [{**route, "upstreams": ["http://127.0.0.1:9"]} for route in (notes, public, wiki)]
    server = {"trusted_proxies": ["127.0.0.1"], "public_url": ORIGIN}
    async with serving(tmp_path_factory.mktemp("site"), routes=routes, workers=1, server=server) as gateway:
        for scope in ("read", "write"):
            await gateway.run("scope", "create", scope, "--description", scope)
        client = await gateway.run(
            "client", "create", "--name", "App", "--grant-type", "client_credentials", "--scope", "read"
        )
        token = await gateway.run("token", "issue", "--client", client["client_id"], "--scope", "read")
        await gateway.run("user", "create", "--username", "ada", "--password-stdin", text=PASSWORD)
        session = await signed_in(gateway.url)
        yield Site(gateway, runner.addresses[0][1], token["access_token"], session, arrived)
    await runner.cleanup()


async def signed_in(url: str) -> str:
    """The session of somebody who signs in at the pages below that address."""
    headers = {"Host": HOST, "Origin": ORIGIN}
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), headers=headers) as browser:
        async with browser.get(f"{url}/oauth2/login") as page:
            found = re.search(r'name="csrf_token" value="([^"]+)"', await page.text())
            assert found is not None, await page.text()
            cookies = "; ".join(f"{name}={cookie.value}" for name, cookie in page.cookies.items())
        form = {"username": "ada", "password": PASSWORD, "csrf_token": found[1]}
        async with browser.post(
            f"{url}/oauth2/login", data=form, headers={"Cookie": cookies}, allow_redirects=False
        ) as answer:
            assert answer.status == 303, await answer.text()
            return answer.cookies[SESSION].value


def configured(name: str, folder: Path, port: int, gateway: int, api: int) -> list[str]:
    """The command that runs the snippet of that name."""
    ports = {"127.0.0.1:8080": f"127.0.0.1:{gateway}", "127.0.0.1:9000": f"127.0.0.1:{api}"}
    file = folder / ("proxy.yaml" if LANGUAGE[name] == "yaml" else "proxy.conf")
    program = FOUND[name]
    assert program is not None
    if name == "nginx":
        text = snippet(name, {**ports, "listen 80;": f"listen 127.0.0.1:{port};"})
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        main = f"error_log {folder}/error.log;\npid {folder}/pid;\ndaemon off;\nworker_processes 1;\nevents {{}}\n"
        file.write_text(f"{main}http {{\naccess_log off;\n{temporary}{text}}}\n")
        return [program, "-e", f"{folder}/error.log", "-c", str(file)]
    if name == "caddy":
        options = "{\nadmin off\nauto_https off\ndefault_bind 127.0.0.1\n}\n"
        file.write_text(options + snippet(name, {**ports, f"http://{HOST}": f"http://{HOST}:{port}"}))
        return [program, "run", "--adapter", "caddyfile", "--config", str(file)]
    if name == "traefik":
        file.write_text(snippet(name, ports))
        quiet = ("--global.checkNewVersion=false", "--global.sendAnonymousUsage=false", "--log.level=ERROR")
        return [
            program, *quiet, f"--entryPoints.web.address=127.0.0.1:{port}", f"--providers.file.filename={file}",
        ]  # fmt: skip
    replaced = {"0.0.0.0, port_value: 80 ": f"127.0.0.1, port_value: {port} "}
    replaced |= {"port_value: 8080": f"port_value: {gateway}", "port_value: 9000": f"port_value: {api}"}
    file.write_text(snippet(name, replaced))
    return [program, "-c", str(file), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"]


@dataclass(frozen=True)
class Front:
    """A proxy in front: its name, and its port."""

    name: str
    port: int


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.skipif(program is None, reason=f"{name} is not installed"))
        for name, program in FOUND.items()
    ],
)
async def front(
    request: pytest.FixtureRequest, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Front]:
    """The proxy in front."""
    folder, (port,) = tmp_path_factory.mktemp(request.param), free_ports(1)
    command = configured(request.param, folder, port, int(site.gateway.url.rpartition(":")[2]), site.api)
    async with running(command, folder, port):
        made = Front(request.param, port)
        await until(lambda: _leads_on(site, made))  # Traefik listens before it has read where to
        yield made


async def _leads_on(site: Site, front: Front) -> bool:
    return (await call(site, front, "GET", "/open")).status == 200


@dataclass
class Told:
    """An answer, and what reached the API if the call did."""

    status: int
    fields: Mapping[str, str]
    cookies: list[str]
    arrived: dict[str, str] | None


async def call(site: Site, front: Front, method: str, path: str, **fields: str) -> Told:
    site.arrived.clear()
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        session.request(
            method,
            f"http://127.0.0.1:{front.port}{path}",
            headers={"Host": HOST, **headers},
            data=b"hello" if method == "POST" else None,
            allow_redirects=False,
        ) as answer,
    ):
        await answer.read()
        cookies = answer.headers.getall("Set-Cookie", [])
        return Told(answer.status, dict(answer.headers), cookies, site.arrived[0] if site.arrived else None)


async def test_call_with_a_good_token_reaches_the_api_with_who_calls(site: Site, front: Front) -> None:
    told = await call(site, front, "GET", "/notes/1?a=%20b", Authorization=f"Bearer {site.token}")
    assert told.status == 200
    assert told.arrived is not None
    assert (told.arrived["x-auth-scope"], told.arrived["x-auth-token-type"]) == ("read", "bearer")
    assert told.arrived["x-auth-subject"] == told.arrived["x-auth-client-id"] != ""
    claims = json.loads(jws.decoded(told.arrived["x-auth-jwt"].split(".")[1]))
    assert (claims["aud"], claims["sub"]) == (f"{ORIGIN}/notes", told.arrived["x-auth-subject"])
    assert "authorization" not in told.arrived


async def test_call_without_a_token_is_told_what_is_wanted(site: Site, front: Front) -> None:
    told = await call(site, front, "GET", "/notes/1")
    assert (told.status, told.arrived) == (401, None)
    assert told.fields["WWW-Authenticate"].startswith("Bearer ")


async def test_verdict_is_of_the_method_and_the_path_that_the_client_sent(site: Site, front: Front) -> None:
    bearer = f"Bearer {site.token}"
    for method, path, status in (
        ("POST", "/notes/1", 403),  # lacks the scope
        ("GET", "/nowhere", 403),
        ("POST", "/open", 200),
    ):
        told = await call(site, front, method, path, Authorization=bearer)
        assert (told.status, told.arrived is not None) == (status, status == 200)


SPOOFED = {
    "as Caddy says it": {"X_Forwarded_Method": "GET", "X_Forwarded_Uri": "/open"},
    "as nginx says it": {"X_Original_Method": "GET", "X_Original_URI": "/open"},
    "as Kubernetes says it": {"X_Original_Method": "GET", "X_Original_URL": f"http://{HOST}/open"},
}


@pytest.mark.parametrize("how", SPOOFED)
async def test_client_cannot_say_that_it_makes_another_call(how: str, site: Site, front: Front) -> None:
    told = await call(site, front, "GET", "/notes/1", **SPOOFED[how])
    assert (told.status, told.arrived) == (401, None)
    assert (await call(site, front, "GET", "/open", **SPOOFED[how])).status == 200


async def test_client_cannot_say_who_calls(site: Site, front: Front) -> None:
    claims = {name.replace("-", "_"): "root" for name in IDENTITY}
    for path, fields in (("/open", {}), ("/notes/1", {"Authorization": f"Bearer {site.token}"})):
        told = await call(site, front, "GET", path, **claims, **fields)
        assert told.status == 200
        assert told.arrived is not None
        assert "root" not in told.arrived.values()


# -- sessions ----------------------------------------------------------------------------------------------------------


async def test_person_is_led_to_sign_in_and_reaches_the_application_then(site: Site, front: Front) -> None:
    led = await call(site, front, "GET", "/wiki/a?b=c", Accept="text/html")
    assert (led.status, led.arrived) == (303, None)
    assert led.fields["Location"] == "/oauth2/login?next=/wiki/a?b%3Dc"
    session = await signed_in(f"http://127.0.0.1:{front.port}")
    passed = await call(site, front, "GET", "/wiki/a", Accept="text/html", Cookie=f"{SESSION}={session}")
    assert passed.status == 200
    assert passed.arrived is not None
    assert (passed.arrived["x-forwarded-user"], passed.arrived["x-auth-token-type"]) == ("ada", "session")


async def test_script_without_a_session_is_told_so(site: Site, front: Front) -> None:
    told = await call(site, front, "GET", "/wiki", Accept="application/json")
    assert (told.status, told.arrived) == (401, None)
    assert "Location" not in told.fields
    assert told.fields["WWW-Authenticate"].startswith("Session ")


async def test_session_never_reaches_an_application(site: Site, front: Front) -> None:
    mine = f"{SESSION}={site.session}"
    long = "long=" + "x" * 6000
    for sent, left in (
        (f"a=1; {mine}; b=2", "a=1; b=2"),
        (f"{mine}; gateway_form=x", ""),
        (f"{long}; {mine}", long),
        (f"{mine} ; __Host-gateway_known_browser = y; c=3", "c=3"),
    ):
        for path in ("/wiki", "/open"):
            told = await call(site, front, "GET", path, Cookie=sent)
            assert told.status == 200
            assert told.arrived is not None
            assert told.arrived.get("cookie", "") == left
            assert site.session not in str(told.arrived)


async def test_session_never_reaches_an_application_of_cookies_in_several_fields(site: Site, front: Front) -> None:
    """Which no browser sends in HTTP/1.1 (RFC 6265, section 5.4); Envoy makes one of them that has no session."""
    site.arrived.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    fields = f"Cookie: a=1\r\nCookie: {SESSION}={site.session}\r\nCookie: b=2\r\nConnection: close\r\n"
    writer.write(f"GET /wiki HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n".encode())
    status = int((await reader.read()).split(b" ", 2)[1])
    writer.close()
    arrived = [each.get("cookie") for each in site.arrived]
    assert (status, arrived) == ((401, []) if front.name == "envoy" else (200, ["a=1; b=2"]))


async def test_client_cannot_say_which_cookies_are_left(site: Site, front: Front) -> None:
    told = await call(site, front, "GET", "/open", X_Auth_Cookie="admin=1")
    assert told.arrived is not None
    assert told.arrived.get("cookie", "") == ""


async def test_application_sets_cookies_of_its_own_and_none_of_ours(site: Site, front: Front) -> None:
    ours = f"{SESSION}=evil; Path=/; Secure"
    query = "&".join(f"set={quote(cookie)}" for cookie in ("a=1; Secure", ours, "b=2; Path=/"))
    told = await call(site, front, "GET", f"/wiki?{query}", Cookie=f"{SESSION}={site.session}")
    assert told.status == 200
    assert [cookie for cookie in told.cookies if cookie and SESSION not in cookie] == ["a=1; Secure", "b=2; Path=/"]
    kept = [cookie for cookie in told.cookies if SESSION in cookie]
    if front.name == "traefik":  # which cannot tell one from another
        assert kept == [ours]
    else:  # without Secure, a browser keeps none of that name (RFC 6265bis, section 4.1.3.2)
        assert not any("secure" in cookie.lower() for cookie in kept)


async def test_only_our_own_pages_open_websockets_by_session(site: Site, front: Front) -> None:
    for origin, site_field, status in (
        (ORIGIN, "same-origin", 101),
        ("https://evil.example.com", "same-site", 403),
        ("null", "cross-site", 403),
        (f"{ORIGIN}.evil.example", "same-origin", 403),
    ):
        site.arrived.clear()
        headers = {"Host": HOST, "Cookie": f"{SESSION}={site.session}", "Sec-Fetch-Site": site_field}
        async with aiohttp.ClientSession() as session:
            opening = session.ws_connect(f"http://127.0.0.1:{front.port}/wiki/ws", origin=origin, headers=headers)
            if status == 101:
                async with opening as socket:
                    assert await socket.receive_str() == "secret"
            else:
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await opening
                assert refused.value.status == status
        assert len(site.arrived) == (status == 101)


async def test_other_sites_change_nothing_by_session(site: Site, front: Front) -> None:
    cookie = f"{SESSION}={site.session}"
    for site_field, status in (("same-origin", 200), ("same-site", 403)):
        told = await call(site, front, "POST", "/wiki", Cookie=cookie, Sec_Fetch_Site=site_field, Origin=ORIGIN)
        assert (told.status, told.arrived is not None) == (status, status == 200)


@pytest.mark.parametrize("path", ["/oauth2/verify", "/oauth2/verify/open", "/oauth2/%76erify", "/oauth2//verify"])
async def test_nobody_outside_asks_verify(path: str, site: Site, front: Front) -> None:
    for fields in ({}, SPOOFED["as nginx says it"]):
        told = await call(site, front, "GET", path, **fields)
        assert told.status in (301, 400, 403, 404)
        assert told.arrived is None
        assert "X-Auth-Subject" not in told.fields
