"""Where the calls of a route go: the pool of its one upstream, or a choice among several, for as long as it takes.

Who is chosen is decided by `routing.balance`, who is left out by `routing.health`, and what may be repeated by
`routing.retrying`; here stands what they are told and what becomes of it. How an upstream stands is known to each
worker by itself. A route with one upstream has none of it: its calls go to the pool.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable
from math import inf
from random import random
from typing import Final, final

from gateway.figures import (
    UPSTREAM_CONNECTIONS,
    UPSTREAM_EJECTIONS,
    UPSTREAM_FAILURES,
    UPSTREAM_OUT,
    UPSTREAM_WAITING,
)
from gateway.lookup import Resolver
from gateway.observe import get_logger
from gateway.proxy.calls import HOW, place_of
from gateway.proxy.dispatch import Terms
from gateway.proxy.handover import Handover
from gateway.proxy.health_checks import Checks
from gateway.proxy.limits import Limits
from gateway.proxy.outgoing import Outbox
from gateway.proxy.upstream import Pool, UpstreamConnection, UpstreamUnreachable, Which
from gateway.routing import HealthCheck, Origin, Route
from gateway.routing.balance import choose
from gateway.routing.health import Health
from gateway.routing.retrying import RetryBudget

_log = get_logger("gateway.proxy")


@final
class Member:
    """One of the upstreams of a route; `health` is that of all routes that look at it in the same way."""

    __slots__ = ("health", "place", "pool", "weight")

    def __init__(self, pool: Pool, weight: int, health: Health) -> None:
        self.pool: Final = pool
        self.weight: Final = weight
        self.health: Final = health
        self.place: Final = str(pool.origin)


class Way:
    """The upstreams of one route."""

    def __init__(self, upstreams: "Upstreams", members: list[Member], connect_timeout: float | None) -> None:
        self.members: Final = members
        self.connect_timeout: Final = connect_timeout
        self.several: Final = len(members) > 1
        self.upstreams: Final = upstreams
        self._seen = -1
        self._in: list[Member] = members
        self._weights: list[int] = []

    def choose(self, besides: list[Member]) -> Member | None:
        """The upstream that gets a call next: of those that are in, or of the others where all `besides` are; None
        where there is no other at all."""
        upstreams = self.upstreams
        if self._seen != upstreams.version:
            self._look(upstreams.now())
        candidates, weights = self._in, self._weights
        if besides:
            candidates = [one for one in candidates if one not in besides]
            candidates = candidates or [one for one in self.members if one not in besides]
            weights = [one.weight for one in candidates]
            if not candidates:
                return None
        number = choose(weights, lambda number: candidates[number].pool.load, random(), random())  # noqa: S311
        chosen = candidates[number]
        if chosen.pool.is_spent:
            chosen = min(candidates, key=lambda one: (one.pool.is_spent, one.pool.load / one.weight))
        if chosen.health.ejected:
            upstreams.given(chosen)
        return chosen

    def has_other(self, besides: list[Member], *, well: bool) -> bool:
        """Whether there is an upstream besides these, with `well` one that is in."""
        return any(one not in besides and (one.health.well or not well) for one in self.members)

    def _look(self, now: float) -> None:
        self._seen = self.upstreams.version
        self._in = [one for one in self.members if one.health.takes(now)] or self.members
        self._weights = [one.weight for one in self._in]


@final
class Tries:
    """One call's way through the upstreams of its route.

    `kept` is what has come of its body, for as long as it may be sent once more and is not too long for that, and None
    else. `failures` are what became of it where it was asked in vain, and `repeats` how often it was sent again then.
    """

    __slots__ = ("_asked", "_next", "_way", "failures", "kept", "member", "repeats")

    def __init__(self, way: Way, *, keeps: bool) -> None:
        self.kept = bytearray() if keeps else None
        self.failures: list[str] = []
        self.repeats = 0
        self.member: Member = way.members[0]
        self._way: Final = way
        self._asked: list[Member] = []  # in vain
        self._next: Member | None = None

    def take_idle(self, *, fresh: bool) -> UpstreamConnection | None:
        """A connection of the upstream that is chosen, if one is ready at once; with `fresh`, one used just now."""
        chosen = self._way.choose([])
        if chosen is None:
            return None
        self.member = chosen
        ready = chosen.pool.take_idle(fresh=fresh)
        if ready is None:
            self._next = chosen  # `connect` comes next
        return ready

    async def connect(self, route: Route) -> UpstreamConnection:
        """A new connection to the upstream that is chosen, or the next that takes one. Raises UpstreamUnreachable."""
        refused: list[Member] = []
        fault = UpstreamUnreachable("no upstream", 502, "")
        while (member := self._chosen(refused)) is not None:
            self.member = member
            if refused:
                UPSTREAM_FAILURES.add(1.0, place_of(refused[-1].pool.origin), HOW.get(fault.status, "failed"))
            try:
                return await member.pool.take(route, self._way.connect_timeout)
            except UpstreamUnreachable as unreachable:
                fault = unreachable
                if unreachable.status == 504 and not unreachable.failed:  # it has waited long enough
                    raise
                if unreachable.failed:
                    self.fail(str(unreachable))
            refused.append(member)
            self._asked.append(member)
        raise fault

    def _chosen(self, refused: list[Member]) -> Member | None:
        """The upstream that is asked next, none of which has just refused; one that was asked in vain is the last."""
        chosen, self._next = self._next, None
        if chosen is None:
            chosen = self._way.choose([*self._asked, *refused]) or self._way.choose(refused)
        return chosen

    def has_other(self, *, well: bool) -> bool:
        """Whether there is an upstream that was not asked yet, with `well` one that is in."""
        return self._way.has_other([*self._asked, self.member], well=well)

    def fail(self, cause: str) -> None:
        """The upstream has failed the call."""
        self.failures.append(cause)
        if self._way.several:
            self._way.upstreams.failed(self.member, cause)

    def avoid(self) -> None:
        """Go on with another upstream where there is one."""
        self._asked.append(self.member)

    def repeat(self) -> None:
        """The call is sent once more."""
        self.repeats += 1

    def keep(self, data: bytes, most: int) -> None:
        """Keep one more part of the body, if it does not get too long."""
        kept = self.kept
        if kept is not None and len(kept) + len(data) <= most:
            kept += data
        else:
            self.keep_no_more()

    def keep_no_more(self) -> None:
        """The body is too long, or passes where nobody can keep it."""
        self.kept = None

    def taken_up(self) -> bytes:
        """What is kept of the body, which is to be kept anew when it is sent again."""
        kept, self.kept = self.kept, None if self.kept is None else bytearray()
        return b"" if kept is None else bytes(kept)

    def succeed(self) -> None:
        """The upstream has answered."""
        self._way.upstreams.succeeded(self.member)


class Upstreams:
    """The pools of a worker, and the ways of its routes to them. `out` are the upstreams, by their names in the
    figures, that other workers have left out so far, and `terms_of` tells the terms of a route."""

    def __init__(
        self,
        limits: Limits,
        terms_of: Callable[[Route], Terms],
        received: memoryview,
        outbox: Outbox,
        out: frozenset[str] = frozenset(),
    ) -> None:
        self.version = 0  # of how upstreams stand
        self.resolver = Resolver()  # of their names
        self._limits = limits
        self._terms_of = terms_of
        self._received = received
        self._outbox = outbox
        self._out_before = out
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._only: dict[Route, Pool] = {}
        self._ways: dict[Route, Way] = {}
        self._pools: dict[tuple[Origin, int | None], Pool] = {}
        self._healths: dict[tuple[Origin, HealthCheck | None, bytes], Health] = {}
        self._checks: list[Checks] = []
        self._budgets: dict[str, RetryBudget] = {}
        self._routes: tuple[Route, ...] = ()
        self._adopting = set[asyncio.Task[None]]()

    def prepare(self, routes: Iterable[Route]) -> None:
        """Begin to know how the upstreams of these routes stand, where that matters."""
        self._routes = tuple(routes)
        for route in self._routes:
            if len(route.upstreams) > 1 or self._terms_of(route).health is not None:
                self._way(route)

    def take_idle(self, route: Route, *, fresh: bool) -> UpstreamConnection | None:
        """A connection to a route's only upstream that is ready at once; with `fresh` only one used a moment ago."""
        pool = self._only.get(route) or self._make_only(route)
        return pool.take_idle(fresh=fresh)

    async def connect(self, route: Route) -> UpstreamConnection:
        """A new connection to a route's only upstream, or one that is given back. Raises UpstreamUnreachable."""
        pool = self._only.get(route) or self._make_only(route)
        return await pool.take(route, self._terms_of(route).connect_timeout)

    def tries(self, route: Route, *, keeps: bool) -> Tries:
        """A call's way through the upstreams of its route; it `keeps` the body if that may be sent twice."""
        return Tries(self._ways.get(route) or self._way(route), keeps=keeps)

    def may_repeat(self, route: Route, calls: int) -> bool:
        """Whether one more call of a route may be sent again, after so many calls."""
        budget = self._budgets.get(route.name)
        if budget is None:
            budget = self._budgets[route.name] = RetryBudget(self.now())
        return budget.spend(calls, self.now())

    def given(self, member: Member) -> None:
        """An upstream that was left out gets a call again."""
        member.health.give(self.now())
        self.version += 1

    def failed(self, member: Member, cause: str) -> None:
        """A call has failed by an upstream's fault."""
        if member.health.fail(self.now()):
            self._put_out(member, "calls", cause, seconds=member.health.pause)

    def succeeded(self, member: Member) -> None:
        """An upstream has answered a call."""
        if member.health.succeed(self.now()):
            self._brought_back(member)

    def _put_out(self, member: Member, by: str, cause: str, seconds: float | None = None) -> None:
        self.version += 1
        UPSTREAM_EJECTIONS.add(1.0, place_of(member.pool.origin), by)
        _log.warning("upstream is left out", upstream=member.place, by=by, cause=cause, seconds=seconds)

    def _brought_back(self, member: Member) -> None:
        self.version += 1
        _log.info("upstream is back", upstream=member.place)

    def tick(self) -> None:
        """Some time has passed: pauses may be over, and names may lead elsewhere."""
        if any(health.ejected for health in self._healths.values()):
            self.version += 1
        for pool in self._pools.values():
            pool.tick()

    def close(self) -> None:
        """Ask no upstream how it is any more, and close the connections that nobody uses."""
        for checks in self._checks:
            checks.end()
        self.close_idle(inf)

    def close_idle(self, before: float) -> None:
        """Close the connections that have been idle since `before`."""
        for pool in self._pools.values():
            pool.close_idle(before)

    def leave(self, successors: Handover) -> None:
        """Leave the connections that nobody uses to the workers that follow, where these can go on with them."""
        for pool in self._pools.values():
            pool.leave(successors)

    def adopt(self, sock: socket.socket, data: bytes) -> None:
        """Go on with a connection that another worker has left, if a route leads there on the same terms."""
        which = Which.from_bytes(data)
        for route in self._routes:
            most = self._terms_of(route).connections or self._limits.upstream_connections
            for origin in route.upstreams:
                if not origin.tls and (str(origin), most) == (which.origin, which.most):
                    adopting = self._loop.create_task(self._pool(route, origin).adopt(sock, which))
                    self._adopting.add(adopting)
                    adopting.add_done_callback(self._adopting.discard)
                    return
        sock.close()

    def report(self) -> None:
        """Say in the figures what there is now."""
        found: dict[str, tuple[int, int, int]] = {}
        for pool in self._pools.values():  # of which an upstream has several where routes have other terms
            used, idle, waiting = found.get(place_of(pool.origin), (0, 0, 0))
            found[place_of(pool.origin)] = (used + pool.used, idle + pool.idle, waiting + pool.waiting)
        for place, (used, idle, waiting) in found.items():
            UPSTREAM_CONNECTIONS.set(used, place, "used")
            UPSTREAM_CONNECTIONS.set(idle, place, "idle")
            UPSTREAM_WAITING.set(waiting, place)
        out: dict[str, bool] = {}
        for (origin, _, _), health in self._healths.items():
            place = place_of(origin)
            out[place] = out.get(place, False) or not health.well
        for place, is_out in out.items():
            UPSTREAM_OUT.set(is_out, place)

    def _make_only(self, route: Route) -> Pool:
        self._only[route] = pool = self._pool(route, route.upstreams[0])
        return pool

    def _pool(self, route: Route, origin: Origin) -> Pool:
        """The pool of an upstream; routes that lead there on the same terms share it."""
        most = self._terms_of(route).connections
        key = (origin, most)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(origin, self._limits, self._received, self._outbox, self.resolver, most)
        return pool

    def _way(self, route: Route) -> Way:
        terms = self._terms_of(route)
        weighed = zip(route.upstreams, terms.weights, strict=True)
        members = [self._member(route, terms.health, origin, weight) for origin, weight in weighed]
        self._ways[route] = way = Way(self, members, terms.connect_timeout)
        return way

    def _member(self, route: Route, check: HealthCheck | None, origin: Origin, weight: int) -> Member:
        host = b"" if check is None else route.upstream_host or origin.authority
        key = (origin, check, host)
        health = self._healths.get(key)
        pool = self._pool(route, origin)
        if health is not None:
            return Member(pool, weight, health)
        out = place_of(origin) in self._out_before
        health = self._healths[key] = Health(self.now(), checked=check is not None, out=out)
        member = Member(pool, weight, health)
        if check is not None:
            self._checks.append(Checks(pool, check, host, lambda fault: self._checked(member, check, fault)))
        return member

    def _checked(self, member: Member, check: HealthCheck, fault: str) -> None:
        """An upstream's answer to a health check has come, or none."""
        if not member.health.check(not fault, check):
            return
        if fault:
            self._put_out(member, "checks", fault)
        else:
            self._brought_back(member)
