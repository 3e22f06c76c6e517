"""A field section: proven lines, kept as the bytes that came, with the names that stand in them."""

from collections.abc import Collection, Iterator
from typing import Final

from gateway.http1.grammar import Field

_SPACE: Final = b" \t"

Heard = dict[bytes, tuple[bytes, ...]]
"""Of some fields, by their lower-case names: all values that were sent, in their order."""


class Fields:
    """The field lines of one head, in their order. They were proven before; it is never altered.

    `names` stand in lower case, one for each line; `known` is the set of them. `plain` says that their names are known
    to hold nothing but letters, digits and "-", as nearly all do: no server reads such a name as another one.
    """

    __slots__ = ("_lines", "_lower", "known", "names", "plain")

    def __init__(self, lines: bytes, *, plain: bool = False) -> None:
        """Take whole lines, each with its CRLF."""
        self._lines: Final = lines.split(b"\r\n")
        self._lower: Final = lines.lower()
        self.names: Final = [line.partition(b":")[0] for line in self._lower.split(b"\r\n")[:-1]]
        self.known: Final = frozenset(self.names)
        self.plain: Final = plain

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Field]:
        """Each field: the name in lower case, the name as it was sent, the value without white space around it."""
        for lower, line in zip(self.names, self._lines, strict=False):
            size = len(lower)
            yield lower, line[:size], line[size + 1 :].strip(_SPACE)

    def __eq__(self, other: object) -> bool:
        return self._lines == other._lines if isinstance(other, Fields) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # nothing is looked up by a whole section

    def __repr__(self) -> str:
        return f"Fields({b', '.join(self.names).decode()})"  # values may be secrets

    def values(self, name: bytes) -> tuple[bytes, ...]:
        """Every value of the field with this lower-case name, in order, without white space around it."""
        if name not in self.known:
            return ()
        names, lines, behind = self.names, self._lines, len(name) + 1
        first = names.index(name)
        value = lines[first][behind:].strip(_SPACE)
        if names.count(name) == 1:
            return (value,)
        rest = range(first + 1, len(names))
        return (value, *(lines[at][behind:].strip(_SPACE) for at in rest if names[at] == name))

    def may_mention(self, text: bytes) -> bool:
        """Whether `text` (lower case) stands anywhere in the lines, be it in a name or a value: a quick first look."""
        return text in self._lower

    def without(self, names: Collection[bytes]) -> bytes:
        """The lines as they came, each with its CRLF, but those of `names`."""
        if not names:
            return b"\r\n".join(self._lines)
        kept = [line for name, line in zip(self.names, self._lines, strict=False) if name not in names]
        return b"\r\n".join([*kept, b""])


NO_FIELDS: Final = Fields(b"", plain=True)
