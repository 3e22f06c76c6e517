"""What reading requests and reading responses have in common: bytes that wait, and a body that may pass elsewhere."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, Generic, TypeVar, cast

from gateway.http1.body import EMPTY_BODY, Body, End, LengthBody
from gateway.http1.buffer import Buffer
from gateway.http1.grammar import Malformed
from gateway.states import changed

Head = TypeVar("Head")


class Stage(IntEnum):
    """How far a reader has come in a message; the tables are in `http1.request` and `http1.response`."""

    REST = 0  # between two messages, with nothing of the next one here
    HEAD = 1
    BODY = 2
    COMPLETE = 3  # what comes is kept
    UPGRADED = 4  # what comes belongs to another protocol
    FAULTY = 5


class MessageReader(Generic[Head]):
    """The bytes of one connection's one direction, and the `stage` of the message that they are at, by a table."""

    __slots__ = ("_body", "_buffer", "_fault", "_stages", "stage")

    def __init__(self, stages: Mapping[Stage, frozenset[Stage]]) -> None:
        self._stages: Final = stages
        self.stage = Stage.REST
        self._buffer = Buffer()
        self._body: Body = EMPTY_BODY  # of the message under way, in its stage
        self._fault: Malformed | None = None

    def _go(self, stage: Stage) -> None:
        self.stage = changed(self._stages, self.stage, stage)

    def receive(self, data: bytes) -> None:
        if self.stage is Stage.REST:
            self._go(Stage.HEAD)
        self._buffer.append(data)

    def next_event(self) -> Head | bytes | End | None:
        """The next event, or None while there is none. Raises Malformed, and the same ever after."""
        if self._fault is not None:
            raise self._fault
        try:
            if self.stage is Stage.HEAD:
                return self._read_head()
            if self.stage is Stage.BODY:
                event = self._body.read(self._buffer)
                if isinstance(event, End):
                    self._go(Stage.COMPLETE)
                return event
        except Malformed as fault:
            self._fault = fault
            self._go(Stage.FAULTY)
            raise
        return None

    def _read_head(self) -> Head | None:
        raise NotImplementedError

    @property
    def buffered(self) -> int:
        """How many bytes wait to be read."""
        return len(self._buffer.data) - self._buffer.position

    @property
    def unarrived(self) -> int:
        """How many bytes of a body of known length have yet to come; 0 where what came before them is still here."""
        body = self._body
        if self.stage is not Stage.BODY or not isinstance(body, LengthBody) or self.buffered:
            return 0
        return body.left

    @property
    def rest(self) -> int | None:
        """How many bytes of the message under way have yet to be read, be they here or not; None where its end shows
        only once it comes."""
        body = self._body
        return body.left if isinstance(body, LengthBody) else None

    def passed_elsewhere(self, size: int) -> None:
        """So many of the bytes that had yet to come have passed elsewhere."""
        if size > self.unarrived:
            raise ValueError("more has passed than was to come")
        cast("LengthBody", self._body).passed(size)

    def unread(self) -> bytes:
        """Take what follows the message: a new protocol's bytes, or what should not be there."""
        return self._buffer.take(len(self._buffer))
