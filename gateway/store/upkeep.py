"""The removal of what expired."""

from datetime import timedelta
from typing import Final

from gateway.observe import get_logger
from gateway.store.chain import EVENTS_KEPT, Chain
from gateway.store.changes import CHANGES_KEPT
from gateway.store.clock import LEAP, Clock
from gateway.store.database import ACT_DEADLINE, Database, Statements
from gateway.store.devices import DEVICES_KEPT
from gateway.store.guesses import WAIT
from gateway.store.registrations import REGISTRATIONS_COUNTED
from gateway.store.signing_keys import KEPT as SIGNING_KEYS_KEPT

_SWEEP_LOCK: Final = 0x73776570  # the advisory lock's key: "swep"
_EXPIRED: Final = (
    "sweep_sessions",
    "sweep_flows",
    "sweep_pushed_requests",
    "sweep_codes",
    "sweep_access_tokens",
    "sweep_refresh_tokens",
    "sweep_families",
    "sweep_grants",
    "sweep_secrets",
    "sweep_token_nonces",
    "sweep_registrations",
    "sweep_registration_tokens",
    "sweep_rate_buckets",
    "sweep_rate_workers",
    "sweep_quotas",
)
_KEPT: Final = {
    "sweep_attempts": timedelta(seconds=WAIT),
    "sweep_registration_attempts": REGISTRATIONS_COUNTED,
    "sweep_strays": EVENTS_KEPT,
    "sweep_changes": CHANGES_KEPT,
    "sweep_device_codes": DEVICES_KEPT,
    "sweep_signing_keys": SIGNING_KEYS_KEPT,
}

_log = get_logger("gateway.store")


class Upkeep:
    """The work of the store that goes on by itself: the comparison of clocks, and the removal of what is over."""

    def __init__(self, database: Database, clock: Clock, chain: Chain) -> None:
        self._database, self._clock, self._chain = database, clock, chain

    async def compare_clocks(self) -> None:
        """Look at the database's clock, so that no leap of ours counts: before anything is compared or written."""
        self._clock.compare(await self._database.value("clock_read"))

    async def sweep(self, batch: int = 1000) -> int:
        """Remove what expired, at most `batch` rows of each kind, by whichever worker holds the advisory lock.

        How many rows went: 0 when nothing was left to do, another worker is at it, or its clock and the database's
        differ by more than a minute: what one of them takes for dead may live.
        """
        async with self._database.transaction(ACT_DEADLINE) as statements:
            row = await statements.row("sweep_lock", lock=_SWEEP_LOCK)
            assert row is not None  # noqa: S101 -- the statement has no condition
            self._clock.compare(row["now"])
            if not row["locked"]:
                return 0
            apart = self._clock().timestamp() - row["now"]
            if abs(apart) > LEAP:
                _log.warning("nothing is removed: the clocks of worker and database differ", seconds=round(apart))
                return 0
            return await self._sweep(statements, batch)

    async def _sweep(self, statements: Statements, batch: int) -> int:
        now = self._clock()
        gone = [await statements.value(name, now=now, batch=batch) for name in _EXPIRED]
        gone += [await statements.value(name, now=now, batch=batch, kept=kept) for name, kept in _KEPT.items()]
        gone.append(await self._chain.retire(statements, now, batch))
        return sum(gone)
