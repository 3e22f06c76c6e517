"""Nonces of signed requests: each is spent once, whoever asks (`sql/migrations/0005_nonces.sql`).

    with a timestamp       in a ring of partitions, one a minute, as long as the timestamp could be accepted
    without (draft 00)     in a table of their own, as long as their token

Whoever spends the first kind knows the *terms*: the floor below which nothing is accepted, and the timeline of the
server that this floor is from. With the answer comes whether they are still the terms; what follows from new ones is
for the caller to check. No session state is relied upon, so that a pooler may stand between.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.store.database import Database

MOST: Final = 4  # connections: one for either kind of nonce, others for what is seldom
MINUTE: Final = 60  # seconds of timestamps that share a partition
WINDOW: Final = 24 * MINUTE  # seconds of timestamps, from the floor's minute on, that are remembered at a time
_LOCK: Final = 0x6E6F6E63  # the advisory lock's key: "nonc"


@dataclass(frozen=True, slots=True)
class NonceTerms:
    """On which nonces with a timestamp are spent: the floor in seconds since 1970 (0 before its first use)."""

    floor: int
    timeline: str

    @property
    def ceiling(self) -> int:
        """The first timestamp for which there is no room yet."""
        return self.floor // MINUTE * MINUTE + WINDOW


@dataclass(frozen=True, slots=True)
class FoundTerms:
    """The terms as the database has them; the timeline and the clock (since 1970) of the server that answered."""

    terms: NonceTerms
    timeline: str
    now: float


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
