"""Whether an upstream is given calls: what one worker makes of how calls went, and of the answers to health checks.

    IN ──the third failure in a row──▶ OUT ──its pause is over──▶ OUT, and given one call
     ▲                                  ▲ │                              │       │
     └────────── a call succeeds ───────┼─┴──────────────────────────────┘       │
                                        └──── that one fails: twice the pause ───┘

A call that fails by a fault of the caller's, or that ends before the upstream's turn, is neither. One that succeeds
brings an upstream in at any time, such as a call that was given to it because all others were out too. Beside that
stands what health checks say: an upstream is given calls if it is neither out nor found ill. Times are seconds of a
clock that does not jump.
"""

from typing import Final, NamedTuple, final

WELL: Final = range(200, 400)  # what an upstream that is well answers to a health check
FAILURES: Final = 3  # in a row, that take an upstream out
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
STEADY: Final = 60.0  # in for so long, the pauses begin anew


class HealthCheck(NamedTuple):
    """What an upstream is asked time and again, by GET, and how many answers in a row find it well again, or ill.

    `interval` and `timeout` are seconds."""

    path: bytes
    interval: float
    timeout: float
    healthy: int
    unhealthy: int


@final
class Health:
    """How one upstream stands with one worker, which thinks well of it unless it is told that it was `out`."""

    __slots__ = ("_failures", "_given", "_pause", "_returned", "_row", "_until", "ejected", "ill")

    def __init__(self, now: float, *, checked: bool = False, out: bool = False) -> None:
        self.ejected = out and not checked
        self.ill = out and checked
        self._until = now  # one that was out is given a call at once
        self._pause = FIRST_PAUSE
        self._returned = now - STEADY
        self._failures = 0  # in a row
        self._row = 0  # of health checks that speak against how it is held
        self._given = False  # it was given a call although it is out

    def takes(self, now: float) -> bool:
        """Whether it may be given a call; one that is out may be given one at the end of each pause."""
        return not self.ill and (not self.ejected or now >= self._until)

    @property
    def well(self) -> bool:
        """Whether it is in, and not found ill."""
        return not (self.ejected or self.ill)

    def give(self, now: float) -> None:
        """It is given a call; while it is out, the next one has a pause to wait."""
        if self.ejected:
            self._given = True
            self._until = now + self._pause

    def succeed(self, now: float) -> bool:
        """A call has been answered; whether that brings it in."""
        self._failures = 0
        if not self.ejected:
            return False
        self.ejected = self._given = False
        self._returned = now
        return True

    def fail(self, now: float) -> bool:
        """A call has failed by its fault; whether that takes it out, or keeps it out for longer than before.

        Calls that were under way when it was taken out, and fail too, say nothing new.
        """
        self._failures += 1
        if self.ejected and not self._given:
            return False
        if not self.ejected and self._failures < FAILURES:
            return False
        if self.ejected or now - self._returned < STEADY:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        else:
            self._pause = FIRST_PAUSE
        self.ejected, self._given = True, False
        self._until = now + self._pause
        return True

    def check(self, well: bool, needed: HealthCheck) -> bool:
        """An answer to a health check has come, or none in time; whether that changes how it is held."""
        if well is not self.ill:
            self._row = 0
            return False
        self._row += 1
        if self._row < (needed.healthy if well else needed.unhealthy):
            return False
        self._row, self.ill = 0, not well
        return True

    @property
    def pause(self) -> float:
        """Seconds between two calls that it is given while it is out."""
        return self._pause
