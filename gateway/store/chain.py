"""The chain that proves the audit record: what was altered, removed or put in by somebody else shows.

    written ──▶ waits (the row proves to be the program's) ──▶ has its place (seq, link) ──▶ its time is over

A link is a keyed hash of the link before it, the place and the whole row, so that none can be made by who has the
database alone: the key lies there sealed by the master key. The chain's two ends stand in `event_chain` under a keyed
hash of their own. So the newest event can't be removed unnoticed, and the oldest ones leave by retention only, which
moves the beginning.

No request waits for the chain. Whoever writes an event draws no number under a lock: a worker gives the places
afterwards, half a second later and many in one transaction, in which it has the ends' row. It waits for
nobody, nor anybody for it: where another is at it, or a row is being written, it passes by.

What this can't show: an event that was removed before it had its place, and a database that was put back as a whole,
ends and all. For the latter keep the anchor elsewhere that `gateway events verify` prints, and the workers log hourly;
a worker that serves meanwhile says so by itself.
"""

import asyncio
import hmac
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import asyncpg
from msgspec import Struct
from msgspec.structs import replace

from gateway.crypto import Keyring, UnsealError, equal
from gateway.errors import GatewayError
from gateway.observe import get_logger
from gateway.store.acting import Recorder
from gateway.store.clock import Now
from gateway.store.database import ACT_DEADLINE, Database, Row, Statements

EVENTS_KEPT: Final = timedelta(days=90)
_SEALED: Final = "event-chain"  # the purpose that the chain's key is sealed for
_KEY_BYTES: Final = 32
_AT_ONCE: Final = 500  # events that get their place in one transaction
_PAGE: Final = 1000
_PAUSE: Final = 0.02  # seconds, where somebody else is at it
_SHOWN: Final = 16  # hexadecimal digits of a link, in an anchor
_PROVEN: Final = ("event_id", "at", "kind", "subject", "client_id", "request_id", "address", "actor", "detail")

_log = get_logger("gateway.store")


class BrokenChain(GatewayError):
    """The chain's ends are missing, altered, or sealed by a master key that is gone; or the next place is taken."""


class ChainFault(Struct, frozen=True):
    """What is wrong with the record: the first event that it concerns, as far as it is known."""

    fault: Literal["altered", "removed", "inserted", "ends"]
    text: str
    seq: int | None = None
    event_id: int | None = None


class Proven(Struct, frozen=True):
    """What the chain proves: so many events up to the anchor, and the faults that were found."""

    events: int
    waiting: int
    anchor: str
    faults: tuple[ChainFault, ...]


class _Ends(Struct, frozen=True):
    """The chain's key, its end and its beginning."""

    sealed_key: bytes
    key: bytes
    seq: int
    link: bytes
    base_seq: int
    base_link: bytes

    def mac(self) -> bytes:
        text = json.dumps([self.seq, self.link.hex(), self.base_seq, self.base_link.hex()])
        return hmac.digest(self.key, b"ends" + text.encode(), "sha256")

    def next(self, link: bytes, seq: int, text: bytes) -> bytes:
        """The link of an event, after another's."""
        return hmac.digest(self.key, b"link" + link + seq.to_bytes(8, "big", signed=True) + text, "sha256")


def _text(row: Row) -> bytes:
    """An event as it is proven, the same as `prove_event` makes in the database."""
    return json.dumps([row[name] for name in _PROVEN], ensure_ascii=False).encode()


