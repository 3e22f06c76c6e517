"""Two thousand clients that are slow in every way, over two workers, while others are served as if nobody was there."""

import asyncio
import itertools
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.counts import scaled
from tests.e2e.test_rates import port_of
from tests.serving import PATIENCE, crowding, serving, until
from tests.streams import accepting

SLOW = 2000
CONNECTIONS = 4  # to the upstream, by worker
LARGE = b"x" * 200_000
ROUTES = [
    {"name": "held", "path": "/held", "auth": "none", "hold": "256KiB", "connections": CONNECTIONS},
    {"name": "quick", "path": "/quick", "auth": "none", "connections": CONNECTIONS},
]
HEAD = b"GET /quick HTTP/1.1\r\nHost: x\r\n"
BODY = b"POST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b"y" * 999
READS = b"GET /held/large HTTP/1.1\r\nHost: x\r\n\r\n"


class Upstream:
    """It answers at once; `most` is how many connections there were at a time."""

    def __init__(self) -> None:
        self.most = self._now = self.bodies = self.large = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = b"ok"
                if head.startswith(b"POST"):
                    await reader.readexactly(1000)
                    self.bodies += 1
                elif b"/large" in head:
                    body = LARGE
                    self.large += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()
        finally:
            self._now -= 1


async def test_others_are_served_beside_slow_clients_of_every_kind(tmp_path: Path) -> None:
    upstream, loop, count = Upstream(), asyncio.get_running_loop(), scaled(SLOW)
    async with accepting(upstream.serve) as port:
        routes = [{**route, "upstreams": [f"http://127.0.0.1:{port}"]} for route in ROUTES]
        async with serving(tmp_path, routes=routes) as gateway:
            place = ("127.0.0.1", port_of(gateway))

            async def slow(first: bytes, *, narrow: bool = False) -> socket.socket:
                sock = stack.enter_context(socket.socket())
                if narrow:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.setblocking(False)
                await loop.sock_connect(sock, place)
                await loop.sock_sendall(sock, first)
                return sock

            async def quickly() -> float:
                began = time.monotonic()
                reader, writer = await asyncio.open_connection(*place)
                writer.write(HEAD + b"Connection: close\r\n\r\n")
                answer = await asyncio.wait_for(reader.read(), PATIENCE)
                writer.close()
                assert answer.endswith(b"\r\n\r\nok"), answer
                return time.monotonic() - began

            with ExitStack() as stack:
                senders = [await slow(BODY) for _ in range(count // 3)]
                readers = [await slow(READS, narrow=True) for _ in range(count // 3)]
                await until(lambda: upstream.large == len(readers))  # their answers were all taken off
                heads = [await slow(HEAD) for _ in range(count - 2 * (count // 3))]
                began = time.monotonic()
                took = [await quickly() for _ in range(20)]
                for at, sock in zip(itertools.count(), heads):
                    if time.monotonic() > began + 5.0:  # a head has ten seconds
                        break
                    with suppress(ConnectionError):  # which are over for the first ones on a slow machine
                        await loop.sock_sendall(sock, b"X-Drip: %d\r\n" % at)
                took += [await quickly() for _ in range(20)]
                assert max(took) < 1.0 * crowding(), sorted(took)[-3:]
                assert (upstream.bodies, upstream.most <= 2 * CONNECTIONS) == (0, True)
                for sock in senders:
                    await loop.sock_sendall(sock, b"y")
                for sock in senders:
                    assert (await loop.sock_recv(sock, 65536)).startswith(b"HTTP/1.1 200 ")
                assert upstream.bodies == len(senders)
                for sock in readers:
                    got = 0
                    while got <= len(LARGE):
                        data = await asyncio.wait_for(loop.sock_recv(sock, 65536), PATIENCE)
                        assert data, got
                        got += len(data)
                        if got >= len(LARGE) and data.endswith(b"x"):
                            break
