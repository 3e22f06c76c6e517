"""`gateway serve` as a tree of processes: spread, replaced, drained, never orphaned."""

import asyncio
import os
import signal
import stat
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import psutil
import pytest
import pytest_asyncio

from gateway.supervisor.supervisor import DRAIN
from tests.conftest import cloned
from tests.counts import scaled
from tests.folders import SHORT
from tests.proxy.rig import RawUpstream
from tests.serving import Gateway, data_folder, fill, free_ports, serving, until
from tests.supervisor.conftest import SlowUpstream, is_gone, slow_upstream, worker_of


async def fresh_post(url: str) -> tuple[int, str, str]:
    """Status, body and the answering worker of a POST on a connection of its own; it is never sent twice."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session, session.post(url) as answer:
        return answer.status, await answer.text(), worker_of(answer.headers.get("X-Request-Id", ""))


async def slow_requests_on_every_worker(
    gateway: Gateway, upstream: SlowUpstream
) -> list[asyncio.Task[tuple[int, str, str]]]:
    """Requests that wait at the upstream, at least one on each worker."""
    waiting = list[asyncio.Task[tuple[int, str, str]]]()
    while len(+upstream.waiting) < len(gateway.workers):
        before = upstream.waiting.total()
        waiting.append(asyncio.create_task(fresh_post(f"{gateway.url}/slow")))
        await until(partial(upstream.more_than, before))
    return waiting


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's."""
    with tempfile.TemporaryDirectory(prefix="gwt-", dir=SHORT) as folder:
        yield Path(folder)


@dataclass(frozen=True)
class Site:
    """A gateway of two workers in front of a slow upstream, which one test after another finds whole."""

    gateway: Gateway
    upstream: SlowUpstream


shares = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with (
        cloned(server, template) as dsn,
        slow_upstream() as slow,
        serving(tmp_path_factory.mktemp("site"), dsn=dsn, routes=[slow.route()]) as gateway,
    ):
        yield Site(gateway, slow)


@pytest_asyncio.fixture(loop_scope="module")
async def site(served: Site) -> AsyncIterator[Site]:
    """The same; what waits at the upstream ends with the test, and whom it killed has a successor."""
    yield served
    served.upstream.release.set()
    await until(lambda: not served.upstream.waiting.total())
    served.upstream.release.clear()
    await served.gateway.replaced()


def are_gone(processes: list[psutil.Process]) -> bool:
    return all(map(is_gone, processes))


@shares
async def test_new_connections_reach_every_worker(site: Site) -> None:
    seen = Counter[str]()

    async def each_has_some() -> bool:
        seen.update([(await fresh_post(f"{site.gateway.url}/"))[2] for _ in range(20)])
        return len(seen) == 2 and min(seen.values()) >= 5

    await until(each_has_some, pause=0.0)


@shares
async def test_a_burst_of_connections_reaches_every_worker(site: Site) -> None:
    async def is_spread() -> bool:  # a worker that a busy machine lets wait may come too late for one
        answers = await asyncio.gather(*(fresh_post(f"{site.gateway.url}/") for _ in range(200)))
        assert {status for status, _, _ in answers} == {200}
        return len({worker for _, _, worker in answers}) == 2

    await until(is_spread, pause=0.0)


async def test_the_number_of_workers_is_the_option_s_before_the_file_s(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, dsn=database, workers=2, arguments=["--workers", "1"]) as gateway:
        assert len(gateway.workers) == 1


@shares
async def test_a_killed_worker_takes_only_its_own_requests_with_it(site: Site) -> None:
    gateway, upstream = site.gateway, site.upstream
    requests = await slow_requests_on_every_worker(gateway, upstream)
    doomed, spared = gateway.workers
    doomed.kill()
    killed_at = time.time()
    await gateway.replaced(doomed)
    [successor] = [worker for worker in gateway.workers if worker != spared]
    assert successor.create_time() - killed_at < 1
    upstream.release.set()
    answers = await asyncio.gather(*requests, return_exceptions=True)
    whole = [answer for answer in answers if not isinstance(answer, BaseException)]
    lost = [answer for answer in answers if isinstance(answer, BaseException)]
    assert lost
    assert all(isinstance(failure, aiohttp.ClientError) for failure in lost)
    assert {answer[:2] for answer in whole} == {(200, "whole answer")}
    assert len({worker for _, _, worker in whole}) == 1
    [line] = [line for line in gateway.logs if line.get("ended_pid") == doomed.pid]
    assert ("replaced" in line["event"], line["how"]) == (True, "SIGKILL")


