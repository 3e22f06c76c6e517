"""A field section: proven lines, kept as the bytes that came, and what follows from the names that stand in them.

Values never recur, names do: a client sends the same ones in the same order with each request. So what hangs on names
alone is worked out once for each sequence of them, and every value is read anew.
"""

import re
from collections.abc import Collection, Iterator
from typing import Final, Optional, final

from mypy_extensions import mypyc_attr

from gateway.http1.grammar import TOKEN, Field
from gateway.http1.scan import field_lines

Selection = tuple[tuple[int, int], ...]
"""Some lines of a section: runs of them, each from the first to the one behind the last."""

_SPACE: Final = b" \t"
_ONE_SPACE: Final = 0x20
_KEPT: Final = 256  # sequences of names; clients and upstreams send few
_LONGEST: Final = 1024  # bytes of a sequence that is kept: strangers cannot fill the memory with them


@mypyc_attr(acyclic=True)
@final
class Framing:
    """Of the fields that say where a message ends, whom it is for, and what becomes of the connection: all values that
    were sent, in their order."""

    __slots__ = ("codings", "connections", "expectations", "hosts", "lengths", "upgrades")

    def __init__(
        self,
        hosts: tuple[bytes, ...] = (),
        connections: tuple[bytes, ...] = (),
        lengths: tuple[bytes, ...] = (),  # Content-Length
        codings: tuple[bytes, ...] = (),  # Transfer-Encoding
        upgrades: tuple[bytes, ...] = (),
        expectations: tuple[bytes, ...] = (),
    ) -> None:
        self.hosts = hosts
        self.connections = connections
        self.lengths = lengths
        self.codings = codings
        self.upgrades = upgrades
        self.expectations = expectations

    def hear(self, name: bytes, value: bytes) -> bool:
        """Hear a field with this lower-case name; whether it is one of these."""
        if name == b"host":
            self.hosts += (value,)
        elif name == b"connection":
            self.connections += (value,)
        elif name == b"content-length":
            self.lengths += (value,)
        elif name == b"transfer-encoding":
            self.codings += (value,)
        elif name == b"upgrade":
            self.upgrades += (value,)
        elif name == b"expect":
            self.expectations += (value,)
        else:
            return False
        return True


_NAMES: Final = re.compile(b"(?:" + TOKEN + rb"++:)*+")
_PLAIN_NAMES: Final = re.compile(rb"(?:[A-Za-z0-9-]++:)*+")


class Names:
    """The names of a section's fields in their order, one for each line. They are never altered.

    `lower` are the names in lower case; `places` says at which lines each of them stands, `hosts` and so on of those
    that make up the `Framing`. Names are `plain` that no server reads as others: of letters, digits and "-". What
    follows from them may be remembered where they are `short`: these come again as the same value.
    """

    __slots__ = (
        "codings",
        "connections",
        "expectations",
        "hosts",
        "known",
        "lengths",
        "lower",
        "places",
        "plain",
        "short",
        "upgrades",
    )

    def __init__(self, names: bytes) -> None:
        """Take names that are tokens, each with a colon behind it."""
        self.lower: Final = tuple(names.lower().split(b":")[:-1])
        self.known: Final = frozenset(self.lower)
        self.short: Final = len(names) <= _LONGEST
        self.plain: Final = _PLAIN_NAMES.fullmatch(names) is not None
        places: dict[bytes, tuple[int, ...]] = {}
        for at, name in enumerate(self.lower):
            places[name] = (*places.get(name, ()), at)
        self.places: Final = places
        self.hosts: Final = places.get(b"host", ())
        self.connections: Final = places.get(b"connection", ())
        self.lengths: Final = places.get(b"content-length", ())
        self.codings: Final = places.get(b"transfer-encoding", ())
        self.upgrades: Final = places.get(b"upgrade", ())
        self.expectations: Final = places.get(b"expect", ())

    def without(self, names: Collection[bytes]) -> Selection:
        """All lines but those of `names` (lower case)."""
        runs, begin = list[tuple[int, int]](), 0
        for at, name in enumerate((*self.lower, b"")):
            if not name or name in names:
                if at > begin:
                    runs.append((begin, at))
                begin = at + 1
        return tuple(runs)


_known: Final[dict[bytes, Names]] = {}


