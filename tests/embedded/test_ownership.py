"""The embedded Postgres: who owns it, who joins it, and what is left when any of them ends in any way."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from gateway.faults import OperatorError
from gateway.supervisor import embedded, programs
from gateway.supervisor.cluster import Cluster
from tests.counts import scaled
from tests.embedded.rig import fetch, is_gone, joining, left, nothing_left, started
from tests.serving import PATIENCE, until

# -- commands ------------------------------------------------------------------------------------------------


async def test_a_command_starts_a_server_where_none_runs_and_stops_it_at_its_end(data_dir: Path) -> None:
    async with embedded.running(data_dir) as dsn:
        assert await fetch(dsn, "select 1") == 1
    assert left(data_dir) == []


async def test_the_data_are_there_again_at_the_next_start(made: Path) -> None:
    async with embedded.running(made) as dsn:
        await fetch(dsn, "create table kept as select 42 as answer")
    async with embedded.running(made) as dsn:
        assert await fetch(dsn, "select answer from kept") == 42


async def test_a_command_that_ends_leaves_the_server_to_those_that_joined(made: Path) -> None:
    async with started(made) as first, joining(first, made) as second:
        dsn = await second.dsn()
        before = await fetch(dsn, "select pg_postmaster_start_time()")
        assert await first.end() == (0, "")
        assert await fetch(dsn, "select pg_postmaster_start_time()") == before
        assert await second.end() == (0, "")
    assert left(made) == []


async def test_a_command_that_is_killed_leaves_the_server_to_those_that_joined(made: Path) -> None:
    async with started(made) as first, joining(first, made) as second:
        dsn = await second.dsn()
        await first.kill()
        assert await fetch(dsn, "select 1") == 1
        assert await second.end() == (0, "")
    await nothing_left(made)


async def test_the_last_user_killed_leaves_no_process(made: Path) -> None:
    async with started(made) as only:
        await only.dsn()
        await only.kill()
    await nothing_left(made)


async def test_commands_that_start_at_once_share_one_server(data_dir: Path) -> None:
    joined, all_joined = 0, asyncio.Event()

    async def use() -> object:
        nonlocal joined
        async with embedded.running(data_dir) as dsn:
            joined += 1
            if joined == 8:
                all_joined.set()
            await all_joined.wait()  # who comes after the others have gone would start it anew
            return await fetch(dsn, "select pg_postmaster_start_time()")

    starts = await asyncio.gather(*(use() for _ in range(8)))
    assert len(set(starts)) == 1
    assert left(data_dir) == []


async def test_a_keeper_that_is_killed_takes_its_server_along_and_the_next_command_starts_one(made: Path) -> None:
    async with embedded.running(made):
        keeper = psutil.Process(int((made / "postgres.owner.lock").read_text().split()[1]))
        assert "keep" in keeper.cmdline()
        keeper.kill()
        await until(partial(is_gone, keeper.pid))
        async with embedded.running(made) as dsn:
            assert await fetch(dsn, "select 1") == 1
    await nothing_left(made)


# -- the supervisor's server ---------------------------------------------------------------------------------


async def test_the_supervisors_server_is_its_child_and_ends_with_it(made: Path) -> None:
    async with embedded.Server(made) as server:
        assert server.pid is not None
        assert psutil.Process(server.pid).ppid() == os.getpid()
    assert left(made) == []


def _has(items: list[int], count: int) -> bool:
    return len(items) == count


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGQUIT, signal.SIGINT, signal.SIGTERM])
async def test_a_server_that_dies_is_started_again_at_once(made: Path, how: signal.Signals) -> None:
    deaths: list[int] = []
    pids: list[int] = []
    async with embedded.Server(made, on_death=deaths.append, on_ready=pids.append) as server:
        for round_ in range(1, 4):
            assert server.pid is not None
            os.kill(server.pid, how)
            await until(partial(_has, pids, round_ + 1))
            assert await fetch(server.dsn, "select 1") == 1
        assert len(set(pids)) == 4
        assert len(deaths) == 3
    assert left(made) == []


async def test_a_server_that_cannot_be_started_again_is_told_of_and_tried_until_it_can(made: Path) -> None:
    failures: list[Exception] = []
    pids: list[int] = []
    async with embedded.Server(made, on_failure=failures.append, on_ready=pids.append) as server:
        assert server.pid is not None
        version, elsewhere = made / "postgres" / "PG_VERSION", made / "PG_VERSION"
        version.rename(elsewhere)
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: len(failures) >= 2)
        elsewhere.rename(version)
        await until(partial(_has, pids, 2))
        assert await fetch(server.dsn, "select 1") == 1
    assert "PG_VERSION" in str(failures[0])


async def test_a_second_supervisor_on_one_folder_is_refused(made: Path) -> None:
    async with embedded.Server(made) as server:
        with pytest.raises(OperatorError, match=rf"database.data_dir = .*pid {os.getpid()}.*choose another data_dir"):
            async with embedded.Server(made):
                pass
        assert await fetch(server.dsn, "select 1") == 1


async def test_commands_join_and_leave_the_supervisors_server_without_disturbing_it(made: Path) -> None:
    async with embedded.Server(made) as server:
        pid = server.pid
        for _ in range(3):
            async with embedded.running(made) as dsn:
                assert dsn == server.dsn
        assert server.pid == pid
        assert await fetch(server.dsn, "select 1") == 1


async def test_a_command_waits_while_the_supervisors_server_comes_back(made: Path) -> None:
    async with embedded.Server(made) as server:
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(partial(is_gone, pid))
        async with embedded.running(made) as dsn:
            assert await fetch(dsn, "select 1") == 1


async def test_a_supervisor_waits_for_commands_and_then_owns_the_server(made: Path) -> None:
    async with started(made) as command:
        dsn = await command.dsn()
        starting = asyncio.create_task(embedded.Server(made).__aenter__())
        await asyncio.wait([starting], timeout=0.5)
        assert not starting.done()
        assert await fetch(dsn, "select 1") == 1  # the command goes on undisturbed
        assert await command.end() == (0, "")
        server = await asyncio.wait_for(starting, PATIENCE)
        assert server.pid is not None
        assert psutil.Process(server.pid).ppid() == os.getpid()
        await server.__aexit__(None, None, None)
    assert left(made) == []


async def test_a_supervisor_that_ends_lets_a_command_finish_first(made: Path) -> None:
    async with started(made, "Server") as supervisor:
        await supervisor.dsn()
        async with started(made) as command:
            dsn = await command.dsn()
            ending = asyncio.create_task(supervisor.end())
            await asyncio.wait([ending], timeout=0.5)
            assert not ending.done()
            assert await fetch(dsn, "select 1") == 1
            assert await command.end() == (0, "")
            assert await asyncio.wait_for(ending, PATIENCE) == (0, "")
    assert left(made) == []


# -- kill -9 at any moment -----------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["Server", "running"])
async def test_an_owner_killed_at_any_moment_leaves_no_process_and_a_usable_database(data_dir: Path, door: str) -> None:
    """From the first instant, through initdb, to a server in use; each next start works at once."""
    moments = random.Random(8642)
    for _ in range(scaled(60)):
        async with started(data_dir, door) as owner:
            await asyncio.wait([asyncio.create_task(owner.process.wait())], timeout=moments.uniform(0, 1.5))
            await owner.kill()
        async with embedded.running(data_dir) as dsn:
            assert await fetch(dsn, "select 1") == 1
    await nothing_left(data_dir)
    assert list(data_dir.glob(".postgres-*")) == []


def prepared(folder: Path) -> Cluster:
    found = Cluster(folder)
    found.prepare()
    return found


def keep(cluster: Cluster) -> None:
    """Start a keeper, as a command does that is killed in the next moment."""
    locks = (cluster.data_dir / "postgres.owner.lock", cluster.data_dir / "postgres.users.lock")
    command = programs.keeper(cluster.user, *locks, cluster.log, cluster.command(()))
    subprocess.run(command, stdin=subprocess.DEVNULL, env=programs.ENVIRONMENT, cwd="/", check=True, timeout=PATIENCE)


async def test_a_keeper_that_comes_second_leaves_the_server_to_the_first(made: Path) -> None:
    cluster = prepared(made)
    async with embedded.running(made) as dsn:
        before = await fetch(dsn, "select pg_postmaster_start_time()")
        await asyncio.to_thread(keep, cluster)
        assert await fetch(dsn, "select pg_postmaster_start_time()") == before
    await nothing_left(made)


async def test_a_keeper_whose_command_is_gone_already_stops_what_it_has_just_started(made: Path) -> None:
    async with asyncio.timeout(20):  # it hears what it is told while it starts, and not a minute later
        await asyncio.to_thread(keep, prepared(made))
        async with embedded.running(made) as dsn:
            assert await fetch(dsn, "select 1") == 1
    await nothing_left(made)


async def test_what_was_committed_survives_the_owners_death(made: Path) -> None:
    for number in range(1, 4):
        async with started(made, "Server") as owner:
            dsn = await owner.dsn()
            await fetch(dsn, "create table if not exists kept (n int)")
            await fetch(dsn, f"insert into kept values ({number})")
            await owner.kill()
        async with embedded.running(made) as dsn:
            assert await fetch(dsn, "select count(*) from kept") == number


async def test_the_embedded_server_is_durable(made: Path) -> None:
    async with embedded.running(made) as dsn:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            assert await fetch(dsn, f"show {setting}") == "on"


# -- pid files -----------------------------------------------------------------------------------------------


def _with_pid(made: Path, text: str) -> None:
    (made / "postgres" / "postmaster.pid").write_text(text)
    found = (made / "postgres").stat()
    os.chown(made / "postgres" / "postmaster.pid", found.st_uid, found.st_gid)


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


async def test_a_pid_file_that_names_an_unrelated_process_does_not_block_the_start(made: Path, sleeper: int) -> None:
    async with embedded.running(made):
        lines = (made / "postgres" / "postmaster.pid").read_text().splitlines()
    _with_pid(made, "\n".join([str(sleeper), *lines[1:], ""]))
    async with embedded.running(made) as dsn:
        assert await fetch(dsn, "select 1") == 1
    assert psutil.pid_exists(sleeper)


@pytest.mark.parametrize("text", ["", "garbage\n", "4194303\n/nowhere\n", "-1\n"])
async def test_a_torn_pid_file_does_not_block_the_start(made: Path, text: str) -> None:
    _with_pid(made, text)
    async with embedded.running(made) as dsn:
        assert await fetch(dsn, "select 1") == 1


def _number(entry: Path) -> int:
    return int(entry.name) if entry.name.isdecimal() else 0


def _spawn(argv: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("order", [sorted, partial(sorted, reverse=True)], ids=["first", "last"])
async def test_a_server_that_somebody_else_started_is_named_and_left_alone(
    made: Path, monkeypatch: pytest.MonkeyPatch, order: Callable[..., list[Path]]
) -> None:
    """Its own number is the lowest of them, until the system's numbers begin anew between it and its backends."""
    found = Cluster(made)
    found.prepare()
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter(order(listed(folder), key=_number)))
    monkeypatch.setattr(Cluster.await_end_of_strays, "__defaults__", (0.3,))
    foreign = _spawn(programs.launcher(found.user, found.command(())))
    try:
        await until(lambda: (running := found.running()) is not None and running.ready)
        with pytest.raises(OperatorError, match=rf"did not start is running there \(pid {foreign.pid}\); stop it"):
            async with embedded.running(made):
                pass
        assert foreign.poll() is None
    finally:
        foreign.send_signal(signal.SIGINT)
        foreign.wait(PATIENCE)