@shares
async def test_workers_are_replaced_however_often_they_die_and_requests_go_on(site: Site) -> None:
    gateway = site.gateway
    for _ in range(scaled(30)):
        doomed, spared = gateway.workers
        doomed.kill()
        await until(partial(is_gone, doomed))
        assert (await fresh_post(f"{gateway.url}/"))[0] == 200
        await gateway.replaced(doomed)
        assert spared.is_running()


@shares
async def test_all_workers_killed_at_once_come_back(site: Site) -> None:
    gateway = site.gateway
    dead = gateway.workers
    for worker in dead:
        worker.kill()
    await gateway.replaced(*dead)
    assert (await fresh_post(f"{gateway.url}/"))[0] == 200


@shares
async def test_requests_wait_for_an_authorization_worker_to_be_replaced(site: Site) -> None:
    """Its socket is the supervisor's, so that nobody is turned away while there is no process behind it."""
    gateway = site.gateway
    for _ in range(scaled(30)):
        [dead] = gateway.authorization_workers
        dead.kill()
        await until(partial(is_gone, dead))
        assert await asyncio.gather(*(gateway.status("/oauth2/login") for _ in range(8))) == [200] * 8
    await until(gateway.is_ready)


@shares
async def test_a_dead_authorization_worker_holds_up_no_call(site: Site) -> None:
    gateway = site.gateway
    [asleep] = gateway.authorization_workers
    asleep.suspend()
    page = asyncio.create_task(gateway.status("/oauth2/login"))
    for _ in range(20):
        assert (await fresh_post(f"{gateway.url}/"))[0] == 200
    assert not page.done()
    asleep.resume()
    assert await page == 200


async def test_a_page_that_the_authorization_plane_refuses_names_its_socket_in_the_log(
    tmp_path: Path, database: str
) -> None:
    with tempfile.TemporaryDirectory(prefix="gwt-") as short:
        async with serving(tmp_path, dsn=database, workers=1, environment={"TMPDIR": short}) as gateway:
            [sock] = Path(short).glob("gateway-run-*/authorization-*.sock")
            sock.unlink()
            assert await gateway.status("/oauth2/login") == 502
            [line] = [line for line in gateway.logs if line["event"] == "refused"]
            assert line["cause"].startswith(str(sock))


async def test_there_are_as_many_authorization_workers_as_the_file_says(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, dsn=database, workers=1, server={"authorization_workers": 2}) as gateway:
        assert (len(gateway.workers), len(gateway.authorization_workers)) == (1, 2)


@shares
async def test_a_worker_that_is_asked_to_end_drains_and_is_replaced(site: Site) -> None:
    gateway, upstream = site.gateway, site.upstream
    requests = await slow_requests_on_every_worker(gateway, upstream)
    asked, _ = gateway.workers
    asked.terminate()
    upstream.release.set()
    assert {answer[:2] for answer in await asyncio.gather(*requests)} == {(200, "whole answer")}
    await gateway.replaced(asked)


async def test_nothing_is_left_after_the_supervisor_is_killed_and_the_next_start_is_clean(tmp_path: Path) -> None:
    with data_folder(tmp_path) as data_dir:
        keys = {"master": {"file": str(data_dir / "master.key")}}
        await asyncio.to_thread(fill, data_dir)
        for _ in range(2):  # the second finds what the first left behind
            async with serving(tmp_path, database={"data_dir": str(data_dir)}, keys=keys) as gateway:
                family = [psutil.Process(gateway.process.pid), *gateway.children]
                assert gateway.postgres in family
                assert gateway.postgres.children()
                gateway.process.kill()
                await gateway.process.wait()
                await until(partial(are_gone, family))


