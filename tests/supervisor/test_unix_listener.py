"""A gateway whose public listener is a unix socket: who may connect, a reload, and what others left there."""

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from tests.serving import NotServing, serving
from tests.supervisor.test_reload_command import reload

ROUTE = {"name": "open", "path": "/open", "auth": "none", "respond": {"status": 200, "body": "in"}}
CALL = b"GET /open HTTP/1.1\r\nHost: gateway.test\r\n\r\n"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(CALL)
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(2)
    return head.split(b"\r\n")[0]


async def test_unix_listener_serves_reloads_and_restarts(tmp_path: Path, database: str) -> None:
    path = tmp_path / "public.sock"
    server = {"listen": f"unix:{path}", "socket_mode": "0600", "trusted_proxies": ["unix:"]}
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))  # by a gateway that was killed
    left.close()
    async with serving(tmp_path, routes=[ROUTE], dsn=database, workers=1, server=server) as gateway:
        known = path.stat()
        assert stat.S_IMODE(known.st_mode) == 0o600
        if os.geteuid() == 0:
            assert known.st_uid != 0  # the workers' user's, who open it themselves at the next start
        kept = await asyncio.open_unix_connection(str(path))
        assert await answer(*kept) == b"HTTP/1.1 200 OK"
        assert (await reload(gateway.config))[0] == 0
        assert await answer(*kept) == b"HTTP/1.1 200 OK"  # by another worker, on the same connection
        kept[1].close()
        other = await asyncio.open_unix_connection(str(path))
        assert await answer(*other) == b"HTTP/1.1 200 OK"
        other[1].close()
        folder = tmp_path / "second"
        folder.mkdir()
        with pytest.raises(NotServing, match="another program listens there"):
            async with serving(folder, routes=[ROUTE], dsn=database, workers=1, server=server):
                pass
        assert path.exists()
    assert not path.exists()


async def test_what_is_no_socket_is_left_alone(tmp_path: Path, database: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    server = {"listen": f"unix:{path}"}
    with pytest.raises(NotServing, match="is there already and is no socket"):
        async with serving(tmp_path, routes=[ROUTE], dsn=database, workers=1, server=server):
            pass
    assert path.read_text() == "mine"
