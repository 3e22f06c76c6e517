"""The PROXY protocol, versions 1 and 2: what a proxy in front says of a connection before anything else on it
(https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, sections 2.1 and 2.2).

Bytes in, the client's address out: no socket, no clock. No byte behind the header is taken, since a TLS handshake may
begin there. Nothing is tolerated that the text does not allow.
"""

import re
from typing import Final, NamedTuple, final

from gateway.errors import GatewayError
from gateway.routing.forwarded import parse_address

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED: Final = 16  # bytes of version 2 before the addresses
_LONGEST_LINE: Final = 107  # of version 1, its CRLF included
_LONGEST: Final = 4096  # bytes that version 2 may have behind the first sixteen: addresses and what belongs to them
_NUMBER: Final = rb"(0|[1-9][0-9]{0,4})"
_LINE: Final = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f:.]{2,45}) ([0-9A-Fa-f:.]{2,45}) " + _NUMBER + b" " + _NUMBER)
_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [\x20-\x7e]*)?")
_PROXIED: Final = 0x21  # version 2, PROXY
_LOCAL: Final = 0x20
_SIZES: Final = {0x11: 12, 0x21: 36, 0x31: 216}  # of the addresses, by family and TCP's kind of transport
_UNSPECIFIED: Final = 0x00
_CRC: Final = 0x03  # PP2_TYPE_CRC32C


class NoIntroduction(GatewayError):
    """What came is no PROXY header, or one that is malformed, which `kind` says: the connection is of no use."""

    def __init__(self, message: str, *, kind: str = "malformed") -> None:
        super().__init__(message)
        self.kind = kind


class Introduction(NamedTuple):
    """Who is at the other end, by the proxy's word. `address` is empty where the proxy does not know, or speaks for
    itself, as with LOCAL and UNKNOWN."""

    address: str


@final
class IntroductionReader:
    """Reads one connection's header. `take` is given what has come and not been taken, and says how much of it belongs
    to the header; the rest is for others. `done` holds the outcome."""

    __slots__ = ("_header", "done")

    def __init__(self) -> None:
        self._header = bytearray()
        self.done: Introduction | None = None

    def take(self, data: bytes) -> int:
        """How many of these bytes belong to the header. Raises NoIntroduction."""
        have = len(self._header)
        seen = bytes(self._header) + data
        if seen[: len(_SIGNATURE)] == _SIGNATURE[: len(seen)]:
            size = self._second(seen)
        elif seen[:6] == b"PROXY "[: len(seen)]:
            size = self._first(seen)
        else:
            raise NoIntroduction("the connection does not begin with a PROXY header", kind="missing")
        self._header += data[: size - have]
        return size - have

    def _first(self, seen: bytes) -> int:
        """Version 1: one line."""
        end = seen.find(b"\r\n", 0, _LONGEST_LINE)
        if end < 0:
            if len(seen) >= _LONGEST_LINE:
                raise NoIntroduction("the line of the PROXY header is too long")
            return len(seen)
        line = seen[:end]
        if _UNKNOWN.fullmatch(line):
            self.done = Introduction("")
            return end + 2
        found = _LINE.fullmatch(line)
        if found is None or int(found[4]) > 65535 or int(found[5]) > 65535:
            raise NoIntroduction("the line of the PROXY header is malformed")
        ends = [_address(found[at], six=found[1] == b"6") for at in (2, 3)]
        self.done = Introduction(ends[0])
        return end + 2

    def _second(self, seen: bytes) -> int:
        """Version 2: sixteen bytes, the addresses, and what else is said of the connection."""
        if len(seen) < _FIXED:
            return len(seen)
        command, family = seen[12], seen[13]
        length = int.from_bytes(seen[14:_FIXED], "big")
        if command not in (_PROXIED, _LOCAL):
            raise NoIntroduction("the PROXY header has another version or command")
        if length > _LONGEST:
            raise NoIntroduction("the PROXY header is too long")
        known = family in _SIZES
        if command == _PROXIED and not known and family != _UNSPECIFIED:
            raise NoIntroduction("the PROXY header is for another kind of connection than TCP's")
        size = _SIZES[family] if known and command == _PROXIED else 0
        if length < size:
            raise NoIntroduction("the PROXY header ends within its addresses")
        whole = _FIXED + length
        if len(seen) < whole:
            return len(seen)
        header = seen[:whole]
        if command == _PROXIED and known:
            _check_vectors(header, _FIXED + size)
        address = ""
        if command == _PROXIED and family in (0x11, 0x21):
            width = 4 if family == 0x11 else 16
            address = _packed(header[_FIXED : _FIXED + width])
        self.done = Introduction(address)
        return whole


def _address(text: bytes, *, six: bool) -> str:
    ip = parse_address(text.decode("ascii"))
    if ip is None or (b":" in text) != six:
        raise NoIntroduction("the line of the PROXY header names no address")
    return str(ip)


def _packed(raw: bytes) -> str:
    """An address of four or sixteen bytes, one of IPv4 within IPv6 as itself."""
    text = ".".join(map(str, raw)) if len(raw) == 4 else ":".join(raw[at : at + 2].hex() for at in range(0, 16, 2))
    return str(parse_address(text))


def _check_vectors(header: bytes, at: int) -> None:
    """What stands behind the addresses is of types and lengths that fit, and the checksum, where there is one, too."""
    checked = False
    while at < len(header):
        if at + 3 > len(header):
            raise NoIntroduction("the PROXY header ends within a value")
        kind, size = header[at], int.from_bytes(header[at + 1 : at + 3], "big")
        at += 3
        if at + size > len(header):
            raise NoIntroduction("the PROXY header ends within a value")
        if kind == _CRC:
            if checked:
                raise NoIntroduction("the PROXY header has two checksums")
            checked = True
            zeroed = header[:at] + b"\0" * size + header[at + size :]
            if size != 4 or _crc32c(zeroed).to_bytes(4, "big") != header[at : at + 4]:
                raise NoIntroduction("the checksum of the PROXY header is wrong")
        at += size


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_CRC_TABLE: Final = _crc_table()


def _crc32c(data: bytes) -> int:
    """RFC 3385's checksum with the polynomial of Castagnoli."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
