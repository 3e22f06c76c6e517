"""What keeps `gateway serve` from serving: each fault is a line of its log that names the key and the mend.

Its exit code is 78 where the configuration is faulty, so that no service manager starts it again and again; else 1.
"""

import asyncio
import base64
import json
import os
import pty
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from gateway.crypto import Keyring, new_master_key
from gateway.store import Store
from tests.serving import MASTER_KEY, PATIENCE, PROGRAM, ROOT, data_folder, free_ports, serving, write_config, write_key
from tests.web.rig import new_client


async def refused(config: Path, environment: Mapping[str, str] | None = None, *, code: int = 1) -> list[str]:
    """What `serve` says in its log when it does not start; it fails when it does, or says anything else."""
    process = await asyncio.create_subprocess_exec(
        *(*PROGRAM, "serve", "--config", str(config)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        cwd=ROOT,
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode == code, err.decode()
    assert out == b""
    lines = [json.loads(line) for line in err.splitlines()]
    lines = [line for line in lines if line["event"] not in ("configuration", "stopped")]
    assert {(line["level"], line["event"], line["exit_code"]) for line in lines} == {("critical", "cannot start", code)}
    return [f"gateway: {line['fault']}" for line in lines]


@contextmanager
def occupied() -> Iterator[str]:
    """An address on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield f"127.0.0.1:{sock.getsockname()[1]}"


@pytest.mark.parametrize("table", ["server", "admin"])
async def test_a_port_in_use_is_named_with_its_key(tmp_path: Path, table: str) -> None:
    with occupied() as address:
        taken = {name: {"listen": address} if name == table else {} for name in ("server", "admin")}
        config, _, _ = write_config(tmp_path, tmp_path / "data", server=taken["server"], admin=taken["admin"])
        [line] = await refused(config)
    assert line == f"gateway: {table}.listen: {address}: port is in use; stop what listens there or choose another"
    assert not (tmp_path / "data").exists()


async def test_both_ports_in_use_are_reported_together(tmp_path: Path) -> None:
    with occupied() as one, occupied() as other:
        config, _, _ = write_config(tmp_path, tmp_path / "data", server={"listen": one}, admin={"listen": other})
        lines = await refused(config)
    assert [line.split(": ")[1] for line in lines] == ["server.listen", "admin.listen"]


@pytest.mark.parametrize(
    ("address", "mend"),
    [("192.0.2.1:8080", "not an address of this machine"), ("no-such-host.invalid:8080", "cannot be resolved")],
)
async def test_an_address_of_elsewhere_is_named(tmp_path: Path, address: str, mend: str) -> None:
    config, _, _ = write_config(tmp_path, tmp_path / "data", server={"listen": address})
    [line] = await refused(config)
    assert line.startswith(f"gateway: server.listen: {address}: ")
    assert mend in line


async def test_a_data_dir_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    config, _, _ = write_config(tmp_path, tmp_path / "file" / "data")
    [line] = await refused(config)
    assert line.startswith("gateway: database.data_dir")
    assert str(tmp_path / "file") in line


async def test_an_unreachable_database_is_named_without_its_password(tmp_path: Path) -> None:
    [port] = free_ports(1)
    dsn = f"postgresql://gateway:hunter2@127.0.0.1:{port}/gateway"
    config, _, _ = write_config(tmp_path, tmp_path / "data", dsn=dsn)
    [line] = await refused(config)
    assert line.startswith(f"gateway: database.url: 127.0.0.1:{port} ")
    assert "hunter2" not in line


async def test_a_database_that_is_not_migrated_says_how_to(tmp_path: Path, empty_database: str) -> None:
    config, _, _ = write_config(tmp_path, tmp_path / "data", dsn=empty_database)
    [line] = await refused(config)
    assert line.startswith("gateway: database.url: ")
    assert "gateway migrate" in line


async def test_a_database_of_a_newer_version_is_refused(tmp_path: Path, database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("insert into schema_migrations (name, checksum) values ('9999_from_the_future', 'x')")
    await connection.close()
    config, _, _ = write_config(tmp_path, tmp_path / "data", dsn=database)
    [line] = await refused(config)
    assert "newer than this version" in line


async def test_a_database_of_an_unreleased_version_is_refused(tmp_path: Path, empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    await connection.execute("create table schema_migrations (name text primary key, checksum text, applied_at date)")
    await connection.execute("insert into schema_migrations values ('0001_people', 'x'), ('0002_clients', 'x')")
    await connection.close()
    config, _, _ = write_config(tmp_path, tmp_path / "data", dsn=empty_database)
    [line] = await refused(config)
    assert "made by an unreleased version" in line
    assert "make a new database" in line


async def test_a_master_key_that_does_not_fit_the_data_is_refused(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, dsn=database):
        pass
    write_key(tmp_path / "master.key", new_master_key())
    [line] = await refused(tmp_path / "config.toml", code=os.EX_CONFIG)
    assert line.startswith("gateway: keys.master: ")
    assert "keys.previous" in line


async def test_a_second_gateway_on_one_data_dir_says_who_has_it(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    async with serving(tmp_path) as first:
        config, _, _ = write_config(tmp_path / "second", first.data_dir)
        [line] = await refused(config)
        assert line.startswith("gateway: database.data_dir")
        assert f"pid {first.process.pid}" in line
        assert await first.is_ready()


async def test_faults_of_the_configuration_are_reported_together(tmp_path: Path) -> None:
    config, _, _ = write_config(tmp_path, tmp_path / "data", server={"wrokers": 2}, tokens={"access_ttl": "soon"})
    lines = await refused(config, code=os.EX_CONFIG)
    assert sorted(line.split(": ")[1] for line in lines) == ["server.wrokers", "tokens.access_ttl"]


async def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    [line] = await refused(tmp_path / "nowhere.toml", code=os.EX_CONFIG)
    assert "nowhere.toml" in line
    assert "GATEWAY_CONFIG" in line


async def test_wrong_usage_exits_2(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(*PROGRAM, "serve", "--workers", "none"), stderr=subprocess.PIPE, cwd=ROOT
    )
    _, err = await process.communicate()
    assert (process.returncode, b"Traceback" in err) == (2, False)


def test_a_fault_is_text_at_a_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [*PROGRAM, "serve", "--config", str(tmp_path / "nowhere.toml")], stderr=theirs, cwd=ROOT, check=False
        )
        assert done.returncode == os.EX_CONFIG
        assert os.read(ours, 4096).decode().startswith("gateway: " + str(tmp_path))
    finally:
        os.close(ours)
        os.close(theirs)


async def test_the_first_start_of_an_embedded_database_makes_its_key_once(tmp_path: Path) -> None:
    with data_folder(tmp_path) as data_dir:
        made = []
        for _ in range(2):
            async with serving(
                tmp_path, database={"data_dir": str(data_dir)}, keys={"master": {"file": str(data_dir / "master.key")}}
            ):
                key = data_dir / "master.key"
                assert key.stat().st_mode & 0o777 == 0o600
                made.append(key.read_text())
                assert not list(data_dir.glob(".master*"))
        assert made[0] == made[1]


async def test_a_lost_key_of_an_embedded_database_is_never_made_anew(tmp_path: Path) -> None:
    with data_folder(tmp_path) as data_dir:
        keys = {"master": {"file": str(data_dir / "master.key")}}
        async with serving(tmp_path, database={"data_dir": str(data_dir)}, keys=keys):
            (data_dir / "master.key").unlink()
        [line] = await refused(tmp_path / "config.toml", code=os.EX_CONFIG)
        assert line.startswith("gateway: keys.master: ")
        assert not (data_dir / "master.key").exists()


async def test_a_scope_that_nobody_defined_is_told_at_the_start(tmp_path: Path, database: str) -> None:
    route = {"name": "notes", "path": "/notes", "upstreams": ["http://127.0.0.1:9"], "auth": ["bearer"]}
    store = await Store.open(database, Keyring(base64.b64decode(MASTER_KEY)), name="gateway-test")
    client, _ = await new_client(store, scopes=frozenset({"notes:gone"}))
    await store.close()
    async with serving(tmp_path, routes=[{**route, "scopes": ["notes:read"]}], dsn=database) as gateway:
        (line,) = [line for line in gateway.logs if line["event"] == "undefined scope"]
        (held,) = [line for line in gateway.logs if line["event"] == "undefined scope that clients may ask for"]
    assert (line["level"], line["route"], line["scope"]) == ("warning", "notes", "notes:read")
    assert "gateway scope create notes:read" in line["mend"]
    assert (held["level"], held["scope"], held["clients"]) == ("warning", "notes:gone", [client.client_id])
    assert "gateway client update ID --scope" in held["mend"]
