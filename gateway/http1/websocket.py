"""WebSocket as somebody in between sees it (RFC 6455): the handshake, and frames that pass as they came.

    Reader.take(bytes) ──▶ what of them may go on now; then `fault` says whether what follows may not

What a frame announces is judged before anything of it goes on, so that a message which would grow beyond its bound
stops at the frame that would take it there; its payload is passed on in whatever parts it comes, masked as it was. A
control frame goes on whole. Of a payload only a close code is read. The bytes that go on are the same however they were
cut. Whether text is UTF-8 is left to the ends.

permessage-deflate (RFC 7692) is the one extension that passes: with it the first frame of a message may have RSV1, and
the bound counts what is sent, compressed. Offers of others, whose frames nobody here could read, are not passed on.
"""

import base64
import binascii
import re
from typing import Final, final

from gateway.http1.fields import Fields
from gateway.http1.grammar import TOKEN, list_members

PROTOCOL: Final = b"websocket"
EXTENSIONS: Final = b"sec-websocket-extensions"

GOING_AWAY: Final = 1001  # close codes: RFC 6455, section 7.4.1
PROTOCOL_ERROR: Final = 1002
POLICY_VIOLATION: Final = 1008
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011

_CONTINUATION: Final = 0x0
_TEXT: Final = 0x1
_BINARY: Final = 0x2
_CLOSE: Final = 0x8
_PONG: Final = 0xA
_LONGEST_CONTROL: Final = 125
# Those of RFC 6455, and by IANA's registry 1012 (restart), 1013 (try again later) and 1014 (bad gateway).
_CODES: Final = frozenset((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014))
_OFFER: Final = re.compile(
    rb"[ \t]*permessage-deflate(?:[ \t]*;[ \t]*" + TOKEN + rb'++(?:=(?:"?' + TOKEN + rb'++"?))?)*+[ \t]*', re.IGNORECASE
)


@final
class Wrong:
    """What is wrong with a frame: the close code that says so, and why in words."""

    __slots__ = ("code", "why")

    def __init__(self, code: int, why: str) -> None:
        self.code: Final = code
        self.why: Final = why


@final
class Reader:
    """Reads the frames of one direction: those of clients are `masked`, and a message has `most` bytes at most.

    `closed` says that the last frame has gone by: whatever comes behind it is dropped.
    """

    __slots__ = ("_deflated", "_held", "_in_message", "_left", "_masked", "_message", "_most", "closed", "fault")

    def __init__(self, *, masked: bool, most: int, deflated: bool = False) -> None:
        self._masked: Final = masked
        self._most: Final = most
        self._deflated: Final = deflated
        self._held = b""  # of a head, or of a control frame, that is not whole
        self._left = 0  # bytes of the payload under way
        self._in_message = False
        self._message = 0  # bytes that have been announced of the message under way
        self.closed = False
        self.fault: Wrong | None = None

    @property
    def left(self) -> int:
        """Bytes of the frame under way that have yet to go on; between two frames, where others may stand, 0."""
        return self._left

    def take(self, data: bytes) -> bytes:
        """What of these bytes, and of those that were held, may go on. Behind a fault nothing does."""
        if len(data) <= self._left:
            self._left -= len(data)
            return data
        if self._is_over():
            return b""
        if self._held:
            data = self._held + data
        at, end = self._left, len(data)
        self._left = 0
        while at < end:
            begins = at
            at = self._frame(data, at)
            if at == begins:
                break
        if at > end:
            self._left = at - end
            at = end
        self._held = b"" if self._is_over() else data[at:]
        return data if at == end else data[:at]

    def _is_over(self) -> bool:
        return self.fault is not None or self.closed

    def _frame(self, data: bytes, at: int) -> int:
        """Judge the frame that begins there; where it ends, and `at` itself where it may not go on (yet)."""
        if self.closed or len(data) - at < 2:
            return at
        first, second = data[at], data[at + 1]
        opcode, length, size = first & 0x0F, second & 0x7F, 2
        if length == 126:
            size = 4
        elif length == 127:
            size = 10
        wrong = self._wrong(first, second)
        if wrong is not None:
            self.fault = wrong
            return at
        if second & 0x80:
            size += 4
        if len(data) - at < size:
            return at
        if length > _LONGEST_CONTROL:
            wide = length
            length = int.from_bytes(data[at + 2 : at + (4 if wide == 126 else 10)], "big")
            if length < 126 or (wide == 127 and not 0xFFFF < length < 1 << 63):  # section 5.2
                self.fault = Wrong(PROTOCOL_ERROR, "a length that is not in its shortest form")
                return at
        if opcode >= _CLOSE:
            return self._control(data, at, size, length)
        return self._data(first, opcode, at + size, length, at)

    def _wrong(self, first: int, second: int) -> Wrong | None:
        """What is wrong with a frame by its first two bytes (sections 5.1, 5.2, 5.4 and 5.5)."""
        opcode = first & 0x0F
        reserved = first & 0x70
        if opcode > _PONG or _BINARY < opcode < _CLOSE:
            return Wrong(PROTOCOL_ERROR, "an unknown opcode")
        if reserved and not (self._deflated and reserved == 0x40 and opcode in (_TEXT, _BINARY)):
            return Wrong(PROTOCOL_ERROR, "reserved bits without an extension that uses them")
        if (second & 0x80 != 0) != self._masked:
            return Wrong(PROTOCOL_ERROR, "a frame without a mask" if self._masked else "a frame with a mask")
        if opcode >= _CLOSE:
            if not first & 0x80:
                return Wrong(PROTOCOL_ERROR, "a control frame in fragments")
            if second & 0x7F > _LONGEST_CONTROL:
                return Wrong(PROTOCOL_ERROR, "a control frame that is too long")
        elif self._in_message != (opcode == _CONTINUATION):
            cause = "a new message within another" if self._in_message else "a continuation of no message"
            return Wrong(PROTOCOL_ERROR, cause)
        return None

    def _control(self, data: bytes, at: int, size: int, length: int) -> int:
        ends = at + size + length
        if ends > len(data):
            return at
        if data[at] & 0x0F == _CLOSE:
            mask = data[at + size - 4 : at + size] if self._masked else b"\0\0\0\0"
            wrong = _wrong_close(data[at + size : ends], mask)
            if wrong is not None:
                self.fault = wrong
                return at
            self.closed = True
        return ends

    def _data(self, first: int, opcode: int, begins: int, length: int, at: int) -> int:
        message = length if opcode != _CONTINUATION else self._message + length
        if message > self._most:
            self.fault = Wrong(TOO_BIG, f"a message of more than {self._most} bytes")
            return at
        self._message = message
        self._in_message = not first & 0x80
        return begins + length


