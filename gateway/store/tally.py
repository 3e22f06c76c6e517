"""Failures, counted in memory and written now and then, so that no request waits for a count.

    count ──▶ fresh ──▶ sending ──▶ written        one writer for the process; a failed write goes back to fresh
                 clear ──▶ to be deleted ──▶ gone

Nothing that a stranger can call for free takes a row lock: were it so, all who fail on one account would queue for its
row, and fill the connections that others need. A request only reads, which waits for nobody, and adds what this
process has not written yet.

Several workers see each other's counts as soon as they are written: the first failure is written at once, what comes
meanwhile `_PAUSE` seconds later. So all workers together let through what one would, and what fails within a pause
elsewhere. A worker that dies takes what it counted within its last pause along, no more.

A reading that may or may not hold what is being written is not used: what was last known and what was counted since
are. The version of a count, raised when it is sent, has arrived or is cleared, tells.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, NamedTuple

from gateway import observe
from gateway.errors import StoreUnavailable
from gateway.store.acting import Act, Recorder, current
from gateway.store.database import Database, Row

Key = tuple[bytes, bytes]  # account and browser, as `failed_attempts` knows them


class _Note(NamedTuple):
    """What failures that become one event have in common."""

    kind: str
    subject: str | None
    client_id: str | None
    cause: str  # empty where the kind says all


_PAUSE: Final = 0.2  # seconds between two writes, and after one that failed
_MOST: Final = 10_000  # counts that are held
_AT_ONCE: Final = 1000  # counts in one statement
_TOGETHER: Final = 60.0  # seconds of which an account's failures by one cause are one event, but for the first

log = observe.get_logger("gateway.store")


@dataclass(slots=True)
class _Failures:
    """Failures of one account by one cause that become one event: that of the first, with their number."""

    first: datetime
    act: Act
    times: int = 1

    def add(self) -> None:
        """There was one more."""
        self.times += 1


class _Count:
    """What is known of one row: what it held when it was last read or written, and what is not in it yet."""

    __slots__ = ("fresh", "last_failed_at", "sending", "version", "written")

    def __init__(self) -> None:
        self.written = self.sending = self.fresh = self.version = 0
        self.last_failed_at: datetime | None = None

    def total(self) -> int:
        return self.written + self.sending + self.fresh

    def fail(self, at: datetime, *, anew: bool) -> None:
        """There was one more failure: the first one, where it begins `anew`."""
        if anew:
            self.written = self.fresh = 0
        self.fresh += 1
        self.last_failed_at = at

    def forget(self) -> None:
        """There were none."""
        self.written = self.sending = self.fresh = 0
        self.version += 1

    def change(self) -> None:
        """Its row has changed: what was read of it before counts no more."""
        self.version += 1

    def send(self) -> None:
        """What is not in the row yet is on its way there."""
        self.sending, self.fresh = self.fresh, 0
        self.version += 1

    def sent(self) -> int:
        """Nothing is on its way any more; what was."""
        sending, self.sending = self.sending, 0
        return sending

    def take_back(self, sending: int) -> None:
        """So many did not get into the row."""
        self.fresh += sending

    def learn(self, row: Row | None, since: datetime) -> None:
        """What the row holds, unless it rested since then: the next write replaces it."""
        self.written = 0
        if row is not None and row["last_failed_at"] > since:
            self.written = row["failures"]
            self.last_failed_at = max(self.last_failed_at or row["last_failed_at"], row["last_failed_at"])


class Tally:
    """The counts of one process over `failed_attempts`, and the events that stand for many failures each.

    A row that rested for `rest` begins anew. An event never changes: the first failure of an account by a
    cause is one at once, and those of the minute that follows are another when it is over, or this process ends.
    """

    def __init__(self, database: Database, now: Callable[[], datetime], rest: timedelta, recorder: Recorder) -> None:
        self._database, self._now, self._rest, self._recorder = database, now, rest, recorder
        self._counts: dict[Key, _Count] = {}  # the one that was touched last stands last
        self._due: set[Key] = set()
        self._clears: set[Key] = set()
        self._notes: list[tuple[_Note, _Failures]] = []
        self._held: dict[_Note, _Failures | None] = {}  # what came since the first
        self._telling: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def read(self, browser: bytes, accounts: Sequence[bytes]) -> None:
        """Look what others have written; `failures` and `rested` answer by it."""
        keys = [(account, browser) for account in accounts]
        versions = {key: self._counts[key].version if key in self._counts else 0 for key in keys}
        rows = await self._database.rows("attempts_find", accounts=list(accounts), browser=browser)
        found = {row["account"]: row for row in rows}
        for key in keys:
            if key[0] in found and key not in self._counts:
                self._touch(key)
            count = self._counts.get(key)
            if count is None or count.sending or count.version != versions[key] or key in self._clears:
                continue
            count.learn(found.get(key[0]), self._now() - self._rest)

    def failures(self, key: Key) -> int:
        """The number of failures in a row; 0 once none came for the time of rest."""
        count = self._counts.get(key)
        return 0 if count is None or self.rested(key) >= self._rest else count.total()

    def rested(self, key: Key) -> timedelta:
        """The time since the last failure."""
        count = self._counts.get(key)
        return self._rest if count is None or count.last_failed_at is None else self._now() - count.last_failed_at

    def count(self, key: Key, *, written_from: int = 1) -> None:
        """Count one more failure; fewer than `written_from` are not worth a row yet."""
        rested = self.rested(key) >= self._rest
        count = self._touch(key)
        count.fail(self._now(), anew=rested)
        if count.total() >= written_from:
            self._due.add(key)
            self._write_soon()

    def clear(self, key: Key) -> None:
        """Forget the failures of `key`."""
        count = self._counts.get(key)
        if count is None:
            return
        if count.written or count.sending:
            self._clears.add(key)
            self._write_soon()
        self._due.discard(key)
        count.forget()

    def note(self, kind: str, *, subject: str | None = None, client_id: str | None = None, cause: str = "") -> None:
        """Note one more failure for the audit record, where each cause of an account is told apart."""
        note = _Note(kind, subject, client_id, cause)
        if note in self._held:
            held = self._held[note]
            if held is None:
                self._held[note] = _Failures(self._now(), current())
            else:
                held.add()
            return
        self._held[note] = None
        self._notes.append((note, _Failures(self._now(), current())))
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(_TOGETHER, self._tell)
        self._write_soon()

    def _tell(self) -> None:
        """Have what was held written; each account's next failure by a cause is the first again."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        self._notes += [(note, held) for note, held in self._held.items() if held is not None]
        self._held.clear()
        if self._notes:
            self._write_soon()

    async def close(self) -> None:
        """Write what is left, once; a database that is away then loses it."""
        self._tell()
        self._closing.set()
        if self._writer is not None:
            await self._writer

    # -- the writer -----------------------------------------------------------------------------------------

    def _touch(self, key: Key) -> _Count:
        count = self._counts.pop(key, None) or _Count()
        self._counts[key] = count
        while len(self._counts) > _MOST:
            oldest = next(iter(self._counts))
            del self._counts[oldest]
            self._due.discard(oldest)
        return count

    def _write_soon(self) -> None:
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="store-tally")

    async def _write(self) -> None:
        while self._due or self._clears or self._notes:
            try:
                await self._delete()
                await self._add()
                await self._record()
            except Exception as exc:
                if not isinstance(exc, StoreUnavailable):  # which is told by those who ask for something
                    log.error("failures could not be counted; it is tried again", exc_info=exc)
                if self._closing.is_set():
                    break
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE):
                    await self._closing.wait()
        self._writer = None

    async def _delete(self) -> None:
        if not self._clears:
            return
        keys = list(islice(self._clears, _AT_ONCE))
        await self._database.row(
            "attempts_clear", accounts=[account for account, _ in keys], browsers=[browser for _, browser in keys]
        )
        self._clears.difference_update(keys)
        for key in keys:
            if key in self._counts:
                self._counts[key].change()

    async def _add(self) -> None:
        keys = list(islice(self._due, _AT_ONCE))
        sent = {key: self._counts[key] for key in keys}
        if not sent:
            return
        self._due.difference_update(sent)
        for count in sent.values():
            count.send()
        versions = {key: count.version for key, count in sent.items()}
        rows: list[Row] | None = None
        try:
            rows = await self._database.rows(
                "attempts_add",
                accounts=[account for account, _ in sent],
                browsers=[browser for _, browser in sent],
                failures=[count.sending for count in sent.values()],
                last_failed_at=[count.last_failed_at for count in sent.values()],
                rest=self._rest,
            )
        finally:
            found = {(row["account"], row["browser"]): row for row in rows or ()}
            for key, count in sent.items():
                sending = count.sent()
                if count.version != versions[key]:  # cleared meanwhile
                    continue
                count.change()
                if rows is not None:
                    count.learn(found.get(key), self._now() - self._rest)
                elif self._counts.get(key) is count:
                    count.take_back(sending)
                    self._due.add(key)

    async def _record(self) -> None:
        notes, self._notes = self._notes, []
        if not notes:
            return
        try:
            await self._database.row(
                "failures_note",
                at=[failures.first for _, failures in notes],
                kinds=[note.kind for note, _ in notes],
                subjects=[note.subject for note, _ in notes],
                client_ids=[note.client_id for note, _ in notes],
                causes=[note.cause or None for note, _ in notes],
                failures=[failures.times for _, failures in notes],
                request_ids=[failures.act.request_id for _, failures in notes],
                addresses=[failures.act.address for _, failures in notes],
                proofs=[self._recorder.proof() for _ in notes],
            )
        except BaseException:
            self._notes = notes + self._notes
            raise
