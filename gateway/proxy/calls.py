"""The count of a worker's calls: by route, method and class of status with their seconds, and what was refused why.

It is made for each call, so it is two additions in memory: what it adds to is looked up by the route itself, the
method's bytes and the status. A method that no specification of HTTP has counts as `other`.
"""

from bisect import bisect_left
from functools import lru_cache
from typing import Final

from gateway.errors import Refused
from gateway.figures import CALLS, REFUSALS, UPSTREAM_FAILURES, cells
from gateway.routing import Origin, Route

GONE: Final = 0  # in a status's place: the client left before its answer ended
BROKEN: Final = 900  # the answer could not be finished

_METHODS: Final = frozenset(
    (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"QUERY")
)
_OUTCOMES: Final = {0: "gone", 9: "broken"}
HOW: Final = {502: "failed", 503: "busy", 504: "slow"}


class Calls:
    """The calls of one worker; also those that no route matched, whose route is empty."""

    def __init__(self) -> None:
        self._cells: dict[tuple[Route | None, bytes, int], int] = {}
        self._refusals: dict[tuple[Route | None, str], int] = {}
        self._counts: Final = cells()
        self._buckets: Final = CALLS.buckets

    def count(self, route: Route | None, method: bytes, status: int, seconds: float) -> None:
        """Count a call that has ended with this status, or `GONE` or `BROKEN`."""
        key = (route, method, status // 100)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._place(*key)
        cells, buckets = self._counts, self._buckets  # as `CALLS.observe_at` does, without the way to there
        cells[cell + bisect_left(buckets, seconds)] += 1.0
        cells[cell + len(buckets) + 1] += seconds

    def of(self, route: Route) -> int:
        """How many calls of a route have ended so far."""
        name, width = route.name, len(self._buckets) + 1
        places = {cell for (counted, _, _), cell in self._cells.items() if name_of(counted) == name}
        return int(sum(sum(self._counts[cell : cell + width]) for cell in places))

    def _place(self, route: Route | None, method: bytes, hundreds: int) -> int:
        known = method in _METHODS
        name = method.decode() if known else "other" if method else ""
        cell = CALLS.at(name_of(route), name, _OUTCOMES.get(hundreds) or f"{hundreds}xx")
        if known:  # of others there is no end
            self._cells[route, method, hundreds] = cell
        return cell

    def count_refusal(self, refused: Refused, route: Route | None) -> None:
        """Count an answer of our own, also one that broke off an upstream's."""
        key = (route, refused.kind)
        cell = self._refusals.get(key)
        if cell is None:  # there are as few as routes and kinds
            cell = self._refusals[key] = REFUSALS.at(name_of(route), refused.kind)
        self._counts[cell] += 1.0
        if refused.upstream:
            UPSTREAM_FAILURES.add(1.0, place_of(refused.upstream), HOW.get(refused.status, "failed"))


def name_of(route: Route | None) -> str:
    """What a route is called in the figures; nothing where there is none."""
    return "" if route is None else route.name


@lru_cache(maxsize=1024)
def place_of(upstream: str | Origin) -> str:
    """What an upstream is called in the figures: each generation of workers has another socket for our own pages."""
    place = str(upstream)
    return "authorization" if place.startswith("/") else place
