"""The data that rests on master keys: what is sealed anew when they change, and what still needs an old one.

Tables are walked by their primary keys, a page in a statement of its own, so that none takes long however large they
are, and nobody waits.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from typing import Final

from msgspec import Struct

from gateway.crypto import KEY_ID_BYTES, Keyring, UnsealError
from gateway.store.access_tokens import MAC_KEY
from gateway.store.clock import Now
from gateway.store.database import Database, Row

BATCH: Final = 500
_PAGE: Final = 5000
_CHECKED: Final = ("access_tokens_since_before", "refresh_tokens_since_before")


class Resting(Struct, frozen=True):
    """The tokens that were issued before some moment and live: how many of each kind, and when the last of them ends,
    None where there are none."""

    access_tokens: int
    refresh_tokens: int
    until: datetime | None


class MasterKeys:
    """The master keys that the data rests on: which one wrote it, and what each of them still seals."""

    def __init__(self, database: Database, now: Now, keyring: Keyring) -> None:
        self._database, self._now, self._keyring = database, now, keyring

    async def reseal(self, batch: int = BATCH) -> AsyncIterator[int]:
        """Seal the MAC keys of live tokens anew that another master key than the current one seals; gives how many,
        batch after batch, until a walk through all of them finds none that is free.

        It may be broken off at any moment, and begun again. What cannot be opened any more stays as it is.
        """
        while True:
            found = 0
            after: bytes | None = b""
            while after is not None:
                after, count = await self._reseal_page(after, batch)
                found += count
                if count:
                    yield count
            if not found:
                return

    async def _reseal_page(self, after: bytes, batch: int) -> tuple[bytes | None, int]:
        row = await self._sealed_page(after, batch, self._keyring.key_id)
        digests, old, fresh = list[bytes](), list[bytes](), list[bytes]()
        for digest, sealed in zip(row["digests"], row["sealed"], strict=True):
            with suppress(UnsealError):
                key = self._keyring.unseal(MAC_KEY, digest.hex(), sealed)
                fresh.append(self._keyring.seal(MAC_KEY, digest.hex(), key))
                digests.append(digest)
                old.append(sealed)
        if not digests:
            return row["last"], 0
        return row["last"], await self._database.value("mac_keys_reseal", digests=digests, old=old, fresh=fresh)

    async def _sealed_page(self, after: bytes, size: int, key_id: bytes) -> Row:
        row = await self._database.row("mac_keys_under_others", after=after, batch=size, key_id=key_id, now=self._now())
        assert row is not None  # noqa: S101  # the statement has no condition
        return row

    async def sealed_by_others(self, than: bytes) -> Counter[bytes]:
        """How many MAC keys of live tokens other master keys than this one seal, by the names of those; the key of the
        record of events and signing keys are counted with them."""
        found = Counter[bytes]()
        chain = await self._database.row("chain_find")
        if chain is not None and chain["sealed_key"] and not chain["sealed_key"].startswith(than):
            found[chain["sealed_key"][:KEY_ID_BYTES]] += 1
        for key in await self._database.rows("signing_keys_all"):
            if not key["sealed"].startswith(than):
                found[key["sealed"][:KEY_ID_BYTES]] += 1
        after: bytes | None = b""
        while after is not None:
            row = await self._sealed_page(after, _PAGE, than)
            found.update(sealed[:KEY_ID_BYTES] for sealed in row["sealed"])
            after = row["last"]
        return found

    async def is_current_noted(self) -> bool:
        """Whether the data demands the current master key already."""
        return bool(await self._database.value("master_key_find") == self._keyring.key_id)

    async def note_current(self) -> None:
        """Have the data demand the current master key from now on, instead of the one before."""
        await self._database.row("master_key_replace", key_id=self._keyring.key_id, now=self._now())

    async def issued_before(self, moment: datetime) -> Resting:
        """The tokens that were issued before a moment and may still be presented; it walks through all there are."""
        counts, ends = list[int](), list[datetime]()
        for statement in _CHECKED:
            count = 0
            after: bytes | None = b""
            while after is not None:
                row = await self._database.row(statement, after=after, batch=_PAGE, before=moment, now=self._now())
                assert row is not None  # noqa: S101  # the statement has no condition
                count, after = count + row["count"], row["last"]
                if row["until"] is not None:
                    ends.append(row["until"])
            counts.append(count)
        access_tokens, refresh_tokens = counts
        return Resting(access_tokens, refresh_tokens, max(ends, default=None))
