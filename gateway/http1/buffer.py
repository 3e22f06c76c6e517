"""Bytes that arrived and are not read yet."""

from collections.abc import Callable
from typing import Protocol

from gateway.http1.fields import Fields
from gateway.http1.grammar import FIELD_LIMIT, FIELD_LINE, FIELD_LINES, HEAD_LIMIT, LINE_LIMIT, Malformed


class Buffer:
    """A queue of bytes that is cheap when what arrives is read at once, and linear when it drips.

    What is unread begins at `position` of `data`; only the buffer changes them.
    """

    __slots__ = ("data", "position")

    def __init__(self) -> None:
        self.data: bytes | bytearray = b""
        self.position = 0

    def __len__(self) -> int:
        return len(self.data) - self.position

    def rest(self) -> bool:
        """Whether nothing is unread; then nothing is kept either, since a connection that rests should cost little."""
        if self.position < len(self.data):
            return False
        self.data, self.position = b"", 0
        return True

    def append(self, data: bytes) -> None:
        if self.position == len(self.data):
            self.data, self.position = data, 0
            return
        if self.position or isinstance(self.data, bytes):
            self.data, self.position = bytearray(memoryview(self.data)[self.position :]), 0
        self.data += data

    def take(self, size: int) -> bytes:
        """Remove and return up to `size` bytes."""
        start = self.position
        end = min(start + size, len(self.data))
        self.position = end
        data = self.data
        if start == 0 and end == len(data) and isinstance(data, bytes):
            return data
        return bytes(data[start:end])

    def skip(self, size: int) -> None:
        self.position += size

    def find(self, what: bytes, start: int = 0) -> int:
        """The offset of `what` from the first unread byte, searched from offset `start`, or -1."""
        found = self.data.find(what, self.position + start)
        return found if found < 0 else found - self.position

    def peek(self, start: int, end: int) -> bytes:
        return bytes(self.data[self.position + start : self.position + end])

    def peek_head(self) -> bytes | None:
        """A whole head with the empty line behind it, if one is here."""
        start = self.position
        end = self.data.find(b"\r\n\r\n", start)
        if end < 0:
            return None
        data = self.data
        if start == 0 and end + 4 == len(data) and isinstance(data, bytes):
            return data
        return bytes(data[start : end + 4])

    def startswith(self, prefix: bytes) -> bool:
        return self.data.startswith(prefix, self.position)


class Hearing(Protocol):
    """What a head's lines mean, heard in their order; made with the start line. Both raise Malformed."""

    def hear(self, name: bytes, value: bytes) -> None:
        """The next field: its name in lower case, and its value without white space around it."""


class HeadLines:
    """Takes a head or a trailer section off a buffer: a start line (where there is one) and fields.

    A fault is raised with the first line that shows it, so that a head that comes byte by byte and one that comes
    whole end alike, and none waits for a rest that cannot mend it. While a head is incomplete, each of its complete
    lines is looked at once: its grammar here, its meaning by what `hearing` makes of the start line.
    """

    __slots__ = ("_checked", "_hearing", "_hearing_of", "_limit", "_lines", "_searched", "_start_line_status")

    def __init__(
        self,
        start_line_status: int | None,
        limit: int = HEAD_LIMIT,
        hearing: Callable[[bytes], Hearing] | None = None,
    ) -> None:
        self._start_line_status = start_line_status  # of an over-long start line; None: there is no start line
        self._limit = limit
        self._hearing_of = hearing
        self._hearing: Hearing | None = None  # of the head under way, once its start line was complete before its end
        self._checked = self._searched = self._lines = 0

    def read(self, buffer: Buffer) -> tuple[bytes, Fields] | None:
        """The start line with its CRLF and the fields, or None while more is needed. Raises Malformed."""
        end = self._end(buffer)
        if end < 0 or end > self._limit:
            self._check_lines(buffer)
            self._searched = max(0, len(buffer) - 3)
            return None
        head = buffer.peek(0, end - 2)
        split = head.find(b"\n") + 1 if self._start_line_status is not None else 0
        lines = head[split:]
        ends_well = split == 0 or head.find(b"\r") == split - 2  # the start line
        if not ends_well or FIELD_LINES.fullmatch(lines) is None or not self._within_limits(head):
            self._check_lines(buffer)
            raise Malformed(400, "The header is malformed.")
        buffer.skip(end)
        self.restart()
        return head[:split], Fields.of(lines)

    @property
    def fresh(self) -> bool:
        """Nothing of the section has been looked at yet."""
        return self._searched == 0

    def restart(self) -> None:
        """Begin with the next section."""
        self._hearing = None
        self._checked = self._searched = self._lines = 0

    def _end(self, buffer: Buffer) -> int:
        """The offset behind the empty line that ends the section, or -1."""
        if self._start_line_status is None and buffer.startswith(b"\r\n"):
            return 2
        found = buffer.find(b"\r\n\r\n", self._searched)
        return found if found < 0 else found + 4

    def _within_limits(self, head: bytes) -> bool:
        return len(head) <= LINE_LIMIT or all(len(line) < LINE_LIMIT for line in head.split(b"\n"))

    def _check_lines(self, buffer: Buffer) -> None:
        """Hearing the lines that have become complete, in order, and the length of what follows them."""
        while (end := buffer.find(b"\n", self._checked) + 1) > 0:
            self._check_size(end)
            line = buffer.peek(self._checked, end)
            if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
                raise Malformed(400, "A line does not end in CRLF.")
            is_start_line = self._lines == 0 and self._start_line_status is not None
            if line == b"\r\n" and not is_start_line:
                return
            if is_start_line:
                self._hearing = self._hearing_of(line) if self._hearing_of is not None else None
            else:
                self._check_field(line)
            self._lines += 1
            self._checked = end
        self._check_size(len(buffer))

    def _check_field(self, line: bytes) -> None:
        if FIELD_LINE.fullmatch(line) is None:
            raise Malformed(400, "A header field is malformed.")
        if self._lines - (self._start_line_status is not None) >= FIELD_LIMIT:
            raise Malformed(431, f"There are more than {FIELD_LIMIT} header fields.")
        if self._hearing is not None:
            ((name, _, value),) = Fields.of(line)
            self._hearing.hear(name, value)

    def _check_size(self, end: int) -> None:
        if end - self._checked > LINE_LIMIT:
            if self._lines == 0 and self._start_line_status is not None:
                raise Malformed(self._start_line_status, f"The first line is longer than {LINE_LIMIT} bytes.")
            raise Malformed(431, f"A header field is longer than {LINE_LIMIT} bytes.")
        if end > self._limit:
            raise Malformed(431, f"The header is longer than {self._limit} bytes.")
