"""Large bodies of known length pass from socket to socket inside the kernel, without a copy: splice(2) and a pipe.

Nothing of such a body is looked at once its head has been read, so there is nothing to read it for. The transports
of both sides rest meanwhile, and the pump works on duplicates of their descriptors. Where the system has no splice,
or a side speaks TLS or is behind with what was written before, bodies go the usual way.
"""

import asyncio
import fcntl
import os
import termios
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Final, Protocol, TypeGuard

from gateway.http1 import RequestReader, ResponseReader
from gateway.proxy.sockets import duplicate
from gateway.proxy.upstream import UpstreamConnection

WORTHWHILE: Final = 128 * 1024  # bytes still to come; for fewer, setting it up costs more than it saves
_PIPE: Final = 512 * 1024  # bytes asked for; a user may have some 64 MiB of them in all
_IDLE_PIPES: Final = 16
_NOTHING: Final = bytes(4)  # as FIONREAD writes it
_AT_ONCE: Final = 1024 * 1024  # bytes moved before others have their turn


class ClientSide(Protocol):
    """The client's connection."""

    @property
    def reader(self) -> RequestReader: ...
    @property
    def transport(self) -> asyncio.Transport | None: ...
    @property
    def writable(self) -> bool: ...
    @property
    def encrypted(self) -> bool: ...
    def pause(self) -> None: ...
    def advance(self) -> None: ...
    def pace(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def abort(self) -> None: ...


class Transfer(Protocol):
    """The exchange whose body it is."""

    def await_response(self) -> None: ...
    def upload_ended(self) -> None: ...
    def renew_deadline(self) -> None: ...
    def download_ended(self) -> None: ...
    def upstream_received(self, data: bytes) -> None: ...
    def upstream_closed(self) -> None: ...


def worthwhile(unarrived: int, client: ClientSide, upstream: UpstreamConnection) -> bool:
    """Whether to pump what has yet to come of a body."""
    return unarrived >= WORTHWHILE and not (client.encrypted or upstream.encrypted) and hasattr(os, "splice")


class Pipes:
    """The pipes of one worker that nothing is in, kept for the next body: making one takes longer than filling it."""

    def __init__(self) -> None:
        self._idle: list[tuple[int, int]] = []

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._idle)

    def take(self) -> tuple[int, int]:
        """The outlet and the inlet of one. Raises OSError where there are no more descriptors to be had."""
        if self._idle:
            return self._idle.pop()
        outlet, inlet = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with suppress(OSError):  # an ordinary user may hold too many already; then it keeps its usual size
            fcntl.fcntl(inlet, fcntl.F_SETPIPE_SZ, _PIPE)
        return outlet, inlet

    def give_back(self, outlet: int, inlet: int) -> None:
        """Keep one for the next body, unless something of this one is left in it."""
        if len(self._idle) < _IDLE_PIPES and fcntl.ioctl(outlet, termios.FIONREAD, _NOTHING) == _NOTHING:
            self._idle.append((outlet, inlet))
        else:
            os.close(outlet)
            os.close(inlet)

    def close(self) -> None:
        """Close those that are kept."""
        for pipe in self._idle:
            for fd in pipe:
                os.close(fd)
        self._idle.clear()