def time_of(seconds: str) -> datetime | None:
    """An event's time, which comes as text, since who alters it may choose one that Python has no datetime for."""
    try:
        return datetime.fromtimestamp(float(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def anchor_of(seq: int, link: bytes) -> str:
    """A place and its link in short: what proves later that the record still goes on from there."""
    return f"{seq}:{link.hex()[:_SHOWN]}"


class Chain:
    """The chain of one database's events."""

    def __init__(self, database: Database, now: Now, keyring: Keyring, recorder: Recorder) -> None:
        self._database, self._now, self._keyring, self._recorder = database, now, keyring, recorder
        self._seen: tuple[int, bytes] | None = None  # the last place that this process has seen, and its link
        self.anchor = ""  # as of then

    async def extend(self, most: int = _AT_ONCE) -> int | None:
        """Give events that wait their places; how many waited, None where somebody else is at it. Raises BrokenChain.

        Where `most` of them waited, more may.
        """
        if await self._database.value("chain_is_complete"):
            return 0
        async with self._database.transaction(ACT_DEADLINE) as statements:
            row = await statements.row("chain_lock")
            if row is None:
                return None
            begins = row["sealed_key"] is None
            ends = await self._first(statements) if begins else self._opened(row)
            await self._look_back(statements, ends)
            rows = await statements.rows("events_unchained", most=most)
            texts = {one["event_id"]: _text(one) for one in rows}
            # What was written before there was a chain has nothing to prove itself by, and is taken as it is.
            strange = [
                one["event_id"]
                for one in rows
                if not (begins or self._recorder.proves(texts[one["event_id"]], one["proof"]))
            ]
            for event_id in strange:
                del texts[event_id]
            await self._refuse(statements, strange)
            await self._move(statements, await _placed(statements, ends, texts))
        return len(rows)

    async def complete(self, patience: float = 5.0) -> None:
        """Give all events that wait their places, unless others are at it for longer. Raises BrokenChain."""
        busy_until = asyncio.get_running_loop().time() + patience
        while (waited := await self.extend()) is None or waited >= _AT_ONCE:
            if waited is None and asyncio.get_running_loop().time() > busy_until:
                return
            await asyncio.sleep(_PAUSE)

    async def retire(self, statements: Statements, now: datetime, batch: int) -> int:
        """Remove events whose time is over, from the oldest on, and move the chain's beginning; how many went."""
        row = await statements.row("chain_lock")
        if row is None or row["sealed_key"] is None:
            return 0
        try:
            ends = self._opened(row)
        except BrokenChain as exc:
            _log.error("no event is removed, since their chain is broken", exc_info=exc)
            return 0
        rows = await statements.rows("events_oldest", after=ends.base_seq, now=now, kept=EVENTS_KEPT, batch=batch)
        leaving = _over(rows)
        if not leaving:
            return 0
        if (fault := _first_fault(ends, ends.base_seq, ends.base_link, leaving)) is not None:
            _log.error("events that are removed since their time is over were tampered with", cause=fault.text)
        last = leaving[-1]
        gone: int = await statements.value("events_remove", after=ends.base_seq, seq=last["seq"], batch=batch)
        await self._move(statements, replace(ends, base_seq=last["seq"], base_link=last["proof"]))
        return gone

    async def verify(self, anchor: tuple[int, str] | None = None) -> Proven:
        """What the record proves, to the last event that has its place; and whether it goes on from an anchor."""
        try:
            with suppress(BrokenChain):  # which is told of here, and by its events if they can say more
                await self.complete()
            return await self._verified(await self._ends(), anchor)
        except BrokenChain as exc:
            return Proven(0, 0, "", (ChainFault("ends", str(exc)),))

    async def _verified(self, ends: _Ends, anchor: tuple[int, str] | None) -> Proven:
        faults, proven, anchored = list[ChainFault](), 0, anchor is None or anchor[0] <= ends.base_seq
        after, link = ends.base_seq, ends.base_link
        while True:
            rows = await self._database.rows("events_chained", after=after, most=_PAGE)
            rows = [row for row in rows if row["seq"] <= ends.seq]
            fault = _first_fault(ends, after, link, rows) if rows else _missing(after + 1, ends.seq)
            if fault is not None:
                now = await self._ends()
                if now.base_seq > after:  # retention came by
                    after, link, ends = now.base_seq, now.base_link, now
                    continue
                faults.append(fault)
                break
            if rows:
                anchored = anchored or any(anchor == (row["seq"], row["proof"].hex()[:_SHOWN]) for row in rows)
                proven, after, link = proven + len(rows), rows[-1]["seq"], rows[-1]["proof"]
            if after >= ends.seq:
                break
        faults += await self._beyond(ends)
        if not faults and not anchored:
            faults.append(_unanchored(anchor, ends))
        waiting, strange = await self._waiting()
        faults += strange
        return Proven(proven, waiting, anchor_of(ends.seq, ends.link), tuple(faults))

    async def begin_anew(self) -> int:
        """A new chain, with a new key: what was written before stays, for as long as events are kept, and isn't proven
        any more. How many events that were not ours are among them. Raises BrokenChain where somebody else is at it."""
        async with self._database.transaction(ACT_DEADLINE) as statements:
            row = await statements.row("chain_lock")
            if row is None:
                raise BrokenChain("the chain is being written at this moment; try again")
            last = max(row["seq"], await statements.value("events_last"))
            aside: int = await statements.value("events_set_aside", seq=last)
            await self._move(statements, self._new(last + aside))
            await statements.row("events_begin", now=self._now())
        return aside

    async def reseal(self) -> None:
        """Seal the chain's key by the current master key, where another seals it. What is broken stays as it is."""
        async with self._database.transaction(ACT_DEADLINE) as statements:
            row = await statements.row("chain_wait")
            if row is not None and row["sealed_key"] is not None:
                with suppress(BrokenChain):
                    await self._move(statements, self._opened(row))

    # -- the ends -------------------------------------------------------------------------------------------

    async def _ends(self) -> _Ends:
        row = await self._database.row("chain_find")
        if row is not None and row["sealed_key"] is None:
            async with self._database.transaction() as statements:
                return await self._first(statements)
        return self._opened(row)

    async def _first(self, statements: Statements) -> _Ends:
        if not await statements.value("chain_is_empty"):
            raise BrokenChain("the ends of the chain were emptied, and it has events")
        return self._new(0)

    def _new(self, seq: int) -> _Ends:
        key, link = os.urandom(_KEY_BYTES), os.urandom(_KEY_BYTES)
        return _Ends(self._keyring.seal(_SEALED, "", key), key, seq, link, seq, link)

    def _opened(self, row: Row | None) -> _Ends:
        if row is None:
            raise BrokenChain("the ends of the chain were removed")
        sealed = row["sealed_key"]
        try:
            key = self._keyring.unseal(_SEALED, "", sealed)
        except UnsealError as exc:
            raise BrokenChain(
                "the key of the chain was sealed by a master key that is not among keys.previous, or it was altered"
            ) from exc
        ends = _Ends(sealed, key, row["seq"], row["link"], row["base_seq"], row["base_link"])
        if row["mac"] is None or not equal(row["mac"], ends.mac()):
            raise BrokenChain("the ends of the chain were altered")
        if sealed.startswith(self._keyring.key_id):
            return ends
        return replace(ends, sealed_key=self._keyring.seal(_SEALED, "", key))

    async def _move(self, statements: Statements, ends: _Ends) -> None:
        await statements.row(
            "chain_move",
            sealed_key=ends.sealed_key,
            seq=ends.seq,
            link=ends.link,
            base_seq=ends.base_seq,
            base_link=ends.base_link,
            mac=ends.mac(),
        )
        self._seen, self.anchor = (ends.seq, ends.link), anchor_of(ends.seq, ends.link)

    async def _look_back(self, statements: Statements, ends: _Ends) -> None:
        """Say so if the chain doesn't go on from where this process saw it last."""
        if self._seen is None or self._seen == (ends.seq, ends.link) or self._seen[0] <= ends.base_seq:
            return
        if await statements.value("event_link", seq=self._seen[0]) != self._seen[1]:
            anchor, self._seen = anchor_of(*self._seen), None
            _log.error("events were taken back: the database was put back, or somebody removed them", anchor=anchor)

    # -- events ---------------------------------------------------------------------------------------------

    async def _refuse(self, statements: Statements, event_ids: Sequence[int]) -> None:
        """Mark events that are not ours, so that they stand in nobody's way."""
        if event_ids:
            _log.error("events that the gateway did not write, or that were altered at once", event_ids=event_ids)
            await _place(statements, event_ids, [-event_id for event_id in event_ids], [b""] * len(event_ids))

    async def _beyond(self, ends: _Ends) -> list[ChainFault]:
        """An event that claims a place after the last one, or has none since it didn't prove to be ours."""
        faults = list[ChainFault]()
        rows = await self._database.rows("events_chained", after=ends.seq, most=1)
        if rows and (await self._ends()).seq < rows[0]["seq"]:
            faults.append(_inserted(rows[0]))
        faults += map(_inserted, await self._database.rows("events_refused", most=1))
        return faults

    async def _waiting(self) -> tuple[int, list[ChainFault]]:
        """How many events wait for their place, and the first of them that doesn't prove to be ours."""
        waiting, after = 0, 0
        while rows := await self._database.rows("events_waiting", after=after, most=_PAGE):
            for row in rows:
                if not self._recorder.proves(_text(row), row["proof"]):
                    return waiting, [_inserted(row)]
            waiting, after = waiting + len(rows), rows[-1]["event_id"]
        return waiting, []


async def _placed(statements: Statements, ends: _Ends, texts: Mapping[int, bytes]) -> _Ends:
    """The ends after these events, which get their places."""
    seq, link, proofs = ends.seq, ends.link, list[bytes]()
    for text in texts.values():
        seq += 1
        link = ends.next(link, seq, text)
        proofs.append(link)
    await _place(statements, [*texts], range(ends.seq + 1, seq + 1), proofs)
    return replace(ends, seq=seq, link=link)


async def _place(
    statements: Statements, event_ids: Sequence[int], seqs: Iterable[int], proofs: Sequence[bytes]
) -> None:
    try:
        await statements.row("events_chain", event_ids=list(event_ids), seqs=list(seqs), proofs=list(proofs))
    except asyncpg.UniqueViolationError as exc:
        raise BrokenChain("an event that is not the gateway's has the place of the next one") from exc


def _over(rows: Sequence[Row]) -> Sequence[Row]:
    """The events from the oldest on whose time is over; one that a clock dated ahead goes with those after it."""
    most = 0
    for number, row in enumerate(rows, 1):
        if row["over"]:
            most = number
        elif not row["ahead"]:
            break
    return rows[:most]


def _first_fault(ends: _Ends, after: int, link: bytes, rows: Sequence[Row]) -> ChainFault | None:
    """The first event of these that doesn't follow from the one before."""
    for row in rows:
        if row["seq"] <= after:
            return _inserted(row)
        if row["seq"] > after + 1:
            return _missing(after + 1, row["seq"] - 1)
        after += 1
        expected = ends.next(link, after, _text(row))
        link = row["proof"] or b""
        if not equal(expected, link):
            return ChainFault("altered", f"{_named(row)} was altered", after, row["event_id"])
    return None


def _missing(first: int, last: int) -> ChainFault | None:
    if first > last:
        return None
    which = f"the event number {first} was" if first == last else f"the events number {first} to {last} were"
    return ChainFault("removed", f"{which} removed", first)


def _inserted(row: Row) -> ChainFault:
    return ChainFault("inserted", f"{_named(row)} is not the gateway's: it was put in", None, row["event_id"])


def _unanchored(anchor: tuple[int, str] | None, ends: _Ends) -> ChainFault:
    seq, link = anchor or (0, "")
    if seq > ends.seq:
        return ChainFault("removed", f"events were taken back: the anchor is number {seq}, the last is {ends.seq}", seq)
    return ChainFault("altered", f"the record is another one from number {seq} on, whose link was {link}", seq)


def _named(row: Row) -> str:
    place, at = row["seq"], time_of(row["at"])
    number = f"number {place}" if place is not None and place > 0 else f"with the event_id {row['event_id']}"
    return f"the event {number} ({row['kind']}{'' if at is None else f', {at:%Y-%m-%d %H:%M:%S}Z'})"
