"""`gateway serve` with an access log: the lines of all workers in one file, from the first call to the last."""

import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.config import ConfigError, load
from gateway.supervisor import telling
from gateway.supervisor.users import SystemUser
from tests.conftest import new_data_dir
from tests.serving import NotServing, serving, until
from tests.supervisor.conftest import SlowUpstream
from tests.system_users import as_root


@pytest.fixture
def log_folder() -> Iterator[Path]:
    """A folder that the workers of a gateway can enter which root starts."""
    folder = new_data_dir()
    yield folder
    shutil.rmtree(folder)


def told(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def test_lines_of_all_workers_are_in_the_file_which_is_opened_again_when_asked_and_whole_at_the_end(
    tmp_path: Path, log_folder: Path, database: str, upstream: SlowUpstream
) -> None:
    path, moved = log_folder / "access.log", log_folder / "access.log.1"
    log = {"access": "json", "access_file": str(path)}
    async with serving(tmp_path, dsn=database, routes=[upstream.route()], log=log) as gateway:
        async with aiohttp.ClientSession() as session:
            for number in range(20):
                await (await session.get(f"{gateway.url}/{number}", headers={"Connection": "close"})).read()
            await until(lambda: len(told(path)) == 20)
            path.rename(moved)
            gateway.process.send_signal(signal.SIGUSR1)
            await until(path.exists)
            for worker in gateway.workers + gateway.authorization_workers:
                worker.send_signal(signal.SIGUSR1)  # as `killall` would
            await (await session.get(f"{gateway.url}/oauth2/login")).read()
            await (await session.get(f"{gateway.url}/last")).read()
        assert await gateway.stop() == 0
        assert {line["target"] for line in told(moved)} == {f"/{number}" for number in range(20)}
        assert {(line["target"], line["route"]) for line in told(path)} == {
            ("/oauth2/login", "authorization"),
            ("/last", "slow"),
        }


async def test_on_stderr_its_lines_stand_between_the_logs_own_and_a_full_disk_stops_nobody(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    log: dict[str, object] = {"access": "json"}
    async with serving(tmp_path, dsn=database, routes=[upstream.route()], log=log) as gateway:
        assert await gateway.status("/a") == 200
        await until(lambda: [line["target"] for line in gateway.logs if line["event"] == "call"] == ["/a"])
        with gateway.config.open("r+") as config:
            text = config.read().replace('"access" = "json"', '"access" = "json"\n"access_file" = "/dev/full"')
            config.seek(0)
            config.write(text)
        await gateway.run("reload")
        for _ in range(5):
            assert await gateway.status("/b") == 200
        await until(lambda: any("lines of the access log are lost" in line["event"] for line in gateway.logs))
        assert await gateway.is_ready()


async def test_file_that_cannot_be_written_stops_the_start_in_one_line(tmp_path: Path, database: str) -> None:
    (tmp_path / "file").touch()
    log = {"access": "combined", "access_file": "file/access.log"}
    with pytest.raises(NotServing, match=r'log.access_file = \\?"file/access.log.*Not a directory.*or name another'):
        async with serving(tmp_path, dsn=database, log=log):
            pass


@as_root
async def test_file_in_a_folder_that_the_workers_cannot_enter_stops_the_start_too(
    tmp_path: Path, database: str, log_folder: Path
) -> None:
    log_folder.chmod(0o700)
    log = {"access": "json", "access_file": str(log_folder / "access.log")}
    with pytest.raises(NotServing, match=r"the workers run as .*, who cannot use"):
        async with serving(tmp_path, dsn=database, log=log):
            pass


@as_root
def test_root_follows_no_link_where_it_makes_the_file(tmp_path: Path, log_folder: Path) -> None:
    target, link = tmp_path / "elsewhere", log_folder / "access.log"
    link.symlink_to(target)
    telling._make(link, SystemUser("nobody", 65534, 65534))
    assert not target.exists()
    link.unlink()
    telling._make(link, SystemUser("nobody", 65534, 65534))
    assert (link.stat().st_uid, link.stat().st_mode & 0o137) == (65534, 0)


def test_what_log_may_not_say_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    for line, fault in (
        ('access = "xml"', "log.access"),
        ('access_file = "syslog:nowhere"', 'must be "syslog:", "syslog:/SOCKET" or "syslog:HOST:PORT"'),
        ('access_file = "syslog:h:70000"', 'must be "syslog:'),
        ("access_file = ''", "must be the name of a file"),
        ("sample = 1.5", "must be at most 1"),
        ("sample = -0.1", "must be at least 0"),
        ("sample = nan", "log.sample"),
        ('sample = "1"', "must be a number"),
        ("sample = true", "must be a number"),
    ):
        path.write_text(f'[server]\npublic_url = "http://localhost:8080"\n[log]\n{line}\n')
        with pytest.raises(ConfigError, match=re.escape(fault)):
            load(path)
