"""A gateway behind a balancer that speaks the PROXY protocol: whom it names counts on every worker."""

import asyncio
from pathlib import Path

from tests.serving import Gateway, serving
from tests.supervisor.test_reload_command import reload

ROUTE = {
    "name": "inner",
    "path": "/inner",
    "auth": "none",
    "allow": ["192.0.2.0/24"],
    "respond": {"status": 200, "body": "in"},
}


async def asked(gateway: Gateway, header: bytes) -> bytes:
    """The status line of the answer to a call that comes behind such a header; empty where there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
    writer.write(header + b"GET /inner HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n")
    try:
        answer = await reader.read()
    except ConnectionResetError:  # with something unread
        answer = b""
    writer.close()
    return answer.partition(b"\r\n")[0]


async def test_named_client_counts_on_every_worker(tmp_path: Path, database: str) -> None:
    server = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.1"]}
    async with serving(tmp_path, routes=[ROUTE], dsn=database, server=server) as gateway:
        for again in (False, True):
            if again:
                assert (await reload(gateway.config))[0] == 0
            for _ in range(6):
                assert await asked(gateway, b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 80\r\n") == b"HTTP/1.1 200 OK"
                assert (
                    await asked(gateway, b"PROXY TCP4 198.51.100.1 127.0.0.1 4711 80\r\n") == b"HTTP/1.1 403 Forbidden"
                )
            assert await asked(gateway, b"") == b""
