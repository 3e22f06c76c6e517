"""A plain head in one pass over its bytes: where its parts are, or that it has to be read with more care.

Each scan is a pattern or a search here, and a loop over the bytes in `http1.quick`, which serves where the engine is
compiled. They say the same of all bytes (`tests/http1/test_scan.py`). What those of a head do not take is none the
worse for it: it is read line by line.
"""

import re
from collections.abc import Callable
from typing import Final

from gateway.http1.grammar import FIELD_LINES, LINE_LIMIT, TARGET, TOKEN

try:
    from gateway.http1 import quick
except ImportError:
    _quick = False
else:
    _quick = True
COMPILED: Final = _quick

Lines = tuple[bytes, list[int]]
"""The names of some field lines, each with a colon behind it; and where each line begins, and the last one ends."""

_LONGEST_METHOD: Final = 32

_BEGINNING: Final = re.compile(b"(" + TOKEN + b"{1,%d}+) (" % _LONGEST_METHOD + TARGET + rb"++) HTTP/1\.[01]\r\n")
_SECTION: Final = re.compile(b"(" + FIELD_LINES.pattern + rb")\r\n")


def _request_line_by_pattern(data: bytes) -> tuple[int, int] | None:
    found = _BEGINNING.match(data, 0, LINE_LIMIT)
    return None if found is None else (found.end(1), found.end(2))


def _field_lines_by_pattern(data: bytes, start: int) -> Lines | None:
    found = _SECTION.match(data, start, LINE_LIMIT)
    if found is None:
        return None
    lines = found[1].split(b"\r\n")  # the last is empty, for which the last colon stands
    names = b":".join([line.partition(b":")[0] for line in lines])
    begins = [at := start, *[at := at + len(line) + 2 for line in lines]]
    begins.pop()
    return names, begins


def _consists_by_table(data: bytes, allowed: bytes) -> bool:
    return data.translate(allowed).find(0) < 0


def _pairs_by_search(field: bytes, mark: bytes) -> list[tuple[int, int]]:
    found = list[tuple[int, int]]()
    end, at = 0, field.find(mark)
    while at >= 0:
        start = field.rfind(b";", end, at) + 1  # the pair before ended with one
        end = field.find(b";", at)
        if end < 0:
            end = len(field)
        found.append((start, end))
        at = field.find(mark, end)
    return found


request_line: Final[Callable[[bytes], tuple[int, int] | None]] = (
    quick.request_line if COMPILED else _request_line_by_pattern
)
"""Where the method ends and where the target ends, of a request line of HTTP/1.1 or 1.0 that the bytes begin with."""

field_lines: Final[Callable[[bytes, int], Lines | None]] = quick.field_lines if COMPILED else _field_lines_by_pattern
"""The field lines of some bytes, from a place on to the empty line, where that ends within `LINE_LIMIT`. Their values
are proven, their names are not: they hold no colon, and what else stands in them is for who knows them
(`fields.Names`)."""

consists_of: Final[Callable[[bytes, bytes], bool]] = quick.consists_of if COMPILED else _consists_by_table
"""Whether each of some bytes is one that a `grammar.table` allows."""

pairs_with: Final[Callable[[bytes, bytes], list[tuple[int, int]]]] = quick.pairs_with if COMPILED else _pairs_by_search
"""Where the pairs of a Cookie field begin and end that hold a mark, which is not empty and holds no semicolon. Each is
looked at once and each byte a few times: a field of many takes no longer than another of its length."""
