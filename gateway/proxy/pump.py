"""Large bodies of known length pass from socket to socket inside the kernel, without a copy: splice(2) and a pipe.

Nothing of such a body is looked at once its head has been read, so there is nothing to read it for. The transports
of both sides rest meanwhile, and the pump works on duplicates of their descriptors. Where the system has no splice,
or a side speaks TLS or is behind with what was written before, bodies go the usual way.
"""

import asyncio
import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeGuard

from gateway.proxy.answers import refusal

if TYPE_CHECKING:
    from gateway.proxy.exchange import Exchange
    from gateway.proxy.front import Front
    from gateway.proxy.upstream import UpstreamConnection

WORTHWHILE: Final = 128 * 1024  # bytes still to come; for fewer, setting it up costs more than it saves
_PIPE: Final = 256 * 1024  # bytes asked for
_AT_ONCE: Final = 1024 * 1024  # bytes moved before others have their turn


class Pump:
    """Moves what has yet to come of a body from `source` to `sink`, which nobody may read or write meanwhile.

    It begins when what was written before has gone out. `_paced(blocked)` hears of progress, and whether the sink
    takes no more for now. `_ended(left, cause)` is the last word: nothing was left; or nothing was moved, since it
    cannot be done (without a cause); or a side failed half-way, and bytes may be lost.
    """

    def __init__(self, source: asyncio.Transport | None, sink: asyncio.Transport | None, size: int) -> None:
        self._transports = (source, sink)
        self._left = size  # to be taken from the source
        self._piped = 0
        self._blocked = False
        self._loop = asyncio.get_running_loop()
        self._fds: tuple[int, ...] = ()
        self._starting: asyncio.Handle | None = self._loop.call_soon(self._start)

    def _paced(self, blocked: bool) -> None:
        raise NotImplementedError

    def _ended(self, left: int, cause: str) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Move nothing any more, and say nothing."""
        if self._starting is not None:
            self._starting.cancel()
        elif self._fds:
            source, sink, *_ = self._fds
            if self._blocked:
                self._loop.remove_writer(sink)
            else:
                self._loop.remove_reader(source)
        for fd in self._fds:
            os.close(fd)
        self._fds = ()

    def _start(self) -> None:
        self._starting = None
        source, sink = self._transports
        if not (_plain(source) and _plain(sink)):
            self._ended(self._left, "")
            return
        try:
            self._fds = _descriptors(source, sink)
        except OSError:  # there are no more descriptors to be had
            self._ended(self._left, "")
            return
        self._loop.add_reader(self._fds[0], self._move)

    def _move(self) -> None:
        """Move what can be moved, then wait for the side that holds it up."""
        source, sink, outlet, inlet = self._fds
        moved, filling = 0, True
        try:
            while moved < _AT_ONCE:
                if not self._piped:
                    self._piped = _spliced(source, inlet, min(self._left, _AT_ONCE))
                    if not self._piped:
                        self._end("the connection ended before the body did")
                        return
                    self._left -= self._piped
                filling = False
                while self._piped:
                    passed = _spliced(outlet, sink, self._piped)
                    self._piped -= passed
                    moved += passed
                filling = True
                if not self._left:
                    self._end("")
                    return
        except BlockingIOError:
            pass
        except OSError as exc:
            self._end(str(exc))
            return
        self._wait(blocked=not filling)

    def _wait(self, *, blocked: bool) -> None:
        if blocked != self._blocked:
            self._blocked = blocked
            source, sink, *_ = self._fds
            if blocked:
                self._loop.remove_reader(source)
                self._loop.add_writer(sink, self._move)
            else:
                self._loop.remove_writer(sink)
                self._loop.add_reader(source, self._move)
        self._paced(blocked)

    def _end(self, cause: str) -> None:
        self.close()
        self._ended(self._left + self._piped, cause)


class Upload(Pump):
    """The rest of a request's body on its way up."""

    def __init__(self, exchange: "Exchange", front: "Front", upstream: "UpstreamConnection") -> None:
        self._exchange, self._front, self._upstream = exchange, front, upstream
        front.pause()
        super().__init__(front.transport, upstream.transport, front.reader.unarrived)

    def _paced(self, blocked: bool) -> None:
        self._upstream.writable = not blocked
        self._exchange.await_response()
        self._front.pace()

    def _ended(self, left: int, cause: str) -> None:
        self._exchange.pump = None
        if self._blocked:
            self._upstream.writable = True
        if left and cause:
            self._exchange.fail(refusal(502, "The body did not reach the upstream whole.", cause=cause))
            return
        if not left:
            self._front.reader.went_by()
        self._front.advance()


class Download(Pump):
    """The rest of an answer's body on its way down."""

    def __init__(self, exchange: "Exchange", front: "Front", upstream: "UpstreamConnection") -> None:
        self._exchange, self._front, self._upstream = exchange, front, upstream
        upstream.pause()
        super().__init__(upstream.transport, front.transport, upstream.reader.unarrived)

    def _paced(self, blocked: bool) -> None:
        if blocked == self._front.writable:
            (self._front.pause_writing if blocked else self._front.resume_writing)()
        elif not blocked:
            self._exchange.renew_deadline()

    def _ended(self, left: int, cause: str) -> None:
        self._exchange.pump = None
        if left and cause:
            self._exchange.fail(refusal(502, "The upstream's answer is incomplete.", cause=cause))
        elif left:
            if self._front.writable:
                self._upstream.resume()
        else:
            if not self._front.writable:
                self._front.resume_writing()
            self._upstream.reader.went_by()
            self._exchange.upstream_received(b"")


def _plain(transport: asyncio.Transport | None) -> TypeGuard[asyncio.Transport]:
    """Whether bytes may pass by a transport: they are not encrypted, and none waits to be written before them."""
    return (
        hasattr(os, "splice")
        and transport is not None
        and not transport.is_closing()
        and transport.get_write_buffer_size() == 0
        and transport.get_extra_info("sslcontext") is None
    )


def _descriptors(source: asyncio.Transport, sink: asyncio.Transport) -> tuple[int, ...]:
    """Duplicates of the source's and the sink's, the outlet and the inlet of a pipe. Raises OSError."""
    fds: list[int] = []
    try:
        fds.extend(os.dup(transport.get_extra_info("socket").fileno()) for transport in (source, sink))
        fds.extend(os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        for fd in fds:
            os.close(fd)
        raise
    with suppress(OSError):  # an ordinary user may hold too many already; then it keeps its usual size
        fcntl.fcntl(fds[3], fcntl.F_SETPIPE_SZ, _PIPE)
    return tuple(fds)


def _spliced(source: int, sink: int, size: int) -> int:
    return os.splice(source, sink, size, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