def _wrong_close(payload: bytes, mask: bytes) -> Wrong | None:
    """What is wrong with a close frame (sections 5.5.1 and 7.4)."""
    if not payload:
        return None
    if len(payload) == 1:
        return Wrong(PROTOCOL_ERROR, "a close frame of one byte")
    code = (payload[0] ^ mask[0]) << 8 | payload[1] ^ mask[1]
    if code in _CODES or 3000 <= code <= 4999:
        return None
    return Wrong(PROTOCOL_ERROR, f"the close code {code}, which is never sent")


@final
class Conversation:
    """Both directions of one connection."""

    __slots__ = ("down", "up")

    def __init__(self, most: int, *, deflated: bool) -> None:
        self.up: Final = Reader(masked=True, most=most, deflated=deflated)
        self.down: Final = Reader(masked=False, most=most, deflated=deflated)


def close_frame(code: int, mask: bytes = b"") -> bytes:
    """A close frame with this code; one that goes up has a mask of four bytes (section 5.3)."""
    payload = code.to_bytes(2, "big")
    if not mask:
        return b"\x88\x02" + payload
    return b"\x88\x82" + mask + bytes((payload[0] ^ mask[0], payload[1] ^ mask[1]))


# -- the handshake ---------------------------------------------------------------------------------------------------


def wrong_handshake(method: bytes, fields: Fields) -> tuple[int, str] | None:
    """What is wrong with a client's handshake (section 4.2.1): the status that says so, and why in words."""
    if method != b"GET":
        return 400, "A WebSocket begins with GET."
    versions, keys = fields.values(b"sec-websocket-version"), fields.values(b"sec-websocket-key")
    if versions != (b"13",):
        return 426, "The only version of WebSocket that is supported is 13."  # section 4.4
    if len(keys) != 1 or not _is_key(keys[0]):
        return 400, "Sec-WebSocket-Key must be 16 bytes in base64."
    return None


def _is_key(value: bytes) -> bool:
    if len(value) != 24:
        return False
    try:
        return len(base64.b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False


def offers(fields: Fields) -> list[bytes]:
    """The offers of extensions that may pass on."""
    offered = [offer for value in fields.values(EXTENSIONS) for offer in value.split(b",")]
    return [offer.strip(b" \t") for offer in offered if _OFFER.fullmatch(offer) is not None]


def deflates(asked: Fields, answered: Fields) -> bool | None:
    """Whether the answer agrees to permessage-deflate; None where it agrees to what was not offered (section 4.1)."""
    agreed = [one for value in answered.values(EXTENSIONS) for one in list_members(value)]
    if not agreed:
        return False
    return True if len(agreed) == 1 and _OFFER.fullmatch(agreed[0]) is not None and offers(asked) else None
