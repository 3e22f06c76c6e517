"""The keys that sign what others verify, from before they sign until all that they signed has expired.

    made ──10 minutes──▶ signs ──another follows──▶ signs no more ──all that it signed expired──▶ removed
      └──────────────────── published at /.well-known/jwks.json ───────────────────────────────────┘

A new key is published for longer than anybody keeps the document before it signs, so that no verifier meets a signature
whose key it lacks. The first key of an algorithm signs at once, since nobody can know of another. Keys are made when
somebody first signs or reads the document; whoever makes one holds an advisory lock.

What a process knows of them is half a minute old at most, or ten minutes while the database is away; both ends of a
key's time leave room for that. `oauth.signing`, which brings cryptography along, is imported when a key is needed.
"""

import asyncio
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal, cast

from msgspec import Struct

from gateway.crypto import KEY_ID_BYTES, Keyring, UnsealError
from gateway.errors import StoreUnavailable
from gateway.model import SIGNING_ALGORITHMS, SigningAlgorithm
from gateway.observe import get_logger
from gateway.store.clock import Now
from gateway.store.database import Database, Row, Statements

if TYPE_CHECKING:
    from gateway.oauth.signing import SigningKey

LEAD: Final = timedelta(minutes=10)
"""How long a key is published before it signs: twice as long as the document may be kept."""
KEPT: Final = timedelta(minutes=10)
"""How long a key stays beyond its end: clocks differ, and a process may not know yet that another one has followed."""
_AHEAD: Final = timedelta(hours=1)  # by which it is noted until when a key is needed
_SEALED: Final = "signing-key"  # the purpose that keys are sealed for
_LOCK: Final = 0x7369676E  # the advisory lock's key: "sign"
_KNOWN_FOR: Final = 30.0  # seconds

State = Literal["next", "current", "retired"]

_log = get_logger("gateway.store")


class PublishedKey(Struct, frozen=True, kw_only=True):
    """A key as an operator is told of it; `published_until` is known once another one is to follow it."""

    kid: str
    algorithm: SigningAlgorithm
    state: State
    signs_from: datetime
    signs_until: datetime | None
    published_until: datetime | None
    sealed_by: bytes  # the name of a master key


@dataclass(slots=True)
class _Known:
    """A key that can be signed with, and what was last known of its time."""

    key: "SigningKey"
    signs_from: datetime
    signs_until: datetime | None
    needed_until: datetime | None

    def need(self, until: datetime) -> None:
        """What it signs lives until then."""
        self.needed_until = until

    def ended_at(self, moment: datetime) -> bool:
        return self.signs_until is not None and self.signs_until <= moment

    def signs_at(self, moment: datetime) -> bool:
        return self.signs_from <= moment and not self.ended_at(moment)


