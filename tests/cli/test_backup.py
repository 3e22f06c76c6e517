"""`backup` and `restore` as an operator types them."""

import asyncio
import json
import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from gateway import config
from gateway.cli import common
from gateway.config import Settings
from gateway.crypto import new_master_key
from gateway.store import Store
from tests.cli.conftest import Terminal, matches
from tests.serving import ROOT, fill, write_config, write_key
from tests.store.rig import Rig, everything


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.backup"


def test_a_backup_is_told_of_with_the_key_that_is_not_in_it(gateway: Terminal, file: Path) -> None:
    gateway.client()
    gateway.user()
    told = gateway("backup", str(file))
    assert matches(r": 1 person, 1 client, \d+ KiB; the master key [0-9a-f]{8} is not in it", told.out)
    assert b"obviously-a-fake" not in file.read_bytes()
    again = gateway("backup", str(file))
    assert matches(r"gateway\.backup: exists already, and is not overwritten; name another file", again.fault)
    made = gateway("backup", str(file.with_name("b")), "--json").json
    assert made["rows"]["users"] == 1


def test_a_restore_asks_what_becomes_of_what_is_there_and_tells_what_came_of_it(gateway: Terminal, file: Path) -> None:
    client = gateway.client("--scope", "notes:read")["client_id"]
    gateway.user("ada")
    token = gateway("token", "issue", "--client", client, "--user", "ada", "--json").json["access_token"]
    gateway("backup", str(file))
    gateway("token", "revoke", token)
    gateway.user("eve")
    assert matches(r"holds 3 people and clients.*--keep OLD\.backup.*--discard", gateway("restore", str(file)).fault)
    done = gateway("restore", str(file), "--keep", str(file.with_name("old")))
    assert done.code == 0
    assert matches(r"restored from .*gateway\.backup: \d{4}-.*Z, by Gateway .* on PostgreSQL ", done.out)
    assert matches(rf"stay ended .*:\n  tokens: 1\n    [0-9a-f]{{12}}… of {client} for ada\n", done.out)
    assert matches(r"Newer than the backup, and gone:\n  users: 1\n    eve\n", done.out)
    assert matches(r"signed before \d{4}-.*Z are refused", done.out)
    assert not gateway("token", "inspect", token, "--json").json["active"]
    undone = gateway("restore", str(file.with_name("old")), "--discard", "--trust", "--json").json
    assert undone["replaced_database_told"]
    assert [user["username"] for user in gateway("user", "list", "--json").json] == ["ada", "eve"]


def test_a_backup_moves_to_another_database(gateway: Terminal, empty_database: str, file: Path) -> None:
    gateway.client()
    gateway("backup", str(file))
    gateway.config.with_name("dsn").write_text(empty_database)
    gateway.rewrite({})
    assert matches(r"no database is here that knows what was revoked since", gateway("restore", str(file)).fault)
    done = gateway("restore", str(file), "--trust")
    assert done.code == 0
    assert matches(r"nobody here knows:\n  clients: 1\n", done.out)
    assert matches(r"Passwords and client secrets are those of the backup", done.out)
    assert len(gateway("client", "list", "--json").json) == 1


@pytest.mark.parametrize("into", ["external", "embedded"])
def test_a_backup_moves_from_an_embedded_database_to_an_external_one_and_back(
    database: str, data_dir: Path, tmp_path: Path, file: Path, into: str
) -> None:
    """What people and clients have is there to the letter; only the address of the database is another."""
    fill(data_dir)
    (tmp_path / "embedded").mkdir()
    (tmp_path / "external").mkdir()
    embedded, _, _ = write_config(tmp_path / "embedded", data_dir)
    external, _, _ = write_config(tmp_path / "external", data_dir, dsn=database)
    write_key(external.with_name("master.key"), (data_dir / "master.key").read_text())
    before, after = Terminal(embedded), Terminal(external)
    if into == "embedded":
        before, after = after, before

    async def ada_allows_a_client(store: Store, _: Settings) -> tuple[str, str]:
        rig = await Rig.build(store)
        tokens, ended = await rig.tokens(), await rig.tokens()
        assert await store.tokens.revoke(ended.access_token, rig.client)
        return tokens.access_token, ended.access_token

    living, ended = common.in_store(before.config, ada_allows_a_client)
    told = before("token", "inspect", living, "--json").json
    assert told["active"]
    assert before("backup", str(file)).code == 0
    held = _held(before)
    assert all(held.values()), held
    assert _held(after) != held
    assert after("restore", str(file), "--trust", "--json").json["tokens"] == "trust"
    assert _held(after) == held
    assert after("token", "inspect", living, "--json").json == told
    assert not after("token", "inspect", ended, "--json").json["active"]
    assert [user["username"] for user in after("user", "list", "--json").json] == ["ada"]
    assert after("client", "list", "--json").json == before("client", "list", "--json").json


