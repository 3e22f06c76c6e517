"""Large bodies: an upstream that gives and takes them, clients at a pace of their own, and what the kernel moved."""

import asyncio
import hashlib
import os
import random
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import pytest

from tests.proxy.rig import Connection, Rig

KIB = 1024
MIB = 1024 * KIB
LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]+)")
both_loops = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


@lru_cache(maxsize=16)
def contents(size: int, seed: int = 0) -> bytes:
    """A body that no shift of itself looks like."""
    return random.Random(seed).randbytes(size)


def digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def wanting(size: int, seed: int = 0, *fields: str) -> bytes:
    """A request for `contents(size, seed)`."""
    return "\r\n".join([f"GET /{size}/{seed} HTTP/1.1", "Host: a", *fields, "", ""]).encode()


def bringing(body: bytes, *fields: str) -> bytes:
    """A request with a body, which `depot` answers with its digest."""
    return head_of(len(body), *fields) + body


def head_of(size: int, *fields: str) -> bytes:
    return "\r\n".join(["POST / HTTP/1.1", "Host: a", f"Content-Length: {size}", *fields, "", ""]).encode()


async def depot(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer `GET /size/seed` with that body, and a request with a body with its digest, as often as asked."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        found = LENGTH.search(head)
        if found is not None:
            answer = digest(await reader.readexactly(int(found[1])))
        else:
            size, seed = head.split(b" ", 2)[1][1:].split(b"/")
            answer = contents(int(size), int(seed))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        await writer.drain()


async def hold_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take nothing that follows the head, and keep the connection."""
    await reader.readuntil(b"\r\n\r\n")
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # of every transport that reads
    await asyncio.Event().wait()


@dataclass
class Spliced:
    """What os.splice really did: calls, and bytes that went through a pipe."""

    calls: int = 0
    moved: int = 0


@pytest.fixture
def spliced(monkeypatch: pytest.MonkeyPatch) -> Spliced:
    """A look over the shoulder of os.splice."""
    seen, splice = Spliced(), os.splice

    def counted(source: int, sink: int, size: int, flags: int = 0) -> int:
        seen.calls += 1
        moved = splice(source, sink, size, flags=flags)
        if os.fstat(sink).st_mode & 0o010000:  # a pipe
            seen.moved += moved
        return moved

    monkeypatch.setattr(os, "splice", counted)
    return seen


def descriptors() -> int:
    """How many pipes and sockets this process has open."""
    found = 0
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # one of them is gone by the time that it is looked at
        with suppress(FileNotFoundError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith(("pipe:", "socket:"))  # noqa: PTH115
    return found


@dataclass
class Slow:
    """A client that reads only when told."""

    socket: socket.socket

    @classmethod
    async def to(cls, running: Rig, request: bytes, window: int = 4096) -> "Slow":
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", running.port))
        await loop.sock_sendall(client, request)
        return cls(client)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read(self, size: int) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.socket, size)

    def end(self) -> None:
        """Send nothing more."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()


async def dribble(connection: Connection, body: bytes, parts: int, pause: float) -> None:
    """Send a body in parts, with a pause before each."""
    step = -(-len(body) // parts)
    for start in range(0, len(body), step):
        await asyncio.sleep(pause)
        await connection.send(body[start : start + step])