def _names(names: bytes) -> Names | None:
    """What is known of a sequence, or None where something in it is not a token."""
    known = _known.get(names)
    if known is not None:
        return known
    if _NAMES.fullmatch(names) is None:
        return None
    known = Names(names)
    if known.short:
        if len(_known) >= _KEPT:
            del _known[next(iter(_known))]  # the one that came first
        _known[names] = known
    return known


@mypyc_attr(acyclic=True)
class Fields:
    """The field lines of one head, in their order. They were proven before; it is never altered."""

    __slots__ = ("_begins", "_data", "names")

    def __init__(self, data: bytes, begins: list[int], names: Names) -> None:
        self._data: Final = data
        self._begins: Final = begins  # of each line, and behind them the end of the last one
        self.names: Final = names

    @staticmethod
    def at(data: bytes, start: int) -> Optional["Fields"]:
        """The lines that stand there with the empty line behind them; None where they are not plain or not right."""
        found = field_lines(data, start)
        if found is None:
            return None
        names = _names(found[0])
        return None if names is None else Fields(data[: found[1][-1]], found[1], names)

    @staticmethod
    def of(lines: bytes) -> "Fields":
        """Those of whole lines, each with its CRLF, that were proven."""
        begins, names, at = [0], list[bytes](), 0
        while at < len(lines):
            names.append(lines[at : lines.index(b":", at) + 1])
            at = lines.index(b"\r\n", at) + 2
            begins.append(at)
        known = _names(b"".join(names))
        if known is None:
            raise ValueError("these are no field lines")
        return Fields(lines, begins, known)

    @property
    def end(self) -> int:
        """Where, in what they stand in, the last line ends."""
        return self._begins[-1]

    def __len__(self) -> int:
        return len(self._begins) - 1

    def __iter__(self) -> Iterator[Field]:
        """Each field: the name in lower case, the name as it was sent, the value without white space around it."""
        for at, lower in enumerate(self.names.lower):
            begin, size = self._begins[at], len(lower)
            yield lower, self._data[begin : begin + size], self._value(at, size)

    def __contains__(self, name: bytes) -> bool:
        """Whether there is a field with this lower-case name."""
        return name in self.names.places

    def __eq__(self, other: object) -> bool:
        return self.raw == other.raw if isinstance(other, Fields) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # nothing is looked up by a whole section

    def __repr__(self) -> str:
        return f"Fields({b', '.join(self.names.lower).decode()})"  # values may be secrets

    def values(self, name: bytes) -> tuple[bytes, ...]:
        """Every value of the field with this lower-case name, in order, without white space around it."""
        places = self.names.places.get(name)
        return () if places is None else self._values(places, len(name))

    def framing(self) -> Framing:
        """The values of the fields that frame."""
        names = self.names
        return Framing(
            self._values(names.hosts, len(b"host")) if names.hosts else (),
            self._values(names.connections, len(b"connection")) if names.connections else (),
            self._values(names.lengths, len(b"content-length")) if names.lengths else (),
            self._values(names.codings, len(b"transfer-encoding")) if names.codings else (),
            self._values(names.upgrades, len(b"upgrade")) if names.upgrades else (),
            self._values(names.expectations, len(b"expect")) if names.expectations else (),
        )

    def _values(self, places: tuple[int, ...], size: int) -> tuple[bytes, ...]:
        if len(places) == 1:
            return (self._value(places[0], size),)
        return tuple([self._value(at, size) for at in places])

    def _value(self, at: int, size: int) -> bytes:
        """The value of a line, whose name is so long."""
        begin, end = self._begins[at] + size + 1, self._begins[at + 1] - 2
        data = self._data
        if begin < end and data[begin] == _ONE_SPACE:  # as nearly everybody sends it
            begin += 1
        if begin < end and (data[begin] in _SPACE or data[end - 1] in _SPACE):
            return data[begin:end].strip(_SPACE)
        return data[begin:end]

    @property
    def raw(self) -> bytes:
        """All lines as they came, each with its CRLF."""
        return self._data[self._begins[0] : self._begins[-1]]

    def cut(self, selection: Selection) -> bytes:
        """The selected lines as they came, each with its CRLF."""
        begins = self._begins
        if len(selection) == 1:
            begin, end = selection[0]
            return self._data[begins[begin] : begins[end]]
        return b"".join([self._data[begins[begin] : begins[end]] for begin, end in selection])
