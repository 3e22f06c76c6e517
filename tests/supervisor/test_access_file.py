"""`gateway serve` with an access log: the lines of all workers in one file, from the first call to the last."""

import contextlib
import json
import re
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.config import ConfigError, load
from gateway.supervisor import telling
from gateway.supervisor.users import SystemUser
from tests.conftest import new_data_dir
from tests.serving import Gateway, NotServing, free_ports, on_every_worker, serving, until
from tests.supervisor.conftest import SlowUpstream
from tests.supervisor.test_metrics import samples, value
from tests.system_users import as_root

LOST = "lines of the access log are lost"
LOCAL_SYSLOG = rb"<134>\w{3} [ \d]\d \d\d:\d\d:\d\d gateway\[(\d+)\]: (\{.*\})"


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
        await until(lambda: any(LOST in line["event"] for line in gateway.logs))

        async def each_is_counted() -> bool:
            return value(await samples(gateway), "gateway_access_log_lines_lost_total") == 5

        await until(each_is_counted)
        assert await gateway.is_ready()


async def test_without_its_name_in_the_configuration_there_is_no_line(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    (dead,) = free_ports(1)
    routes: list[dict[str, Any]] = [
        upstream.route(),
        {"name": "shut", "path": "/shut", "upstreams": [upstream.url], "auth": ["bearer"]},
        {"name": "dead", "path": "/dead", "upstreams": [f"http://127.0.0.1:{dead}"], "auth": "none"},
    ]
    asked = {"/passes": 200, "/shut": 401, "/dead": 502, "/oauth2/nothing": 404}
    named: dict[str, dict[str, Any]] = {"without": {}, "with": {"log": {"access": "json"}}}
    for how, log in named.items():
        folder = tmp_path / how
        folder.mkdir()
        async with serving(folder, dsn=database, routes=routes, **log) as gateway:
            there = {*folder.rglob("*")}
            for path, status in asked.items():
                assert await gateway.status(path) == status
            assert await gateway.stop() == 0  # and what waited is written
            targets = sorted(line["target"] for line in gateway.logs if line["event"] == "call")
            assert targets == ([] if how == "without" else sorted(asked))
            assert ("/passes" in gateway.log_text) == (how == "with")  # in no other line, too
            assert {*folder.rglob("*")} <= there


@contextlib.contextmanager
def listening(place: Path) -> Iterator[Callable[[], list[bytes]]]:
    """A syslog at a socket of its own, as one that starts anew; it gives what it has heard so far."""
    place.unlink(missing_ok=True)
    heard = list[bytes]()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(place))
        place.chmod(0o666)
        syslog.setblocking(False)

        def all_heard() -> list[bytes]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    heard.append(syslog.recv(9999))
            return heard

        yield all_heard


async def test_syslog_gets_the_lines_of_all_calls_but_those_while_it_was_away(
    tmp_path: Path, log_folder: Path, database: str, upstream: SlowUpstream
) -> None:
    place = log_folder / "log.sock"
    log = {"access": "json", "access_file": f"syslog:{place}"}

    async def all_are_told(gateway: Gateway, clients: list[aiohttp.ClientSession], name: str) -> None:
        with listening(place) as heard:
            for number, client in enumerate(clients):
                async with client.get(f"{gateway.url}/{name}/{number}") as answer:
                    assert answer.status == 200

            workers = {worker.pid for worker in gateway.workers}

            def are_there() -> bool:
                lines = [re.fullmatch(LOCAL_SYSLOG, each) for each in heard()]
                assert {line and int(line[1]) for line in lines} <= workers
                targets = [json.loads(line[2])["target"] for line in lines if line]
                found = [target for target in targets if target != "/"]  # which `on_every_worker` asked for
                return sorted(found) == [f"/{name}/{number}" for number in range(len(clients))]

            await until(are_there)

    async def lost(gateway: Gateway) -> float:
        return value(await samples(gateway), "gateway_access_log_lines_lost_total")

    async with (
        serving(tmp_path, dsn=database, routes=[upstream.route()], log=log) as gateway,
        on_every_worker(gateway, 2) as clients,  # whose calls nobody hears
    ):
        await until(lambda: [line["event"] for line in gateway.logs].count(LOST) == gateway.count)
        await all_are_told(gateway, clients, "first")
        before = await lost(gateway)
        assert before >= gateway.count
        await all_are_told(gateway, clients, "second")  # by another process at the same place
        assert await lost(gateway) == before
        for _ in range(5):
            async with clients[0].get(f"{gateway.url}/unheard") as answer:
                assert answer.status == 200

        async def are_lost() -> bool:
            return await lost(gateway) == before + 5

        await until(are_lost)
        await all_are_told(gateway, clients, "third")
        assert await are_lost()


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
