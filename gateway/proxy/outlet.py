"""The way out to a client: what is written, whether more is read, and whether anybody is there.

A client that has ended its side awaits its answer, or is gone; one whose upload nobody takes waits, or is gone, and the
end of its side may lie behind what has not been read. They are alike until something is written. So the beginning of
the answer, which is known before there is one, is written byte by byte, ever more rarely: who is gone replies with a
reset, which the next look finds, and who is there has lost nothing.
"""

import asyncio
from contextlib import suppress
from math import inf
from typing import Final

from gateway.proxy.outgoing import SHORT, Outbox, Outgoing
from gateway.proxy.sockets import end_by_reset, other_side, reset

_PATIENCE: Final = 0.5  # seconds before the first such byte, where no end is seen; before each other twice as many


class Outlet(Outgoing):
    """A client connection as those use it who answer on it."""

    __slots__ = ("_ahead", "_end_seen", "_knock_at", "_reading")

    def __init__(self, outbox: Outbox) -> None:
        super().__init__(outbox, outbox.answers)
        self._reading = True
        self._knock_at = inf
        self._end_seen = False
        self._ahead = b""  # what was written before its time, and is not to be written again

    def write(self, data: bytes) -> None:
        self.send(self._rest_of(data) if self._ahead else data)

    def write_all(self, parts: list[bytes]) -> None:
        if self._transport is None:
            return
        if self._ahead:
            parts[0] = self._rest_of(parts[0])
        if len(parts[-1]) < SHORT:
            self.send(b"".join(parts))
        elif (transport := self.transport) is not None:
            transport.writelines(parts)

    def write_eof(self) -> bool:
        """End our side; False where that cannot be done alone (TLS)."""
        transport = self.transport
        if transport is None or not transport.can_write_eof():
            return False
        with suppress(OSError):  # asyncio's own loop tells so that the client has gone, as it will once more
            transport.write_eof()
        return True

    def hold(self, size: int) -> None:
        """Let so many bytes wait for the client before nothing more is to be written."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=size)

    def pause(self) -> None:
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self._reading and self._transport is not None:
            self._reading, self._knock_at = True, inf
            self._transport.resume_reading()

    def look(self, now: float, beginning: bytes) -> None:
        """See whether a client is there that cannot tell, and from time to time write another byte of `beginning`, with
        which whatever is written next begins in any case."""
        transport = self.transport
        if transport is None:
            return
        side = other_side(transport)
        if side == "gone":
            self.abort()
        elif now >= self._knock_at or (side == "ended" and not self._end_seen):
            self._end_seen = side == "ended"
            self._knock(transport, now, beginning)
        elif self._knock_at == inf:
            self._knock_at = now + _PATIENCE

    def _knock(self, transport: asyncio.Transport, now: float, beginning: bytes) -> None:
        written = len(self._ahead)
        if written < len(beginning):
            end_by_reset(transport, True)  # a chunk's first zero with a mere end behind it passes for the last chunk
            transport.write(beginning[written : written + 1])
            self._ahead = beginning[: written + 1]
            self._knock_at = now + _PATIENCE * 2**written

    def abort(self) -> None:
        """End the connection at once so that it looks broken, whatever is still on its way."""
        if (transport := self.transport) is not None:
            reset(transport)

    def _rest_of(self, data: bytes) -> bytes:
        ahead, self._ahead, self._knock_at = self._ahead, b"", inf
        if self._transport is not None:
            end_by_reset(self._transport, False)
        return data.removeprefix(ahead)
