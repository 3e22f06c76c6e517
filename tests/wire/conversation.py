"""A client's side of a row: what it sends in which pieces, and every answer that comes back, read by h11."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import h11

ENDS = 300  # bytes at either end that a dripped message sends one by one; what is between comes in pieces
PIECE = 997


@dataclass
class Reply:
    """One answer. `complete` is False where the connection broke within it."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    complete: bool = False

    def all(self, name: str) -> list[str]:
        return [value for given, value in self.fields if given == name]


@dataclass
class Conversation:
    """All that came back on one connection; `rest` is what no reader could make an answer of."""

    replies: list[Reply]
    rest: bytes
    ended: bool  # the other side closed the connection


def dripped(data: bytes) -> list[bytes]:
    """The message byte by byte; of a very long one the middle in larger pieces."""
    if len(data) <= 2 * ENDS:
        return [data[index : index + 1] for index in range(len(data))]
    middle = data[ENDS:-ENDS]
    size = max(PIECE, len(middle) // 50)
    return [
        *dripped(data[:ENDS]),
        *(middle[index : index + size] for index in range(0, len(middle), size)),
        *dripped(data[-ENDS:]),
    ]


async def converse(
    port: int,
    steps: Sequence[tuple[Sequence[bytes], int]],
    methods: Sequence[str],
    *,
    ends: bool = False,
    patience: float = 30.0,
) -> Conversation:
    """Send each step's pieces, then wait until so many answers are there in all.

    After the last step it also ends when the other side does, or after `patience` seconds. `methods` are those of
    the requests that answers are expected to, in their order.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    raw, ended = b"", False
    replies: list[Reply] = []
    rest = b""
    try:
        async with asyncio.timeout(patience):
            for step, (pieces, wanted) in enumerate(steps):
                await _send(writer, pieces)
                if ends and step == len(steps) - 1:
                    _end(writer)
                while not ended and sum(reply.complete for reply in replies) < wanted:
                    more = await _more(reader)
                    ended = not more
                    raw += more
                    replies, rest = read_replies(raw, methods, ended=ended)
    except TimeoutError:
        pass
    finally:
        writer.close()
    return Conversation(replies, rest, ended)


async def _send(writer: asyncio.StreamWriter, pieces: Sequence[bytes]) -> None:
    try:
        for piece in pieces:
            if writer.transport.is_closing():
                return
            writer.write(piece)
            if len(pieces) > 1:
                await asyncio.sleep(0)
        await writer.drain()
    except ConnectionError:
        pass  # the other side may have had enough; what it answered counts


def _end(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # it has ended already
        writer.write_eof()


async def _more(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(1 << 16)
    except ConnectionError:
        return b""


def read_replies(raw: bytes, methods: Sequence[str], *, ended: bool) -> tuple[list[Reply], bytes]:
    """The answers in `raw`, the last one perhaps incomplete, and what is no answer."""
    replies = list[Reply]()
    for method in methods:
        if not raw:
            break
        reply, raw = _read_reply(raw, method, ended=ended)
        if reply is None:
            return replies, raw
        replies.append(reply)
        if not reply.complete:
            return replies, b""
    return replies, raw


def _read_reply(raw: bytes, method: str, *, ended: bool) -> tuple[Reply | None, bytes]:
    if raw.startswith(b"HTTP/1.1 101 ") and b"\r\n\r\n" in raw:
        # The connection belongs to another protocol from here on.
        head, _, tunnel = raw.partition(b"\r\n\r\n")
        lines = [line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:]]
        return Reply(101, [(name.lower(), value.strip()) for name, _, value in lines], complete=True), tunnel
    peer = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    peer.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(raw)
    if ended:
        peer.receive_data(b"")
    reply, interim = None, list[int]()
    try:
        while True:
            event = peer.next_event()
            if isinstance(event, h11.InformationalResponse):
                interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
                reply = Reply(event.status_code, fields, interim=interim)
            elif isinstance(event, h11.Data) and reply is not None:
                reply.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and reply is not None:
                reply.trailers = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
                reply.complete = True
                return reply, peer.trailing_data[0]
            else:
                return reply, b"" if reply is not None else raw
    except h11.RemoteProtocolError:
        return reply, raw if reply is None else b""
