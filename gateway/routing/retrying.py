"""Which calls may be sent once more, and how many: RFC 9110, section 9.2.2.

A proxy must not repeat a call whose method is not idempotent, whatever became of it, unless nothing of it was sent. And
repeats must not be what brings down the upstreams that are left: they are kept to a share of the calls.
"""

from typing import Final, final

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))
SHARE: Final = 0.1  # of the calls
FLOOR: Final = 10.0  # repeats that are there for a route that has hardly any calls
REGAINED: Final = 1.0  # of those in a second
_MOST: Final = 1000.0  # that are saved up


@final
class RetryBudget:
    """The repeats that the calls of one route allow. It asks for the number of calls when it is needed, so that a call
    that needs none costs nothing."""

    __slots__ = ("_at", "_calls", "_left")

    def __init__(self, now: float) -> None:
        self._left = FLOOR
        self._calls = 0
        self._at = now

    def spend(self, calls: int, now: float) -> bool:
        """Whether one more repeat is allowed, after so many calls since the beginning; it counts as made then."""
        if self._left < FLOOR:
            self._left = min(FLOOR, self._left + REGAINED * (now - self._at))
        self._left = min(_MOST, self._left + SHARE * (calls - self._calls))
        self._calls, self._at = calls, now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
