"""A field section: proven lines, kept as the bytes that came, and what follows from the names that stand in them.

Values never recur, names do: a client sends the same ones in the same order with each request. So what hangs on names
alone is worked out once for each sequence of them, and every value is read anew.
"""

from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from operator import itemgetter
from typing import Final

from gateway.http1.grammar import Field

Heard = dict[bytes, tuple[bytes, ...]]
"""Of some fields, by their lower-case names: all values that were sent, in their order."""
Selection = Callable[[list[bytes]], tuple[bytes, ...]]
"""Picks lines out of a section with certain names."""

_SPACE: Final = b" \t"
_KEPT: Final = 256  # sequences of names; clients and upstreams send few
_LARGEST: Final = 8 * 1024  # bytes of a section whose names are kept: strangers cannot fill the memory with them
# The fields that say where a message ends, whom it is for, and what becomes of the connection.
FRAMING: Final = frozenset((b"host", b"connection", b"content-length", b"transfer-encoding", b"upgrade", b"expect"))


class Names:
    """The names of a section's fields in their order, one for each line. They are never altered.

    `lower` are the names in lower case; `places` says at which lines each of them stands; `framing` are those that say
    where a message ends, whom it is for, and what becomes of the connection. An `interned` sequence has one object for
    all sections with it, by which more can be kept of it.
    """

    __slots__ = ("framing", "interned", "known", "lower", "places")

    def __init__(self, names: tuple[bytes, ...], *, interned: bool = False) -> None:
        self.lower: Final = tuple(name.lower() for name in names)
        self.known: Final = frozenset(self.lower)
        self.interned: Final = interned
        self.framing: Final = tuple(FRAMING & self.known)
        places: dict[bytes, tuple[int, ...]] = {}
        for at, name in enumerate(self.lower):
            places[name] = (*places.get(name, ()), at)
        self.places: Final = places

    def without(self, names: Collection[bytes]) -> Selection:
        """All lines but those of `names` (lower case)."""
        kept = [at for at, name in enumerate(self.lower) if name not in names]
        return itemgetter(*kept, len(self.lower)) if kept else _nothing  # an empty line stands at the end


def _nothing(_lines: list[bytes]) -> tuple[bytes, ...]:
    return ()


@lru_cache(maxsize=_KEPT)
def _interned(names: tuple[bytes, ...]) -> Names:
    return Names(names[:-1], interned=True)


class Fields:
    """The field lines of one head, in their order. They were proven before; it is never altered."""

    __slots__ = ("_lines", "names")

    def __init__(self, lines: bytes) -> None:
        """Take whole lines, each with its CRLF."""
        self._lines: Final = lines.split(b"\r\n")
        names = tuple([line.partition(b":")[0] for line in self._lines])
        self.names: Final = _interned(names) if len(lines) <= _LARGEST else Names(names[:-1])

    def __len__(self) -> int:
        return len(self._lines) - 1

    def __iter__(self) -> Iterator[Field]:
        """Each field: the name in lower case, the name as it was sent, the value without white space around it."""
        for lower, line in zip(self.names.lower, self._lines, strict=False):
            size = len(lower)
            yield lower, line[:size], line[size + 1 :].strip(_SPACE)

    def __contains__(self, name: bytes) -> bool:
        """Whether there is a field with this lower-case name."""
        return name in self.names.places

    def __eq__(self, other: object) -> bool:
        return self._lines == other._lines if isinstance(other, Fields) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # nothing is looked up by a whole section

    def __repr__(self) -> str:
        return f"Fields({b', '.join(self.names.lower).decode()})"  # values may be secrets

    def values(self, name: bytes) -> tuple[bytes, ...]:
        """Every value of the field with this lower-case name, in order, without white space around it."""
        places = self.names.places.get(name)
        if places is None:
            return ()
        behind = len(name) + 1
        if len(places) == 1:
            return (self._lines[places[0]][behind:].strip(_SPACE),)
        return tuple([self._lines[at][behind:].strip(_SPACE) for at in places])

    def cut(self, selection: Selection) -> bytes:
        """The selected lines as they came, each with its CRLF."""
        return b"\r\n".join(selection(self._lines))