async def test_a_stopped_worker_does_not_outlive_a_killed_supervisor(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, dsn=database) as gateway:
        workers = gateway.workers
        workers[0].suspend()
        gateway.process.kill()
        await gateway.process.wait()
        await until(partial(are_gone, workers))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_requests_in_flight_finish_and_exits_0(
    tmp_path: Path, database: str, upstream: SlowUpstream, signum: signal.Signals
) -> None:
    async with serving(tmp_path, dsn=database, routes=[upstream.route()]) as gateway:
        requests = await slow_requests_on_every_worker(gateway, upstream)
        family = gateway.children
        gateway.process.send_signal(signum)

        async def refuses() -> bool:
            return await gateway.status("/") == 0

        await until(refuses)
        assert await gateway.status("/readyz", admin=True) == 503
        assert await gateway.status("/healthz", admin=True) == 200
        assert not any(request.done() for request in requests)
        upstream.release.set()
        assert {answer[:2] for answer in await asyncio.gather(*requests)} == {(200, "whole answer")}
        assert await gateway.process.wait() == 0
        assert are_gone(family)
        assert [line["event"] for line in gateway.logs][-2:] == ["stopping", "stopped"]


async def test_ctrl_c_at_the_terminal_drains_too(tmp_path: Path, database: str, upstream: SlowUpstream) -> None:
    """A terminal sends SIGINT to the whole foreground process group, not to the supervisor alone."""
    async with serving(tmp_path, dsn=database, routes=[upstream.route()]) as gateway:
        requests = await slow_requests_on_every_worker(gateway, upstream)
        group = os.getpgid(gateway.process.pid)
        for process in [psutil.Process(gateway.process.pid), *gateway.children]:
            if os.getpgid(process.pid) == group:
                process.send_signal(signal.SIGINT)
        await until(lambda: any(line["event"] == "stopping" for line in gateway.logs))
        upstream.release.set()
        assert {answer[:2] for answer in await asyncio.gather(*requests)} == {(200, "whole answer")}
        assert await gateway.process.wait() == 0


async def test_a_second_signal_does_not_wait(tmp_path: Path, database: str, upstream: SlowUpstream) -> None:
    async with serving(tmp_path, dsn=database, routes=[upstream.route()]) as gateway:
        requests = await slow_requests_on_every_worker(gateway, upstream)
        gateway.process.terminate()
        await until(lambda: any(line["event"] == "stopping" for line in gateway.logs))
        gateway.process.terminate()
        assert await asyncio.wait_for(gateway.process.wait(), DRAIN / 2) == 0
        answers = await asyncio.gather(*requests, return_exceptions=True)
        assert all(isinstance(answer, aiohttp.ClientError) for answer in answers)


async def test_the_authorization_plane_s_socket_is_private_and_goes_with_the_gateway(
    tmp_path: Path, short: Path, database: str
) -> None:
    async with serving(tmp_path, dsn=database, workers=1, environment={"TMPDIR": str(short)}) as gateway:
        [folder] = short.glob("gateway-run-*")
        assert stat.S_IMODE(folder.stat().st_mode) == (0o700 if os.geteuid() else 0o710)  # root's workers are not root
        [sock] = folder.glob("*.sock")
        assert stat.S_IMODE(sock.stat().st_mode) == 0o600
        inode = sock.stat().st_ino
        dead = [*gateway.workers, *gateway.authorization_workers]
        for worker in dead:
            worker.kill()
        await gateway.replaced(*dead)
        assert [found.stat().st_ino for found in folder.glob("*.sock")] == [inode]
    assert not list(short.glob("gateway-run-*"))


async def test_what_a_killed_gateway_left_is_removed_by_the_next_one_only(
    tmp_path: Path, short: Path, database: str
) -> None:
    environment = {"TMPDIR": str(short)}
    for name in ("killed", "alive", "next"):
        (tmp_path / name).mkdir()
    async with (
        serving(tmp_path / "alive", dsn=database, workers=1, environment=environment),
        serving(tmp_path / "killed", dsn=database, workers=1, environment=environment) as killed,
    ):
        before = set(short.glob("gateway-run-*"))
        killed.process.kill()
        await killed.process.wait()
        async with serving(tmp_path / "next", dsn=database, workers=1, environment=environment):
            after = set(short.glob("gateway-run-*"))
        assert (len(before), len(after), len(before & after)) == (2, 2, 1)


