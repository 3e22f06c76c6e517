"""The time by which everything lives and dies, which no leap of a clock may move.

What was dead stays dead, so it never goes back; and what lives is not ended by a worker whose clock is wrong, so it
does not follow a leap ahead either, unless the database's clock says the same.

    the system's clock leaps, either way       time goes on as before, by the seconds since boot, and that is said
    the database's clock agrees with the leap  a leap ahead is followed: the clock was wrong before
    both go back                               followed as far as an earlier leap, which is undone by it, and no further
    at first sight of the database             the earlier of both counts

So a worker recovers by itself, whether its own clock is put right or not.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeAlias

from gateway.observe import get_logger

Now: TypeAlias = Callable[[], datetime]  # the time that the store compares with

LEAP: Final = 60.0  # seconds by which clocks may differ

_MEND: Final = "keep the clocks of this machine and the database in step, by NTP for instance"

# Seconds that never go back and that pass while the machine sleeps.
since_boot: Final[Callable[[], float]] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)

_log = get_logger("gateway.store")


class Clock:
    """Seconds since 1970 by the system's clock, with a shift where that has leapt."""

    def __init__(self, system: Callable[[], float] = time.time, elapsed: Callable[[], float] = since_boot) -> None:
        self._system, self._elapsed = system, elapsed
        self._shift = 0.0
        self._latest = system()
        self._base = self._latest - elapsed()  # what to add to `elapsed` for the time that is expected
        self._first: float | None = None  # the base when the database was first seen
        self._led = False  # whether a leap ahead was followed and not undone since: only then is there one to undo
        self._differs = False  # whether the database's clock did when last compared

    def __call__(self) -> datetime:
        return datetime.fromtimestamp(self.seconds(), UTC)

    def seconds(self) -> float:
        """Seconds since 1970, which never go back but where a leap that was followed is undone."""
        now = self._system() + self._shift
        if not 0.0 <= now - self._latest < LEAP:
            now = self._checked(now)
        self._latest = now
        return now

    def compare(self, server: float) -> None:
        """Take the time from the database's clock, seconds since 1970, as it was a moment ago."""
        base, ours = server - self._elapsed(), self.seconds()
        apart, agreed = server - ours, abs(server - self._system()) <= LEAP
        if self._first is None:
            if apart < -LEAP:
                self._follow(server)
            self._first = self._base
        elif abs(apart) <= LEAP:
            self._base = self._latest - self._elapsed()  # clocks drift a little
        elif agreed and (apart > LEAP or (apart < -LEAP and self._led and base >= self._first - LEAP)):
            self._led = apart > LEAP
            self._follow(server)
        self._tell(server - self._latest)

    def _checked(self, now: float) -> float:
        """The time, where the system's clock does not go on from where it was."""
        expected = self._base + self._elapsed()
        if abs(now - expected) > LEAP:
            self._shift += expected - now
            leapt = round(-self._shift)
            if abs(leapt) > LEAP:
                _log.warning("this machine's clock has jumped; time goes on as before", seconds=leapt, mend=_MEND)
            else:
                _log.info("this machine's clock is right again")
            now = expected
        return max(now, self._latest)

    def _follow(self, server: float) -> None:
        self._shift = server - self._system()
        if abs(self._shift) <= LEAP:
            self._shift = 0.0
        _log.warning("the clock that tokens live by is corrected", seconds=round(server - self._latest))
        self._latest = server
        self._base = server - self._elapsed()

    def _tell(self, apart: float) -> None:
        """Say once that the database's clock is another, and once that it is not any more."""
        if (abs(apart) > LEAP) != self._differs:
            self._differs = not self._differs
            if self._differs:
                _log.warning("this worker's clock and the database's differ", seconds=round(-apart), mend=_MEND)
            else:
                _log.info("this worker's clock and the database's agree again")
