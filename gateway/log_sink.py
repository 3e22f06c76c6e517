"""Lines for others to keep: to stderr, a file or syslog, in batches, by a thread, so that no call waits for a disk.

    add ──▶ waiting ──▶ a batch, every quarter of a second or a MiB ──▶ a thread writes it, in one step

The thread ends when nothing is left to write: what reads and writes sockets costs less in a process of one thread.

What cannot be written is counted and lost, and the gateway serves on: a full disk, a file or a syslog that is gone, or
one that takes nothing for so long that 4 MiB wait. Each minute of it has one line in the gateway's own log, and all of
it a figure. A file is opened again when its place has another one or none, and when it is asked for. A line that a full
disk cut short is ended before the next, so that no two are mixed.
"""

import asyncio
import contextlib
import os
import socket
import stat
import sys
import threading
import time
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from gateway.figures import LOG_LINES_LOST
from gateway.observe import get_logger

STDERR: Final = "-"
SYSLOG: Final = "syslog:"

_EVERY: Final = 0.25  # seconds
_BATCH: Final = 1024**2  # as often as that two threads take turns, which costs more than a write
_BACKLOG: Final = 4 * 1024**2
_PARTS: Final = 1000  # of a batch that are written as they are; a system takes no more than IOV_MAX, which is 1024
_PIPE: Final = 4096  # bytes that a pipe takes whole, so that lines of several processes never mix (pipe(7), PIPE_BUF)
_SYSLOG_SOCKET: Final = "/dev/log"
_PRIORITY: Final = 16 * 8 + 6  # local0.info (RFC 5424, section 6.2.1)
_PATIENCE: Final = 1.0  # seconds for syslog to take a line
_LAST: Final = 2.0  # seconds for the last lines at the end
_MINUTE: Final = 60.0

_log = get_logger("gateway.access")


class Target(Protocol):
    """Where lines go. Each of these is called by the thread alone and may wait."""

    def write(self, batch: list[bytes]) -> int:
        """Write whole lines, one or more in each part; how many bytes of them were, in whole lines. Raises OSError when
        none can be."""

    def reopen(self) -> None:
        """Begin anew, at what has the name now."""


class Lines:
    """Lines on their way to one place."""

    def __init__(self, target: Target) -> None:
        self._target: Final = target
        self._loop: Final = asyncio.get_running_loop()
        self._waiting = list[bytes]()
        self._room = _BATCH  # bytes that may wait yet
        self._before: list[Callable[[], None]] = []  # what may add some more
        self._given = self._done = 0  # bytes in all, by the loop and by the thread
        self._timer: asyncio.TimerHandle | None = None
        self._changed: Final = threading.Condition()  # of the next two
        self._batches: deque[list[bytes] | None] = deque()  # None: begin anew
        self._is_writing = False
        self._lost = 0  # since it was told last
        self._tell_at = 0.0

    def add(self, lines: bytes) -> None:
        """Have whole lines written, each with its line feed."""
        self._waiting.append(lines)
        self._room -= len(lines)
        if self._room <= 0:
            self.flush()
        else:
            self._wake()

    def soon(self, act: Callable[[], None]) -> None:
        """Have something done before the next lines are written, which may add some: as late as those may be."""
        self._before.append(act)
        self._wake()

    def _wake(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(_EVERY, self.flush)

    def flush(self) -> None:
        """Have written what waits, by the thread."""
        try:
            while self._before:
                self._before.pop()()
        finally:  # so that what comes next is written in any case
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        batch, self._waiting, self._room = self._waiting, [], _BATCH
        if self._given - self._done > _BACKLOG:
            self._lose(_lines_in(batch), "what is before them is not written yet")
        elif batch:
            self._given += _size_of(batch)
            self._hand_over(batch)

    def reopen(self) -> None:
        """Write on to what has the file's name now, all that came before to what had it."""
        self.flush()
        self._hand_over(None)

    def close(self) -> None:
        """Write the last lines, for some moments at most."""
        self.flush()
        with self._changed:
            self._changed.wait_for(lambda: not self._is_writing, _LAST)

    def _hand_over(self, batch: list[bytes] | None) -> None:
        """Have a thread write a batch, or begin anew; a batch is lost where the system has no thread to give."""
        cause = ""
        with self._changed:
            if not self._is_writing:
                try:  # threading.Thread would wait until it runs, which takes as long as many lines
                    start_new_thread(self._write_all, ())
                except (RuntimeError, MemoryError) as exc:
                    cause = str(exc) or type(exc).__name__
                else:
                    self._is_writing = True
            if self._is_writing:
                self._batches.append(batch)
                return
        if batch is not None:
            self._done += _size_of(batch)
            self._lose(_lines_in(batch), cause)

    # -- in the thread --------------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        sys.settrace(threading.gettrace())  # as threading.Thread does, for who looks what runs
        while True:
            with self._changed:
                if not self._batches:
                    self._is_writing = False
                    self._changed.notify_all()
                    return
                batch = self._batches.popleft()
            self._attempt(batch)
            self._done += _size_of(batch or [])

    def _attempt(self, batch: list[bytes] | None) -> None:
        lost, cause = 0, ""
        try:
            if batch is None:
                self._target.reopen()
            elif (written := self._target.write(batch)) < _size_of(batch):
                lost, cause = b"".join(batch).count(b"\n", written), "no space"
        except Exception as exc:  # noqa: BLE001  # whatever it is, the next batch is tried
            lost, cause = _lines_in(batch or []), (isinstance(exc, OSError) and exc.strerror) or repr(exc)
        if cause:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._lose, lost, cause)

    # -- and in the loop again ------------------------------------------------------------------------------------

    def _lose(self, count: int, cause: str) -> None:
        LOG_LINES_LOST.add(float(count))
        self._lost += count
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + _MINUTE
            lost, self._lost = self._lost, 0
            _log.error(
                "lines of the access log are lost",
                count=lost,
                cause=cause,
                mend="see that what log.access_file names is there, takes lines and has room; it is tried again",
            )


