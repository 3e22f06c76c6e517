"""The upstream's other half, on the load's core: a sink for uploads, and a stub that knows the good tokens.

POST …            (sink)  200 with the body's length and CRC-32, once all of it is there
POST /introspect  (stub)  {"active": …} as RFC 7662 has it
any other         (stub)  200 or 401 by its Authorization field
"""

import argparse
import asyncio
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CREDENTIAL = re.compile(rb"\r\nauthorization: *bearer +([^\r ]+)", re.IGNORECASE)
_TOKEN = re.compile(rb"(?:^|&)token=([^&]+)")
_KEEP = 64 * 1024  # of a body, for who wants to read it

Answer = Callable[[bytes, bytes, int, int], bytes]


class _Exchanges(asyncio.Protocol):
    """One connection; `answer` is given each request's head, the front of its body, its length and CRC-32."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._head, self._body = b"", b""
        self._left = self._length = self._crc = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        while data:
            if not self._left:
                head, mark, data = (self._head + data).partition(b"\r\n\r\n")
                if not mark:
                    self._head = head
                    return
                self._begin(head)
            part, data = data[: self._left], data[self._left :]
            self._left -= len(part)
            self._crc = zlib.crc32(part, self._crc)
            self._body = (self._body + part)[:_KEEP] if len(self._body) < _KEEP else self._body
            if not self._left:
                self._end()

    def _begin(self, head: bytes) -> None:
        found = _LENGTH.search(head)
        self._head = head
        self._left = self._length = int(found[1]) if found else 0
        self._crc, self._body = 0, b""

    def _end(self) -> None:
        self._transport.write(self._answer(self._head, self._body, self._length, self._crc))
        self._head = b""


def received(length: int, crc: int) -> bytes:
    """What the sink answers to a body of that length and CRC-32."""
    return b"%d %08x" % (length, crc)


def _ok(body: bytes, kind: bytes = b"text/plain") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(body), body)


def _sink(_head: bytes, _body: bytes, length: int, crc: int) -> bytes:
    return _ok(received(length, crc))


def _stub(tokens: frozenset[bytes]) -> Answer:
    refusal = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n"
    inactive = _ok(json.dumps({"active": False}).encode(), b"application/json")
    active = {"active": True, "sub": "bench", "scope": "bench", "client_id": "bench", "exp": 4102444800}
    known = _ok(json.dumps(active).encode(), b"application/json")

    def answer(head: bytes, body: bytes, _length: int, _crc: int) -> bytes:
        if head.startswith(b"POST /introspect"):
            found = _TOKEN.search(body)
            return known if found and found[1] in tokens else inactive
        found = _CREDENTIAL.search(head)
        return _ok(b"") if found and found[1] in tokens else refusal

    return answer


async def _serve(sink: int, stub: int, tokens: frozenset[bytes]) -> None:
    loop = asyncio.get_running_loop()
    knows = _stub(tokens)
    servers = [
        await loop.create_server(lambda: _Exchanges(_sink), "127.0.0.1", sink, backlog=4096),
        await loop.create_server(lambda: _Exchanges(knows), "127.0.0.1", stub, backlog=4096),
    ]
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sink", type=int)
    parser.add_argument("--stub", type=int)
    parser.add_argument("--tokens", type=Path)
    given = parser.parse_args()
    uvloop.run(_serve(given.sink, given.stub, frozenset(given.tokens.read_bytes().split())))


if __name__ == "__main__":
    main()
