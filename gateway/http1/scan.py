"""A plain head in one pass over its bytes: where its parts are, or that it has to be read with more care.

Each scan stands here twice, since what is fast differs: a pattern in plain Python, a loop over the bytes where the
engine is compiled. They say the same of all bytes (`tests/http1/test_scan.py`), and which of them serves is settled
when this is loaded. What they do not take is none the worse for it: it is read line by line.
"""

import re
from types import FunctionType
from typing import Final

from mypy_extensions import i64

from gateway.http1.grammar import FIELD_LIMIT, FIELD_LINES, LINE_LIMIT, TARGET, TOKEN

Lines = tuple[bytes, list[int]]
"""The names of some field lines, each with a colon behind it; and where each line begins, and the last one ends."""

_SPACE: Final = 0x20
_COLON: Final = 0x3A
_DELETE: Final = 0x7F
_LONGEST_METHOD: Final = 32

_VERSIONS: Final = (b" HTTP/1.1\r\n", b" HTTP/1.0\r\n")
_BEGINNING: Final = re.compile(b"(" + TOKEN + b"{1,%d}+) (" % _LONGEST_METHOD + TARGET + rb"++) HTTP/1\.[01]\r\n")
_SECTION: Final = re.compile(b"(" + FIELD_LINES.pattern + rb")\r\n")


ALPHANUMERIC: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def table(allowed: bytes) -> bytes:
    """One byte for each that there is: 1 for those that are allowed, and 0."""
    return bytes(byte in allowed for byte in range(256))


_IS_TOKEN: Final = table(ALPHANUMERIC + b"!#$%&'*+-.^_`|~")


def _request_line_by_pattern(data: bytes) -> tuple[int, int] | None:
    found = _BEGINNING.match(data, 0, LINE_LIMIT)
    return None if found is None else (found.end(1), found.end(2))


def _request_line_by_byte(data: bytes) -> tuple[int, int] | None:
    at: i64 = 0
    size: i64 = min(len(data), LINE_LIMIT) - len(_VERSIONS[0])  # where a target ends at the latest
    is_token = _IS_TOKEN
    while at < size and is_token[i64(data[at])]:
        at += 1
    method = at
    if method == 0 or method > _LONGEST_METHOD or at >= size or data[at] != _SPACE:
        return None
    at += 1
    while at < size and (byte := i64(data[at])) > _SPACE and byte != _DELETE:
        at += 1
    if at == method + 1 or data[at : at + len(_VERSIONS[0])] not in _VERSIONS:
        return None
    return method, at


def _field_lines_by_pattern(data: bytes, start: int) -> Lines | None:
    found = _SECTION.match(data, start, LINE_LIMIT)
    if found is None:
        return None
    lines = found[1].split(b"\r\n")  # the last is empty, for which the last colon stands
    names = b":".join([line.partition(b":")[0] for line in lines])
    begins = [at := start, *[at := at + len(line) + 2 for line in lines]]
    begins.pop()
    return names, begins


def _field_lines_by_byte(data: bytes, start: int) -> Lines | None:
    size: i64 = min(len(data), LINE_LIMIT) - 1
    at: i64 = start
    names: list[bytes] = []
    begins = [start]
    while at < size and not (data[at] == 13 and data[at + 1] == 10):
        line = at
        while at < size and data[at] != _COLON:
            at += 1
        at += 1
        names.append(data[line:at])
        while at < size and ((byte := i64(data[at])) >= _SPACE or byte == 9) and byte != _DELETE:
            at += 1
        if at >= size or data[at] != 13 or data[at + 1] != 10 or len(names) > FIELD_LIMIT:
            return None
        at += 2
        begins.append(at)
    return (b"".join(names), begins) if at < size else None


COMPILED: Final = not isinstance(_field_lines_by_byte, FunctionType)


def request_line(data: bytes) -> tuple[int, int] | None:
    """Where the method ends and where the target ends, of a request line of HTTP/1.1 or 1.0 that `data` begins with."""
    return _request_line_by_byte(data) if COMPILED else _request_line_by_pattern(data)


def field_lines(data: bytes, start: int) -> Lines | None:
    """The field lines from `start` to the empty line, where that ends within `LINE_LIMIT`. Their values are proven,
    their names are not: they hold no colon, and what else stands in them is for who knows them (`fields.Names`)."""
    return _field_lines_by_byte(data, start) if COMPILED else _field_lines_by_pattern(data, start)


def consists_of(data: bytes, allowed: bytes) -> bool:
    """Whether each byte is one that a `table` allows."""
    if not COMPILED:
        return data.translate(allowed).find(0) < 0
    return _consists_of_by_byte(data, allowed)


def _consists_of_by_byte(data: bytes, allowed: bytes) -> bool:
    at: i64 = 0
    size: i64 = len(data)
    while at < size:
        if not allowed[i64(data[at])]:
            return False
        at += 1
    return True
