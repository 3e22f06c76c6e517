"""nginx, Caddy and HAProxy in front, as `ops/` sets them up: TLS, HSTS, who the client is, streams and WebSockets."""

import asyncio
import io
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.doctor import examine
from tests.certificates import certify
from tests.ops.proxies import PROGRAMS, Front, proxying
from tests.serving import Gateway, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
PUBLIC, NOTES = "api.example.com", "notes.example.com"


class Upstream:
    """An API that tells what it received, streams, and speaks WebSocket."""

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def told(self, request: web.Request) -> web.Response:
        size = len(await request.read())
        return web.json_response(
            {"size": size, "fields": {name.lower(): value for name, value in request.headers.items()}}
        )

    async def events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        await self.release.wait()
        await response.write(b"data: second\n\n")
        return response

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        async for message in response:
            await response.send_str(f"{message.data} to you")
        return response

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**24)
        app.router.add_get("/events", self.events)
        app.router.add_get("/socket", self.socket)
        app.router.add_route("*", "/{path:.*}", self.told)
        return app


@dataclass
class Site:
    """A gateway with an API behind it, and the certificate for the proxy in front."""

    gateway: Gateway
    upstream: Upstream
    chain: Path
    key: Path

    @property
    def ports(self) -> tuple[int, int]:
        public, admin = (int(url.rpartition(":")[2]) for url in (self.gateway.url, self.gateway.admin_url))
        return public, admin


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    chain, key = certify(folder / "tls", PUBLIC, NOTES)
    upstream = Upstream()
    runner = web.AppRunner(upstream.app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    route = {
        "name": "notes",
        "path": "/",
        "hosts": [NOTES],
        "upstreams": [f"http://127.0.0.1:{runner.addresses[0][1]}"],
        "auth": "none",
        "max_body": "8MiB",
    }
    server = {"public_url": f"https://{PUBLIC}", "trusted_proxies": ["127.0.0.1"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(chain))
        async with serving(folder, routes=[route], workers=1, server=server) as gateway:
            yield Site(gateway, upstream, chain, key)
    upstream.release.set()
    await runner.cleanup()


class Here(AbstractResolver):
    """Every name is this machine's."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing is kept."""


def session(site: Site) -> aiohttp.ClientSession:
    context = ssl.create_default_context(cafile=str(site.chain))
    connector = aiohttp.TCPConnector(ssl=context, resolver=Here(), use_dns_cache=False)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60))


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[
        pytest.param(
            name,
            marks=pytest.mark.skipif(program is None, reason=f"{name} is not installed: install the package {name}"),
        )
        for name, program in PROGRAMS.items()
    ],
)
async def front(
    request: pytest.FixtureRequest, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Front]:
    folder = tmp_path_factory.mktemp(request.param)
    async with proxying(request.param, folder, *site.ports, site.chain, site.key) as running:
        yield running


async def test_doctor_finds_nothing_wrong_with_the_sample(site: Site, front: Front) -> None:
    report = await examine(site.gateway.config, through=("127.0.0.1", front.secure))
    assert report.findings == []
    assert report.left_out == {}


async def test_plain_http_is_sent_to_https(site: Site, front: Front) -> None:
    async with (
        session(site) as client,
        client.get(f"http://{PUBLIC}:{front.plain}/oauth2/account?a=b", allow_redirects=False) as answer,
    ):
        assert answer.status == 308
        assert answer.headers["Location"].startswith(f"https://{PUBLIC}")
        assert answer.headers["Location"].endswith("/oauth2/account?a=b")


async def test_upstream_hears_who_the_client_is_whatever_it_claims(site: Site, front: Front) -> None:
    claims = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.example"}
    url = f"https://{NOTES}:{front.secure}/a%20b?c=%2F"
    async with session(site) as client, client.get(url, headers=claims) as answer:
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        fields = (await answer.json())["fields"]
    assert fields["x-forwarded-for"].split(", ")[0] == "127.0.0.1"
    assert "192.0.2.1" not in fields["x-forwarded-for"]
    assert fields["x-forwarded-proto"] == "https"
    assert fields["host"].split(":")[0] == fields["x-forwarded-host"].split(":")[0] == NOTES


async def test_a_body_larger_than_a_proxy_takes_by_itself_passes(site: Site, front: Front) -> None:
    url = f"https://{NOTES}:{front.secure}/"
    async with session(site) as client, client.put(url, data=io.BytesIO(bytes(4 * 2**20))) as answer:
        assert (await answer.json())["size"] == 4 * 2**20


async def test_an_event_arrives_before_the_next_one_is_sent(site: Site, front: Front) -> None:
    site.upstream.release.clear()
    async with session(site) as client, client.get(f"https://{NOTES}:{front.secure}/events") as answer:
        assert await answer.content.readuntil(b"\n\n") == b"data: first\n\n"
        site.upstream.release.set()
        assert await answer.content.read() == b"data: second\n\n"


async def test_a_websocket_passes(site: Site, front: Front) -> None:
    async with session(site) as client, client.ws_connect(f"https://{NOTES}:{front.secure}/socket") as talk:
        for word in ("hello", "and again"):
            await talk.send_str(word)
            assert await talk.receive_str() == f"{word} to you"
