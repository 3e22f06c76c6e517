"""An address of several hosts: a connection to the one that fits, also while others keep silent.

    the one that answered last ──it failed, or its head start is over──▶ all others at once ──▶ the first that fits

asyncpg tries hosts in order, and its timeout is one for all of them: a machine that lost its power, or a server that
hangs, would take it all, and the next host would never be asked.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from gateway.store.pool import Connection

_HEAD_START: Final = 0.1  # seconds that the one that answered last has for itself, so that all is one connection
_GRACE: Final = 0.2  # seconds that the others have after an answer that is not the wanted one

_IS_STANDBY: Final = "select where pg_is_in_recovery()"
_PREFERRED: Final = asyncpg.connect_utils.SessionAttribute.prefer_standby

_Attempt: TypeAlias = "asyncio.Task[tuple[Connection, bool]]"  # a connection, and whether it is a preferred one


class Host(NamedTuple):
    """One host of an address."""

    name: str  # or the folder of a socket
    port: int


class _Standing(IntEnum):
    """How far an attempt has come, the best first."""

    FITS = 0
    WILL_DO = 1
    REFUSED = 2  # by a server that is there
    OPEN = 3
    FAILED = 4
    UNFIT = 5  # what it is, the address does not want


class Hosts:
    """The hosts of an address, the one that answered last first."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._order: list[Host] | None = None

    async def connect(self, **options: Any) -> Connection:
        """A connection, as `asyncpg.connect` makes it with these options, which raises the same; their timeout is each
        host's own. Nothing else is left open."""
        if self._order is None:
            self._order = hosts_of(self._dsn, os.environ.get("PGPORT", ""))
        if len(self._order) < 2:
            alone: Connection = await asyncpg.connect(self._dsn, **options)
            return alone
        order, chosen = list(self._order), None
        attempts = [self._begin(order[0], options)]
        try:
            await asyncio.wait(attempts, timeout=_HEAD_START)
            if _standing(attempts[0]) is not _Standing.FITS:
                attempts += [self._begin(host, options) for host in order[1:]]
            best = await _best(attempts)
            if _standing(best) < _Standing.OPEN:
                answered = order[attempts.index(best)]
                self._order.sort(key=lambda host: host != answered)
            connection, _ = best.result()
            chosen = best
        finally:
            for attempt in attempts:
                if attempt is not chosen:
                    _end(attempt)
        return connection

    def _begin(self, host: Host, options: dict[str, Any]) -> _Attempt:
        return asyncio.create_task(self._try(host, options), name="store-host")

    async def _try(self, host: Host, options: dict[str, Any]) -> tuple[Connection, bool]:
        connection: Connection = await asyncpg.connect(self._dsn, host=host.name, port=host.port, **options)
        if options.get("target_session_attrs") is not _PREFERRED:
            return connection, True  # or asyncpg had refused it
        try:
            return connection, await connection.execute(_IS_STANDBY) == "SELECT 1"
        except BaseException:
            connection.terminate()
            raise


def hosts_of(dsn: str, ports: str) -> list[Host]:
    """The hosts that an address names itself, as asyncpg reads them; `ports` are those of hosts without one, as PGPORT
    has them. Raises ValueError."""
    parts = urlsplit(dsn)
    named = parts.netloc.partition("@")[2] if "@" in parts.netloc else parts.netloc
    read: Callable[[str], str] = unquote
    stated = ""
    if not named:
        query = parse_qs(parts.query)
        named, stated = (query.get(name, [""])[-1] for name in ("host", "port"))
        read = str
    if not named:
        return []
    hosts = named.split(",")
    given = (stated or ports or "5432").split(",")
    if len(given) == 1:
        given *= len(hosts)
    found = []
    for text, port in zip(hosts, given, strict=True):
        name, own = _divided(text)
        if not name:
            raise ValueError("a host is missing")
        found.append(Host(read(name), int(port if stated else read(own) or port)))
    return found


def _divided(text: str) -> tuple[str, str]:
    """The name of a host, and the port after it, if any."""
    if text.startswith("/"):
        return text, ""
    if text.startswith("["):
        name, _, rest = text[1:].partition("]")
        return name, rest.removeprefix(":")
    name, _, port = text.partition(":")
    return name, port


async def _best(attempts: Sequence[_Attempt]) -> _Attempt:
    """The first that fits, or the best one when no better is to be waited for."""
    clock, ends_at = asyncio.get_running_loop().time, None
    while True:
        best, going_on = min(attempts, key=_standing), [attempt for attempt in attempts if not attempt.done()]
        if not going_on or _standing(best) is _Standing.FITS:
            return best
        patience = None
        if _standing(best) < _Standing.OPEN:
            ends_at = ends_at or clock() + _GRACE
            patience = ends_at - clock()
            if patience <= 0:
                return best
        await asyncio.wait(going_on, timeout=patience, return_when=asyncio.FIRST_COMPLETED)


def _standing(attempt: _Attempt) -> _Standing:
    if not attempt.done():
        return _Standing.OPEN
    failure = attempt.exception()
    if failure is None:
        return _Standing.FITS if attempt.result()[1] else _Standing.WILL_DO
    if isinstance(failure, asyncpg.TargetServerAttributeNotMatched):
        return _Standing.UNFIT
    if isinstance(failure, OSError | asyncpg.CannotConnectNowError):
        return _Standing.FAILED
    return _Standing.REFUSED


def _end(attempt: _Attempt) -> None:
    """Leave nothing of an attempt, also where it succeeds at this very moment."""
    if not attempt.done():
        attempt.add_done_callback(_end)
        attempt.cancel()
    elif not attempt.cancelled() and attempt.exception() is None:
        attempt.result()[0].terminate()
