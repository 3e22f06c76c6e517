"""What a stranger's bytes may cost: 8 KiB of them hold a worker for 5 ms at most, whatever they are.

The worst is looked for by climbing: of two inputs the one that takes longer is changed further. Inputs are a beginning,
a piece that is repeated, and an end, since it is repetition that makes a reader go back. Time is that of this thread's
processor, and an input that takes too long is given more chances, so that a busy machine decides nothing.
"""

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

SIZE: Final = 8 * 1024  # bytes of an input
BOUND: Final = 0.005  # seconds of the processor for so many
_LOOKS: Final = 10
CHANCES: Final = 40  # times the bound that an input which seems slow is run again for; the fastest run counts

Take = Callable[[bytes], object]
Answer = Callable[[bytes], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Shape:
    """An input: how it begins, what is repeated, how it ends."""

    front: bytes
    unit: bytes
    end: bytes

    def data(self, size: int) -> bytes:
        """So many bytes of it."""
        room = max(0, size - len(self.front) - len(self.end))
        return self.front + (self.unit * (room // max(1, len(self.unit)) + 1))[:room] + self.end


def quickest(take: Take, data: bytes, bound: float = BOUND) -> float:
    """The seconds of the processor that `take` needs for `data`: the fewest, where they seem to exceed the bound."""
    times = list[float]()
    while _wanted(times, bound):
        began = time.thread_time()
        take(data)
        times.append(time.thread_time() - began)
    return min(times)


def _wanted(times: list[float], bound: float) -> bool:
    """Whether an input that took so long is to be looked at once more: slow ones, for they may only seem so.

    Each gets ten looks at least: a collection of all garbage, which may fall into one, takes longer than all chances,
    and a processor that others use as well is slower for a while.
    """
    return not times or (min(times) > bound and (len(times) < _LOOKS or sum(times) < CHANCES * bound))


class Climb:
    """Looks for the input that takes longest, from pieces that mean something to who reads it."""

    def __init__(self, pieces: Sequence[bytes], bound: float = BOUND, size: int = SIZE) -> None:
        self._pieces, self._bound, self._size = pieces, bound, size
        self._alone = list(dict.fromkeys(pieces))  # each is tried by itself first
        self._best: list[tuple[float, Shape]] = []

    @property
    def worst(self) -> float:
        """The time of the slowest input so far."""
        return self._best[0][0] if self._best else 0.0

    def step(self, take: Take, chance: random.Random) -> bytes:
        """Let `take` try one more input. Raises AssertionError where it takes longer than the bound."""
        shape = self._changed(chance)
        data = shape.data(self._size)
        self._keep(shape, quickest(take, data, self._bound))
        return data

    async def step_answered(self, answer: Answer, chance: random.Random) -> bytes:
        """The same for what is answered on this thread's loop, by whichever tasks."""
        shape = self._changed(chance)
        data = shape.data(self._size)
        times = list[float]()
        while _wanted(times, self._bound):
            began = time.thread_time()
            await answer(data)
            times.append(time.thread_time() - began)
        self._keep(shape, min(times))
        return data

    def _keep(self, shape: Shape, took: float) -> None:
        assert took <= self._bound, f"{took * 1000:.1f} ms for {self._size} bytes: {shape}"
        self._best = sorted([*self._best, (took, shape)], key=lambda found: -found[0])[:_KEPT]

    def _changed(self, chance: random.Random) -> Shape:
        if self._alone:
            return Shape(b"", self._alone.pop(), b"")
        if len(self._best) < _KEPT or chance.random() < 0.3:
            picked = [chance.choice(self._pieces) for _ in range(chance.randint(1, 3))]
            return Shape(
                chance.choice((b"", *self._pieces)), b"".join(picked), chance.choice((b"", b"\0", *self._pieces))
            )
        shape = chance.choice(self._best)[1]
        part = chance.choice(("front", "unit", "unit", "unit", "end"))
        return replace(shape, **{part: _altered(chance, getattr(shape, part), self._pieces)})


_KEPT: Final = 4  # of the slowest


def _altered(chance: random.Random, text: bytes, pieces: Sequence[bytes]) -> bytes:
    start = chance.randint(0, len(text))
    end = min(len(text), start + chance.choice((0, 1, 1, 2, 4)))
    match chance.randrange(5):
        case 0:
            middle = b""
        case 1:
            middle = text[start:end] * 2
        case 2:
            middle = bytes((chance.randrange(256),))
        case _:
            middle = chance.choice(pieces)
    return text[:start] + middle + text[end:]
