"""What a shadow is told of the calls of one worker, off their way: see `gateway.app.shadow`.

    a call ends ──▶ its head, whose it was and how long its body ──▶ a unix socket, if that takes it at once

Nothing waits for the shadow. What it does not take in time is dropped and counted, and where anything goes wrong with
it, it is told of nothing more.
"""

import asyncio
import marshal
from typing import Final, NamedTuple, cast

from gateway.observe import get_logger
from gateway.proxy.engine import Engine
from gateway.proxy.finished import Finished

_MOST_WAITING: Final = 1024**2  # bytes
_LENGTH: Final = 4

_log = get_logger("gateway.proxy")


class Told(NamedTuple):
    """A call as a shadow is told of it: `head` are the bytes of its head, `received` is the length of the body as far
    as it came, and `lost` how many calls before this one it was not told of."""

    head: bytes
    peer: str
    request_id: bytes
    received: int
    lost: int

    def encoded(self) -> bytes:
        """The call as bytes that say how many they are."""
        data = marshal.dumps(tuple(self))
        return len(data).to_bytes(_LENGTH, "big") + data


class Telling:
    """Calls as they come in at the shadow's end, from one worker."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive(self, data: bytes) -> list[Told]:
        """The calls that have come whole."""
        self._buffer += data
        calls, at = list[Told](), 0
        while len(self._buffer) - at >= _LENGTH:
            end = at + _LENGTH + int.from_bytes(self._buffer[at : at + _LENGTH], "big")
            if end > len(self._buffer):
                break
            calls.append(Told(*marshal.loads(self._buffer[at + _LENGTH : end])))  # noqa: S302  # from a worker of ours
            at = end
        del self._buffer[:at]
        return calls


class Mirror(asyncio.Protocol):
    """One worker's connection to a shadow, while it lasts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self._lost = 0

    async def connect(self, path: str) -> None:
        """Begin to tell the shadow that listens at `path`."""
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, path)
        except OSError as exc:
            _log.error("the shadow cannot be told of calls", cause=exc.strerror)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._closed:
            self.close()
        else:
            self._engine.listeners = [*self._engine.listeners, self.hear]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the protocol's signature
        self.close()

    def hear(self, finished: Finished) -> None:
        """Tell of a call, or count it among those that the shadow was not told of."""
        head, transport = finished.head, self._transport
        if head is None or transport is None:
            return
        try:
            if transport.get_write_buffer_size() > _MOST_WAITING:
                self._lost += 1
                return
            start = b"%b %b HTTP/1.%d\r\n" % (head.method, head.target, head.minor_version)
            told = Told(
                head=start + head.fields.raw + b"\r\n",
                peer=finished.peer.address,
                request_id=finished.request_id,
                received=finished.received,
                lost=self._lost,
            )
            transport.write(told.encoded())
            self._lost = 0
        except Exception as exc:  # noqa: BLE001  # whatever is wrong with a shadow is none of the call's
            _log.error("the shadow is told of no more calls", exc_info=exc)
            self.close()

    def close(self) -> None:
        """Tell of nothing more."""
        self._closed = True
        transport, self._transport = self._transport, None
        if self.hear in self._engine.listeners:
            self._engine.listeners = [listener for listener in self._engine.listeners if listener != self.hear]
        if transport is not None:
            transport.abort()
