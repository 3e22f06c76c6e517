"""The supervisor's parts by themselves: the channel, the pause between failed starts, the key of two starts at once."""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from gateway import config
from gateway.config import Settings
from gateway.faults import OperatorError
from gateway.supervisor.channel import HEARTBEAT, Channel, Drain, Message, Ready, Start
from gateway.supervisor.keys import with_master_key
from gateway.supervisor.listening import listen, listen_privately
from gateway.supervisor.metrics import Counts
from gateway.supervisor.workers import Workers
from tests.serving import PATIENCE, command_line, data_folder, free_ports, until, write_config
from tests.supervisor.conftest import is_gone


def settings_of(folder: Path, dsn: str) -> Settings:
    path, _, _ = write_config(folder, folder / "data", dsn=dsn)
    return config.load(path)


def start_of(settings: Settings, folder: str, number: int = 1) -> Start:
    return Start(
        settings=settings,
        dsn="postgresql://u:hunter2@h/d",
        name=f"access-{number}",
        authorization_socket=f"{folder}/authorization.sock",
        supervisor=os.getpid(),
        level="error",
    )


async def channels() -> tuple[Channel, Channel]:
    one, other = socket.socketpair()
    return await Channel.over(one), await Channel.over(other)


async def test_every_message_arrives_as_it_was_sent_and_in_order(tmp_path: Path) -> None:
    start = start_of(settings_of(tmp_path, "postgresql://h/d"), "/nowhere")
    sent: list[Message] = [start, Ready(), Drain(30.0), Drain(0.5)]
    ours, theirs = await channels()
    for message in sent:
        ours.send(message)
    received = [await theirs.receive() for _ in sent]
    assert received[1:] == sent[1:]
    [arrived] = [message for message in received if isinstance(message, Start)]
    assert (arrived.dsn, arrived.settings.config, arrived.settings.path) == (
        start.dsn,
        start.settings.config,
        start.settings.path,
    )
    assert arrived.settings.keyring is not None
    assert start.settings.keyring is not None
    token = start.settings.keyring.new_token("gwa_")
    assert arrived.settings.keyring.is_ours(token, "gwa_")
    ours.close()
    theirs.close()


async def test_the_end_of_the_other_is_no_message_even_within_one() -> None:
    one, other = socket.socketpair()
    channel = await Channel.over(other)
    one.sendall(b"\0\0\1\0half")
    one.close()
    assert await channel.receive() is None
    channel.send(Ready())
    channel.close()


def test_what_a_worker_is_told_shows_no_secret(tmp_path: Path) -> None:
    shown = repr(start_of(settings_of(tmp_path, "postgresql://u:hunter2@h/d"), "/nowhere"))
    assert "hunter2" not in shown


async def test_a_worker_that_never_gets_ready_is_tried_again_with_growing_pauses(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "postgresql://h/d")
    gone = settings.config.branding.model_copy(update={"stylesheet": "removed-since.css"})
    settings = replace(settings, config=settings.config.model_copy(update={"branding": gone}))
    asked = list[float]()
    [listener] = listen({"server.listen": ("127.0.0.1", 0)})

    def start(number: int) -> Start:
        asked.append(asyncio.get_running_loop().time())
        return start_of(settings, str(tmp_path), number)

    workers = Workers("authorization", 1, listener, start, Counts())
    running = asyncio.create_task(workers.run())
    try:
        await until(lambda: len(asked) >= 4)
        assert workers.ready == 0
    finally:
        workers.drain(1.0)
        await running
        listener.close()
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert gaps[0] > 0.1
    assert gaps[1] > 0.2
    assert gaps[2] > 0.4


async def test_workers_that_were_never_ready_do_not_hold_up_the_end(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "postgresql://h/d")
    [listener] = listen({"server.listen": ("127.0.0.1", 0)})
    workers = Workers("access", 2, listener, lambda number: start_of(settings, str(tmp_path), number), Counts())
    running = asyncio.create_task(workers.run())
    await asyncio.sleep(0)
    workers.drain(60.0)
    await asyncio.wait_for(running, 50)
    listener.close()


@pytest.fixture
async def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Workers]:
    """One worker that is ready, and looked at often."""
    monkeypatch.setattr("gateway.supervisor.workers._SILENCE", 1.25 * HEARTBEAT)
    settings = settings_of(tmp_path, "postgresql://h/d")
    listener = listen_privately(tmp_path / "authorization.sock")
    workers = Workers("authorization", 1, listener, lambda number: start_of(settings, str(tmp_path), number), Counts())
    running = asyncio.create_task(workers.run())
    await asyncio.wait_for(workers.wait_ready(), PATIENCE)
    yield workers
    workers.kill()
    await running
    listener.close()


def the_worker() -> psutil.Process:
    [found] = [child for child in psutil.Process().children() if {"worker", "authorization"} <= {*command_line(child)}]
    return found


async def test_a_worker_whose_loop_stands_still_is_not_ready_and_then_replaced(watched: Workers) -> None:
    hung = the_worker()
    hung.suspend()
    await until(lambda: watched.ready == 0)
    assert not is_gone(hung)
    await until(lambda: is_gone(hung))
    await until(lambda: watched.ready == 1)


async def test_a_worker_that_was_silent_for_a_moment_goes_on(watched: Workers) -> None:
    slow = the_worker()
    slow.suspend()
    await until(lambda: watched.ready == 0)
    slow.resume()
    await until(lambda: watched.ready == 1)
    assert the_worker() == slow


async def test_a_supervisor_that_stood_still_holds_it_against_no_worker(
    watched: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.supervisor.workers._SILENCES", 1)
    worker = the_worker()
    time.sleep(3 * HEARTBEAT)  # noqa: ASYNC251  # as if this process had been stopped
    ends = time.monotonic() + 2 * HEARTBEAT
    while time.monotonic() < ends:
        assert watched.ready == 1
        await asyncio.sleep(0.01)
    assert the_worker() == worker


def test_two_first_starts_at_once_use_one_key(tmp_path: Path) -> None:
    with data_folder(tmp_path) as data_dir:
        path, _, _ = write_config(tmp_path, data_dir)
        fresh = config.load(path)
        assert fresh.keyring is None
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(with_master_key, [fresh] * 8))
        assert len({settings.keyring.key_id for settings in made if settings.keyring is not None}) == 1
        assert all(settings.keyring is not None for settings in made)
        assert [entry.name for entry in data_dir.iterdir()] == ["master.key"]


def test_a_key_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with data_folder(tmp_path) as data_dir:
        path, _, _ = write_config(tmp_path, data_dir, keys={"master": {"file": "/proc/barred/master.key"}})
        with pytest.raises(OperatorError, match=r"^keys\.master: /proc/barred/master\.key cannot be written"):
            with_master_key(config.load(path))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "0.0.0.0"])
def test_any_kind_of_address_can_be_listened_on(host: str) -> None:
    [sock] = listen({"server.listen": (host, 0)})
    with contextlib.closing(sock):
        assert not sock.getblocking()
        assert sock.getsockname()[1] != 0


def test_a_fault_at_one_address_leaves_no_other_open() -> None:
    [free] = free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OperatorError, match=r"^admin\.listen: .* in use"):
            listen({"server.listen": ("127.0.0.1", free), "admin.listen": ("127.0.0.1", taken.getsockname()[1])})
        listen({"server.listen": ("127.0.0.1", free)})[0].close()
