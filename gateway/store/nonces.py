"""Nonces of signed requests: each is spent once, whoever asks (`sql/migrations/0012_nonces.sql`).

    with a timestamp       in a ring of partitions, one a minute, as long as the timestamp could be accepted
    without (draft 00)     in a table of their own, as long as their token

Whoever spends the first kind knows the *terms*: the floor below which nothing is accepted, and the timeline of the
server that this floor is from. With the answer comes whether they are still the terms; what follows from new ones is
for the caller to check. No session state is relied upon, so that a pooler may stand between.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from gateway.store.database import Database

MOST: Final = 4  # connections: one for either kind of nonce, others for what is seldom
MINUTE: Final = 60  # seconds of timestamps that share a partition
WINDOW: Final = 24 * MINUTE  # seconds of timestamps, from the floor's minute on, that are remembered at a time
_LOCK: Final = 0x6E6F6E63  # the advisory lock's key: "nonc"
_LAYOUTS_LOCK: Final = 0x6E6F6E6C  # and "nonl"
MAIN: Final = ""  # the name of the main database in layouts

# Seconds of timestamps behind a reading of the layouts that it counts for: more than the most skew, so that the main
# database may be away for a while. And how long before its time a layout is made: no reading from before it reaches so
# far, and the clock of a server that takes over may be behind by the difference.
READ_AHEAD: Final = 900
MADE_AHEAD: Final = 1200


class NonceTerms(Struct, frozen=True):
    """On which nonces with a timestamp are spent: the floor in seconds since 1970 (0 before its first use)."""

    floor: int
    timeline: str

    @property
    def ceiling(self) -> int:
        """The first timestamp for which there is no room yet."""
        return self.floor // MINUTE * MINUTE + WINDOW


class FoundTerms(Struct, frozen=True):
    """The terms as the database has them; the timeline and the clock (since 1970) of the server that answered."""

    terms: NonceTerms
    timeline: str
    now: float


class Layout(Struct, frozen=True):
    """The databases, by their names, that nonces with timestamps from a second (since 1970) on are spread over."""

    from_second: int
    databases: tuple[str, ...]


BEGINNING: Final = Layout(0, (MAIN,))


class FoundLayouts(Struct, frozen=True):
    """The layouts by their beginnings, the first since ever, for all timestamps before the second `until`."""

    layouts: tuple[Layout, ...]
    until: float


class NonceLayouts:
    """Over which databases nonces are spread, as the main database says it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> FoundLayouts:
        """The layouts now."""
        async with self._database.transaction() as statements:
            await statements.value("nonce_layouts_share", lock=_LAYOUTS_LOCK)
            rows = await statements.rows("nonce_layouts_read")
        made = [Layout(row["from_second"], tuple(row["databases"])) for row in rows if row["databases"] is not None]
        return FoundLayouts((BEGINNING, *made), rows[0]["now"] + READ_AHEAD)

    async def change(self, databases: Collection[str]) -> Layout | None:
        """Spread nonces over other databases, by their names and the main one, from some minutes on; None where the
        newest layout has the same already."""
        wanted = tuple(sorted({MAIN, *databases}))
        async with self._database.transaction() as statements:
            await statements.value("nonce_layouts_lock", lock=_LAYOUTS_LOCK)
            rows = await statements.rows("nonce_layouts_read")
            if tuple(rows[-1]["databases"] or (MAIN,)) == wanted:
                return None
            second = await statements.value("nonce_layout_add", databases=list(wanted), ahead=MADE_AHEAD)
        return Layout(second, wanted)


class Nonces:
    """The one truth about what was spent. Keys are of 16 bytes, and different within one call.

    Nonces of one kind are spent by one call at a time: who has more of them waits, and puts them together.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def spend(
        self, keys: Sequence[bytes], seconds: Sequence[int], terms: NonceTerms
    ) -> tuple[Collection[bytes], bool]:
        """Spend nonces by key and timestamp, all from `terms.floor` on and before `terms.ceiling`.

        Gives the keys that were spent now, for the first time, and whether the terms are still the same. Where they
        are not, a key counts only if its timestamp is not below the floor that is found now.
        """
        spent = await self._database.value(
            "nonces_spend", keys=keys, seconds=seconds, floor=terms.floor, timeline=terms.timeline
        )
        if spent is None:
            return keys, True
        if spent and spent[-1] is None:
            return spent[:-1], False
        return spent, True

    async def spend_untimed(self, nonces: Sequence[tuple[bytes, datetime]]) -> Collection[bytes]:
        """Spend nonces without a timestamp, each with when it may be forgotten; the keys that were spent now."""
        keys, expiries = zip(*nonces, strict=True)
        spent: Collection[bytes] = await self._database.value("token_nonces_spend", keys=keys, expiries=expiries)
        return spent

    async def name(self) -> str:
        """The name by which layouts know this database, if it is not the main one."""
        name: str = await self._database.value("nonce_database_name")
        return name

    async def terms(self) -> FoundTerms:
        """The terms now."""
        row = await self._database.row("nonces_terms")
        assert row is not None  # noqa: S101 -- the migration put it there
        return FoundTerms(NonceTerms(row["floor"], row["timeline"]), row["here"], row["now"])

    async def raise_floor(self, floor: int) -> None:
        """Accept no timestamp below `floor` any more, for good; on the timeline of the server that answers."""
        async with self._database.transaction() as statements:
            await statements.value("nonces_lock", lock=_LOCK)
            await statements.value("nonces_floor_raise", floor=floor)

    async def empty_slots(self) -> int:
        """Empty the partitions that the floor has left behind; how many. What is locked is left for the next time."""
        emptied = 0
        for row in await self._database.rows("nonces_left_behind"):
            async with self._database.transaction() as statements:
                if not await statements.value("nonces_try_lock", lock=_LOCK):
                    break  # another worker is at it
                emptied += await statements.value("nonces_slot_empty", slot=row["slot"])
        return emptied
