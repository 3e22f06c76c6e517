"""A gateway under a service manager: what it tells it, and the socket that it is handed, by systemd's own protocols."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway import config
from gateway.config import ConfigError
from gateway.crypto import new_master_key
from tests.serving import PATIENCE, PROGRAM, ROOT, until, write_config, write_key
from tests.supervisor.test_reload_command import reload

ROUTE = {"name": "notes", "path": "/notes", "upstreams": ["http://127.0.0.1:9"], "auth": "none"}
# As the manager does it: the socket is descriptor 3, and meant for this process alone.
_HANDS_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class Manager:
    """The other end of sd_notify: what was told so far, each datagram as its lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[list[str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._hear)

    def _hear(self) -> None:
        self.told.append(self._socket.recv(4096).decode().splitlines())

    def heard(self, line: str) -> int:
        return sum(line in lines for lines in self.told)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


@asynccontextmanager
async def managed(path: Path, listener: socket.socket, count: int = 1) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {"LISTEN_FDS": str(count), "LISTEN_FDNAMES": "public", "WATCHDOG_USEC": "600000"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _HANDS_OVER, str(listener.fileno()), *PROGRAM, "serve", "--config", str(path)),
        pass_fds=(listener.fileno(),),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment, "NOTIFY_SOCKET": str(path.with_name("notify"))},
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), PATIENCE)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """What a socket unit opens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.readline(), PATIENCE)


async def test_manager_hears_of_start_life_reload_and_end_and_its_socket_outlives_a_restart(
    tmp_path: Path, database: str, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    server = {"listen": f"127.0.0.1:{port}"}
    path, _, _ = write_config(tmp_path, tmp_path / "data", dsn=database, workers=1, routes=[ROUTE], server=server)
    manager = Manager(tmp_path / "notify")
    try:
        async with managed(path, listener):
            await until(lambda: manager.heard("READY=1"))
            assert manager.told[0][0] == "WATCHDOG=1"  # from the start on, and time and again
            await until(lambda: manager.heard("WATCHDOG=1") > 2)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /notes HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b" 502 " in await answer_of(reader)
            writer.close()

            assert (await reload(path))[0] == 0
            await until(lambda: manager.heard("READY=1") == 2)
            [began] = [lines for lines in manager.told if lines[0] == "RELOADING=1"]
            assert began[1].startswith("MONOTONIC_USEC=")
            path.write_text(path.read_text().replace('"/notes"', '"notes"'))
            assert (await reload(path))[0] == 1
            await until(lambda: manager.heard("READY=1") == 3)
            assert manager.heard("STATUS=The last reload was refused")
            path.write_text(path.read_text().replace('"notes"', '"/notes"', 2).replace('"name" = "/', '"name" = "'))
        assert manager.heard("STOPPING=1") == 1

        # Nobody serves now, and nobody is refused: the socket is the manager's.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /notes HTTP/1.1\r\nHost: a\r\n\r\n")
        async with managed(path, listener):
            assert b" 502 " in await answer_of(reader)
            writer.close()
    finally:
        manager.close()


@pytest.mark.parametrize("wrong", ["two sockets", "one that does not listen", "a datagram socket"])
async def test_a_socket_that_cannot_be_the_public_listener_is_refused_with_the_mend(
    tmp_path: Path, database: str, listener: socket.socket, wrong: str
) -> None:
    path, _, _ = write_config(tmp_path, tmp_path / "data", dsn=database)
    kind = socket.SOCK_DGRAM if wrong == "a datagram socket" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as other:
        handed = listener if wrong == "two sockets" else other
        async with managed(path, handed, count=2 if wrong == "two sockets" else 1) as process:
            _, err = await process.communicate()
    assert process.returncode == 1
    assert b"server.listen: " in err
    assert b"ListenStream=" in err


async def test_a_unix_socket_can_be_handed_over(tmp_path: Path) -> None:
    takes = "from gateway.supervisor.systemd import handed_over, place_of; print(place_of(handed_over()))"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "public"))
        listener.listen()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _HANDS_OVER, str(listener.fileno()), sys.executable, "-c", takes),
            pass_fds=(listener.fileno(),),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "LISTEN_FDS": "1"},
            cwd=ROOT,
        )
        out, _ = await process.communicate()
    assert out.decode() == f"unix:{tmp_path}/public\n"


def test_a_credential_goes_before_the_file_beside_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_key(tmp_path / "master.key", new_master_key())
    path, _, _ = write_config(
        tmp_path, tmp_path, dsn="postgresql://db/gateway", keys={"master": {"file": "master.key"}}
    )
    write_key(tmp_path / "master.key", new_master_key())
    beside = config.load(path).keyring
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert beside is not None
    assert config.load(path).keyring is not None  # none was passed by that name

    passed = write_key(credentials / "master.key", new_master_key())
    passed.chmod(0o440)  # the mask of an access list, on a file of root's
    if os.geteuid() == 0:
        found = config.load(path).keyring
        assert found is not None
        assert found.key_ids != beside.key_ids
    passed.chmod(0o444)
    with pytest.raises(ConfigError, match="accessible to users other than its owner"):
        config.load(path)
