"""The snippets of docs/forward-auth.md on the real nginx, Caddy, Envoy and Traefik."""

import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

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
IDENTITY = ("x-auth-subject", "x-auth-client-id", "x-auth-scope", "x-auth-token-type", "x-forwarded-user")


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
    """A gateway that is asked, an API that is not behind it, and a token with the scope notes:read."""

    gateway: Gateway
    api: int
    token: str
    arrived: list[dict[str, str]] = field(default_factory=list)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    arrived: list[dict[str, str]] = []

    async def told(request: web.Request) -> web.Response:
        arrived.append({name.lower(): value for name, value in request.headers.items()})
        return web.json_response({"path": request.raw_path, "size": len(await request.read())})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", told)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    notes = {"name": "notes", "path": "/notes", "auth": ["bearer"], "scopes": {"GET": ["read"], "*": ["write"]}}
    public = {"name": "open", "path": "/open", "auth": "none"}
    routes = [{**route, "upstreams": ["http://127.0.0.1:9"]} for route in (notes, public)]
    server = {"trusted_proxies": ["127.0.0.1"]}
    async with serving(tmp_path_factory.mktemp("site"), routes=routes, workers=1, server=server) as gateway:
        for scope in ("read", "write"):
            await gateway.run("scope", "create", scope, "--description", scope)
        client = await gateway.run(
            "client", "create", "--name", "App", "--grant-type", "client_credentials", "--scope", "read"
        )
        token = await gateway.run("token", "issue", "--client", client["client_id"], "--scope", "read")
        yield Site(gateway, runner.addresses[0][1], token["access_token"], arrived)
    await runner.cleanup()


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
) -> AsyncIterator[int]:
    """The port of the proxy in front."""
    folder, (port,) = tmp_path_factory.mktemp(request.param), free_ports(1)
    command = configured(request.param, folder, port, int(site.gateway.url.rpartition(":")[2]), site.api)
    async with running(command, folder, port):
        await until(lambda: _leads_on(site, port))  # Traefik listens before it has read where to
        yield port


async def _leads_on(site: Site, front: int) -> bool:
    return (await call(site, front, "GET", "/open")).status == 200


@dataclass
class Told:
    """An answer, and what reached the API if the call did."""

    status: int
    fields: Mapping[str, str]
    arrived: dict[str, str] | None


async def call(site: Site, front: int, method: str, path: str, **fields: str) -> Told:
    site.arrived.clear()
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method,
            f"http://127.0.0.1:{front}{path}",
            headers={"Host": HOST, **headers},
            data=b"hello" if method == "POST" else None,
        ) as answer,
    ):
        await answer.read()
        return Told(answer.status, dict(answer.headers), site.arrived[0] if site.arrived else None)


async def test_call_with_a_good_token_reaches_the_api_with_who_calls(site: Site, front: int) -> None:
    told = await call(site, front, "GET", "/notes/1?a=%20b", Authorization=f"Bearer {site.token}")
    assert told.status == 200
    assert told.arrived is not None
    assert (told.arrived["x-auth-scope"], told.arrived["x-auth-token-type"]) == ("read", "bearer")
    assert told.arrived["x-auth-subject"] == told.arrived["x-auth-client-id"] != ""
    assert "authorization" not in told.arrived


async def test_call_without_a_token_is_told_what_is_wanted(site: Site, front: int) -> None:
    told = await call(site, front, "GET", "/notes/1")
    assert (told.status, told.arrived) == (401, None)
    assert told.fields["WWW-Authenticate"].startswith("Bearer ")


async def test_verdict_is_of_the_method_and_the_path_that_the_client_sent(site: Site, front: int) -> None:
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
async def test_client_cannot_say_that_it_makes_another_call(how: str, site: Site, front: int) -> None:
    told = await call(site, front, "GET", "/notes/1", **SPOOFED[how])
    assert (told.status, told.arrived) == (401, None)
    assert (await call(site, front, "GET", "/open", **SPOOFED[how])).status == 200


async def test_client_cannot_say_who_calls(site: Site, front: int) -> None:
    claims = {name.replace("-", "_"): "root" for name in IDENTITY}
    for path, fields in (("/open", {}), ("/notes/1", {"Authorization": f"Bearer {site.token}"})):
        told = await call(site, front, "GET", path, **claims, **fields)
        assert told.status == 200
        assert told.arrived is not None
        assert "root" not in told.arrived.values()
