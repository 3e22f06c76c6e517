"""How many calls are under way on a route, on all workers of this machine: counted in memory that they share.

    worker        enter: one more in its own cell, then the sum of all; where that is too much, one less again
    supervisor    gives each worker a row of its own, and each route a column; empties the row of a worker that died

A cell has one writer, so nothing is locked, and what a worker has begun is seen by all others at once. Since each adds
before it sums, there are never more under way than may be; where several come to the last place at one time, all of
them may be refused.

The memory, whose numbers are those of this machine, 4 bytes each: how many rows may be in use, and behind the first 4
KiB one column after the other, `ROWS` cells each. What nobody uses takes no memory.
"""

import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

ROWS: Final = 1024  # workers at one time, also those that drain
COLUMNS: Final = 4096  # routes with a bound
_CELL: Final = 4
_HEADER: Final = 1024  # cells


class Place(NamedTuple):
    """Where a worker counts: the memory, as a file descriptor, its row, and the columns of routes by their names."""

    memory: int
    row: int
    columns: Mapping[str, int]


class UnderWay:
    """The supervisor's side: who has which row."""

    def __init__(self) -> None:
        self._memory = os.memfd_create("gateway-under-way", os.MFD_CLOEXEC)
        os.ftruncate(self._memory, (_HEADER + ROWS * COLUMNS) * _CELL)
        self._cells = memoryview(mmap.mmap(self._memory, 0)).cast("i")
        self._free = list(range(ROWS - 1, -1, -1))
        self._columns: dict[str, int] = {}

    @contextmanager
    def of_one(self, routes: Iterable[str]) -> Iterator[Place | None]:
        """The place of one more worker, on whose routes calls are counted; it has ended when the context does. None
        where no route of its has a bound."""
        names = list(routes)
        if not names:
            yield None
            return
        row = self._free.pop()
        self._cells[0] = max(self._cells[0], row + 1)
        try:
            yield Place(self._memory, row, {name: self._column(name, names) for name in names})
        finally:
            for column in range(len(self._columns)):
                self._cells[_HEADER + column * ROWS + row] = 0
            self._free.append(row)
            self._free.sort(reverse=True)  # the lowest is taken next, so that few have to be added

    def _column(self, name: str, names: list[str]) -> int:
        """A route's column, which it keeps for as long as columns last: then those of routes that went are taken."""
        if name not in self._columns and len(self._columns) == COLUMNS:
            gone = next(other for other in self._columns if other not in names)
            self._columns[name] = self._columns.pop(gone)
        return self._columns.setdefault(name, len(self._columns))


class Counter:
    """Calls under way on one route, of which `most` may be; this worker's own are `own`."""

    __slots__ = ("_begin", "_cell", "_cells", "most")

    def __init__(self, cells: "memoryview[int]", row: int, column: int, most: int) -> None:
        self._cells: Final = cells
        self._begin: Final = _HEADER + column * ROWS
        self._cell: Final = self._begin + row
        self.most: Final = most

    def enter(self) -> bool:
        """Whether one more call may begin, which it then has."""
        cells = self._cells
        cells[self._cell] += 1
        if sum(cells[self._begin : self._begin + cells[0]]) <= self.most:
            return True
        cells[self._cell] -= 1
        return False

    def leave(self) -> None:
        """A call has ended that had begun."""
        self._cells[self._cell] -= 1

    @property
    def own(self) -> int:
        """How many of them are this worker's."""
        return self._cells[self._cell]


class Counters:
    """A worker's side: the counters of its routes, in the memory that it was given, else in its own."""

    def __init__(self, place: Place | None) -> None:
        self._place = place
        self._shared = None if place is None else memoryview(mmap.mmap(place.memory, 0)).cast("i")

    def of(self, route: str, most: int) -> Counter:
        """That of a route."""
        if self._place is None or self._shared is None:
            own = memoryview(bytearray((_HEADER + ROWS) * _CELL)).cast("i")
            own[0] = 1
            return Counter(own, 0, 0, most)
        return Counter(self._shared, self._place.row, self._place.columns[route], most)
