"""Connections that go from workers that end to those that serve, while nothing of an answer is under way on them.

To close a client's connection that is kept cuts the request that is on its way at this moment, and no server can know
of that. So a worker that another one follows closes none: it puts the socket, with what has come of the next request,
into a queue that all workers hold, as they hold the listener, and whoever serves takes it from there. So do idle
connections to upstreams, which would all have to be opened anew at once.

    the queue    a pair of SOCK_SEQPACKET sockets that the supervisor makes once: `give` and `take`
    a message    one descriptor (SCM_RIGHTS), a byte for whose connection it is, and what was read of a client's and not
                 answered, or which upstream's it is
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_CLIENTS: Final = b"\0"
_UPSTREAMS: Final = b"\1"
_LONGEST: Final = 512 * 1024  # more than a message of such a socket can be

Take = Callable[[socket.socket, bytes], None]
"""What is done with a connection, and with what is said of it."""


class Handover:
    """One worker's hold of the queue; both sockets are its own."""

    def __init__(self, give: socket.socket, take: socket.socket) -> None:
        give.setblocking(False)
        take.setblocking(False)
        self._give, self._take = give, take
        self._loop = asyncio.get_running_loop()
        self._waiting = deque[tuple[int, bytes]]()  # descriptors, and what goes with each
        self._given = asyncio.Event()
        self._given.set()
        self._taking = False

    @classmethod
    def inherited(cls, give: int, take: int) -> "Handover":
        """The one whose descriptors the supervisor has passed on."""
        return cls(socket.socket(fileno=give), socket.socket(fileno=take))

    def begin_taking(self, client: Take, upstream: Take) -> None:
        """Take connections that others give away, one in a turn of the loop: a client's with what has come on it, an
        upstream's with which it is."""
        self._taking = True
        self._loop.add_reader(self._take.fileno(), self._take_one, client, upstream)

    def end_taking(self) -> None:
        """Leave them to others from now on."""
        if self._taking:
            self._taking = False
            self._loop.remove_reader(self._take.fileno())

    def give(self, connection: int, ahead: bytes) -> None:
        """Give a client's connection away by its descriptor, which is closed here, with what has come of the next
        request."""
        self._put(connection, _CLIENTS + ahead)

    def give_upstream(self, connection: int, which: bytes) -> None:
        """Give an upstream's connection away by its descriptor, which is closed here, with which one it is."""
        self._put(connection, _UPSTREAMS + which)

    def _put(self, connection: int, message: bytes) -> None:
        self._waiting.append((connection, message))
        if self._given.is_set():
            self._given.clear()
            self._loop.add_writer(self._give.fileno(), self._give_some)
            self._give_some()

    async def wait_given(self) -> None:
        """Wait until all that was given away is in the queue."""
        await self._given.wait()

    def close(self) -> None:
        """Let go of the queue. What waits to be put there is closed with it."""
        self.end_taking()
        self._loop.remove_writer(self._give.fileno())
        while self._waiting:
            os.close(self._waiting.popleft()[0])
        self._give.close()
        self._take.close()

    def _give_some(self) -> None:
        """Put into the queue what has room there."""
        while self._waiting:
            connection, message = self._waiting[0]
            with suppress(OSError):  # one that cannot be given ends here
                try:
                    socket.send_fds(self._give, [message], [connection])
                except BlockingIOError:
                    return
            os.close(connection)
            self._waiting.popleft()
        self._loop.remove_writer(self._give.fileno())
        self._given.set()

    def _take_one(self, client: Take, upstream: Take) -> None:
        try:
            data, found, _, _ = socket.recv_fds(self._take, _LONGEST, 1)
        except OSError:  # another worker was faster, or there is no descriptor left
            return
        for connection in found:
            sock = socket.socket(fileno=connection)
            sock.setblocking(False)
            (upstream if data[:1] == _UPSTREAMS else client)(sock, data[1:])
