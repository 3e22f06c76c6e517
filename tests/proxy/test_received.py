"""One place to receive into for all connections: nothing refers to it when the next bytes come. And upstreams by TLS.

After each reading what was received is overwritten, as the next connection's bytes would do it.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.config.tls import upstream_context
from gateway.proxy import Limits, upstream
from gateway.proxy.front import Front
from gateway.store import Store
from tests.proxy.bulk import (
    KIB,
    MIB,
    Spliced,
    both_loops,
    bringing,
    contents,
    depot,
    digest,
    head_of,
    hold_back,
    wanting,
)
from tests.proxy.rig import RawUpstream, Rig, eventually, rig
from tests.proxy.signing import MAC, Signer, bytes_of

pytestmark = [both_loops, pytest.mark.plain]


@pytest.fixture(autouse=True)
def overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing of what was received outlive the call that tells of it."""

    def front_updated(self: Front, nbytes: int, real: Any = Front.buffer_updated) -> None:
        real(self, nbytes)
        self._engine.received[:] = b"!" * len(self._engine.received)

    def upstream_updated(
        self: upstream.UpstreamConnection, nbytes: int, real: Any = upstream.UpstreamConnection.buffer_updated
    ) -> None:
        real(self, nbytes)
        self._pool.received[:] = b"!" * len(self._pool.received)

    monkeypatch.setattr(Front, "buffer_updated", front_updated)
    monkeypatch.setattr(upstream.UpstreamConnection, "buffer_updated", upstream_updated)


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """A server's context whose certificate the gateway trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    stored, hidden = tmp_path / "certificate.pem", tmp_path / "key.pem"
    stored.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    hidden.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(stored, hidden)
    monkeypatch.setenv("SSL_CERT_FILE", str(stored))
    upstream_context.cache_clear()
    yield context
    upstream_context.cache_clear()


@asynccontextmanager
async def over_tls(
    tmp_path: Path, store: Store, context: ssl.SSLContext, *, handler: Any = depot, **limits: Any
) -> AsyncIterator[Rig]:
    """A public route whose upstream speaks TLS."""
    async with RawUpstream(handler=handler, tls=context).serving() as inner:
        route: dict[str, Any] = {"name": "all", "path": "/", "auth": "none", "max_body": "64MiB", "timeout": "1s"}
        route |= {"upstreams": [f"https://localhost:{inner.port}"], **limits.pop("route", {})}
        async with rig(tmp_path, store, routes=[route], limits=Limits(**limits)) as running:
            running.upstream = inner
            yield running


async def mixed(running: Rig, number: int) -> None:
    """Small and large bodies, up and down, on one connection."""
    connection = await running.connect()
    for size in (0, 1, 900, 70 * KIB, 64 * KIB, 700 * KIB):
        body = contents(size + number, number)
        for request, answer in ((bringing(body), digest(body)), (wanting(len(body), number), body)):
            sending = asyncio.ensure_future(connection.send(request))
            reply = await connection.reply()
            await sending
            assert (reply.status, reply.complete) == (200, True)
            assert reply.body == answer
    connection.close()


async def test_connections_that_share_a_buffer_share_no_bytes(tmp_path: Path, no_database: Store) -> None:
    routes = [{"name": "all", "path": "/", "auth": "none", "max_body": "4MiB"}]
    async with rig(tmp_path, no_database, routes=routes) as running:
        running.upstream.handler = depot
        await asyncio.gather(*(mixed(running, number) for number in range(1, 9)))


async def test_connections_that_share_a_buffer_share_no_bytes_over_tls(
    tmp_path: Path, no_database: Store, certified: ssl.SSLContext, spliced: Spliced
) -> None:
    async with over_tls(tmp_path, no_database, certified) as running:
        await asyncio.gather(*(mixed(running, number) for number in range(1, 9)))
        assert spliced.calls == 0


async def test_heads_and_chunks_in_pieces_are_kept(tmp_path: Path, no_database: Store) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = (await running.upstream.read_request(reader)).body
        answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        for index in range(len(answer)):
            writer.write(answer[index : index + 1])
            await asyncio.sleep(0)

    async with rig(tmp_path, no_database) as running:
        running.upstream.handler = echo
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        reply = await running.talk(head + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", bytewise=True)
        assert (reply.body, reply.complete) == (b"hello world", True)


@pytest.mark.parametrize("size", [1000, 64 * KIB, 300 * KIB])  # held; just held; streamed
async def test_signed_bodies_are_kept_until_they_are_judged(size: int, tmp_path: Path, store: Store) -> None:
    routes = [{"name": "mac", "path": "/mac", "auth": ["mac"], "max_body": "4MiB"}]
    async with rig(tmp_path, store, routes=routes, mac=MAC) as running:
        running.upstream.handler = depot
        signer, body = await Signer.of(store), bytes_of(size)
        connection = await running.connect()
        await connection.send(signer.head(body, f"Content-Length: {size}"))
        for start in range(0, size, size // 5):
            await connection.send(body[start : start + size // 5])
            await asyncio.sleep(0.01)
        reply = await connection.reply()
        assert (reply.status, reply.body) == (200, digest(body))
        connection.close()


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take an upgrade, then give everything back in upper case."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
    while data := await reader.read(64 * KIB):
        writer.write(data.upper())
        await writer.drain()


@pytest.mark.parametrize("encrypted", [False, True])
async def test_tunnels_keep_what_they_pass_on(
    encrypted: bool, tmp_path: Path, no_database: Store, certified: ssl.SSLContext
) -> None:
    async def one(running: Rig, letter: bytes) -> None:
        connection = await running.connect()
        await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        assert b"101" in await connection.reader.readuntil(b"\r\n\r\n")
        sending = asyncio.ensure_future(connection.send(letter * MIB))
        assert await connection.reader.readexactly(MIB) == letter.upper() * MIB
        await sending
        connection.close()

    if encrypted:
        async with over_tls(tmp_path, no_database, certified, handler=upper) as running:
            await asyncio.gather(*(one(running, letter) for letter in (b"a", b"b", b"c", b"d")))
    else:
        async with rig(tmp_path, no_database) as running:
            running.upstream.handler = upper
            await asyncio.gather(*(one(running, letter) for letter in (b"a", b"b", b"c", b"d")))


async def test_upstream_by_tls_that_takes_no_more_holds_the_client_back(
    tmp_path: Path, no_database: Store, certified: ssl.SSLContext
) -> None:
    memory = psutil.Process(os.getpid()).memory_info
    body = contents(MIB)
    async with over_tls(tmp_path, no_database, certified, handler=hold_back, tick=0.05) as running:
        connection = await running.connect()
        assert (await running.talk(head_of(100 * MIB))).status == 413
        before = memory().rss

        async def sending() -> None:
            await connection.send(head_of(60 * MIB))
            for _ in range(60):
                await connection.send(body)

        task = asyncio.ensure_future(sending())
        assert (await connection.reply()).status == 504
        assert memory().rss - before < 8 * MIB
        task.cancel()
        connection.close()
        await eventually(lambda: not running.proxy.fronts)


async def test_bytes_behind_an_answer_by_tls_reach_nobody(
    tmp_path: Path, no_database: Store, certified: ssl.SSLContext
) -> None:
    size = 64 * KIB - 42  # with its head what one reading takes in

    async def lying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + contents(size) + b"evil")
        await writer.drain()
        await reader.read()

    async with over_tls(tmp_path, no_database, certified, handler=lying) as running:
        connection = await running.connect()
        await connection.send(wanting(size) * 3)
        for _ in range(3):
            reply = await connection.reply()
            assert reply.complete
            assert reply.body == contents(size)
        connection.close()
