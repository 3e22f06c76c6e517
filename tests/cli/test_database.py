"""`migrate`, `check-config`, and how every command finds its configuration and database."""

import asyncio
import json
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from gateway.crypto import new_master_key
from gateway.store.migrations import migrations
from gateway.supervisor import embedded
from tests.cli.conftest import Terminal
from tests.cli.direct import in_database
from tests.folders import SHORT
from tests.serving import free_ports, toml, write_key
from tests.system_users import unprivileged

NAMES = [migration.name for migration in migrations()]

COMMANDS = [
    ("client", "list"),
    ("user", "create", "--username", "ada", "--generate-password"),
    ("scope", "list"),
    ("token", "inspect", "gwa_x"),
    ("client", "create", "--name", "x"),
]


BARRED = [
    ("client", "list"),
    ("migrate",),
    ("backup", "{folder}/x.backup"),
    ("key", "rotate"),
    ("doctor",),
]


@pytest.mark.parametrize("arguments", BARRED, ids=" ".join)
def test_a_data_dir_behind_a_folder_that_bars_us_is_told_with_whose_that_is(arguments: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="gwt-", dir=SHORT) as name:
        folder, ports = Path(name), free_ports(2)
        folder.chmod(0o755)
        (folder / "inner").mkdir()
        (folder / "config.toml").write_text(
            f'[server]\nlisten = "127.0.0.1:{ports[0]}"\npublic_url = "https://api.example.com"\n'
            f'[admin]\nlisten = "127.0.0.1:{ports[1]}"\n[database]\ndata_dir = "inner/data"\n'
        )
        (folder / "inner").chmod(0o000)
        try:
            with unprivileged() as me:
                done = Terminal(folder / "config.toml")(*(part.format(folder=folder) for part in arguments))
        finally:
            (folder / "inner").chmod(0o755)
        said = f"it cannot be reached (Permission denied: the folder {folder}/inner belongs to "
        assert (done.code, said in done.out + done.err) == (1, True), done
        assert f"(mode 0000), and we are {me})" in done.out + done.err


def test_a_data_dir_that_is_a_file_is_told() -> None:
    with tempfile.TemporaryDirectory(prefix="gwt-", dir=SHORT) as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "data").write_text("")
        (folder / "config.toml").write_text('[server]\npublic_url = "https://a.b"\n[database]\ndata_dir = "data"\n')
        fault = Terminal(folder / "config.toml")("client", "list").fault
    assert f"{name}/data is a file, not a folder; name another folder" in fault


def test_a_configuration_that_may_not_be_read_is_faulty() -> None:
    with tempfile.TemporaryDirectory(prefix="gwt-", dir=SHORT) as name:
        path = Path(name, "config.toml")
        path.write_text("")
        path.chmod(0o000)
        path.parent.chmod(0o755)
        with unprivileged() as me:
            line = Terminal(path)("client", "list").refused_with(78)
    assert f"{path}: cannot be read (Permission denied: it belongs to " in line
    assert f"(mode 0000), and we are {me})" in line


# -- migrate -----------------------------------------------------------------------------------------------------


def test_migrate_applies_what_is_missing_once(bare: Terminal) -> None:
    before = bare("migrate", "--status", "--json").json
    assert before == [{"name": name, "applied_at": None} for name in NAMES]
    assert bare("migrate", "--json").json == {"applied": NAMES}
    assert bare("migrate", "--json").json == {"applied": []}
    assert bare("migrate").out == "nothing to apply: the database is up to date\n"
    assert all(one["applied_at"] for one in bare("migrate", "--status", "--json").json)


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_database_that_is_not_migrated_is_told_with_the_mend(bare: Terminal, arguments: Sequence[str]) -> None:
    assert "database.url: the database is not migrated; run `gateway migrate`" in bare(*arguments).fault


def test_a_changed_migration_is_told(gateway: Terminal) -> None:
    asyncio.run(in_database(gateway, f"update schema_migrations set checksum = '' where name = '{NAMES[0]}'"))
    for arguments in (("migrate",), ("migrate", "--status"), ("client", "list")):
        assert f"{NAMES[0]}.sql was changed" in gateway(*arguments).fault


def test_a_database_of_an_unreleased_version_is_told(gateway: Terminal) -> None:
    asyncio.run(in_database(gateway, f"update schema_migrations set name = '0001_people' where name = '{NAMES[0]}'"))
    for arguments in (("migrate",), ("migrate", "--status"), ("client", "list")):
        assert "made by an unreleased version" in gateway(*arguments).fault


def test_a_master_key_that_does_not_fit_the_data_is_told(gateway: Terminal) -> None:
    gateway.client()
    write_key(gateway.config.with_name("master.key"), new_master_key())
    assert "keys.master" in gateway("client", "list").refused_with(os.EX_CONFIG)


# -- finding things ----------------------------------------------------------------------------------------------


def test_an_unreachable_database_is_told_without_its_password(gateway: Terminal) -> None:
    gateway.config.with_name("dsn").write_text("postgresql://ada:obviously-fake@127.0.0.1:1/x")
    gateway.rewrite({})
    for arguments in (*COMMANDS, ("migrate",), ("migrate", "--status")):
        fault = gateway(*arguments).fault
        assert "database.url" in fault
        assert "127.0.0.1:1" in fault
        assert "obviously-fake" not in fault


@pytest.mark.parametrize("arguments", [*COMMANDS, ("migrate",), ("check-config",)])
def test_a_missing_configuration_is_told_with_the_mend(gateway: Terminal, arguments: Sequence[str]) -> None:
    gateway.config.unlink()
    fault = gateway(*arguments).refused_with(1 if arguments == ("check-config",) else os.EX_CONFIG)
    assert str(gateway.config) in fault
    assert "--config" in fault