async def test_arguments_and_environment_of_workers_hold_no_secret(tmp_path: Path, database: str) -> None:
    dsn = database.replace("gateway@", "gateway:hunter2-not-a-secret@", 1)
    async with serving(tmp_path, dsn=dsn) as gateway:
        key = (tmp_path / "master.key").read_text().strip()
        for worker in [*gateway.authorization_workers, *gateway.workers]:
            shown = "\n".join([*worker.cmdline(), *map(str, worker.environ().items())])
            assert "hunter2" not in shown
            assert "postgresql" not in shown
            assert key not in shown
        worker.kill()
        await gateway.replaced(worker)
    assert "hunter2" not in gateway.log_text
    assert key not in gateway.log_text


async def test_modules_in_the_working_directory_never_become_part_of_a_worker(tmp_path: Path, database: str) -> None:
    here = tmp_path / "here"
    (here / "gateway").mkdir(parents=True)
    for name in ("uvloop.py", "gateway/__init__.py"):
        (here / name).write_text("raise SystemExit(7)")
    program = (psutil.Process().exe(), "-P", "-m", "gateway")
    environment = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *_site_folders()])}
    async with serving(
        tmp_path, dsn=database, workers=1, program=program, environment=environment, cwd=here
    ) as gateway:
        assert await gateway.status("/") == 404


def _site_folders() -> list[str]:
    import sysconfig

    return [sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]]


async def test_proxy_variables_are_ignored(tmp_path: Path, database: str, upstream: SlowUpstream) -> None:
    async with RawUpstream(answer=b"HTTP/1.1 418 Trapped\r\nContent-Length: 0\r\n\r\n").serving() as trap:
        url = f"http://127.0.0.1:{trap.port}"
        variables = {"HTTP_PROXY": url, "HTTPS_PROXY": url, "ALL_PROXY": url, "NO_PROXY": ""}
        variables |= {name.lower(): value for name, value in variables.items()}
        closed = f"https://127.0.0.1:{free_ports(1)[0]}"
        encrypted = {**upstream.route(), "name": "tls", "path": "/tls", "upstreams": [closed]}
        routes = [upstream.route(), encrypted]
        async with serving(tmp_path, dsn=database, workers=1, routes=routes, environment=variables) as gateway:
            assert variables.items() <= gateway.workers[0].environ().items()
            assert (await fresh_post(gateway.url))[:2] == (200, "whole answer")
            assert await gateway.status("/oauth2/login") == 200
            assert await gateway.status("/tls") == 502
            assert trap.connections == 0
            # Who heeds them does fall into it.
            assert "418" in await _heeding(gateway.environment, upstream.url)
            assert [request.target for request in trap.requests] == [f"{upstream.url}/"]


async def _heeding(environment: Mapping[str, str], url: str) -> str:
    """What a program says that takes proxies from its environment, as most do."""
    program = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1])"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, f"{url}/"), stderr=asyncio.subprocess.PIPE, env=dict(environment)
    )
    return (await process.communicate())[1].decode()


async def test_every_line_on_stderr_is_json_without_a_secret(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    async with serving(tmp_path, dsn=database, routes=[upstream.route()]) as gateway:
        for path in ("/?access_token=hunter2", "/oauth2/login", "/oauth2/token", "/%0d%0aforged", "/%1b%5b2J"):
            await gateway.status(path)
        reader, writer = await asyncio.open_connection(*_address(gateway.url))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization\x1b: Bearer hunter2\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
    assert {line["process"] for line in gateway.logs} <= {"supervisor", "access-1", "access-2", "authorization-1"}
    assert "hunter2" not in gateway.log_text
    assert "\x1b" not in gateway.log_text


def _address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)
