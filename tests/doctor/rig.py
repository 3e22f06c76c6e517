"""What a doctor looks at: proxies in front of a gateway that do one thing wrong, and upstreams that do."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.doctor import Finding, Report
from tests.streams import accepting

Fields = list[tuple[str, str]]
HOST = "api.example.com"


def tls_of(chain: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context


def as_it_should(fields: Fields, client: str) -> Fields:
    """What a proxy says that is set up well: Host as it came, and whom it speaks for."""
    came = ", ".join([*(value for name, value in fields if name == "x-forwarded-for"), client])
    kept = [field for field in fields if not field[0].startswith("x-forwarded-")]
    return [*kept, ("x-forwarded-for", came), ("x-forwarded-proto", "https")]


def without(*names: str) -> Callable[[Fields, str], Fields]:
    """The same without some fields."""
    return lambda fields, client: [field for field in as_it_should(fields, client) if field[0] not in names]


def with_host(host: str) -> Callable[[Fields, str], Fields]:
    """The same with another Host."""
    return lambda fields, client: [*without("host")(fields, client), ("host", host)]


def as_they_came(fields: Fields, _client: str) -> Fields:
    """What clients claim."""
    return fields


@asynccontextmanager
async def front(
    gateway: int,
    tls: ssl.SSLContext,
    rewrite: Callable[[Fields, str], Fields] = as_it_should,
    *,
    source: str = "127.0.0.1",
    hsts: bool = True,
    answer: bytes = b"",
) -> AsyncIterator[tuple[str, int]]:
    """A proxy that ends TLS; with `answer` it gives that by itself. Gives where it listens."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        if not answer:
            client = writer.get_extra_info("peername")[0]
            fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:])]
            lines = [head[0], *(f"{name}: {value}" for name, value in rewrite(fields, client)), "", ""]
            back, forth = await asyncio.open_connection("127.0.0.1", gateway, local_addr=(source, 0))
            with contextlib.closing(forth):
                forth.write("\r\n".join(lines).encode("latin-1"))
                first = await back.readline()
                more = b"Strict-Transport-Security: max-age=31536000\r\n" if hsts else b""
                writer.write(first + more + await back.read())
        else:
            writer.write(answer)
        await writer.drain()

    async with accepting(serve, tls=tls) as port:
        yield "127.0.0.1", port


@asynccontextmanager
async def upstream(answer: bytes | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that answers every request with these bytes; None: with nothing, and it keeps the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is None:
            await asyncio.Event().wait()
        else:
            await reader.readuntil(b"\n")
            writer.write(answer)
            await writer.drain()

    async with accepting(serve, tls=tls) as port:
        yield port


def only(report: Report) -> Finding:
    """The one finding that there is: what is wrong hides nothing else, and nothing else is taken for wrong."""
    assert len(report.findings) == 1, report.findings
    return report.findings[0]
