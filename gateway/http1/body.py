"""Message bodies: by length, in chunks, until the connection closes (RFC 9112, sections 6 and 7)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from mypy_extensions import mypyc_attr

from gateway.http1.buffer import Buffer, HeadLines
from gateway.http1.grammar import (
    CHUNK_EXTENSIONS_LIMIT,
    CHUNK_LINE,
    CHUNK_LINE_LIMIT,
    LINE_LIMIT,
    Field,
    Malformed,
)
from gateway.states import changed


@dataclass(frozen=True, slots=True)
class End:
    """The message is complete; `trailers` came behind its last chunk."""

    trailers: tuple[Field, ...] = ()


END: Final = End()


@mypyc_attr(acyclic=True)
class LengthBody:
    """A body of known length, of which `left` bytes have not been read."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        self.left = length

    def read(self, buffer: Buffer) -> bytes | End | None:
        if self.left == 0:
            return END
        data = buffer.take(self.left)
        self.left -= len(data)
        return data or None

    def passed(self, size: int) -> None:
        """So many bytes have been read elsewhere."""
        self.left -= size

    def closed(self) -> End:
        """What the end of the connection means: a length that was not reached is a lie."""
        if self.left:
            raise Malformed(400, "The connection ended before the body did.")
        return END


class UntilCloseBody:
    """A response body that ends with the connection (RFC 9112, section 6.3, rule 8)."""

    __slots__ = ()

    def read(self, buffer: Buffer) -> bytes | End | None:
        return buffer.take(len(buffer)) if len(buffer) else None

    def closed(self) -> End:
        return END


class Awaited(IntEnum):
    """What of a chunked body comes next."""

    SIZE = 0
    DATA = 1
    DATA_END = 2
    TRAILERS = 3


CHUNKS: Final[Mapping[Awaited, frozenset[Awaited]]] = {
    Awaited.SIZE: frozenset((Awaited.DATA, Awaited.TRAILERS)),
    Awaited.DATA: frozenset((Awaited.DATA_END,)),
    Awaited.DATA_END: frozenset((Awaited.SIZE,)),
    Awaited.TRAILERS: frozenset(),
}


class ChunkedBody:
    """A chunked body. What complete chunks hold is joined, so that tiny chunks do not cost an event each.

    `awaited` is what comes next, by `CHUNKS`; `left` is what the chunk under way has yet to bring; `whole_chunks`
    counts the chunks that were read to their end, the last one included.
    """

    __slots__ = ("_extensions", "_fault", "_trailers", "awaited", "left", "whole_chunks")

    def __init__(self) -> None:
        self.whole_chunks = 0
        self.left = 0
        self.awaited = Awaited.SIZE
        self._extensions = 0
        self._trailers = HeadLines(None, LINE_LIMIT)
        self._fault: Malformed | None = None

    def read(self, buffer: Buffer) -> bytes | End | None:
        if self._fault is not None:
            raise self._fault
        parts: list[bytes] = []
        end = None
        try:
            while end is None and self._advance(buffer, parts):
                if self.awaited is Awaited.TRAILERS:
                    if parts:
                        break
                    end = self._read_trailers(buffer)
                    if end is None:
                        return None
        except Malformed as fault:
            # What came before the fault is given first, so that any cut of the bytes gives the same events.
            if not parts:
                raise
            self._fault = fault
        return end or (b"".join(parts) if parts else None)

    def _advance(self, buffer: Buffer, parts: list[bytes]) -> bool:
        """Read one element of the framing; False while more bytes are needed."""
        match self.awaited:
            case Awaited.SIZE:
                return self._read_size(buffer)
            case Awaited.DATA:
                data = buffer.take(self.left)
                if data:
                    parts.append(data)
                    self.left -= len(data)
                if self.left:
                    return False
                self._await(Awaited.DATA_END)
                return True
            case Awaited.DATA_END:
                return self._read_data_end(buffer)
            case _:
                return True

    def _await(self, what: Awaited) -> None:
        self.awaited = changed(CHUNKS, self.awaited, what)

    def _read_size(self, buffer: Buffer) -> bool:
        end = buffer.find(b"\n") + 1
        if end == 0 or end > CHUNK_LINE_LIMIT:
            if end > CHUNK_LINE_LIMIT or len(buffer) > CHUNK_LINE_LIMIT:
                raise Malformed(400, "A chunk-size line is too long.")
            return False
        found = CHUNK_LINE.fullmatch(buffer.peek(0, end))
        if found is None:
            raise Malformed(400, "A chunk size is malformed.")
        self._extensions += len(found[2])
        if self._extensions > CHUNK_EXTENSIONS_LIMIT:
            raise Malformed(400, "There are too many chunk extensions.")
        buffer.skip(end)
        self.left = int(found[1], 16)
        self._await(Awaited.DATA if self.left else Awaited.TRAILERS)
        if not self.left:
            self.whole_chunks += 1
        return True

    def _read_data_end(self, buffer: Buffer) -> bool:
        found = buffer.peek(0, 2)
        if found == b"\r\n":
            buffer.skip(2)
            self.whole_chunks += 1
            self._await(Awaited.SIZE)
            return True
        if found in (b"", b"\r"):
            return False
        raise Malformed(400, "A chunk is longer than its size.")

    def _read_trailers(self, buffer: Buffer) -> End | None:
        read = self._trailers.read(buffer)
        return None if read is None else End(tuple(read[1]))

    def closed(self) -> End:
        raise Malformed(400, "The connection ended before the last chunk.")


Body = LengthBody | ChunkedBody | UntilCloseBody
EMPTY_BODY: Final = LengthBody(0)