class Pump(ABC):
    """Moves what has yet to come of a body, by its reader, from `source` to `sink`, which nobody uses meanwhile.

    `_paced(blocked)` hears of what was moved, and whether the sink takes no more for now. One of two is the last
    word. `_stopped()`: nothing is in between; all has passed, or the rest goes the usual way, as it does where the
    source has failed, so that its transport sees that too. `_lost()`: the sink has failed, and bytes are lost.
    """

    def __init__(
        self,
        reader: RequestReader | ResponseReader,
        source: asyncio.Transport | None,
        sink: asyncio.Transport | None,
        pipes: Pipes,
    ) -> None:
        self._reader = reader
        self._pipes = pipes
        self._transports = (source, sink)
        self._piped = 0
        self._blocked = False  # by the sink, else it is the source that is waited for
        self._waiting = False  # what is here already is moved without
        self._loop = asyncio.get_running_loop()
        self._fds: tuple[int, ...] = ()
        self._starting: asyncio.Handle | None = self._loop.call_soon(self._start)

    @abstractmethod
    def _paced(self, blocked: bool) -> None: ...

    @abstractmethod
    def _stopped(self) -> None: ...

    @abstractmethod
    def _lost(self) -> None: ...

    def close(self) -> None:
        """Move nothing any more, and say nothing."""
        if self._starting is not None:
            self._starting.cancel()
        self._wait_no_more()
        if self._fds:
            source, sink, outlet, inlet = self._fds
            self._fds = ()
            os.close(source)
            os.close(sink)
            self._pipes.give_back(outlet, inlet)

    def _start(self) -> None:
        """Begin, unless what was written before has not gone out yet."""
        self._starting = None
        source, sink = self._transports
        if not (_is_free(source) and _is_free(sink)):
            self._stopped()
            return
        try:
            self._fds = _descriptors(source, sink, self._pipes)
        except OSError:  # there are no more descriptors to be had
            self._stopped()
            return
        self._move()

    def _move(self) -> None:
        """Move what can be moved, then wait for the side that holds it up."""
        source, sink, outlet, inlet = self._fds
        moved = 0
        try:
            while self._piped or (moved < _AT_ONCE and self._fill(source, inlet)):
                passed = _spliced(outlet, sink, self._piped)
                self._piped -= passed
                moved += passed
        except BlockingIOError:
            self._wait(moved)
        except OSError:
            self.close()
            (self._lost if self._piped else self._stopped)()
        else:
            if moved >= _AT_ONCE and self._reader.unarrived:
                self._wait(moved)
            else:
                self.close()
                self._stopped()

    def _fill(self, source: int, inlet: int) -> bool:
        """Take in from the source; False where nothing more is to come, or nothing more will."""
        left = self._reader.unarrived
        if left:
            self._piped = _spliced(source, inlet, min(left, _AT_ONCE))
            self._reader.passed_elsewhere(self._piped)
        return self._piped > 0

    def _wait(self, moved: int) -> None:
        blocked = self._piped > 0
        turned = blocked != self._blocked
        if turned or not self._waiting:
            self._wait_no_more()
            self._blocked, self._waiting = blocked, True
            source, sink, *_ = self._fds
            if blocked:
                self._loop.add_writer(sink, self._move)
            else:
                self._loop.add_reader(source, self._move)
        if turned or moved:
            self._paced(blocked)

    def _wait_no_more(self) -> None:
        if self._waiting:
            self._waiting = False
            source, sink, *_ = self._fds
            if self._blocked:
                self._loop.remove_writer(sink)
            else:
                self._loop.remove_reader(source)


class Upload(Pump):
    """The rest of a request's body on its way up."""

    def __init__(self, exchange: Transfer, client: ClientSide, upstream: UpstreamConnection, pipes: Pipes) -> None:
        self._exchange, self._client, self._upstream = exchange, client, upstream
        client.pause()
        super().__init__(client.reader, client.transport, upstream.transport, pipes)

    def _paced(self, blocked: bool) -> None:
        self._upstream.hold_up(blocked)
        self._exchange.await_response()
        self._client.pace()

    def _stopped(self) -> None:
        self._exchange.upload_ended()
        if self._blocked:
            self._upstream.hold_up(False)
        self._client.advance()

    def _lost(self) -> None:
        """The upstream takes no more of the body, but may have answered before it said so."""
        self._exchange.upload_ended()
        self._paced(blocked=True)


class Download(Pump):
    """The rest of an answer's body on its way down."""

    def __init__(self, exchange: Transfer, client: ClientSide, upstream: UpstreamConnection, pipes: Pipes) -> None:
        self._exchange, self._client, self._upstream = exchange, client, upstream
        upstream.pause()
        super().__init__(upstream.reader, upstream.transport, client.transport, pipes)

    def _paced(self, blocked: bool) -> None:
        if blocked:
            self._client.pause_writing()  # anew, as its time begins anew
        elif not self._client.writable:
            self._client.resume_writing()
        else:
            self._exchange.renew_deadline()

    def _stopped(self) -> None:
        self._exchange.download_ended()
        self._upstream.may_hold_more()
        if self._blocked:
            self._client.resume_writing()
        if not self._reader.unarrived:
            self._exchange.upstream_received(b"")
        elif self._upstream.closed:
            self._exchange.upstream_closed()
        elif self._client.writable:
            self._upstream.resume()

    def _lost(self) -> None:
        """The client is gone."""
        self._exchange.download_ended()
        self._client.abort()


def _is_free(transport: asyncio.Transport | None) -> TypeGuard[asyncio.Transport]:
    """Whether bytes may pass by a transport: none waits to be written before them."""
    return transport is not None and not transport.is_closing() and transport.get_write_buffer_size() == 0


def _descriptors(source: asyncio.Transport, sink: asyncio.Transport, pipes: Pipes) -> tuple[int, ...]:
    """Duplicates of the source's and the sink's, the outlet and the inlet of a pipe. Raises OSError."""
    fds: list[int] = []
    try:
        fds.extend(duplicate(transport) for transport in (source, sink))
        fds.extend(pipes.take())
    except OSError:
        for fd in fds:
            os.close(fd)
        raise
    return tuple(fds)


def _spliced(source: int, sink: int, size: int) -> int:
    return os.splice(source, sink, size, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
