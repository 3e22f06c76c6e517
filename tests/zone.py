"""A server of DNS on loopback that knows one name, and says of it what it is told to (RFC 1035)."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

from gateway.lookup import Resolver

_A, _AAAA = 1, 28
_SERVER_FAILURE, _NO_SUCH_NAME = 2, 3


class Zone(asyncio.DatagramProtocol):
    """What DNS says of `app.test`, which holds `ttl` seconds; a failure where it `fails`, nothing where it `hangs`, and
    no such name where there are no addresses. `asked` are the names that were asked for, a look-up's once."""

    def __init__(self, *addresses: str, ttl: int = 0, name: str = "app.test", alias_ttl: int | None = None) -> None:
        self.addresses = list(addresses)
        self.ttl = ttl
        self.name = name
        self.alias_ttl = alias_ttl  # of a CNAME that leads to the addresses
        self.asked: list[str] = []
        self.fails = self.hangs = False
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # what asyncio gives
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode().lower())
            at += 1 + data[at]
        end = at + 5
        (kind,) = struct.unpack_from("!H", data, at + 1)
        asked = ".".join(labels)
        if kind == _A:
            self.asked.append(asked)
        if self.hangs or self._transport is None:
            return
        code, answers = 0, list[bytes]()
        if self.fails:
            code = _SERVER_FAILURE
        elif not self.addresses or asked != self.name:
            code = _NO_SUCH_NAME
        else:
            owner = b"\xc0\x0c"  # the name that was asked for (section 4.1.4)
            if self.alias_ttl is not None:
                target = b"\x04real\x04test\0"
                answers.append(owner + struct.pack("!HHIH", 5, 1, self.alias_ttl, len(target)) + target)
                owner = target
            for ip in map(ip_address, self.addresses):
                if kind == (_A if ip.version == 4 else _AAAA):
                    answers.append(owner + struct.pack("!HHIH", kind, 1, self.ttl, len(ip.packed)) + ip.packed)
        head = data[:2] + struct.pack("!HHHHH", 0x8580 | code, 1, len(answers), 0, 0)
        self._transport.sendto(head + data[12:end] + b"".join(answers), addr)

    @asynccontextmanager
    async def served(self, *domains: str) -> AsyncIterator[Resolver]:
        """Answer, and give a resolver that asks here, with these search domains."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        server = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
        try:
            yield Resolver(servers=[server], domains=list(domains), timeout=1.0, tries=1)
        finally:
            transport.close()
