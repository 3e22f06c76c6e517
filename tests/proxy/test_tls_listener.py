"""Clients that come by TLS: which certificate each is shown, slow ones and strange ones, and other certificates."""

import asyncio
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from gateway.config.certificates import certified
from gateway.figures import CONNECTIONS_FAILED, cells, memory_for_one, share
from gateway.proxy import Limits
from gateway.proxy.arriving import Arrivals
from gateway.proxy.certificates import Certificates
from gateway.store import Store
from tests.certificates import Authority
from tests.proxy.bulk import both_loops
from tests.proxy.rig import Connection, RawUpstream, Rig, eventually, queue_of_successors, rig

GET = b"GET /x HTTP/1.1\r\nHost: api.test\r\n\r\n"
BIG = b"x" * 1_500_000


class World:
    """A proxy that listens by TLS."""

    def __init__(self, made: Rig, port: int, authority: Authority, shown: Certificates) -> None:
        self.rig, self.port, self.authority, self.shown = made, port, authority, shown

    async def connect(self, name: str | None = "api.test", version: ssl.TLSVersion | None = None) -> Connection:
        context = ssl.create_default_context(cafile=self.authority.ca)
        context.check_hostname = False
        if version is not None:
            context.minimum_version = context.maximum_version = version
            context.set_ciphers("DEFAULT:@SECLEVEL=0")  # so that nothing but the version stands in its way
        streams = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=name or "")
        return Connection(*streams)

    async def shown_to(self, name: str | None) -> str:
        """By the name of its subject, the certificate that a client is shown who asks for a name."""
        connection = await self.connect(name)
        raw = connection.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        connection.close()
        [attribute] = x509.load_der_x509_certificate(raw).subject
        return str(attribute.value)


@asynccontextmanager
async def listening(
    folder: Path, store: Store, upstream: RawUpstream | None = None, **limits: Any
) -> AsyncIterator[World]:
    authority = Authority(folder / "authority")
    pairs = [
        authority.issue("first", "api.test", "www.test"),
        authority.issue("second", "other.test", "*.deep.test"),
        authority.issue("third", "api.test"),
    ]
    shown = Certificates([certified(*pair) for pair in pairs])
    routes = [{"name": "all", "path": "/", "auth": "none", "max_body": "4MiB"}]
    bounds = Limits(tick=0.05, **limits)
    server_table = {"public_url": "https://api.test"}
    async with rig(folder, store, routes=routes, upstream=upstream, limits=bounds, server=server_table) as made:
        listener = socket.create_server(("127.0.0.1", 0))
        arrivals = Arrivals(made.proxy, listener, shown)
        await arrivals.start_serving()
        try:
            yield World(made, listener.getsockname()[1], authority, shown)
        finally:
            arrivals.close()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("api.test", "first"),
        ("API.test", "first"),
        ("www.test", "first"),
        ("other.test", "second"),
        ("a.deep.test", "second"),
        ("a.b.deep.test", "first"),
        ("deep.test", "first"),
        ("unknown.test", "first"),
        (None, "first"),
    ],
)
async def test_client_is_shown_the_certificate_for_the_name_it_asks_for(
    tmp_path: Path, no_database: Store, name: str | None, expected: str
) -> None:
    async with listening(tmp_path, no_database) as world:
        assert await world.shown_to(name) == expected


@both_loops
async def test_calls_by_tls_are_like_any_other(tmp_path: Path, no_database: Store) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await upstream.read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BIG) + BIG)
            await writer.drain()

    upstream = RawUpstream(handler=serve)
    async with listening(tmp_path, no_database, upstream) as world:
        connection = await world.connect()
        assert connection.writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        for _ in range(2):
            await connection.send(b"POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: %d\r\n\r\n" % len(BIG) + BIG)
            reply = await connection.reply("POST")
            assert (reply.status, reply.complete, reply.body == BIG) == (200, True, True)
        assert [request.body == BIG for request in upstream.requests] == [True, True]
        assert upstream.requests[0].one("x-forwarded-proto") == "https"
        assert upstream.requests[0].one("x-forwarded-for") == "127.0.0.1"
        connection.close()