def _size_of(batch: list[bytes]) -> int:
    return sum(map(len, batch))


def _lines_in(batch: list[bytes]) -> int:
    return sum(part.count(b"\n") for part in batch)


def target_of(place: str, base: Path) -> Target:
    """Where `log.access_file` leads; relative names start at `base`. Opens nothing."""
    if place == STDERR:
        return Stderr()
    if place.startswith(SYSLOG):
        return Syslog(place.removeprefix(SYSLOG))
    return File(base / place)


def _write_to_pipe(descriptor: int, lines: bytes) -> int:
    """Write whole lines, no more at once than a pipe takes whole; how many bytes. Raises OSError where none can be."""
    written = 0
    while written < len(lines):
        end = lines.rfind(b"\n", written, written + _PIPE) + 1 or lines.index(b"\n", written) + 1
        try:
            os.write(descriptor, lines[written:end])
        except OSError:
            if not written:
                raise
            break
        written = end
    return written


class Stderr:
    """The stream that the gateway's own log goes to, which may be a pipe."""

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor

    def write(self, batch: list[bytes]) -> int:
        return _write_to_pipe(self._descriptor, b"".join(batch))

    def reopen(self) -> None:
        """It is whoever started the gateway that has it."""


class File:
    """A file that lines are appended to, by several processes at a time; or a pipe by its name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._is_regular = True
        self._cut = False  # the last line has no end

    def write(self, batch: list[bytes]) -> int:
        descriptor = self._opened()
        if not self._is_regular:
            return _write_to_pipe(descriptor, b"".join(batch))
        parts = batch if len(batch) <= _PARTS else [b"".join(batch)]
        written = os.writev(descriptor, [b"\n", *parts] if self._cut else parts)
        if self._cut and written:
            self._cut, written = False, written - 1
        if written == _size_of(batch):
            return written
        whole = b"".join(batch).rfind(b"\n", 0, written) + 1  # a full disk took some of it
        self._cut = self._cut or whole < written
        return whole

    def _opened(self) -> int:
        """The file that has the name now; while it cannot be opened, the one that had it, unless that was removed."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                if os.path.samestat(self._path.stat(), os.fstat(self._descriptor)):
                    return self._descriptor
        try:
            self.reopen()
        except OSError:
            if self._descriptor is None or not os.fstat(self._descriptor).st_nlink:
                raise
        assert self._descriptor is not None  # noqa: S101 -- it was opened, or raised
        return self._descriptor

    def reopen(self) -> None:
        fresh = open_to_append(self._path)
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._cut = fresh, False
        self._is_regular = stat.S_ISREG(os.fstat(fresh).st_mode)


def open_to_append(path: Path) -> int:
    """A descriptor of the file, which is made if it is not there. Raises OSError, also for a pipe that nobody reads."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o640)
    os.set_blocking(descriptor, True)  # whoever reads a pipe may take a while
    return descriptor


class Syslog:
    """A syslog on this machine, by its socket, or on another by UDP: one datagram for each line.

    `where` is nothing for /dev/log, the path of a socket, or HOST:PORT. Its own format on the machine (syslog(3)), that
    of RFC 5424 over the network.
    """

    def __init__(self, where: str) -> None:
        self._where = where or _SYSLOG_SOCKET
        self._local = self._where.startswith("/")
        self._socket: socket.socket | None = None

    def write(self, batch: list[bytes]) -> int:
        head, written = self._head(), 0
        for line in b"".join(batch).splitlines(keepends=True):
            try:
                self._send(head + line.rstrip(b"\n"))
            except OSError:
                self.reopen()
                if not written:
                    raise
                return written
            written += len(line)
        return written

    def reopen(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, datagram: bytes) -> None:
        """Send one, on a new connection where whoever listened has gone: there may be another by now."""
        if self._socket is not None:
            try:
                self._socket.send(datagram)
            except ConnectionError:
                self.reopen()
            else:
                return
        self._socket = self._connected()
        self._socket.send(datagram)

    def _connected(self) -> socket.socket:
        if self._local:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            address: str | tuple[str, int] = self._where
        else:
            host, _, port = self._where.rpartition(":")
            family, kind, _, _, found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
            made, address = socket.socket(family, kind), (str(found[0]), int(found[1]))
        try:
            made.settimeout(_PATIENCE)
            made.connect(address)
        except OSError:
            made.close()
            raise
        return made

    def _head(self) -> bytes:
        pid, now = os.getpid(), time.time()
        if self._local:
            return f"<{_PRIORITY}>{time.strftime('%b %e %H:%M:%S', time.localtime(now))} gateway[{pid}]: ".encode()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        return f"<{_PRIORITY}>1 {stamp} {socket.gethostname()} gateway {pid} access - ".encode()
