"""Addresses of several hosts, and hosts for them that say nothing."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.streams import accepting


def naming(*dsns: str, **parameters: str) -> str:
    """The address of the last one, that names the hosts of all of them in their order."""
    queries = [dict(parse_qsl(urlsplit(dsn).query)) for dsn in dsns]
    hosts, ports = (",".join(query[key] for query in queries) for key in ("host", "port"))
    query = urlencode({**queries[-1], "host": hosts, "port": ports, **parameters})
    return urlsplit(dsns[-1])._replace(query=query).geturl()


class Silent:
    """A server that accepts and says nothing, as one that hangs."""

    def __init__(self) -> None:
        self.dsn, self.accepted, self.open = "", 0, 0

    async def serve(self, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        """Hear one connection out."""
        self.accepted, self.open = self.accepted + 1, self.open + 1
        try:
            while await reader.read(4096):
                pass
        finally:
            self.open -= 1


@asynccontextmanager
async def silence() -> AsyncIterator[Silent]:
    """A server that says nothing."""
    silent = Silent()
    async with accepting(silent.serve) as port:
        silent.dsn = _at(port)
        yield silent


@contextmanager
def dropping() -> Iterator[str]:
    """An address where what is sent gets lost, as at a machine without power: its queue is full."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            stuck = stack.enter_context(socket.socket())
            stuck.setblocking(False)
            stuck.connect_ex(full.getsockname())
        yield _at(full.getsockname()[1])


@contextmanager
def refusing() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield _at(bound.getsockname()[1])


def _at(port: int) -> str:
    return f"postgresql://x@/x?host=127.0.0.1&port={port}"