@both_loops
async def test_old_versions_and_strange_bytes_reach_nobody(tmp_path: Path, no_database: Store) -> None:
    async with listening(tmp_path, no_database) as world:
        with pytest.warns(DeprecationWarning, match="TLSv1_1"), pytest.raises((ssl.SSLError, ConnectionError)):
            await world.connect(version=ssl.TLSVersion.TLSv1_1)
        plain = Connection(*await asyncio.open_connection("127.0.0.1", world.port))
        for data in (GET, b"\x16\x03\x01\xff\xff" + b"\0" * 600, b"\x80\x2e\x01\x00\x02"):
            await plain.send(data)
            with suppress(ConnectionError):
                answer = await plain.reader.read()
                assert b"HTTP/" not in answer
            plain.close()
            plain = Connection(*await asyncio.open_connection("127.0.0.1", world.port))
        plain.close()
        assert world.rig.upstream.connections == 0
        connection = await world.connect()
        await connection.send(GET)
        assert (await connection.reply()).status == 200
        connection.close()


@pytest.fixture
def counted() -> Callable[[str], float]:
    """How many handshakes have failed for a cause, since the test began."""
    memory = memory_for_one()
    share(memory)
    os.close(memory)
    return lambda cause: cells()[CONNECTIONS_FAILED.at("tls", cause)]


FAILED_HANDSHAKES = [
    (GET, "plain HTTP"),
    (b"SSH-2.0-OpenSSH_9.9\r\n" + b"x" * 64, "not TLS"),
    (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "another fault"),
    (b"", "left"),
    (b"\x16\x03\x01", "left"),
]


def _distrust(port: int) -> None:
    """Come as a client that says why it leaves, which asyncio's does not."""
    with socket.create_connection(("127.0.0.1", port)) as plain:
        ssl.create_default_context().wrap_socket(plain, server_hostname="api.test")


@both_loops
async def test_handshakes_that_failed_are_counted_by_a_few_causes_and_said(
    tmp_path: Path, no_database: Store, counted: Callable[[str], float], capsys: pytest.CaptureFixture[str]
) -> None:
    async with listening(tmp_path, no_database, handshake=0.5) as world:
        for data, cause in FAILED_HANDSHAKES:
            before = counted(cause)
            plain = Connection(*await asyncio.open_connection("127.0.0.1", world.port))
            await plain.send(data)
            plain.writer.write_eof()
            with suppress(ConnectionError):
                await plain.reader.read()
            plain.close()
            await eventually(lambda before=before, cause=cause: counted(cause) == before + 1)  # type: ignore[misc]
        with pytest.warns(DeprecationWarning, match="TLSv1_1"), pytest.raises((ssl.SSLError, ConnectionError)):
            await world.connect(version=ssl.TLSVersion.TLSv1_1)
        await eventually(lambda: counted("version") == 1)
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(_distrust, world.port)
        await eventually(lambda: counted("distrusted") == 1)
        silent = Connection(*await asyncio.open_connection("127.0.0.1", world.port))
        assert await silent.closed()
        silent.close()
        assert counted("late") == 1
        (await world.connect()).close()
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = [line for line in said if line["event"] == "TLS handshake failed"]
    assert {line["cause"] for line in told} == {
        "plain HTTP", "not TLS", "another fault", "version", "distrusted", "late",
    }  # fmt: skip
    assert {line["address"] for line in told} == {"127.0.0.1"}
    assert all("certificate" in line["mend"] for line in told if line["cause"] == "distrusted")


async def test_client_within_its_handshake_is_served_by_a_worker_that_leaves(
    tmp_path: Path, no_database: Store
) -> None:
    async with listening(tmp_path, no_database) as world:
        raw = socket.create_connection(("127.0.0.1", world.port))
        raw.setblocking(False)
        await eventually(lambda: len(world.rig.proxy.arriving) == 1)
        draining = asyncio.ensure_future(world.rig.proxy.drain(20.0))
        await eventually(lambda: world.rig.proxy.draining)
        context = ssl.create_default_context(cafile=world.authority.ca)
        streams = await asyncio.open_connection(sock=raw, ssl=context, server_hostname="api.test")
        connection = Connection(*streams)
        await connection.send(GET)
        assert (await connection.reply()).status == 200
        connection.close()
        await draining


@both_loops
async def test_handshake_has_its_time(tmp_path: Path, no_database: Store) -> None:
    async with listening(tmp_path, no_database, handshake=0.3, head=0.3) as world:
        silent = [Connection(*await asyncio.open_connection("127.0.0.1", world.port)) for _ in range(20)]
        await silent[0].send(b"\x16\x03\x01\x02\x00")  # and no more
        other = await world.connect()
        await other.send(GET)
        assert (await other.reply()).status == 200  # nobody waits for them
        for connection in silent:
            assert await connection.closed()
            connection.close()
        late = await world.connect()
        assert (await late.reply()).status in (0, 408)  # a head has its time from the handshake on
        late.close()
        other.close()


