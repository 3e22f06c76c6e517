"""Calls of a day's quota that one worker has been given, and may let pass by itself.

    ask ──▶ given so many ──▶ each passes one call ──▶ none left: ask again ──▶ given none: refuse until asked again
                     └──── not used for a while, or the worker ends: given back

What a worker has been given is written in the database before, as taken, so that over all workers and gateways no call
passes more than the quota has: not by a race, a crash or a restart. Blocks shrink as the quota does; the last calls are
given one by one. A worker that is killed loses what it had, which then passes nowhere. What was given for one day
passes in no other: it ends by the database's clock, counted from before it was asked.

Here is arithmetic alone: times are seconds of a clock that does not go back.
"""

from datetime import date
from math import ceil, inf
from typing import Final, final

BLOCK: Final = 200  # calls that are given at once, unless more wait: what a worker loses that is killed
IDLE: Final = 1.0  # seconds unused, after which calls are given back
_AGAIN: Final = 1.0  # seconds until it is asked again whether somebody gave back


def part(workers: int) -> float:
    """How much of what is left one of so many workers is given at a time: so all together hold an eighth at most."""
    return 1.0 / (8 * workers)


@final
class Lease:
    """What one worker holds of the quota of one key."""

    __slots__ = ("_again_at", "_ends_at", "_remaining", "_waiting", "day", "key", "most", "units", "used_at")

    def __init__(self, key: bytes, most: int, now: float) -> None:
        self.key: Final = key
        self.most: Final = most
        self.units = 0
        self.day: date | None = None
        self.used_at = now
        self._remaining = most  # in the database, when it was last asked
        self._ends_at = -inf
        self._again_at = -inf
        self._waiting = 0  # calls for which more is asked

    def take(self, now: float) -> None:
        """One passes, now that there is one."""
        self.units -= 1
        self.used_at = now

    def has_one(self, now: float) -> bool:
        """Whether a call may pass without asking."""
        if now >= self._ends_at:
            self.units = 0
        return self.units > 0

    def is_spent(self, now: float) -> bool:
        """Whether it was heard a moment ago that nothing is left of today."""
        return not self.units and now < self._again_at and now < self._ends_at

    def ask(self, calls: int) -> None:
        """So many calls wait until they are `answered`."""
        self._waiting += calls

    def answered(self, calls: int) -> None:
        """So many wait no longer, whatever came of it."""
        self._waiting -= calls

    def given(self, units: int, remaining: int, day: date, ends_at: float, now: float) -> None:
        """So many were given; others may have `remaining`, until the day ends."""
        if day != self.day or now >= self._ends_at:
            self.units = 0
        self.units += units
        self.day = day
        self._remaining, self._ends_at = remaining, ends_at
        self._again_at = -inf if self.units else now + _AGAIN
        self.used_at = now

    def denied(self, now: float, seconds: float) -> None:
        """Nothing is given for so long."""
        self.units = 0
        self._remaining = 0
        self._again_at = self._ends_at = now + seconds

    def unspent(self, now: float, *, idle: float = IDLE) -> int:
        """How many are to be given back, which are so from now on."""
        if not self.units or self._waiting or now - self.used_at < idle:
            return 0
        units, self.units = (0 if now >= self._ends_at else self.units), 0
        return units

    def is_idle(self, now: float) -> bool:
        """Whether nothing would be lost if it were forgotten."""
        return not self.units and not self._waiting and now - self.used_at >= IDLE

    @property
    def remaining(self) -> int:
        """How many may pass today, as far as this worker knows."""
        return self.units + self._remaining

    def wait(self, now: float) -> int:
        """Seconds until there are more: the rest of the day."""
        return max(1, ceil(self._ends_at - now))
