"""One worker's part of a bucket of calls that all workers, of all gateways on one database, take from.

    the bucket     fills at the limit's pace up to its burst; whoever lets a call pass takes one
    a part         what one worker may let pass by itself until it next hears of the others, decided in its memory

A worker tells what it let pass, in batches, and hears how full the bucket is then and how many calls all workers were
asked for lately. Its part from then on is its share of what is in the bucket, and of what flows in: the share of those
calls that it was asked for itself. So the parts together are the bucket, whichever worker a client's connections lead
to, and when they move the parts follow. What several let pass at once before they heard of each other is owed: the
level is below zero, and all wait until it is paid back. So over any time no more pass than the limit lets, but for
what a moment's ignorance lends.

Nothing heard for `STALE` seconds, as when the database is away, or never yet: the part is a fair one, of as many as
there are workers. Together these are the limit, but for less than one call that each may owe.

Here is arithmetic alone: times are seconds of a clock that does not go back, levels are calls.
"""

from math import exp, inf
from typing import Final, final

from gateway.routing.limits import Limit

STALE: Final = 2.0  # seconds after which what was heard of the others counts no more
MEMORY: Final = 1.0  # seconds in which what was asked for lately falls to a third; the statement says the same


@final
class Bucket:
    """One worker's part of the bucket of `who`."""

    __slots__ = (
        "_at",
        "_heard_at",
        "_level",
        "_most",
        "_pace",
        "_share",
        "asked",
        "demand",
        "demand_at",
        "key",
        "limit",
        "passed",
        "since",
        "who",
    )

    def __init__(self, who: str | bytes, key: bytes, limit: Limit, workers: int, now: float) -> None:
        self.who: Final = who
        self.key: Final = key
        self.limit: Final = limit
        self.passed = 0  # calls that nobody was told of
        self.asked = 0  # calls, passed or not, that nobody was told of
        self.since = inf  # when the first of them came
        self.demand = 0.0  # calls that this worker was asked for lately
        self.demand_at = now
        self._heard_at = -inf
        self._at = now
        self._level = self._share = self._pace = self._most = 0.0
        self._part(1.0 / workers, limit.burst)

    def _part(self, share: float, level: float) -> None:
        """Have this share of a bucket that holds so much."""
        self._share = share
        self._pace = self.limit.pace * share
        self._most = self.limit.burst * share
        self._level = level * share

    def has_one(self, now: float, workers: int) -> bool:
        """Whether one more call may pass: the bucket holds one, as far as this worker knows, however small its part;
        what it takes beyond that, it owes. `workers` is how many there are."""
        self._level = min(self._most, self._level + (now - self._at) * self._pace)
        self._at = now
        if now - self._heard_at > STALE and self._share * workers != 1.0:
            self._part(1.0 / workers, self._level / self._share)
        return self._level >= self._share

    def take(self, now: float) -> None:
        """One passes, now that there is one."""
        self._level -= 1.0
        self.passed += 1
        self._note(now)

    def refuse(self, now: float) -> None:
        """None passes."""
        self._note(now)

    def _note(self, now: float) -> None:
        if not self.asked:
            self.since = now
        self.asked += 1

    @property
    def tight(self) -> bool:
        """Whether so little is left that it matters what the others do."""
        return self._level < self._most / 2

    @property
    def remaining(self) -> int:
        """How many calls all workers together may let pass now, as far as this one knows."""
        return max(0, min(self.limit.burst, int(self._level / self._share)))

    @property
    def wait(self) -> float:
        """In how many seconds another call may pass, at the earliest."""
        return max(0.0, (1.0 - self._level / self._share) / self.limit.pace)

    def is_idle(self, now: float) -> bool:
        """Whether nothing would be lost if it were forgotten: it is full again, and nobody has to be told."""
        return not self.asked and self._level + (now - self._at) * self._pace >= self._most

    # -- what is told, and heard ------------------------------------------------------------------------------------

    def owed(self, now: float) -> float:
        """What to tell of `passed`: calls that the bucket has not made good for meanwhile, where that took long."""
        late = now - self.since - STALE
        return self.passed if late <= 0.0 else max(0.0, min(self.passed - late * self._pace, self._most))

    def reported(self, passed: int, asked: int, now: float) -> None:
        """So many calls of those noted have been told of."""
        self.passed -= passed
        self.asked -= asked
        self.since = now if self.asked else inf
        self.demand = self.demand * exp(-min(50.0, (now - self.demand_at) / MEMORY)) + asked
        self.demand_at = now

    def heard(self, level: float, demand: float, now: float) -> None:
        """The bucket holds so much, what was told included, and all workers were asked for so many calls lately.

        `passed` is what passed since it was told.
        """
        self._part(min(1.0, max(1e-6, self.demand / demand)) if demand > 0.0 else self._share, level)
        self._level -= self.passed
        self._at = self._heard_at = now
