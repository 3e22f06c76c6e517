"""Both planes behind one front: pages and API calls share a browser's connection, in turn and pipelined."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from gateway.config import Settings, parse
from gateway.crypto import Keyring
from gateway.store import Store
from gateway.web.app import create_app, create_runner
from tests.counts import scaled
from tests.proxy.rig import Rig, rig
from tests.proxy.test_pool import persistent

PAGE = b"GET /oauth2/login HTTP/1.1\r\nHost: gateway.test\r\n\r\n"
METADATA = b"GET /.well-known/oauth-authorization-server HTTP/1.1\r\nHost: gateway.test\r\n\r\n"
CALL = b"GET /api/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n"
ROUTES = [{"name": "api", "path": "/api", "auth": "none"}]
OF_THE_PLANE = ((PAGE, b'name="password"'), (METADATA, b'"authorization_endpoint"'))
BATCH = 20


async def test_a_path_of_thousands_of_segments_never_reaches_the_pages(public: Rig) -> None:
    for start in ("/oauth2", "/.well-known/oauth-protected-resource"):
        reply = await public.talk(f"GET {start}{'/a' * 3900} HTTP/1.1\r\nHost: gateway.test\r\n\r\n".encode())
        assert reply.status == 404
    assert public.plane.connections == 0


@pytest.fixture
async def both(tmp_path: Path, store: Store, keyring: Keyring) -> AsyncIterator[Rig]:
    """A public route, and the real authorization plane on its unix socket."""
    config = parse({"server": {"public_url": "http://gateway.test"}})
    runner = create_runner(create_app(Settings(config, tmp_path / "config.toml", None, keyring, ()), store))
    await runner.setup()
    socket = str(tmp_path / "authorization.sock")
    await web.UnixSite(runner, socket).start()
    try:
        async with rig(tmp_path, store, routes=ROUTES, plane_socket=socket) as running:
            persistent(running.upstream)
            yield running
    finally:
        await runner.cleanup()


@pytest.mark.long
async def test_pages_and_calls_take_turns_on_one_connection(both: Rig) -> None:
    connection = await both.connect()
    for number in range(scaled(10_000, 20)):
        asked, held = OF_THE_PLANE[number % 2]
        await connection.send(asked)
        page = await connection.reply()
        assert page.status == 200
        assert held in page.body
        await connection.send(CALL)
        assert (await connection.reply()).body == b"ok"
    connection.close()
    assert len(both.upstream.requests) == scaled(10_000, 20)
    assert both.upstream.connections == 1


@pytest.mark.long
async def test_pages_and_calls_are_answered_in_order_when_pipelined(both: Rig) -> None:
    connection = await both.connect()
    for _ in range(scaled(10_000, 20) // BATCH):
        await connection.send(b"".join(asked + CALL for asked, _ in OF_THE_PLANE) * (BATCH // 2))
        for number in range(BATCH):
            assert OF_THE_PLANE[number % 2][1] in (await connection.reply()).body
            assert (await connection.reply()).body == b"ok"
    connection.close()
    assert len(both.upstream.requests) == scaled(10_000, 20)


async def test_a_site_behind_another_host_keeps_its_own_address_for_new_passwords(tmp_path: Path, store: Store) -> None:
    routes = [{"name": "site", "path": "/", "hosts": ["site.test", "gateway.test"], "auth": "none"}]
    async with rig(tmp_path, store, routes=routes) as running:
        for host, plane, upstream in (("site.test", 0, 1), ("gateway.test", 1, 1)):
            await running.talk(f"GET /.well-known/change-password HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert (running.plane.connections, len(running.upstream.requests)) == (plane, upstream)
        await running.talk(b"GET /.well-known/change-password/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
        assert len(running.upstream.requests) == 2, "what stands below the address is the site's"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /oauth2/\xc3\xa9", 400),
        (b"GET /oauth2/login?x=\xff", 400),
        (b"BREW /oauth2/login", 501),
        (b"get /oauth2/login", 501),
        (b"PUT /oauth2/token", 405),
    ],
)
async def test_what_the_pages_cannot_read_is_refused_in_the_gateway_s_words(
    both: Rig, line: bytes, status: int
) -> None:
    reply = await both.talk(line + b" HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
    assert reply.status == status
    assert json.loads(reply.body)["request_id"] == reply.one("x-request-id")