class SigningKeys:
    """The signing keys, in the database and as far as this process knows them."""

    def __init__(self, database: Database, now: Now, keyring: Keyring) -> None:
        self._database, self._now, self._keyring = database, now, keyring
        self._known: tuple[_Known, ...] = ()
        self._read_at = -LEAD.total_seconds()
        self._reading = asyncio.Lock()

    async def key(self, algorithm: SigningAlgorithm, ttl: float = 0.0) -> "SigningKey":
        """The key that signs now, for what lives `ttl` seconds. Raises StoreUnavailable.

        Ask for it before a transaction begins: where it is not known yet, that takes a connection of its own.
        """
        found = await self._current(algorithm)
        until = self._now() + timedelta(seconds=ttl)
        if ttl and (found.needed_until is None or found.needed_until < until):
            noted = until + _AHEAD
            await self._database.value("signing_key_needed", kid=found.key.kid, until=noted)
            found.need(noted)
        return found.key

    async def published(self, *, make: bool = True) -> list[Mapping[str, object]]:
        """The public keys, as a JWK Set holds them (RFC 7517, section 5); without `make` those that there are."""
        rows = await self._database.rows("signing_keys_all")
        if make and {row["algorithm"] for row in rows} < set(SIGNING_ALGORITHMS):
            await self._make(SIGNING_ALGORITHMS)
            rows = await self._database.rows("signing_keys_all")
        return [cast("Mapping[str, object]", json.loads(row["public"])) for row in rows]

    async def all(self) -> list[PublishedKey]:
        """Every key, the oldest first."""
        now = self._now()
        return [_published(row, now) for row in await self._database.rows("signing_keys_all")]

    async def rotate(self, *, at_once: bool = False) -> list[PublishedKey]:
        """Have new keys follow those that sign, or go on with that: the new ones.

        Those of an algorithm are left alone while a change is under way, or what the former one signed has not expired
        yet. `at_once` is for keys that somebody else has: what they signed is worth nothing from now on, and new ones
        sign at once.
        """
        rows = [] if at_once else await self._database.rows("signing_keys_all")
        fresh = await self._fresh(algorithm for algorithm in SIGNING_ALGORITHMS if len(_of(rows, algorithm)) <= 1)
        made, now = set[str](), self._now()
        async with self._database.transaction() as statements:
            await statements.value("signing_keys_lock", lock=_LOCK)
            rows = await statements.rows("signing_keys_all")
            if at_once:
                await statements.value("signing_keys_remove", kids=[row["kid"] for row in rows], now=now)
                rows = []
            for key in fresh:
                others = _of(rows, key.algorithm)
                if len(others) <= 1:
                    await self._add(statements, key, now, now + LEAD if others else now)
                    made.add(key.kid)
        return [one for one in await self.all() if one.kid in made]

    async def reseal(self) -> int:
        """Seal by the current master key what another one seals; gives how many. What cannot be opened stays as it
        is."""
        count = 0
        for row in await self._database.rows("signing_keys_all"):
            kid, sealed = row["kid"], row["sealed"]
            if sealed[:KEY_ID_BYTES] == self._keyring.key_id:
                continue
            try:
                private = self._keyring.unseal(_SEALED, kid, sealed)
            except UnsealError:
                continue
            fresh = self._keyring.seal(_SEALED, kid, private)
            count += await self._database.value("signing_key_reseal", kid=kid, sealed=fresh, sealed_before=sealed) or 0
        return count

    # -- what this process knows ------------------------------------------------------------------------------

    async def _current(self, algorithm: SigningAlgorithm) -> _Known:
        if monotonic() - self._read_at >= _KNOWN_FOR:
            await self._read_again()
        found = self._signing(algorithm)
        if found is None:
            await self._make((algorithm,))
            await self._read()
            found = self._signing(algorithm)
        if found is None:
            raise StoreUnavailable(f"no key signs by {algorithm}")
        return found

    def _signing(self, algorithm: SigningAlgorithm) -> _Known | None:
        now = self._now()
        usable = [one for one in self._known if one.key.algorithm == algorithm and not one.ended_at(now)]
        signing = [one for one in usable if one.signs_at(now)]
        # A first key may have been made by a clock that is a little ahead.
        return signing[-1] if signing else usable[0] if usable else None

    async def _read_again(self) -> None:
        """Read the keys, or stay with what is known while the database is away."""
        async with self._reading:
            if monotonic() - self._read_at < _KNOWN_FOR:
                return  # somebody else has
            try:
                await self._read()
            except StoreUnavailable:
                if monotonic() - self._read_at >= LEAD.total_seconds():
                    raise

    async def _read(self) -> None:
        rows = await self._database.rows("signing_keys_all")
        before = {one.key.kid: one.key for one in self._known}
        known = list[_Known]()
        for row in rows:
            key = before.get(row["kid"]) or self._opened(row)
            if key is not None:
                known.append(_Known(key, row["signs_from"], row["signs_until"], row["needed_until"]))
        self._known, self._read_at = tuple(known), monotonic()

    def _opened(self, row: Row) -> "SigningKey | None":
        from gateway.oauth import signing

        try:
            return signing.read(row["algorithm"], self._keyring.unseal(_SEALED, row["kid"], row["sealed"]))
        except (UnsealError, ValueError):
            _log.warning("a signing key cannot be opened: its master key is gone", kid=row["kid"])
            return None

    # -- new ones ---------------------------------------------------------------------------------------------

    async def _make(self, algorithms: Collection[SigningAlgorithm]) -> None:
        """Make a key that signs at once for each algorithm that has none."""
        fresh = await self._fresh(algorithms)
        async with self._database.transaction() as statements:
            await statements.value("signing_keys_lock", lock=_LOCK)
            rows, now = await statements.rows("signing_keys_all"), self._now()
            for key in fresh:
                if not any(self._is_usable(row, now) for row in _of(rows, key.algorithm)):
                    await self._add(statements, key, now, now)

    def _is_usable(self, row: Row, now: datetime) -> bool:
        """Whether a key signs, or is about to, and can be opened."""
        key = self._opened(row)
        return key is not None and not _Known(key, row["signs_from"], row["signs_until"], None).ended_at(now)

    async def _fresh(self, algorithms: Iterable[SigningAlgorithm]) -> "list[SigningKey]":
        from gateway.oauth import signing

        return [await asyncio.to_thread(signing.new, algorithm) for algorithm in algorithms]

    async def _add(self, statements: Statements, key: "SigningKey", now: datetime, signs_from: datetime) -> None:
        await statements.row(
            "signing_key_add",
            kid=key.kid,
            algorithm=key.algorithm,
            public=json.dumps(key.public),
            sealed=self._keyring.seal(_SEALED, key.kid, key.private_bytes),
            now=now,
            signs_from=signs_from,
        )


def _of(rows: Iterable[Row], algorithm: SigningAlgorithm) -> list[Row]:
    return [row for row in rows if row["algorithm"] == algorithm]


def _published(row: Row, now: datetime) -> PublishedKey:
    until: datetime | None = row["signs_until"]
    state: State = "next" if row["signs_from"] > now else "current" if until is None or until > now else "retired"
    return PublishedKey(
        kid=row["kid"],
        algorithm=row["algorithm"],
        state=state,
        signs_from=row["signs_from"],
        signs_until=until,
        published_until=None if until is None else max(until, row["needed_until"] or until) + KEPT,
        sealed_by=row["sealed"][:KEY_ID_BYTES],
    )
