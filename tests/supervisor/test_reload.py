"""SIGHUP: a changed configuration is taken over whole, by new workers, or not at all."""

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest

from gateway import config
from gateway.model import Client
from gateway.store import Store
from gateway.supervisor import workers
from gateway.supervisor.generation import Generation
from gateway.supervisor.listening import listen
from gateway.supervisor.metrics import Counts
from tests.counts import scaled
from tests.guard.conftest import new_client
from tests.serving import PATIENCE, PROGRAM, ROOT, Gateway, hung, is_past, serving, until, write_config, write_key
from tests.supervisor.conftest import SlowUpstream, is_gone
from tests.supervisor.test_handover import OFTEN

GUARDED = {"name": "notes", "path": "/notes", "upstreams": ["http://127.0.0.1:9"], "auth": ["bearer"]}
PASSES = 502  # nothing listens behind the route


def rewrite(gateway: Gateway, old: str, new: str) -> None:
    """Change the configuration file."""
    before = gateway.config.read_text()
    assert old in before
    gateway.config.write_text(before.replace(old, new))


async def logged(gateway: Gateway, event: str, more_than: int) -> None:
    await until(lambda: len(events(gateway, event)) > more_than)


def events(gateway: Gateway, event: str) -> list[dict[str, Any]]:
    return [line for line in gateway.logs if line["event"].startswith(event)]


async def reloaded(gateway: Gateway) -> None:
    """SIGHUP, and wait until new workers have taken over and the old ones have gone."""
    old, done = [*gateway.workers, *gateway.authorization_workers], len(events(gateway, "reloaded"))
    gateway.process.send_signal(signal.SIGHUP)
    await logged(gateway, "reloaded", done)
    await until(lambda: all(map(is_gone, old)))


async def refused(gateway: Gateway) -> list[str]:
    """SIGHUP, and what is found wrong with the file."""
    done = len(events(gateway, "reload refused"))
    gateway.process.send_signal(signal.SIGHUP)
    await logged(gateway, "reload refused", done)
    faults: list[str] = events(gateway, "reload refused")[-1]["faults"]
    return faults


class Kept:
    """One connection that sends the same bytes again and again, and is opened anew when the gateway has closed it."""

    def __init__(self, url: str, path: str, *fields: str) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname, address.port
        lines = [f"GET {path} HTTP/1.1", f"Host: {address.netloc}", *fields]
        self._request = ("\r\n".join(lines) + "\r\n\r\n").encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._ended = False

    async def status(self) -> int:
        """The status of the next answer; a request whose connection was closed unanswered is sent once more."""
        for _ in range(2):
            if self._ended:
                break
            if self._streams is None:
                self._streams = await asyncio.open_connection(self._host, self._port)
            reader, writer = self._streams
            try:
                writer.write(self._request)
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                self._close()
                continue
            [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(length.partition(b":")[2]))
            return int(head.split()[1])
        raise AssertionError("closed twice without an answer")

    def close(self) -> None:
        """For good: a call that waits opens no other connection, which would outlive a test that failed."""
        self._ended = True
        self._close()

    def _close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@asynccontextmanager
async def kept(url: str, path: str, *fields: str) -> AsyncIterator[Kept]:
    connection = Kept(url, path, *fields)
    try:
        yield connection
    finally:
        connection.close()


async def issued(store: Store, client: Client) -> str:
    return (await store.tokens.issue(client.client_id, None, frozenset({"read"}), 3600, None)).access_token


@pytest.fixture
async def token(store: Store) -> str:
    """A token that passes."""
    client, _ = await store.clients.create(new_client())
    return await issued(store, client)


