"""What a shadow is told of the calls of one worker, off their way: see `gateway.app.shadow`.

    a call ends ──▶ its head, whose it was and how long its body ──▶ a unix socket, if that takes it at once
    or goes on for more than a second ──▶ the same, and again when it ends

Nothing waits for the shadow. What it does not take in time is dropped and counted, and where anything goes wrong with
it, it is told of nothing more.
"""

import asyncio
import marshal
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final, NamedTuple, cast

from gateway.http1 import RequestHead
from gateway.observe import get_logger
from gateway.proxy.engine import Engine
from gateway.proxy.finished import Finished

EVERY: Final = 1.0  # seconds, in which it is looked for calls that go on for longer
_MOST_WAITING: Final = 1024**2  # bytes
_LENGTH: Final = 4

_log = get_logger("gateway.proxy")


class UnderWay(NamedTuple):
    """A call that was let pass, at that moment by the monotonic clock, and goes on."""

    head: RequestHead
    peer: str
    request_id: bytes
    began: float


class CallCopy(NamedTuple):
    """A call as a shadow is told of it: `head` are the bytes of its head, `received` is the length of the body as far
    as it came, and `lost` how many calls before this one it was not told of. `passed` is whether it was let pass.

    `began` is when that was, or when the call came; `ended` is 0.0 while it goes on. Both are by the monotonic clock,
    which is one for all processes of a machine. A call that is told of while it goes on has a `key`, by which it is
    known when it ends; its head may be left out then.
    """

    head: bytes
    peer: str
    request_id: bytes
    received: int
    lost: int
    passed: bool = True
    began: float = 0.0
    ended: float = 0.0
    key: int = 0

    def encoded(self) -> bytes:
        """The call as bytes that say how many they are."""
        data = marshal.dumps(tuple(self))
        return len(data).to_bytes(_LENGTH, "big") + data


class Telling:
    """Calls as they come in at the shadow's end, from one worker."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive(self, data: bytes) -> list[CallCopy]:
        """The calls that have come whole."""
        self._buffer += data
        calls, at = list[CallCopy](), 0
        while len(self._buffer) - at >= _LENGTH:
            end = at + _LENGTH + int.from_bytes(self._buffer[at : at + _LENGTH], "big")
            if end > len(self._buffer):
                break
            calls.append(CallCopy(*marshal.loads(self._buffer[at + _LENGTH : end])))  # noqa: S302  # from a worker of ours
            at = end
        del self._buffer[:at]
        return calls


class Mirror(asyncio.Protocol):
    """One worker's connection to a shadow, while it lasts; `under_way` gives the calls that go on."""

    def __init__(self, engine: Engine, under_way: Callable[[], Iterable[UnderWay]]) -> None:
        self._engine, self._under_way = engine, under_way
        self._transport: asyncio.Transport | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._long: dict[int, RequestHead] = {}  # of which it was told while they went on, by the identity of the head
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
            self._engine.listen(self.hear)
            self._look()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the protocol's signature
        self.close()

    def hear(self, finished: Finished) -> None:
        """Tell of a call that has ended, or count it among those that the shadow was not told of."""
        head = finished.head
        if head is None:
            return
        ended = monotonic()
        key = id(head) if self._long.pop(id(head), None) is not None else 0
        copy = CallCopy(
            head=_raw(head),
            peer=finished.peer.address,
            request_id=finished.request_id,
            received=finished.received,
            lost=self._lost,
            passed=finished.refused is None or finished.judged > 0.0,
            began=ended - finished.seconds + finished.judged,
            ended=ended,
            key=key,
        )
        if not self._tell(copy):
            self._lost += 1
            if key:  # what it holds of a call has to end
                self._tell(copy._replace(head=b"", lost=0), at_once=False)

    def _look(self) -> None:
        """Tell of each call that goes on, once."""
        if self._closed:
            return
        now = monotonic()
        for call in self._under_way():
            if now - call.began < EVERY or id(call.head) in self._long:
                continue
            copy = CallCopy(_raw(call.head), call.peer, call.request_id, 0, 0, began=call.began, key=id(call.head))
            if self._tell(copy):
                self._long[id(call.head)] = call.head  # so that no other has its identity
        self._looking = asyncio.get_running_loop().call_later(EVERY, self._look)

    def _tell(self, copy: CallCopy, *, at_once: bool = True) -> bool:
        """Tell it, unless too much waits already; whether it was told."""
        transport = self._transport
        if transport is None or (at_once and transport.get_write_buffer_size() > _MOST_WAITING):
            return False
        try:
            transport.write(copy.encoded())
        except Exception as exc:  # noqa: BLE001  # whatever is wrong with a shadow is none of the call's
            _log.error("the shadow is told of no more calls", exc_info=exc)
            self.close()
        self._lost -= copy.lost
        return True

    def close(self) -> None:
        """Tell of nothing more."""
        self._closed = True
        transport, self._transport = self._transport, None
        if self._looking is not None:
            self._looking.cancel()
        self._engine.listen_no_more(self.hear)
        if transport is not None:
            transport.abort()


def _raw(head: RequestHead) -> bytes:
    return b"%b %b HTTP/1.%d\r\n%b\r\n" % (head.method, head.target, head.minor_version, head.fields.raw)
