"""Lines reach a file, stderr or syslog; what cannot be written is lost and told, and holds nobody up."""

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from gateway import log_sink as module
from gateway.log_sink import File, Lines, Stderr, Syslog, Target, target_of
from tests.serving import until

Opened = Callable[[Target], Lines]


@pytest.fixture
async def opened(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Opened]:
    """Lines to a target; they are closed with the test."""
    monkeypatch.setattr(module, "_EVERY", 0.01)
    made = list[Lines]()

    def to(target: Target) -> Lines:
        made.append(Lines(target))
        return made[-1]

    yield to
    for each in made:
        await asyncio.to_thread(each.close)


async def test_file_is_written_soon_and_to_its_end(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "access.log"
    lines = opened(target_of("access.log", tmp_path))
    lines.add(b"one\n")
    await until(lambda: path.exists() and path.read_bytes() == b"one\n")
    for _ in range(10_000):  # more than a system takes at once
        lines.add(b"another\n")
    await asyncio.to_thread(lines.close)
    assert path.read_bytes() == b"one\n" + b"another\n" * 10_000
    assert path.stat().st_mode & 0o777 & 0o137 == 0  # nobody else reads it, group apart


async def test_what_is_added_before_the_next_lines_is_written_with_them_and_at_the_end(
    tmp_path: Path, opened: Opened
) -> None:
    path = tmp_path / "access.log"
    lines = opened(File(path))
    lines.soon(lambda: lines.add(b"soon\n"))
    await until(lambda: path.exists() and path.read_bytes() == b"soon\n")
    lines.add(b"one\n")
    lines.soon(lambda: lines.add(b"x" * 70_000 + b"\n"))
    await asyncio.to_thread(lines.close)
    assert path.read_bytes() == b"soon\none\n" + b"x" * 70_000 + b"\n"


async def test_file_that_was_moved_is_written_on_until_it_is_to_be_opened_again(tmp_path: Path, opened: Opened) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    lines = opened(File(path))
    lines.add(b"before\n")
    await until(lambda: path.exists() and path.read_bytes())
    path.rename(moved)
    lines.reopen()
    lines.add(b"after\n")
    await until(lambda: path.exists() and path.read_bytes() == b"after\n")
    assert moved.read_bytes() == b"before\n"


async def test_file_that_is_gone_is_made_again_and_its_folder_waited_for(
    tmp_path: Path, opened: Opened, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs"
    path = folder / "access.log"
    lines = opened(File(path))
    lines.add(b"lost\n")
    told = ""

    def was_told() -> bool:
        nonlocal told
        told += capsys.readouterr().err
        return "lines of the access log are lost" in told

    await until(was_told)
    assert "No such file" in told
    folder.mkdir()
    lines.add(b"first\n")
    await until(lambda: path.exists() and path.read_bytes() == b"first\n")
    path.unlink()
    lines.add(b"second\n")
    await until(lambda: path.exists() and path.read_bytes() == b"second\n")


async def test_full_disk_loses_lines_and_nothing_else_and_none_is_mixed_with_another(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "access.log"
    room = [10]

    def full(descriptor: int, parts: list[bytes]) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        size = os.write(descriptor, b"".join(parts)[: room[0]])
        room[0] -= size
        return size

    monkeypatch.setattr(os, "writev", full)
    file = File(path)
    assert file.write([b"first\n", b"second\nthird\n"]) == len(b"first\n")
    with pytest.raises(OSError, match="No space"):
        file.write([b"fourth\n"])
    room[0] = 1000
    assert file.write([b"fifth\n"]) == len(b"fifth\n")
    assert path.read_bytes().splitlines() == [b"first", b"seco", b"fifth"]
    room[0] = 0
    lines = opened(file)
    for _ in range(100):
        lines.add(b"no more\n")
    told = ""

    def was_told() -> bool:
        nonlocal told
        told += capsys.readouterr().err
        return '"cause": "No space left on device"' in told

    await until(was_told)


async def test_pipe_that_nobody_reads_holds_nobody_up(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    lines = opened(File(path))
    began = time.monotonic()
    for _ in range(1000):
        lines.add(b"x" * 100 + b"\n")
    await asyncio.to_thread(lines.close)
    assert time.monotonic() - began < 60


async def test_what_waits_for_a_target_that_hangs_is_bounded(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LAST", 0.0)
    reader, writer = os.pipe()
    lines = opened(Stderr(writer))  # which blocks when the pipe is full
    for _ in range(2000):
        lines.add(b"x" * 9999 + b"\n")
    assert lines._given - lines._done <= module._BACKLOG + module._BATCH + 10_000
    assert len(lines._waiting) < module._BATCH
    os.set_blocking(reader, False)

    def emptied() -> bool:
        with contextlib.suppress(BlockingIOError):
            while os.read(reader, 1 << 20):
                pass
        return lines._given == lines._done

    await until(emptied)
    os.close(reader)


async def test_a_thread_is_there_only_while_something_is_written(tmp_path: Path, opened: Opened) -> None:
    threads = psutil.Process().num_threads
    reader, writer = os.pipe()
    lines = opened(Stderr(writer))
    before = threads()
    lines.add(b"x" * 100_000 + b"\n")
    await until(lambda: threads() > before)
    os.set_blocking(reader, False)
    received = 0
    while received < 100_001:
        with contextlib.suppress(BlockingIOError):
            received += len(os.read(reader, 1 << 16))
        await asyncio.sleep(0)
    os.set_blocking(reader, True)
    await until(lambda: threads() <= before)
    lines.add(b"another\n")
    assert await asyncio.to_thread(os.read, reader, 99) == b"another\n"
    os.close(reader)


@pytest.mark.plain
async def test_lines_that_no_thread_can_be_had_for_are_lost_and_told_and_later_ones_are_written(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "access.log"
    lines = opened(File(path))

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without:
        without.setattr(module, "start_new_thread", refuse)
        for _ in range(10):
            lines.add(b"x" * module._BATCH + b"\n")
        lines.reopen()
    assert '"cause": "can\'t start new thread"' in capsys.readouterr().err
    assert not path.exists()
    lines.add(b"one\n")
    lines.reopen()
    await asyncio.to_thread(lines.close)
    assert path.read_bytes() == b"one\n"


async def test_fault_of_what_adds_lines_or_takes_them_stops_none_that_follow(
    opened: Opened, capsys: pytest.CaptureFixture[str]
) -> None:
    class Odd:
        """Takes no line the first time."""

        taken: list[bytes] | None = None

        def write(self, batch: list[bytes]) -> int:
            if self.taken is None:
                self.taken = []
                raise ValueError("odd")
            self.taken += batch
            return sum(map(len, batch))

        def reopen(self) -> None:
            pass

    def fail() -> None:
        raise RuntimeError("it adds nothing")

    odd = Odd()
    lines = opened(odd)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    lines.soon(fail)
    lines.add(b"lost\n")
    await until(lambda: lines._timer is None)
    lines.add(b"lost too\n")
    await until(lambda: "ValueError('odd')" in capsys.readouterr().err)
    lines.add(b"third\n")
    await until(lambda: odd.taken == [b"third\n"])


async def test_pipe_that_is_read_gets_whole_lines_and_each_of_them(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writers = [opened(File(path)) for _ in range(2)]  # as two workers
    for number in range(2000):
        for name, writer in zip((b"a", b"b"), writers, strict=True):
            writer.add(b"%b%d %b\n" % (name, number, b"x" * 250))
    os.set_blocking(reader, True)
    received = b""
    while received.count(b"\n") < 4000:
        received += await asyncio.to_thread(os.read, reader, 1 << 16)
    os.close(reader)
    told = received.split()[::2]
    for name in (b"a", b"b"):
        assert [each for each in told if each.startswith(name)] == [b"%b%d" % (name, number) for number in range(2000)]


def test_writes_to_a_pipe_are_whole_lines_and_no_longer_than_it_takes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    written = list[bytes]()

    def write(_: int, data: bytes) -> int:
        written.append(data)
        return len(data)

    monkeypatch.setattr(os, "write", write)
    given = [b"x" * size + b"\n" for size in (10, 4000, 90, 4095, 1, 5000, 3)]
    assert Stderr(1).write(given) == sum(map(len, given))
    assert b"".join(written) == b"".join(given)
    assert [len(data) for data in written if len(data) > 4096] == [5001]
    assert all(data.endswith(b"\n") for data in written)


async def test_syslog_gets_a_datagram_for_each_line_and_may_come_and_go(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "log.sock"
    lines = opened(target_of(f"syslog:{path}", tmp_path))
    lines.add(b"lost\n")
    await until(lambda: lines._lost or lines._tell_at)
    for round_ in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
            syslog.bind(str(path))
            syslog.setblocking(False)
            got = list[bytes]()

            def received(syslog: socket.socket = syslog, got: list[bytes] = got, number: int = round_) -> bool:
                lines.add(b"a call %d\n" % number)
                try:
                    got.append(syslog.recv(9999))
                except BlockingIOError:
                    return False
                return got[-1].endswith(b": a call %d" % number)

            await until(received)
            assert got[-1].startswith(b"<134>")
        path.unlink()


def test_syslog_over_the_network_is_rfc_5424() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as syslog:
        syslog.bind(("127.0.0.1", 0))
        target = Syslog(f"127.0.0.1:{syslog.getsockname()[1]}")
        assert target.write([b"one\n", b"two\n"]) == 8
        first, second = syslog.recv(9999), syslog.recv(9999)
        target.reopen()
    fields = first.split(b" ", 7)
    assert fields[0] == b"<134>1"
    assert fields[3:] == [b"gateway", b"%d" % os.getpid(), b"access", b"-", b"one"]
    assert second.endswith(b" - two")
