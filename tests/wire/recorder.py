"""The upstream of the wire table: it keeps every byte that arrives, and three readers judge them afterwards.

Its own reading is the plainest there is; h11 and llhttp read the same bytes. A request that two of them take
differently is one that could be smuggled.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import h11
import httptools

Fields = list[tuple[bytes, bytes]]


@dataclass
class Reading:
    """One request as one reader takes it."""

    method: bytes = b""
    target: bytes = b""
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    trailers: Fields = field(default_factory=list)

    def same(self, other: "Reading") -> bool:
        """Whether both readers took it for the same request."""
        return (self.method, self.target, self.body) == (other.method, other.target, other.body) and (
            _folded(self.fields + self.trailers) == _folded(other.fields + other.trailers)
        )

    def values(self, name: bytes) -> list[bytes]:
        return [value for given, value in self.fields if given.lower() == name.lower()]


def _folded(fields: Fields) -> Fields:
    return [(name.lower(), value) for name, value in fields]


class Incomplete(Exception):
    """The bytes end before the request does."""


def read_plainly(data: bytes) -> tuple[Reading, int]:
    """The first request and where it ends. Raises Incomplete; ValueError where it is none."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        raise Incomplete
    line, *lines = data[:end].split(b"\r\n")
    method, target, version = line.split(b" ")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise ValueError(f"no version: {version!r}")
    reading = Reading(method, target, [_field(line) for line in lines])
    position = end + 4
    if reading.values(b"transfer-encoding"):
        return _read_chunks(reading, data, position)
    size = sum(int(value) for value in reading.values(b"content-length"))
    if len(data) < position + size:
        raise Incomplete
    reading.body = data[position : position + size]
    return reading, position + size


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or name.strip() != name:
        raise ValueError(f"no field: {line!r}")
    return name, value.strip(b" \t")


def _read_chunks(reading: Reading, data: bytes, position: int) -> tuple[Reading, int]:
    body = bytearray()
    while True:
        end = data.find(b"\r\n", position)
        if end < 0:
            raise Incomplete
        size = int(data[position:end], 16)
        position = end + 2
        if size == 0:
            break
        if len(data) < position + size + 2:
            raise Incomplete
        body += data[position : position + size]
        if data[position + size : position + size + 2] != b"\r\n":
            raise ValueError("a chunk has another size")
        position += size + 2
    while (end := data.find(b"\r\n", position)) != position:
        if end < 0:
            raise Incomplete
        reading.trailers.append(_field(data[position:end]))
        position = end + 2
    reading.body = bytes(body)
    return reading, position + 2


def read_by_h11(data: bytes) -> Reading:
    """The whole of `data` as one request. Raises ValueError where h11 takes it for anything else."""
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    reading = Reading()
    try:
        peer.receive_data(data)
        while not isinstance(event := peer.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Request):
                reading.method, reading.target = event.method, event.target
                reading.fields = list(event.headers.raw_items())
            elif isinstance(event, h11.Data):
                reading.body += bytes(event.data)
            else:
                raise ValueError(f"h11 is left with {event}")  # noqa: TRY004  # the bytes are wrong
    except h11.RemoteProtocolError as fault:
        raise ValueError(str(fault)) from fault
    reading.trailers = list(event.headers.raw_items())
    if peer.trailing_data[0]:
        raise ValueError(f"h11 has {peer.trailing_data[0]!r} left")
    return reading


class _Callbacks:
    """What llhttp calls."""

    def __init__(self) -> None:
        self.reading = Reading()
        self.heads = self.ends = 0

    def on_message_begin(self) -> None:
        self.heads += 1

    def on_url(self, url: bytes) -> None:
        self.reading.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Without an end of the head yet it is a field, behind it a trailer; llhttp keeps white space behind a value.
        target = self.reading.trailers if self.complete_head else self.reading.fields
        target.append((name, value.rstrip(b" \t")))

    complete_head = False

    def on_headers_complete(self) -> None:
        self.complete_head = True

    def on_body(self, body: bytes) -> None:
        self.reading.body += body

    def on_message_complete(self) -> None:
        self.ends += 1


def read_by_llhttp(data: bytes) -> Reading:
    """The whole of `data` as one request. Raises ValueError where llhttp takes it for anything else."""
    callbacks = _Callbacks()
    parser = httptools.HttpRequestParser(callbacks)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade as upgrade:
        if upgrade.args[0] != len(data):
            raise ValueError("llhttp sees an upgrade before the end") from upgrade
    except httptools.HttpParserError as fault:
        raise ValueError(f"llhttp: {fault}") from fault
    if (callbacks.heads, callbacks.ends) != (1, 1):
        raise ValueError(f"llhttp sees {callbacks.heads} requests and {callbacks.ends} ends")
    callbacks.reading.method = parser.get_method()
    return callbacks.reading


READERS: dict[str, Callable[[bytes], Reading]] = {"h11": read_by_h11, "llhttp": read_by_llhttp}


@dataclass
class Arrived:
    """What arrived of one request; `reading` once it is complete."""

    raw: bytes
    reading: Reading | None = None

    def judge(self, unreadable: frozenset[str]) -> list[str]:
        """Why the readers do not agree on it; empty where they do."""
        if self.reading is None:
            return ["it is incomplete"]
        faults = []
        for name, read in READERS.items():
            if name in unreadable:
                continue
            try:
                if not read(self.raw).same(self.reading):
                    faults.append(f"{name} reads it differently")
            except ValueError as fault:
                faults.append(str(fault))
        return faults


@dataclass
class Script:
    """What the upstream says to a request for a target: these pieces, and then it may close."""

    pieces: list[bytes]
    closes: bool = False


@dataclass
class Recorder:
    """Serves as an upstream's handler; answers with the request's own method and target unless told otherwise."""

    arrived: list[Arrived] = field(default_factory=list)
    scripts: dict[bytes, Script] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def reset(self) -> None:
        self.arrived, self.scripts, self.faults = [], {}, []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        data = bytearray()
        while True:
            request, end = await self._request(data, reader, writer)
            if request is None:
                return
            del data[:end]
            if not await self._answer(request, writer):
                return

    async def _request(
        self, data: bytearray, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[Reading | None, int]:
        arrived: Arrived | None = None
        while True:
            if data and arrived is None:
                arrived = Arrived(b"")
                self.arrived.append(arrived)
            if arrived is not None:
                arrived.raw = bytes(data)
                try:
                    arrived.reading, end = read_plainly(arrived.raw)
                    arrived.raw = arrived.raw[:end]
                    return arrived.reading, end
                except Incomplete:
                    if arrived.raw.endswith(b"\r\n\r\n") and b"\r\nexpect: 100-continue" in arrived.raw.lower():
                        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                except ValueError as fault:
                    self.faults.append(str(fault))
                    return None, 0
            more = await reader.read(1 << 16)
            if not more:
                return None, 0
            data += more

    async def _answer(self, request: Reading, writer: asyncio.StreamWriter) -> bool:
        script = self.scripts.get(request.target)
        pieces = script.pieces if script is not None else [answer_to(request.method, request.target)]
        for piece in pieces:
            if writer.transport.is_closing():
                return False
            writer.write(piece)
            if len(pieces) > 1:
                await asyncio.sleep(0)
        await writer.drain()
        return script is None or not script.closes


def answer_to(method: bytes, target: bytes) -> bytes:
    """The recorder's answer, by which a client knows that it has its own."""
    body = seen(method, target)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head if method == b"HEAD" else head + body


def seen(method: bytes, target: bytes) -> bytes:
    """The body of that answer."""
    return b"%b %b\n" % (method, target)
