"""Unix sockets on both sides: an upstream behind one, and clients that come by one."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ConfigError, parse
from gateway.store import Store
from tests.proxy.rig import Connection, RawUpstream, Reply, Rig, rig

BIG = b"x" * 2_000_000
GET = b"GET /app HTTP/1.1\r\nHost: gateway.test\r\n"


def routes(folder: Path) -> list[dict[str, Any]]:
    app = [f"http+unix://{folder}/app"]
    return [
        {"name": "app", "path": "/app", "auth": "none", "upstreams": app, "max_body": "4MiB"},
        {"name": "gone", "path": "/gone", "auth": "none", "upstreams": [f"http+unix://{folder}/gone"]},
        {"name": "inner", "path": "/inner", "auth": "none", "allow": ["10.0.0.0/8"], "upstreams": app},
    ]


@asynccontextmanager
async def running(folder: Path, store: Store, upstream: RawUpstream, *trusted: str) -> AsyncIterator[Rig]:
    upstream.path = str(folder / "app")
    made = rig(folder, store, routes=routes(folder), upstream=upstream, server={"trusted_proxies": list(trusted)})
    async with made as running:
        yield running


async def by_socket(made: Rig, path: Path, data: bytes) -> Reply:
    """The answer to a request by a unix socket."""
    server = await asyncio.get_running_loop().create_unix_server(made.proxy.front, str(path))
    try:
        connection = Connection(*await asyncio.open_unix_connection(str(path)))
        await connection.send(data)
        reply = await connection.reply()
        connection.close()
        return reply
    finally:
        server.close()


async def test_upstream_behind_a_unix_socket_is_like_any_other(tmp_path: Path, no_database: Store) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await upstream.read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BIG) + BIG)
            await writer.drain()

    upstream = RawUpstream(handler=serve)
    async with running(tmp_path, no_database, upstream) as made:
        connection = await made.connect()
        for _ in range(2):
            await connection.send(b"POST /app HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 2000000\r\n\r\n" + BIG)
            reply = await connection.reply("POST")
            assert (reply.status, reply.complete, reply.body == BIG) == (200, True, True)
        assert [request.body == BIG for request in upstream.requests] == [True, True]
        assert upstream.requests[0].one("host") == "gateway.test"
        assert upstream.connections == 1
        [told] = json.loads(json.dumps(made.proxy.recall(reply.one("x-request-id"))))["calls"]
        assert told["upstream"] == f"unix:{tmp_path}/app"
        connection.close()


async def test_absent_socket_is_an_upstream_that_cannot_be_reached(tmp_path: Path, no_database: Store) -> None:
    async with running(tmp_path, no_database, RawUpstream()) as made:
        reply = await made.talk(GET.replace(b"/app", b"/gone") + b"\r\n")
        assert reply.status == 502
        [told] = json.loads(json.dumps(made.proxy.recall(reply.one("x-request-id"))))["calls"]
        assert told["cause"].startswith(f"unix:{tmp_path}/gone: ")


async def test_upstream_that_ends_within_its_answer_is_cut(tmp_path: Path, no_database: Store) -> None:
    upstream = RawUpstream(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    async with running(tmp_path, no_database, upstream) as made:
        reply = await made.talk(GET + b"\r\n")
        assert (reply.status, reply.complete) == (200, False)


@pytest.mark.parametrize(
    ("trusted", "chain", "forwarded", "inner"),
    [
        (("unix:",), "X-Forwarded-For: 6.6.6.6, 10.1.2.3\r\n", "10.1.2.3", 200),
        (("unix:", "10.0.0.0/8"), "X-Forwarded-For: 192.0.2.1, 10.1.2.3\r\n", "192.0.2.1, 10.1.2.3", 403),
        (("unix:",), "", "unix", 403),
        (("unix:",), "X-Forwarded-For: unix\r\n", "unix", 403),
        (("127.0.0.1",), "X-Forwarded-For: 10.1.2.3\r\n", "unix", 403),
        ((), "X-Forwarded-For: 10.1.2.3\r\n", "unix", 403),
    ],
)
async def test_who_comes_by_a_socket_is_a_proxy_only_if_trusted(
    tmp_path: Path, no_database: Store, trusted: tuple[str, ...], chain: str, forwarded: str, inner: int
) -> None:
    async with running(tmp_path, no_database, RawUpstream(), *trusted) as made:
        data = GET + chain.encode() + b"\r\n"
        assert (await by_socket(made, tmp_path / "public", data)).status == 200
        assert made.upstream.requests[0].one("x-forwarded-for") == forwarded
        data = data.replace(b"/app", b"/inner")
        reply = await by_socket(made, tmp_path / "other", data)
        assert reply.status == inner


@pytest.mark.parametrize(
    ("tables", "path", "message"),
    [
        ({"server": {"listen": "unix:run.sock"}}, "server.listen", 'must be "unix:/PATH"'),
        ({"server": {"listen": "unix:/" + "x" * 107}}, "server.listen", "at most 107 bytes"),
        ({"server": {"socket_mode": "rw"}}, "server.socket_mode", "must be a mode"),
        ({"server": {"trusted_proxies": ["unix"]}}, "server.trusted_proxies[0]", "must be an address"),
        ({"routes": [{"upstreams": ["http+unix://run/app"]}]}, "routes[0].upstreams[0]", 'must be "http+unix:///PATH"'),
        ({"routes": [{"upstreams": ["https+unix:///run/app"]}]}, "routes[0].upstreams[0]", "must be"),
        ({"routes": [{"upstreams": ["http+unix:///" + "x" * 107]}]}, "routes[0].upstreams[0]", "at most 107 bytes"),
    ],
)
def test_address_that_is_no_socket_is_a_fault(tables: dict[str, Any], path: str, message: str) -> None:
    server = {"public_url": "http://gateway.test", **tables.get("server", {})}
    routes = [{"name": "r", "path": "/", "auth": "none", **route} for route in tables.get("routes", [])]
    with pytest.raises(ConfigError) as raised:
        parse({"server": server, "routes": routes})
    [fault] = raised.value.faults
    assert fault.path == path
    assert message in fault.message
