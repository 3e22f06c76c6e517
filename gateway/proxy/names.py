"""The addresses of an upstream that is known by name, and a connection to one of them.

A name is looked up again when its answer holds no longer (the TTL of DNS, within bounds), and while connections to it
are open also when no new one is wanted: an upstream that has moved is to be followed. When there is no answer, the last
good one counts (RFC 8767). Both families are tried in turn, the next address a quarter of a second after the one before
it, or as soon as that refuses (RFC 8305, "Happy Eyeballs").
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from itertools import zip_longest
from typing import Final

from gateway.lookup import Place, Resolver
from gateway.observe import get_logger
from gateway.proxy.limits import Limits

_PATIENCE: Final = 1.0  # seconds that a look-up is waited for, by all together, where there is an older answer
_HEAD_START: Final = 0.25  # of an address before the next one (RFC 8305, section 5)

_log = get_logger("gateway.proxy")


def is_name(host: str) -> bool:
    """Whether a host is a name, and not an address itself."""
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


class Name:
    """The name of one upstream. `moved` hears of the addresses when they have become others."""

    def __init__(
        self, host: str, port: int, resolver: Resolver, limits: Limits, moved: Callable[[frozenset[str]], None]
    ) -> None:
        self._host, self._port, self._resolver, self._limits, self._moved = host, port, resolver, limits, moved
        self._loop = asyncio.get_running_loop()
        self._places: list[Place] = []
        self._due_at = 0.0  # when the last look-up holds no longer
        self._asking: asyncio.Task[None] | None = None
        self._asked_since = 0.0
        self._gone = False

    async def places(self) -> Sequence[Place]:
        """Where to connect to, in this order. Raises OSError where nothing was ever found."""
        if not self._is_due:
            return self._places
        asking = self._look_up()
        if self._places:
            waited = self._loop.time() - self._asked_since
            await asyncio.wait((asking,), timeout=max(0.0, _PATIENCE - waited))
        else:
            await asyncio.shield(asking)
        return self._places

    def may_lead_to(self, ip: str) -> bool:
        """Whether a connection to this address is one to the name, as far as is known."""
        return not self._places or any(place.ip == ip for place in self._places)

    def renew(self) -> None:
        """Look it up if that is due."""
        if self._loop.time() >= self._due_at:
            self._look_up()

    @property
    def _is_due(self) -> bool:
        return not self._places or self._loop.time() >= self._due_at

    def _look_up(self) -> "asyncio.Task[None]":
        """The look-up under way, or a new one."""
        if self._asking is None:
            self._asked_since = self._loop.time()
            self._asking = self._loop.create_task(self._ask())
            self._asking.add_done_callback(self._asked)
        return self._asking

    async def _ask(self) -> None:
        limits = self._limits
        found = await self._resolver.look_up(self._host, self._port)
        holds = limits.names if found.holds is None else min(max(limits.names_least, found.holds), limits.names_most)
        self._due_at = self._loop.time() + holds
        places = _in_turn(found.places)
        before, self._places = self._places, places
        now = frozenset(place.ip for place in places)
        if now == frozenset(place.ip for place in before):
            return
        if before:
            _log.info(
                "upstream's name has other addresses", upstream=f"{self._host}:{self._port}", addresses=sorted(now)
            )
        self._moved(now)  # the first ones too: there may be connections that another worker has left

    def _asked(self, done: "asyncio.Task[None]") -> None:
        self._asking = None
        fault = None if done.cancelled() else done.exception()
        if fault is not None:
            self._due_at = self._loop.time() + self._limits.names
        if fault is not None and self._places and not self._gone:
            _log.warning(
                "upstream's name cannot be looked up; its last addresses still count",
                upstream=f"{self._host}:{self._port}",
                cause=str(fault),
            )
        self._gone = fault is not None


def _in_turn(places: list[Place]) -> list[Place]:
    """The places, the families by turns, that of the first one first (RFC 8305, section 4)."""
    unique = list(dict.fromkeys(places))
    first = [place for place in unique if place.family == unique[0].family]
    others = [place for place in unique if place.family != unique[0].family]
    return [place for pair in zip_longest(first, others) for place in pair if place is not None]


async def dial(places: Sequence[Place]) -> tuple[socket.socket, Place]:
    """A socket that is connected to the first of these places that takes a connection. Raises OSError."""
    attempts: dict[asyncio.Task[socket.socket], Place] = {}
    fault: BaseException = OSError("there is no address")
    won: asyncio.Task[socket.socket] | None = None
    loop = asyncio.get_running_loop()
    to_come = list(places)
    try:
        while to_come or any(not attempt.done() for attempt in attempts):
            if to_come:
                place = to_come.pop(0)
                attempts[loop.create_task(_attempt(place))] = place
            under_way = [attempt for attempt in attempts if not attempt.done()]
            head_start = _HEAD_START if to_come else None
            await asyncio.wait(under_way, timeout=head_start, return_when=asyncio.FIRST_COMPLETED)
            for attempt in under_way:
                if attempt.done():
                    error = attempt.exception()
                    if error is None:
                        won = attempt
                        return attempt.result(), attempts[attempt]
                    fault = error
        raise fault
    finally:
        for attempt in attempts:
            if attempt is not won:
                _give_up(attempt)


def _give_up(attempt: "asyncio.Task[socket.socket]") -> None:
    if not attempt.done():
        attempt.cancel()
    elif not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _attempt(place: Place) -> socket.socket:
    sock = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, place.address)
    except BaseException:
        sock.close()
        raise
    return sock