def test_config_option_wins_over_the_environment(gateway: Terminal, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    gateway.config.rename(other)
    assert gateway("client", "list", "--config", str(other), "--json").json == []


@pytest.mark.parametrize(
    "arguments",
    [
        (*noun, *verb)
        for noun, verbs in {
            ("client",): ["create", "list", "show", "update", "rotate-secret", "disable", "enable", "delete"],
            ("user",): ["create", "list", "show", "set-password", "disable", "enable", "delete"],
            ("scope",): ["create", "list", "delete"],
            ("token",): ["issue", "inspect", "revoke"],
            (): ["migrate", "check-config", "demo", "serve"],
        }.items()
        for verb in ([name] for name in verbs)
    ],
)
def test_every_command_has_help_with_an_example(gateway: Terminal, arguments: Sequence[str]) -> None:
    done = gateway(*arguments, "--help")
    assert done.code == 0
    assert f"Example: gateway {' '.join(arguments)}" in done.out


def test_an_error_is_one_line_without_a_traceback_from_the_program_itself(gateway: Terminal) -> None:
    done = gateway.program("client", "show", "nobody")
    assert (done.code, done.out) == (1, "")
    assert done.err == "gateway: no client 'nobody'; `gateway client list` shows all\n"
    assert gateway.program("client", "list", "--json").json == []


# -- check-config --------------------------------------------------------------------------------------------------


def test_check_config_says_valid_and_warns_on_stderr(gateway: Terminal) -> None:
    gateway.rewrite({"routes": [{"name": "n", "path": "/n", "upstreams": ["http://127.0.0.1:1"], "auth": ["bearer"]}]})
    done = gateway("check-config")
    assert (done.code, done.out) == (0, f"{gateway.config}: valid\n")
    assert "warning: " in done.err
    assert gateway("check-config", "--json").json["warnings"] != []


def test_check_config_tells_all_faults_at_once(gateway: Terminal) -> None:
    gateway.rewrite({"admin": {"listen": "nowhere"}, "tokens": {"access_ttl": 5}, "unknown": 1})
    done = gateway("check-config")
    assert (done.code, done.out) == (1, "")
    for path in ("admin.listen", "tokens.access_ttl", "unknown"):
        assert f"gateway: {path}: " in done.err
    told = gateway("check-config", "--json")
    assert told.code == 1
    assert {fault["path"] for fault in json.loads(told.out)["faults"]} == {
        "admin.listen",
        "tokens.access_ttl",
        "unknown",
    }


def test_check_config_never_looks_at_the_database_or_ports(gateway: Terminal) -> None:
    gateway.config.with_name("dsn").write_text("postgresql://127.0.0.1:1/x")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        gateway.rewrite({"server": {"public_url": "https://api.example.com", "listen": listen}})
        assert gateway("check-config").code == 0


def test_check_config_prints_a_json_schema_for_editors(gateway: Terminal) -> None:
    gateway.config.unlink()
    schema = gateway("check-config", "--schema").json
    assert schema["type"] == "object"
    assert "routes" in schema["properties"]


def test_check_config_prints_an_example_that_is_valid_and_a_page_about_every_key(gateway: Terminal) -> None:
    gateway.config.write_text(gateway("check-config", "--example").out)
    assert gateway("check-config").code == 0
    gateway.config.unlink()
    assert "| `public_url` |" in gateway("check-config", "--reference").out


# -- the embedded database -------------------------------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path: Path, data_dir: Path) -> Iterator[Terminal]:
    """A terminal with an embedded database that nothing runs."""
    config = tmp_path / "config.toml"
    tables = {
        "server": {"public_url": "http://127.0.0.1:8080"},
        "database": {"data_dir": str(data_dir)},
        "keys": {"master": {"file": str(data_dir / "master.key")}},
    }
    config.write_text(toml(tables))
    yield Terminal(config)
    assert not [one for one in psutil.process_iter() if str(data_dir) in " ".join(_line(one))]


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_commands_start_the_embedded_database_for_themselves(alone: Terminal, data_dir: Path) -> None:
    made = alone.program("client", "create", "--name", "x", "--json").json
    assert [one["client_id"] for one in alone.program("client", "list", "--json").json] == [made["client_id"]]
    assert (data_dir / "master.key").stat().st_mode & 0o777 == 0o600


def test_migrate_as_the_first_command_makes_database_and_key(alone: Terminal) -> None:
    assert alone("migrate", "--json").json == {"applied": NAMES}
    assert alone("client", "list", "--json").json == []


async def test_commands_join_the_database_that_serve_runs(alone: Terminal, data_dir: Path) -> None:
    async with embedded.Server(data_dir) as server:
        pid = server.pid
        write_key(data_dir / "master.key", new_master_key())
        made = await asyncio.to_thread(alone.program, "user", "create", "--username", "ada", "--generate-password")
        assert made.code == 0, made.err
        listed = await asyncio.to_thread(alone.program, "user", "list", "--json")
        assert [one["username"] for one in listed.json] == ["ada"]
        assert server.pid == pid


def test_an_unwritable_data_dir_is_told_with_the_mend(alone: Terminal, data_dir: Path) -> None:
    data_dir.parent.joinpath("file").write_text("")
    alone.config.write_text(alone.config.read_text().replace(str(data_dir), str(data_dir.parent / "file" / "data")))
    assert "database.data_dir = " in alone("client", "list").fault
