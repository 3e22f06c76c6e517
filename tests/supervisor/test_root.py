"""A gateway that root starts: what strangers reach runs as another user, and commands of root serve that one."""

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import argon2
import cryptography
import psutil
import pytest

from gateway.faults import OperatorError
from gateway.supervisor import programs, users
from tests.serving import PROGRAM, ROOT, Gateway, serving, write_config
from tests.system_users import ORDINARY, as_root
from tests.web.rig import Browser

SIGNED = {"name": "signed", "path": "/signed", "upstreams": ["http://127.0.0.1:9"], "auth": ["mac"]}
PASSES = 502  # nothing listens behind the route
PASSWORD = "correct horse battery staple"

pytestmark = as_root


@pytest.fixture
def home(data_dir: Path) -> Path:
    """A folder of the ordinary user's."""
    data_dir.mkdir(mode=0o700)
    shutil.chown(data_dir, ORDINARY, pwd.getpwnam(ORDINARY).pw_gid)
    return data_dir


def ids(process: psutil.Process) -> set[int]:
    """Every user and group that it acts as, or could go back to."""
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if ":\t" in line
    )
    return {int(number) for name in ("Uid", "Gid", "Groups") for number in status[name].split()}


def strangers(folder: Path) -> list[Path]:
    """What lies in the ordinary user's folder and is not theirs."""
    return [path for path in folder.rglob("*") if path.lstat().st_uid != pwd.getpwnam(ORDINARY).pw_uid]


async def everything_works(gateway: Gateway) -> None:
    """A person signs in, which takes a password check, and a signed call passes, which takes a sealed key."""
    await gateway.run("user", "create", "--username", "ada", "--password-stdin", text=PASSWORD)
    browser = Browser(gateway.url)
    try:
        assert (await browser.sign_in("ada", PASSWORD)).status == 303
    finally:
        await browser.close()
    client = await gateway.run(*("client", "create", "--name", "Signer", "--grant-type", "client_credentials"))
    token = await gateway.run(*("token", "issue", "--client", client["client_id"], "--type", "mac"))
    url = f"{gateway.url}/signed"
    signed = await gateway.run(
        *("mac", "sign", "--id", token["access_token"], "--key", token["mac_key"], "--url", url, "--method", "GET")
    )
    headers = {"Authorization": signed["authorization"]}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as answer:
        assert answer.status == PASSES


async def test_workers_and_database_of_root_are_the_data_owners_and_keep_nothing_of_root(
    tmp_path: Path, home: Path
) -> None:
    expected = {pwd.getpwnam(ORDINARY).pw_uid, pwd.getpwnam(ORDINARY).pw_gid}
    data = home / "gateway-data"  # to be made, in a folder of that user
    async with serving(
        tmp_path, database={"data_dir": str(data)}, keys={"master": {"file": str(data / "master.key")}}, routes=[SIGNED]
    ) as gateway:
        for process in (*gateway.workers, *gateway.authorization_workers, gateway.postgres):
            assert ids(process) - {*os.getgrouplist(ORDINARY, pwd.getpwnam(ORDINARY).pw_gid)} <= expected
            assert 0 not in ids(process)
        assert psutil.Process(gateway.process.pid).uids().effective == 0
        await everything_works(gateway)
        killed = gateway.workers[0]
        killed.kill()
        await gateway.replaced(killed)
        assert 0 not in ids(gateway.workers[0])
        (serving_line,) = [line for line in gateway.logs if line["event"] == "serving"]
        assert serving_line["user"] == ORDINARY
        below = [*gateway.workers, *gateway.authorization_workers]
        assert strangers(home) == []
        gateway.process.kill()
        await gateway.process.wait()
        assert psutil.wait_procs(below, timeout=30)[1] == []  # they die with root's supervisor still
    assert (data / "master.key").stat().st_mode & 0o777 == 0o600


