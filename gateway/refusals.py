"""The lines on refusals, in both planes by the same names, what becomes of them in a flood, and the pages of them.

    status, error, cause, mend                     what was said, why, and what to do about it
    method, host, path, address                    the request, and the client's address
    route, upstream, client_id, subject            where it led, and on whose behalf, as far as that is known

Of one cause the first lines of each minute are written. The others are counted, and the count is written within a
second, whether or not anything comes after them: the lines and the counts add up to all refusals. What is the
gateway's own fault, the database's or an upstream's (5xx) is always written.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.errors import Refused

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

LINES: Final = 50  # of one cause in a minute
CAUSES: Final = 100  # that are told apart in a minute, or strangers could fill the memory; the others are one
_MINUTE: Final = 60.0
_OTHERS: Final = "other causes"

# The mend where the database gives no answer, whichever plane asked it.
NO_DATABASE: Final = (
    "check that the database of database.url is up and accepts connections; calls recover by themselves"
)


class RefusedVisit(NamedTuple):
    """A refusal that people in a browser are told of, with the request's identifier.

    `host` is the Host field's value. `again` is the path and query that was asked for there, as browsers write them,
    where it may be opened once more; else it is empty.
    """

    refused: Refused
    request_id: str
    host: str = ""
    again: str = ""


RefusalPage = Callable[[RefusedVisit], tuple[dict[str, str], bytes]]
"""Makes of a refusal its page: the header fields, and HTML in UTF-8."""


class Refusals:
    """One process's lines on refusals; `clock` gives seconds that never go back."""

    def __init__(self, log: "FilteringBoundLogger", clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._ends_at = 0.0  # this minute
        self._written: dict[tuple[int, str], int] = {}
        self.held: dict[tuple[int, str], int] = {}
        self._telling: asyncio.TimerHandle | None = None

    def admits(self, status: int, cause: str) -> bool:
        """Whether this refusal is to have a line of its own. Else it is counted here, and needs none."""
        if status >= 500:
            return True
        now = self._clock()
        if now >= self._ends_at:
            self._ends_at = now + _MINUTE
            self._written.clear()
            self.tell()
        key = (status, cause)
        held = self.held.get(key)
        if held is not None:  # a flood of it is under way
            self.held[key] = held + 1
            return False
        written = self._written.get(key, 0)
        if not written and len(self._written) >= CAUSES:
            key = (0, _OTHERS)
            written = self._written.get(key, 0)
        if written < LINES:
            self._written[key] = written + 1
            return True
        self.held[key] = self.held.get(key, 0) + 1
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(1.0, self.tell)
        return False

    def write(self, event: str, status: int, fields: Mapping[str, object], *, alarming: bool = False) -> None:
        """One line, without the fields that are not known (None or empty); an alarming one is a warning."""
        known = {name: value for name, value in fields.items() if value is not None and value != ""}
        (self._log.warning if status >= 500 or alarming else self._log.info)(event, status=status, **known)

    def tell(self) -> None:
        """Write what was counted since the last time, one line for each cause."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        held, self.held = self.held, {}
        for (status, cause), count in held.items():
            self._log.info("refusals that have no line of their own", status=status or None, cause=cause, count=count)
