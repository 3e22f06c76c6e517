"""Follows the change log for as long as the worker lives.

    connect, listen ──▶ read ──▶ apply ──▶ wait for a hint or the next beat ──▶ read …
          ▲              └── no answer in time, or the connection ended ──┐
          └────────────────────── a short pause, never the same ◀────────┘

The beat is heartbeat and poll in one: it notices a channel that hangs, and reads what a lost notification was about.
While nothing can be read the lease lapses by itself, and every token is asked of the database.

Where tokens pass for longer (`tokens.stale_for`), what was revoked a moment before the primary was lost has yet to be
heard of: its standbys are asked for that, if there are any to ask.
"""

import asyncio
import random
from contextlib import suppress
from typing import Final, Never

from gateway.errors import StoreUnavailable
from gateway.guard.ledger import Ledger
from gateway.observe import get_logger
from gateway.store import Store
from gateway.store.replicas import Replicas

_BEAT: Final = 1.0  # seconds between two readings at most; below the lease, with time for an answer
_PAUSE: Final = (0.05, 0.5)  # seconds until the next attempt, so that workers do not all come at once

_LATE: Final = 1.2 * _BEAT  # the age of the last reading from which on standbys are read, well before LEASE
_LATER: Final = 0.25  # seconds between two readings of them

_log = get_logger("gateway.guard")


async def follow(store: Store, ledger: Ledger) -> Never:
    """Keep the ledger as near to the log as can be, whatever becomes of the database."""
    warned = False
    while True:
        held_until = ledger.holds_until
        try:
            await _follow_one_connection(store, ledger, lost=warned)
        except StoreUnavailable as exc:
            cause: Exception = exc
        except Exception as exc:  # noqa: BLE001  # a fault of ours must cost speed only
            cause = exc
            _log.error("the change log cannot be followed", exc_info=exc)
        warned = warned and ledger.holds_until == held_until  # one line each time that it is lost
        if not warned:
            _log.warning("the change log is lost; every token is asked of the database", cause=str(cause))
            warned = True
        await asyncio.sleep(random.uniform(*_PAUSE))  # noqa: S311 -- a pause, no secret


async def _follow_one_connection(store: Store, ledger: Ledger, *, lost: bool) -> Never:
    hinted = asyncio.Event()
    async with store.changes.feed(hinted.set) as feed:
        while True:
            hinted.clear()
            sent_at = ledger.elapsed()
            reading = await feed.read()
            if not reading.gapless:
                ledger.forget(reading.server)
                store.access_tokens.renew()
            ledger.apply(reading.changes)
            ledger.read_up_to(reading.newest)
            ledger.renew(sent_at)
            if lost:
                lost = False
                _log.info("the change log is followed again; tokens that were seen before pass without a query")
            with suppress(TimeoutError):
                async with asyncio.timeout(_BEAT * random.uniform(0.8, 1.0)):  # noqa: S311 -- as above
                    await hinted.wait()


async def follow_at_standbys(standbys: Replicas, ledger: Ledger) -> Never:
    """While the log itself is not read in time, apply what standbys hold of it, which renews nothing."""
    while True:
        await asyncio.sleep(_LATER)
        newest = ledger.newest
        if newest is None or ledger.age < _LATE:
            continue
        found, changes = await standbys.changes(newest)
        ledger.apply(changes)
        if ledger.newest is newest:  # or the log was read meanwhile
            ledger.read_up_to(found)