def _held(gateway: Terminal) -> dict[str, list[str]]:
    """What the database says of people and clients, and of what they have."""

    async def look() -> dict[str, list[str]]:
        async with common.database_as_it_is(config.load(gateway.config)) as dsn:
            found = await everything(dsn)
            names = ("users", "clients", "sessions", "grants", "families", "access_tokens", "refresh_tokens")
            return {name: found[name] for name in names}

    return asyncio.run(look())


def test_another_master_key_is_told_before_anything_is_replaced(gateway: Terminal, file: Path) -> None:
    gateway.client()
    gateway("backup", str(file))
    write_key(gateway.config.with_name("master.key"), new_master_key())
    told = gateway("restore", str(file), "--discard").refused_with(os.EX_CONFIG)
    assert matches(
        r"keys\.master: the backup was written with the master key [0-9a-f]{8}, and it is [0-9a-f]{8};", told
    )


def test_files_that_cannot_be_used_are_told_in_one_line(gateway: Terminal, tmp_path: Path) -> None:
    gateway.client()
    (tmp_path / "text").write_text("CREATE TABLE users …")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    for name, told in {
        "missing": "there is no such file",
        "text": "is not a backup of Gateway's",
        "empty": "is not a backup of Gateway's",
        "pipe": "is not a plain file",
        ".": "is not a plain file",
    }.items():
        assert matches(told, gateway("restore", str(tmp_path / name), "--discard").fault)
    for name, told in {
        "text": "exists already",
        "link": "exists already",
        ".": "exists already",
        "missing/x": "cannot be written",
        "text/x": "cannot be written",
    }.items():
        assert matches(told, gateway("backup", str(tmp_path / name)).fault)
    good = tmp_path / "good"
    gateway("backup", str(good))
    assert matches("text: exists already", gateway("restore", str(good), "--keep", str(tmp_path / "text")).fault)
    assert len(gateway("client", "list", "--json").json) == 1
    for options in (("--keep", "x", "--discard"), ("--trust", "--end-all")):
        assert matches("give one of them, not both", gateway("restore", str(good), *options).refused_with(2))


@pytest.mark.measures  # a tracer writes too
def test_a_disk_that_is_full_half_way_leaves_no_file(gateway: Terminal, file: Path) -> None:
    """A limit on the size of files stands for the disk: the system refuses to write on just so."""
    gateway.client()
    assert gateway("backup", str(file)).code == 0
    full = str(file.with_name("full"))
    for arguments in (("backup", full), ("restore", str(file), "--keep", full)):
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            env={
                **os.environ,
                "GATEWAY_CONFIG": str(gateway.config),
                "PYTHONDONTWRITEBYTECODE": "1",  # what is compiled would be cut off too, and stay for all who come
            },
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1000, 1000)),
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert matches(r"^gateway: .*full: cannot be written \(File too large\); nothing was left there;", done.stderr)
        assert len(done.stderr.splitlines()) == 1
    assert not file.with_name("full").exists()
    assert {entry.name for entry in file.parent.iterdir()} >= {"gateway.backup", "config.toml"}
    assert len(json.loads(gateway("client", "list", "--json").out)) == 1
