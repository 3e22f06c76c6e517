"""The PROXY protocol on the public listener: whom a trusted proxy names, and what becomes of everything else."""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ConfigError, parse
from gateway.config.certificates import certified
from gateway.figures import CONNECTIONS_FAILED, cells, memory_for_one, share
from gateway.proxy import Limits
from gateway.proxy.arriving import Arrivals
from gateway.proxy.certificates import Certificates
from gateway.routing.proxy_protocol import IntroductionReader, NoIntroduction, _crc32c
from gateway.store import Store
from tests.certificates import Authority
from tests.proxy.bulk import both_loops
from tests.proxy.rig import Connection, Reply, Rig, queue_of_successors, rig

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
GET = b"GET /x HTTP/1.1\r\nHost: gateway.test\r\n"
ROUTES = [{"name": "all", "path": "/", "auth": "none"}]


def second(command: int, family: int, addresses: bytes, *, length: int | None = None) -> bytes:
    """A header of version 2."""
    size = len(addresses) if length is None else length
    return SIGNATURE + bytes((command, family)) + struct.pack("!H", size) + addresses


def tcp4(source: str, extra: bytes = b"") -> bytes:
    ends = socket.inet_aton(source) + socket.inet_aton("192.0.2.9") + struct.pack("!HH", 4711, 443)
    return second(0x21, 0x11, ends + extra)


def tcp6(source: str) -> bytes:
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, "::1")
    return second(0x21, 0x21, ends + struct.pack("!HH", 4711, 443))


def summed(header: bytes) -> bytes:
    """A header with its checksum, the last four bytes."""
    return header[:-4] + struct.pack("!I", _crc32c(header[:-4] + bytes(4)))


