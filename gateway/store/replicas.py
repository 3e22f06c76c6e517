"""Standbys of the database that are asked for tokens first, so that look-ups grow with their number.

    ready ──it failed, is behind, or is no standby──▶ passed over ──asked from time to time: it is well──▶ ready

A standby knows what it has replayed. So it is asked with the newest change that the caller has read of the primary's
log, and answers only where it holds the very same one: then all that was ended before is ended there too, since
changes are numbered in the order of their commits. One that is paused or behind, a server of another history, a copy
that went its own way: none of them has it. And what a standby does not know to live, it says nothing of: a token is
unknown or dead where the primary says so.

No call waits long for one of them, and none at all for one that is passed over.

While the primary is away, they tell what was ended before: what it acknowledged, one of its standbys holds.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from gateway.errors import StoreUnavailable
from gateway.observe import get_logger
from gateway.store.changes import Mark
from gateway.store.database import Database, Row, Server, Statements, place

_DEADLINE: Final = 0.5  # seconds for an answer that somebody waits for, who has yet to ask the primary
_PAUSES: Final = (0.02, 2.0)  # seconds between two looks at one that is passed over: the first, and the longest
_WARNED_AFTER: Final = 1.0  # seconds for which one may be behind before that is said
_CONNECTIONS: Final = 2  # to each: for look-ups, and for the look at one that is passed over
_MOST: Final = 10_000  # changes in one reading

_BEHIND: Final = "it lags, its replay is paused, or it follows another database"
_NO_STANDBY: Final = "it is no standby, but takes writes itself"

_log = get_logger("gateway.store")


class Replica:
    """One standby."""

    def __init__(self, dsn: str) -> None:
        self.place: Final = place(dsn)
        self.ready = True
        connect = partial(Server(dsn, standby=True).connect, "gateway-lookups")
        self._database = Database(connect, _CONNECTIONS)

    def pass_over(self) -> None:
        """Ask another in its place."""
        self.ready = False

    def ask_again(self) -> None:
        """It is well."""
        self.ready = True

    async def find(self, digests: Sequence[bytes], newest: Mark, deadline: float | None = None) -> list[Row] | str:
        """The rows of those tokens that live as far as this standby knows; or the reason, in words, why it is to be
        passed over: it failed, is no standby, or has not applied the change `newest` yet. `deadline` is in seconds."""
        try:
            async with self._database.lend(deadline or _DEADLINE) as connection:
                rows = await Statements(connection).rows(
                    "access_tokens_find_on_standby", digests=digests, newest=newest.number, newest_at=newest.at
                )
        except StoreUnavailable as exc:
            return str(exc)
        except Exception as exc:  # noqa: BLE001  # whatever is wrong with it, no call fails of it: the primary is asked
            return f"{type(exc).__name__}: {exc}"
        if not rows[0]["standby"]:
            self._database.renew()  # another host of the address may be one
            return _NO_STANDBY
        if not rows[0]["replayed"]:
            return _BEHIND
        return [row for row in rows if row["digest"] is not None]

    async def changes(self, newest: Mark) -> list[Row]:
        """The changes that this standby holds after `newest`; none where it does not hold that one, or does not
        answer."""
        try:
            async with self._database.lend(_DEADLINE) as connection:
                return await Statements(connection).rows(
                    "changes_read_on_standby", newest=newest.number, newest_at=newest.at, most=_MOST
                )
        except Exception:  # noqa: BLE001  # as above: whoever follows the log has the primary to tell of faults
            return []

    async def aclose(self) -> None:
        """End its connections."""
        await self._database.close()


class Replicas:
    """The standbys, asked in turn."""

    def __init__(self, dsns: Sequence[str]) -> None:
        self._replicas: Final = [Replica(dsn) for dsn in dsns]
        self._turn = 0
        self._watches = set[asyncio.Task[None]]()
        self._newest: Callable[[], Mark | None] = lambda: None

    def follow(self, newest: Callable[[], Mark | None]) -> None:
        """Ask one that was passed over for the change that `newest` tells, before it is asked for anything again; it is
        None where none is known."""
        self._newest = newest

    @property
    def ready(self) -> bool:
        """Whether some standby can be asked now."""
        return any(replica.ready for replica in self._replicas)

    async def find(self, digests: Sequence[bytes], newest: Mark) -> list[Row] | None:
        """The rows of those tokens that live by what the standby in turn knows, which has applied the change `newest`;
        None where it could not say, and the primary is to be asked."""
        replica = self._next()
        if replica is None:
            return None
        found = await replica.find(digests, newest)
        if not isinstance(found, str):
            return found
        if replica.ready:
            replica.pass_over()
            watch = asyncio.create_task(self._watch(replica, found), name="store-replica")
            self._watches.add(watch)
            watch.add_done_callback(self._watches.discard)
        return None

    async def changes(self, newest: Mark) -> tuple[Mark, tuple[tuple[str, str], ...]]:
        """The newest change that any standby holds, and the kinds and keys of all that came after `newest`."""
        rows = [
            row for found in await asyncio.gather(*(one.changes(newest) for one in self._replicas)) for row in found
        ]
        last = max(rows, key=lambda row: row["id"], default=None)
        changes = dict.fromkeys((row["kind"], row["key"]) for row in rows)
        return newest if last is None else Mark(last["id"], last["at"]), tuple(changes)

    async def close(self) -> None:
        """End all connections."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await asyncio.gather(*(replica.aclose() for replica in self._replicas))

    def _next(self) -> Replica | None:
        """The one whose turn it is, of those that are ready."""
        for _ in self._replicas:
            self._turn = (self._turn + 1) % len(self._replicas)
            if self._replicas[self._turn].ready:
                return self._replicas[self._turn]
        return None

    async def _watch(self, replica: Replica, cause: str) -> None:
        """Look from time to time whether one that is passed over is well again. A short lag is not worth a line."""
        began, warned = asyncio.get_running_loop().time(), False
        pause, longest = _PAUSES
        while True:
            if not warned and (cause != _BEHIND or asyncio.get_running_loop().time() - began > _WARNED_AFTER):
                warned = True
                _log.warning(
                    "a replica is passed over; the primary is asked instead", replica=replica.place, cause=cause
                )
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 -- so that workers do not all come at once
            pause = min(2 * pause, longest)
            newest = self._newest()
            if newest is None:
                continue
            found = await replica.find((), newest, longest)
            if not isinstance(found, str):
                break
            cause = found
        replica.ask_again()
        if warned:
            _log.info("a replica is asked again", replica=replica.place)
