"""Cookies as browsers send and take them (RFC 6265), read by one rule wherever they are read.

A Cookie field is split at each `;` and nowhere else, quotes or not, and a name is exact: what a browser stored under
another name never becomes one of ours, and one of ours is never hidden in another's value. What the proxy takes out of
a request is what the pages would read, for both call `name_of`.
"""

import re
from collections.abc import Callable, Collection, Iterable
from typing import Final

from gateway.http1.scan import pairs_with

# RFC 6265, section 4.1.1: cookie-octet. Our values are of nothing else, so a quoted one is none of ours.
_VALUE: Final = re.compile(rb"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")


def name_of(pair: bytes) -> bytes:
    """The name of one pair of a Cookie field; that of a bare value, as browsers send nameless cookies, is the value."""
    return pair.partition(b"=")[0].strip(b" \t")


def read(fields: Iterable[bytes], name: bytes) -> str | None:
    """The value of the cookie `name` in all Cookie fields of a request; None if it is absent, malformed, or there
    twice: which of two is the right one nobody can tell (RFC 6265, section 5.4 sends them in no dependable order)."""
    found = [field[start:end] for field in fields for start, end in _pairs(field, (name,), name)]
    if len(found) != 1:
        return None
    value = found[0].partition(b"=")[2].strip(b" \t")
    return value.decode("ascii") if _VALUE.fullmatch(value) else None


def without(field: bytes, names: Collection[bytes], mark: bytes) -> bytes:
    """A Cookie field without the cookies of these names, which all hold `mark`; the others keep every byte."""
    cut = _pairs(field, names, mark)
    if not cut:
        return field
    kept, after = list[bytes](), 0
    for start, end in cut:
        kept.append(field[after:start])
        after = end + 1  # with the semicolon behind it
    kept.append(field[after:])
    return b"".join(kept).strip(b"; \t")


def _pairs(field: bytes, names: Collection[bytes], mark: bytes) -> list[tuple[int, int]]:
    """Where the cookies of these names, which all hold `mark`, begin and end."""
    return [(start, end) for start, end in pairs_with(field, mark) if name_of(field[start:end]) in names]


def mentioning(names: Collection[bytes]) -> Callable[[bytes], object]:
    """A search for these names as whole words anywhere in a Set-Cookie field, in whatever case.

    Clients differ in where a name ends, what a nameless cookie becomes, and whether a comma begins another cookie. No
    cookie of somebody else needs a name of ours, be it in its value.
    """
    words = b"|".join(re.escape(name) for name in sorted(names))
    return re.compile(rb"(?<![\w.-])(?:__Secure-)?(?:" + words + rb")(?![\w.-])", re.IGNORECASE).search