CHECKED = summed(tcp4("192.0.2.1", b"\x03\x00\x04" + bytes(4)))
ACCEPTED: list[tuple[bytes, str]] = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 443\r\n", "192.0.2.1"),
    (b"PROXY TCP6 2001:DB8::1 ::1 65535 0\r\n", "2001:db8::1"),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 1\r\n", "192.0.2.1"),
    (b"PROXY UNKNOWN\r\n", ""),
    (b"PROXY UNKNOWN 192.0.2.1 192.0.2.9 4711 443\r\n", ""),
    (tcp4("192.0.2.1"), "192.0.2.1"),
    (tcp6("2001:db8::1"), "2001:db8::1"),
    (tcp6("::ffff:192.0.2.1"), "192.0.2.1"),
    (tcp4("192.0.2.1", b"\x04\x00\x03abc\x01\x00\x00"), "192.0.2.1"),
    (CHECKED, "192.0.2.1"),
    (second(0x20, 0x00, b""), ""),
    (second(0x20, 0x11, bytes(12)), ""),
    (second(0x21, 0x00, b"anything"), ""),
    (second(0x21, 0x31, bytes(216)), ""),
]
REFUSED: list[tuple[bytes, str]] = [
    (b"GET / HTTP/1.1\r\n", "does not begin with"),
    (b"\x16\x03\x01\x02\x00", "does not begin with"),
    (b"proxy TCP4 192.0.2.1 192.0.2.9 4711 443\r\n", "does not begin with"),
    (b" PROXY TCP4 192.0.2.1 192.0.2.9 4711 443\r\n", "does not begin with"),
    (b"PROXY  TCP4 192.0.2.1 192.0.2.9 4711 443\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 443 \r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.9 4711\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.9 04711 443\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.9 65536 443\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.9 -1 443\r\n", "malformed"),
    (b"PROXY UDP4 192.0.2.1 192.0.2.9 4711 443\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.1\n192.0.2.9 4711 443\r\n", "malformed"),
    (b"PROXY UNKNOWN\x00\r\n", "malformed"),
    (b"PROXY UNKNOWNX\r\n", "malformed"),
    (b"PROXY \r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.256 192.0.2.9 4711 443\r\n", "names no address"),
    (b"PROXY TCP4 192.0.2.01 192.0.2.9 4711 443\r\n", "names no address"),
    (b"PROXY TCP4 2001:db8::1 ::1 4711 443\r\n", "names no address"),
    (b"PROXY TCP6 192.0.2.1 192.0.2.9 4711 443\r\n", "names no address"),
    (b"PROXY UNKNOWN " + b"x" * 200, "too long"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 443" + b"\n" * 200, "too long"),
    (SIGNATURE[:11] + b"\r", "does not begin with"),
    (second(0x11, 0x11, bytes(12)), "another version"),
    (second(0x22, 0x11, bytes(12)), "another version"),
    (second(0x21, 0x12, bytes(12)), "another kind of connection"),
    (second(0x21, 0x41, bytes(12)), "another kind of connection"),
    (second(0x21, 0x11, bytes(11)), "ends within its addresses"),
    (second(0x21, 0x21, bytes(12)), "ends within its addresses"),
    (second(0x21, 0x11, bytes(12), length=65535), "too long"),
    (tcp4("192.0.2.1", b"\x04\x00"), "ends within a value"),
    (tcp4("192.0.2.1", b"\x04\x00\x09abc"), "ends within a value"),
    (CHECKED[:-1] + bytes((CHECKED[-1] ^ 1,)), "checksum"),
    (CHECKED.replace(socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2")), "checksum"),
    (tcp4("192.0.2.1", b"\x03\x00\x02ab"), "checksum"),
]


@pytest.mark.parametrize(("header", "address"), ACCEPTED)
def test_header_says_who_is_there_and_nothing_behind_it_is_taken(header: bytes, address: str) -> None:
    reader = IntroductionReader()
    assert reader.take(header + b"\x16\x03\x01GET") == len(header)
    assert reader.done is not None
    assert reader.done.address == address
    reader = IntroductionReader()
    for at in range(len(header)):
        assert reader.done is None
        assert reader.take(header[at : at + 1]) == 1
    assert reader.done is not None
    assert reader.done.address == address


@pytest.mark.parametrize(("data", "cause"), REFUSED)
def test_anything_else_is_refused(data: bytes, cause: str) -> None:
    with pytest.raises(NoIntroduction, match=cause):
        IntroductionReader().take(data)
    reader = IntroductionReader()
    with pytest.raises(NoIntroduction):
        _ = [reader.take(data[at : at + 1]) for at in range(len(data))]
    assert reader.done is None


# -- on a socket -----------------------------------------------------------------------------------------------------


class World:
    """A proxy whose listener speaks the PROXY protocol with who is at 127.0.0.1."""

    def __init__(self, made: Rig, port: int) -> None:
        self.rig, self.port = made, port

    async def connect(self, source: str = "127.0.0.1") -> Connection:
        streams = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        return Connection(*streams)

    async def ask(self, header: bytes, *fields: bytes, source: str = "127.0.0.1", bytewise: bool = False) -> Reply:
        connection = await self.connect(source)
        await connection.send(header + GET + b"".join(field + b"\r\n" for field in fields) + b"\r\n", bytewise=bytewise)
        reply = await connection.reply()
        connection.close()
        return reply


@asynccontextmanager
async def listening(
    folder: Path, store: Store, shown: Certificates | None = None, *trusted: str, **limits: Any
) -> AsyncIterator[World]:
    server: dict[str, Any] = {"trusted_proxies": ["127.0.0.1", *trusted], "proxy_protocol": True}
    bounds = Limits(tick=0.05, **limits)
    async with rig(folder, store, routes=ROUTES, server=server, limits=bounds) as made:
        listener = socket.create_server(("127.0.0.1", 0))
        taking = Arrivals(made.proxy, listener, shown, introduced=True)
        await taking.start_serving()
        try:
            yield World(made, listener.getsockname()[1])
        finally:
            taking.close()


@both_loops
async def test_client_is_whom_the_proxy_names(tmp_path: Path, no_database: Store) -> None:
    async with listening(tmp_path, no_database) as world:
        for header, address in ACCEPTED:
            for bytewise in (False, True):
                reply = await world.ask(header, b"X-Forwarded-For: 6.6.6.6", bytewise=bytewise)
                assert reply.status == 200
                seen = world.rig.upstream.requests[-1]
                # Nothing of what a client says of itself counts, also where the proxy does not know who it is.
                assert seen.one("x-forwarded-for") == (address or "127.0.0.1")
                assert seen.one("x-forwarded-proto") == "http"


async def test_named_client_may_be_a_proxy_itself(tmp_path: Path, no_database: Store) -> None:
    async with listening(tmp_path, no_database, None, "192.0.2.0/24") as world:
        await world.ask(tcp4("192.0.2.1"), b"X-Forwarded-For: 6.6.6.6, 198.51.100.7", b"X-Forwarded-Proto: https")
        seen = world.rig.upstream.requests[-1]
        assert seen.one("x-forwarded-for") == "198.51.100.7, 192.0.2.1"
        assert seen.one("x-forwarded-proto") == "https"


async def test_nobody_else_says_whose_a_connection_is(tmp_path: Path, no_database: Store) -> None:
    async with listening(tmp_path, no_database) as world:
        for header in (b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 443\r\n", tcp4("192.0.2.1")):
            assert (await world.ask(header, source="127.0.0.2")).status == 400
        assert world.rig.upstream.requests == []
        assert (await world.ask(b"", source="127.0.0.2")).status == 200
        assert world.rig.upstream.requests[-1].one("x-forwarded-for") == "127.0.0.2"


@both_loops
async def test_trusted_proxy_that_brings_no_header_gets_no_answer_and_is_counted(
    tmp_path: Path, no_database: Store
) -> None:
    memory = memory_for_one()
    share(memory)
    os.close(memory)
    async with listening(tmp_path, no_database, introduction=0.3) as world:
        for data in (*(data for data, _ in REFUSED), b"", b"PROXY TCP4 192.0.2.1", SIGNATURE, tcp4("192.0.2.1")[:-1]):
            connection = await world.connect()
            await connection.send(data)
            with suppress(ConnectionError):
                assert await connection.reader.read() == b""
            connection.close()
        gone = await world.connect()
        gone.writer.transport.abort()
        assert world.rig.upstream.connections == 0
        assert not world.rig.proxy.fronts
        missing = sum("does not begin" in cause for _, cause in REFUSED)
        counts = {
            kind: cells()[CONNECTIONS_FAILED.at("proxy_protocol", kind)] for kind in ("missing", "malformed", "late")
        }
        assert counts == {"missing": missing, "malformed": len(REFUSED) - missing, "late": 4}
        assert (await world.ask(tcp4("192.0.2.1"))).status == 200


async def test_header_counts_once(tmp_path: Path, no_database: Store) -> None:
    async with listening(tmp_path, no_database) as world:
        assert (await world.ask(tcp4("192.0.2.1") + tcp4("192.0.2.2"))).status == 400
        connection = await world.connect()
        await connection.send(tcp4("192.0.2.1") + GET + b"\r\n" + GET + b"\r\n")
        assert [(await connection.reply()).status for _ in range(2)] == [200, 200]
        assert [seen.one("x-forwarded-for") for seen in world.rig.upstream.requests] == ["192.0.2.1", "192.0.2.1"]
        await connection.send(tcp4("192.0.2.2") + GET + b"\r\n")
        assert (await connection.reply()).status == 400
        connection.close()


@both_loops
async def test_header_goes_before_tls(tmp_path: Path, no_database: Store) -> None:
    authority = Authority(tmp_path / "authority")
    shown = Certificates([certified(*authority.issue("api.test"))])
    async with listening(tmp_path, no_database, shown) as world:
        raw = socket.create_connection(("127.0.0.1", world.port))
        raw.sendall(tcp4("192.0.2.1"))
        raw.setblocking(False)
        context = ssl.create_default_context(cafile=authority.ca)
        streams = await asyncio.open_connection(sock=raw, ssl=context, server_hostname="api.test")
        connection = Connection(*streams)
        await connection.send(GET + b"\r\n")
        assert (await connection.reply()).status == 200
        assert world.rig.upstream.requests[-1].one("x-forwarded-for") == "192.0.2.1"
        connection.close()


async def test_connection_is_not_given_to_who_would_not_know_whose_it_is(tmp_path: Path, no_database: Store) -> None:
    async with queue_of_successors() as queue, listening(tmp_path, no_database, leaving=0.3) as world:
        connection = await world.connect()
        await connection.send(tcp4("192.0.2.1") + GET + b"\r\n")
        assert (await connection.reply()).all("connection") == []
        draining = asyncio.ensure_future(world.rig.proxy.drain(5.0, queue.handover))
        assert await connection.closed()
        connection.close()
        await draining
        assert queue.is_empty


def test_protocol_without_a_proxy_is_a_fault() -> None:
    with pytest.raises(ConfigError, match="name them in trusted_proxies"):
        parse({"server": {"public_url": "http://gateway.test", "proxy_protocol": True}})
