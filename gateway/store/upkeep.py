"""The removal of what expired."""

from datetime import timedelta
from typing import Final

from gateway.store.base import WAIT, Base
from gateway.store.changes import CHANGES_KEPT
from gateway.store.database import ACT_DEADLINE

_EVENTS_KEPT: Final = timedelta(days=90)
_SWEEP_LOCK: Final = 0x73776570  # the advisory lock's key: "swep"


class Upkeep(Base):
    """What no person and no client asks for by name."""

    async def sweep(self, batch: int = 1000) -> int:
        """Remove what expired, at most `batch` rows of each kind, by whichever worker holds the advisory lock.

        How many rows went: 0 when nothing was left to do or another worker is at it.
        """
        now = self.now()
        cutoffs = {
            "sweep_sessions": now,
            "sweep_flows": now,
            "sweep_codes": now,
            "sweep_access_tokens": now,
            "sweep_refresh_tokens": now,
            "sweep_families": now,
            "sweep_grants": now,
            "sweep_secrets": now,
            "sweep_token_nonces": now,
            "sweep_mac_nonces": now,
            "sweep_attempts": now - timedelta(seconds=WAIT),
            "sweep_events": now - _EVENTS_KEPT,
            "sweep_changes": now - CHANGES_KEPT,
        }
        async with self._database.transaction(ACT_DEADLINE) as statements:
            if not await statements.value("sweep_lock", _SWEEP_LOCK):
                return 0
            return sum([await statements.value(name, cutoff, batch) for name, cutoff in cutoffs.items()])