async def test_a_program_in_a_folder_of_roots_serves_all_the_same(
    tmp_path: Path, database: str, data_dir: Path
) -> None:
    """As after `git clone` in root's home."""
    private = data_dir
    private.mkdir(mode=0o700)
    for name in ("gateway", "sql", "templates"):
        shutil.copytree(ROOT / name, private / name, ignore=shutil.ignore_patterns("__pycache__"))
    for library in (argon2, cryptography):
        shutil.copytree(Path(str(library.__file__)).parent, private / library.__name__)
    async with serving(
        tmp_path,
        dsn=database,
        workers=1,
        routes=[SIGNED],
        program=[sys.executable, "-P", "-m", "gateway"],
        environment={"PYTHONPATH": str(private)},
        cwd=Path("/"),
    ) as gateway:
        assert 0 not in ids(gateway.workers[0])
        gateway.environment = {**os.environ, **gateway.environment}
        await everything_works(gateway)


def command(config: Path, *arguments: str, python: str = sys.executable, user: str | None = None) -> str:
    """What a command prints, as root or as another user; it fails unless the command succeeds."""
    done = subprocess.run(
        [python, *PROGRAM[1:], *arguments, "--config", str(config)],
        check=True,
        capture_output=True,
        text=True,
        **_as(user),
    )
    return str(done.stdout)


def _as(user: str | None) -> dict[str, Any]:
    packages = programs.find_binaries().parents[2]
    path = f"{ROOT}{os.pathsep}{packages}"
    place = {"cwd": "/", "env": {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}}
    if user is None:
        return place
    account = pwd.getpwnam(user)
    return {**place, "user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def python_of_all() -> str | None:
    """An interpreter that the ordinary user can run with our libraries, if there is one; ours may lie in a home."""
    account = users.SystemUser.by_name(ORDINARY)
    for found in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        if programs.unreachable(account, [Path(found).resolve(), ROOT, programs.find_binaries()]) is None:
            probe = [found, "-c", "import asyncpg, pydantic"]
            if subprocess.run(probe, check=False, capture_output=True, **_as(ORDINARY)).returncode == 0:
                return found
    return None


def test_what_a_command_of_root_makes_belongs_to_the_service(home: Path) -> None:
    """Before the first start and with root's narrowest umask; the service then runs as an ordinary user."""
    data = home / "below" / "gateway-data"
    config, _, _ = write_config(home, data)
    config.chmod(0o644)
    before = os.umask(0o077)
    try:
        command(config, "user", "create", "--username", "ada", "--generate-password")
    finally:
        os.umask(before)
    config.unlink()
    config, _, _ = write_config(home, data)
    config.chmod(0o644)
    assert strangers(data) == []
    assert (data / "master.key").stat().st_mode & 0o777 == 0o600
    if (python := python_of_all()) is not None:
        assert "ada" in command(config, "user", "list", python=python, user=ORDINARY)
        command(config, "user", "create", "--username", "grace", "--generate-password", python=python, user=ORDINARY)
        assert "grace" in command(config, "user", "list")
        assert strangers(data) == []


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("no-such-user", r'server.user = "no-such-user": there is no such system user; make it: useradd'),
        ("root", r'server.user = "root": is root, the user who may do anything'),
        ("nobody", r'server.user = "nobody": is nobody, an account that others share'),
    ],
)
def test_a_user_that_cannot_serve_is_named(tmp_path: Path, wanted: str, said: str) -> None:
    with pytest.raises(OperatorError, match=said):
        users.system_user_for(tmp_path / "data", wanted)


def test_the_user_who_serves_is_the_stated_one_else_the_owner(home: Path, tmp_path: Path) -> None:
    assert users.system_user_for(home).name == ORDINARY
    assert users.system_user_for(home / "to be made" / "data").name == ORDINARY
    assert users.system_user_for(home, "bin").name == "bin"
    (home / "postgres").mkdir()
    shutil.chown(home / "postgres", ORDINARY)
    with pytest.raises(OperatorError, match=r'belongs to a system user other than server.user = "bin"; chown -R bin'):
        users.system_user_for(home, "bin")
    assert users.system_user_for(tmp_path / "data").name in ("gateway", "postgres")


def test_nobody_never_runs_the_database_of_root(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.chown(home, "nobody")
    with pytest.raises(OperatorError, match=r"belongs to nobody, an account that others share; chown -R"):
        users.system_user_for(home)
    monkeypatch.setattr(users, "_ACCOUNTS", ("gwt-no-such-account",))
    monkeypatch.setattr(users, "_NEW_ACCOUNT", ("no-such-program",))
    with pytest.raises(OperatorError, match=r"there is no system user for them; make one \(useradd --system"):
        users.system_user_for(tmp_path / "data")
