"""How often a route may be called: what its limits are, whose calls each counts together, and what answers say of it.

Answers of a limited route have the fields RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10), in
which a limit is known by whom it counts and for how long: `"client-per-second";q=100;w=1`.
"""

from collections.abc import Iterator
from math import ceil
from typing import Final, Literal, final

By = Literal["client", "user", "token", "address", "route"]
Moment = Literal["second", "minute", "hour", "day"]

SECONDS: Final[dict[Moment, int]] = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
CALLERS: Final = ("client", "user", "token")  # whom only a credential names


@final
class Limit:
    """So many calls a second, minute, hour or day, counted together by `by`. A rate's `burst` is how many may come at
    once; a quota, which is for a day, has none."""

    __slots__ = ("_before", "_behind", "burst", "by", "count", "name", "pace", "per", "policy", "seconds")

    def __init__(self, by: By, count: int, per: Moment, burst: int = 0) -> None:
        self.by: Final = by
        self.count: Final = count
        self.per: Final[Moment] = per
        self.seconds: Final = SECONDS[per]
        self.burst: Final = burst
        self.pace: Final = count / self.seconds  # calls a second
        self.name: Final = f"{by}-per-{per}"
        self.policy: Final = f'"{self.name}";q={count};w={self.seconds}'
        self._before: Final = f'"{self.name}";r='
        self._behind: Final = f";t={ceil(1 / self.pace)}"

    def left(self, remaining: int) -> str:
        """Its part of the field RateLimit, by which so many calls are left now and one more will be after a while."""
        return f"{self._before}{remaining}{self._behind}"

    def shown(self, remaining: int, seconds: int) -> str:
        """The same where there are more after so many seconds."""
        return f"{self._before}{remaining};t={seconds}"

    def __str__(self) -> str:
        """The limit as an operator knows it."""
        return f"{self.count}/{self.per} by {self.by}"


@final
class Limits:
    """All the limits of one route, by the route's name; `policies` is the value of the field RateLimit-Policy.

    `by_address` are the rates that count every call that comes, whoever it is of; `rates` and `quotas` count those that
    may pass otherwise. `concurrency` is how many calls may be under way, 0 for any number.
    """

    __slots__ = ("by_address", "concurrency", "policies", "quotas", "rates", "route")

    def __init__(
        self, route: str, rates: tuple[Limit, ...], quotas: tuple[Limit, ...] = (), concurrency: int = 0
    ) -> None:
        self.concurrency: Final = concurrency
        self.route: Final = route
        self.by_address: Final = tuple(rate for rate in rates if rate.by == "address")
        self.rates: Final = tuple(rate for rate in rates if rate.by != "address")
        self.quotas: Final = quotas
        self.policies: Final = ",".join(limit.policy for limit in (*rates, *quotas))

    def __iter__(self) -> Iterator[Limit]:
        return iter((*self.by_address, *self.rates, *self.quotas))