@both_loops
async def test_client_that_leaves_ends_its_call(tmp_path: Path, no_database: Store) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await RawUpstream().read_request(reader)
        asked.set()
        await reader.read()
        ended.set()

    async with listening(tmp_path, no_database, RawUpstream(handler=wait)) as world:
        for broken in (False, True):
            asked.clear()
            ended.clear()
            connection = await world.connect()
            await connection.send(GET)
            await asked.wait()
            (connection.writer.transport.abort if broken else connection.close)()
            async with asyncio.timeout(30):
                await ended.wait()
        await eventually(lambda: not world.rig.proxy.fronts)


@both_loops
@pytest.mark.parametrize(
    "request_head",
    [
        b"POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: %d\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a b\r\nContent-Length: %d\r\n\r\n",
    ],
)
async def test_client_that_still_sends_can_read_why_it_is_refused(
    tmp_path: Path, no_database: Store, request_head: bytes
) -> None:
    async with listening(tmp_path, no_database) as world:
        connection, body = await world.connect(), b"x" * 6_000_000
        await connection.send(request_head % len(body) + body)
        reply = await connection.reply("POST")
        assert (reply.status, reply.complete) == (413 if b"api" in request_head else 400, True)
        connection.close()


@both_loops
@pytest.mark.parametrize("ends", ["client", "upstream"])
async def test_what_passes_after_a_change_of_protocol_ends_on_both_sides(
    tmp_path: Path, no_database: Store, ends: str
) -> None:
    ended = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
        while data := await reader.read(65536):
            writer.write(data)
            if data.endswith(b"!") and ends == "upstream":
                return
        ended.set()

    async with listening(tmp_path, no_database, RawUpstream(handler=echo)) as world:
        connection = await world.connect()
        await connection.send(GET[:-2] + b"Upgrade: echo\r\nConnection: Upgrade\r\n\r\n")
        head = await connection.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        await connection.send(b"x" * 300_000 + b"!")
        assert await connection.reader.readexactly(300_001) == b"x" * 300_000 + b"!"
        if ends == "client":
            connection.close()
            async with asyncio.timeout(30):
                await ended.wait()
        else:
            assert await connection.closed()
            connection.close()
        await eventually(lambda: not world.rig.proxy.fronts)


async def test_new_certificates_are_shown_to_new_connections_only(tmp_path: Path, no_database: Store) -> None:
    async with listening(tmp_path, no_database) as world:
        kept = await world.connect()
        fresh = world.authority.issue("fresh", "api.test")
        world.shown.renew([certified(*fresh)])
        assert await world.shown_to("api.test") == "fresh"
        assert await world.shown_to("other.test") == "fresh"
        await kept.send(GET)
        assert (await kept.reply()).status == 200
        kept.close()


@both_loops
async def test_kept_connection_ends_with_its_next_answer_where_others_take_over(
    tmp_path: Path, no_database: Store
) -> None:
    async with queue_of_successors() as queue, listening(tmp_path, no_database, leaving=0.3) as world:
        busy, idle = await world.connect(), await world.connect()
        for one in (busy, idle):
            await one.send(GET)
            assert (await one.reply()).all("connection") == []
        draining = asyncio.ensure_future(world.rig.proxy.drain(5.0, queue.handover))
        await eventually(lambda: world.rig.proxy.successors is not None)
        await busy.send(GET)
        reply = await busy.reply()
        assert (reply.status, reply.all("connection")) == (200, ["close"])
        assert await busy.closed()
        assert await idle.closed()
        busy.close()
        idle.close()
        await draining
        assert queue.is_empty


@both_loops
async def test_client_that_ends_right_behind_its_request_gets_what_is_answered_at_once(
    tmp_path: Path, no_database: Store
) -> None:
    async with listening(tmp_path, no_database) as world:
        context = ssl.create_default_context(cafile=world.authority.ca)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="api.test")
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        handshaken = False
        while not handshaken:
            try:
                client.do_handshake()
                handshaken = True
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(1 << 16))
        client.write(b"GET //.. HTTP/1.1\r\nHost: api.test\r\n\r\n")
        with suppress(ssl.SSLWantReadError):
            client.unwrap()
        writer.write(outgoing.read())
        incoming.write(await reader.read())
        assert client.read(1 << 16).startswith(b"HTTP/1.1 400 ")
        writer.close()