async def test_a_reload_is_seen_on_connections_that_are_kept(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    """The head of such a connection is known by its bytes, and so is its route: both go with the old workers."""
    async with (
        serving(tmp_path, dsn=database, workers=1, routes=[{**upstream.route(), "path": "/old"}]) as gateway,
        kept(gateway.url, "/old") as one,
        kept(gateway.url, "/new") as other,
    ):
        for _ in range(20):
            assert (await one.status(), await other.status()) == (200, 404)
        rewrite(gateway, '"/old"', '"/new"')
        await reloaded(gateway)
        for _ in range(20):
            assert (await one.status(), await other.status()) == (404, 200)


async def last_pass(connection: Kept, ends: asyncio.Event) -> float:
    """Call for as long as `ends` is not set; gives the moment at which the last call began that passed."""
    passed = 0.0
    while not ends.is_set():
        began = time.monotonic()
        if await connection.status() == 200:
            passed = began
        await asyncio.sleep(OFTEN)
    connection.close()
    return passed


@pytest.mark.long
async def test_no_call_passes_by_the_old_rules_a_second_after_a_reload(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    async with serving(tmp_path, dsn=database, routes=[{**upstream.route(), "path": "/a"}]) as gateway:
        for done, (old, new) in enumerate((("/a", "/b"), ("/b", "/a")) * scaled(10)):
            ends = asyncio.Event()
            calls = [asyncio.create_task(last_pass(Kept(gateway.url, old), ends)) for _ in range(8)]
            rewrite(gateway, f'"{old}"', f'"{new}"')
            gateway.process.send_signal(signal.SIGHUP)
            await logged(gateway, "reloaded", done)
            told = time.monotonic()
            assert await gateway.status(new) == 200
            await until(partial(is_past, told + 1.2))
            ends.set()
            assert max(await asyncio.gather(*calls)) < told + 1


@pytest.mark.long
async def test_no_connection_is_refused_while_workers_change(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    async with serving(tmp_path, dsn=database, routes=[upstream.route()]) as gateway:
        ends = asyncio.Event()

        async def call() -> int:
            calls = 0
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
                while not ends.is_set():
                    for method, path in (("POST", "/x"), ("GET", "/oauth2/login")):
                        async with session.request(method, gateway.url + path) as answer:
                            assert answer.status == 200
                            await answer.read()
                    calls += 1
                    await asyncio.sleep(OFTEN)
            return calls

        calls = [asyncio.create_task(call()) for _ in range(4)]
        for _ in range(scaled(20)):
            await reloaded(gateway)
        ends.set()
        assert all(await asyncio.gather(*calls))


async def test_what_is_in_flight_ends_by_the_rules_it_began_with(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    async with (
        serving(tmp_path, dsn=database, workers=1, routes=[upstream.route()]) as gateway,
        kept(gateway.url, "/slow") as connection,
    ):
        waiting = asyncio.create_task(connection.status())
        await until(lambda: upstream.waiting.total() == 1)
        rewrite(gateway, '"path" = "/"', '"path" = "/elsewhere"')
        gateway.process.send_signal(signal.SIGHUP)
        await until(lambda: events(gateway, "reloaded"))
        assert await gateway.status("/slow") == 404
        assert not waiting.done()
        upstream.release.set()
        assert await waiting == 200
        assert await connection.status() == 404


async def test_a_reload_is_told_of_once_no_new_connection_is_judged_by_the_old_rules(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    """A worker of the old generation that has not yet heard of it may still take a connection."""
    async with serving(tmp_path, dsn=database, routes=[{**upstream.route(), "path": "/old"}]) as gateway:
        slow = gateway.workers
        for worker in slow:
            worker.suspend()
        try:
            rewrite(gateway, '"/old"', '"/new"')
            gateway.process.send_signal(signal.SIGHUP)
            await until(lambda: len(gateway.workers) > len(slow))
            await until(lambda: _answers(gateway, "/new"))
            assert not events(gateway, "reloaded")
        finally:
            for worker in slow:
                worker.resume()
        await until(lambda: events(gateway, "reloaded"))
        assert await gateway.status("/old") == 404


async def _answers(gateway: Gateway, path: str) -> bool:
    return await gateway.status(path) == 200


async def test_an_old_worker_that_hangs_does_not_hold_up_a_reload(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, dsn=database) as gateway:
        hung, *_ = gateway.workers
        hung.suspend()
        gateway.process.send_signal(signal.SIGHUP)
        await until(lambda: events(gateway, "reloaded"))
        await until(lambda: is_gone(hung))
        assert [line["hung_pid"] for line in events(gateway, "worker hangs")] == [hung.pid]


# What is changed in the file, and the key that is named then; {public} and {admin} are where it listens.
FAULTS = {
    "[admin]": ("[[admin", "config.toml"),
    "[keys]": ("[surprise]\n[keys]", "surprise"),
    '"auth" = ["bearer"]\n': ("", "routes[0].auth"),
    "master.key": ("other.key", "keys.master"),
    '"listen" = "{public}"': ('"listen" = "localhost:1"', "server.listen"),
    '"listen" = "{admin}"': ('"listen" = "localhost:1"', "admin.listen"),
    "postgresql://gateway@": ("postgresql://nobody:hunter2@", "database.url"),
}


async def test_a_faulty_file_changes_nothing_and_each_fault_is_named(tmp_path: Path, token: str, database: str) -> None:
    async with serving(tmp_path, dsn=database, workers=1, routes=[GUARDED]) as gateway:
        workers = {worker.pid for worker in gateway.workers}
        good = gateway.config.read_text()
        async with kept(gateway.url, "/notes", f"Authorization: Bearer {token}") as connection:
            places = {"public": urlsplit(gateway.url).netloc, "admin": urlsplit(gateway.admin_url).netloc}
            for old, (new, named) in FAULTS.items():
                rewrite(gateway, old.format(**places), new)
                [fault] = await refused(gateway)
                assert named in fault
                assert await connection.status() == PASSES
                gateway.config.write_text(good)
            assert {worker.pid for worker in gateway.workers} == workers
            assert await gateway.is_ready()
            rewrite(gateway, '"/notes"', '"/others"')
            await reloaded(gateway)
            assert await connection.status() == 404
    assert "hunter2" not in gateway.log_text


async def test_a_reload_without_the_private_folder_is_refused_and_calls_pass_on(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    """Whatever tidies up a folder for temporary files may have removed it."""
    with tempfile.TemporaryDirectory(prefix="gwt-") as short:
        environment = {"TMPDIR": short}
        async with serving(
            tmp_path, dsn=database, workers=1, routes=[upstream.route()], environment=environment
        ) as gateway:
            [folder] = Path(short).glob("gateway-run-*")
            shutil.rmtree(folder)
            [fault] = await refused(gateway)
            assert str(folder) in fault
            assert await gateway.status("/") == 200


async def test_a_configuration_from_a_pipe_cannot_be_read_again(tmp_path: Path, database: str) -> None:
    """A shell's `<(…)` is one; who opens it anew waits for whoever writes."""
    path, *_ = write_config(tmp_path, tmp_path, dsn=database)
    pipe, log = tmp_path / "pipe.toml", tmp_path / "stderr.log"
    os.mkfifo(pipe)
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, "serve", "--config", str(pipe), stderr=stderr, cwd=ROOT
        )
    try:
        await asyncio.to_thread(pipe.write_text, path.read_text())
        await until(lambda: '"serving"' in log.read_text())
        process.send_signal(signal.SIGHUP)
        await until(lambda: "reload refused" in log.read_text())
        assert "is a pipe" in log.read_text()
        process.terminate()
        assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def test_a_file_that_cannot_be_looked_at_or_a_secret_from_a_pipe_ends_nothing(
    tmp_path: Path, database: str
) -> None:
    async with serving(tmp_path, dsn=database, workers=1) as gateway:
        good, key = gateway.config.read_text(), tmp_path / "master.key"
        gateway.config.unlink()
        gateway.config.symlink_to("x" * 300)
        [fault] = await refused(gateway)
        assert "File name too long" in fault
        gateway.config.unlink()
        gateway.config.write_text(good)
        secret = key.read_text()
        key.unlink()
        os.mkfifo(key)
        [fault] = await refused(gateway)
        assert fault.startswith("keys.master")
        assert "is a pipe" in fault
        key.unlink()
        write_key(key, secret)
        await reloaded(gateway)


_FAULTY = """
import sys
from pathlib import Path
from gateway import config
from gateway.supervisor.supervisor import serve
serve(config.load(Path(sys.argv[-1])), reload=lambda: 1 / 0)
"""


async def test_a_fault_of_the_program_in_a_reload_ends_nothing(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, dsn=database, workers=1, program=(sys.executable, "-c", _FAULTY)) as gateway:
        workers = gateway.workers
        for count in range(2):
            gateway.process.send_signal(signal.SIGHUP)
            await logged(gateway, "reload refused", count)
        assert "ZeroDivisionError" in events(gateway, "reload refused")[-1]["exception"]
        assert gateway.workers == workers
        assert await gateway.is_ready()


async def test_a_generation_takes_no_connection_before_it_is_told_to(tmp_path: Path, database: str) -> None:
    """One that is given up must leave those that come to the generation that goes on."""
    path, _, _ = write_config(tmp_path, tmp_path, dsn=database)
    [listener] = listen({"server.listen": ("127.0.0.1", 0)})
    socket = tmp_path / "authorization.sock"
    generation = Generation(
        config.load(path), workers=1, listener=listener, path=socket, dsn=database, level="error", counts=Counts()
    )
    running = asyncio.create_task(generation.run())
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    try:
        await asyncio.wait_for(generation.wait_ready(), PATIENCE)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readline(), 0.5)
        generation.serve()
        assert b" 404 " in await asyncio.wait_for(reader.readline(), PATIENCE)
    finally:
        writer.close()
        generation.kill()
        await asyncio.wait_for(running, PATIENCE)
        listener.close()


async def test_a_generation_that_cannot_start_says_so(tmp_path: Path, database: str) -> None:
    path, _, _ = write_config(tmp_path, tmp_path, dsn=database)
    settings = config.load(path)
    gone = settings.config.branding.model_copy(update={"stylesheet": "removed-since.css"})
    settings = replace(settings, config=settings.config.model_copy(update={"branding": gone}))
    [listener] = listen({"server.listen": ("127.0.0.1", 0)})
    socket = tmp_path / "authorization.sock"
    generation = Generation(
        settings, workers=1, listener=listener, path=socket, dsn=database, level="error", counts=Counts()
    )
    running = asyncio.create_task(generation.run())
    await asyncio.wait_for(generation.wait_stumbled(), PATIENCE)
    assert not generation.was_ready
    generation.kill()
    await asyncio.wait_for(running, PATIENCE)
    listener.close()
    assert not socket.exists()


async def test_a_worker_that_is_not_ready_in_time_is_told_with_the_load_of_the_machine(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_LONGEST_START", 0.0)
    path, _, _ = write_config(tmp_path, tmp_path, dsn=database)
    [listener] = listen({"server.listen": ("127.0.0.1", 0)})
    generation = Generation(
        config.load(path),
        workers=1,
        listener=listener,
        path=tmp_path / "authorization.sock",
        dsn=database,
        level="error",
        counts=Counts(),
    )
    running = asyncio.create_task(generation.run())
    await asyncio.wait_for(generation.wait_stumbled(), PATIENCE)
    assert re.fullmatch(
        r"worker (access|authorization)-1 was not ready within 0 s and was killed; "
        r"is the machine overloaded \(load \d+ on (one core|\d+ cores)\)\?",
        generation.late,
    )
    generation.kill()
    await asyncio.wait_for(running, PATIENCE)
    listener.close()


async def test_a_reload_can_change_how_many_workers_there_are(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, dsn=database, workers=1) as gateway:
        for before, count in ((1, 3), (3, 2)):
            rewrite(gateway, f'"workers" = {before}', f'"workers" = {count}')
            await reloaded(gateway)
            assert len(gateway.workers) == count
            assert await gateway.is_ready()


async def test_what_was_revoked_before_a_reload_is_refused_after_it(
    tmp_path: Path, store: Store, database: str
) -> None:
    client, _ = await store.clients.create(new_client())
    dead, alive = await issued(store, client), await issued(store, client)
    async with (
        serving(tmp_path, dsn=database, workers=1, routes=[GUARDED]) as gateway,
        kept(gateway.url, "/notes", f"Authorization: Bearer {dead}") as one,
        kept(gateway.url, "/notes", f"Authorization: Bearer {alive}") as other,
    ):
        assert (await one.status(), await other.status()) == (PASSES, PASSES)
        assert await store.tokens.revoke(dead, None)
        await reloaded(gateway)
        assert (await one.status(), await other.status()) == (401, PASSES)


async def test_a_new_master_key_is_taken_with_the_old_one_as_previous_and_never_without(
    tmp_path: Path, token: str, database: str
) -> None:
    async with serving(tmp_path, dsn=database, workers=1, routes=[GUARDED]) as gateway:
        key = tmp_path / "master.key"
        old = tmp_path / "old.key"
        write_key(old, key.read_text())
        key.write_text(base64.b64encode(b"another-obviously-fake-test-key!").decode())
        [fault] = await refused(gateway)
        assert fault.startswith("keys.master")
        assert "does not fit the data" in fault
        rewrite(gateway, "[keys]\n", f'[keys]\n"previous" = [{{ file = {json.dumps(str(old))} }}]\n')
        await reloaded(gateway)
        async with kept(gateway.url, "/notes", f"Authorization: Bearer {token}") as connection:
            assert await connection.status() == PASSES


async def test_a_reload_while_the_database_is_away_is_refused(tmp_path: Path) -> None:
    """New workers know no token yet, while those that serve may go on for `tokens.stale_for`."""
    async with serving(tmp_path, workers=1) as gateway:
        with hung(gateway.postgres):
            [fault] = await refused(gateway)
        assert fault.startswith("database.url: does not answer")
        await until(gateway.is_ready)
        await reloaded(gateway)


async def test_reloads_that_come_faster_than_workers_drain_wait(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    async with serving(tmp_path, dsn=database, workers=1, routes=[upstream.route()]) as gateway:
        async with kept(gateway.url, "/slow") as one, kept(gateway.url, "/slow") as other:
            calls = list[asyncio.Task[int]]()
            for count, connection in enumerate((one, other), 1):
                calls.append(asyncio.create_task(connection.status()))
                await until(lambda count=count: upstream.waiting.total() == count)  # type: ignore[misc]
                gateway.process.send_signal(signal.SIGHUP)
                await logged(gateway, "reloaded", count - 1)
            gateway.process.send_signal(signal.SIGHUP)
            assert (await gateway.status("/x"), len(gateway.workers)) == (200, 3)
            assert len(events(gateway, "reloaded")) == 2
            upstream.release.set()
            assert await asyncio.gather(*calls) == [200, 200]
        await logged(gateway, "reloaded", 2)
        await until(lambda: len(gateway.workers) == 1)


async def test_a_reload_before_the_first_workers_are_ready_is_a_start_all_the_same(
    tmp_path: Path, database: str
) -> None:
    path, _, _ = write_config(tmp_path, tmp_path, dsn=database)
    log = tmp_path / "stderr.log"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, "serve", "--config", str(path), stderr=stderr, cwd=ROOT
        )
    try:
        await until(lambda: psutil.Process(process.pid).children())
        process.send_signal(signal.SIGHUP)
        await until(lambda: '"serving"' in log.read_text() and '"reloaded"' in log.read_text())
        process.terminate()
        assert await process.wait() == 0
        assert log.read_text().count('"serving"') == 1
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


@pytest.mark.parametrize("signals", [(signal.SIGHUP, signal.SIGTERM), (signal.SIGHUP,) * 3 + (signal.SIGTERM,)])
async def test_an_end_during_a_reload_leaves_nothing(
    tmp_path: Path, database: str, signals: tuple[signal.Signals, ...]
) -> None:
    async with serving(tmp_path, dsn=database, workers=1) as gateway:
        for signum in signals:
            gateway.process.send_signal(signum)
        family = set(gateway.children)

        async def ended() -> bool:
            family.update(gateway.children)
            return gateway.process.returncode is not None

        await until(ended)
        assert gateway.process.returncode == 0
        assert all(map(is_gone, family))


@pytest.mark.long
async def test_many_reloads_leave_nothing_behind(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, dsn=database, workers=1) as gateway:
        supervisor = psutil.Process(gateway.process.pid)

        def is_settled() -> bool:  # one that has ended and is yet to be waited for is also a child
            return {*gateway.children} == {*gateway.workers, *gateway.authorization_workers}

        await reloaded(gateway)
        await until(is_settled)
        files = supervisor.num_fds()
        for _ in range(scaled(30)):
            await reloaded(gateway)
        await until(is_settled)
        await until(lambda: supervisor.num_fds() <= files)
