"""What the cache of tokens takes of a worker's memory: `python -m bench.cached_tokens`."""

import gc
import multiprocessing
import os
from datetime import UTC, datetime, timedelta
from typing import Final

from bench import machine
from gateway.guard.cache import ENTRIES, Cache
from gateway.guard.ledger import Ledger
from gateway.model import AccessToken, Identity

_USERS: Final = (0, 1000, 5000, 20_000, ENTRIES)


def main() -> None:
    """Fill one cache after another, each in a process of its own, and print the table."""
    print("| tokens | users | held | counted, MB | RSS, MB |\n|---|---|---|---|---|")
    for kind in ("bearer", "MAC"):
        for users in _USERS:
            with multiprocessing.get_context("spawn").Pool(1) as alone:
                held, counted, taken = alone.apply(_filled, (users, kind == "MAC"))
            told = f"{users:,}" if users else "none"
            print(f"| {ENTRIES:,} {kind} | {told} | {held:,} | {counted / 1e6:.1f} | {taken / 1e6:.1f} |", flush=True)


def _filled(users: int, signs: bool) -> tuple[int, int, int]:
    """How many tokens are held of so many, each used once, and their bytes, as counted and as resident."""
    ledger = Ledger()
    ledger.renew(ledger.elapsed() + 3600)
    cache, before = Cache(ledger), _resident()
    for number in range(ENTRIES):
        put(cache, token(number, user=number % users if users else None, signs=signs))
    return len(cache), cache.size, _resident() - before


def put(cache: Cache, token: AccessToken, as_of: int = 0) -> None:
    """Hold a token, and use it as the engine does."""
    cache.put(cache.made(token, as_of))
    if cache.get(token.digest) is None:
        raise ValueError("the token does not count")


def token(number: int, *, user: int | None = None, signs: bool = False) -> AccessToken:
    """A token with strings of its own, as they come out of a database row."""
    client = f"c{0:016d}"
    return AccessToken(
        digest=number.to_bytes(32, "big"),
        identity=Identity(
            subject=client if user is None else f"u{user:016d}",
            client_id=client,
            username=None if user is None else f"username-{user}",
            email=None if user is None else f"username-{user}@example.com",
        ),
        scopes=frozenset(f"notes:{verb}" for verb in ("read", "write")),
        token_type="mac" if signs else "bearer",
        audience=(),
        issued_at=datetime.now(UTC),
        expires_at=datetime.now(UTC) + timedelta(seconds=number),
        mac_key=os.urandom(43) if signs else None,
        mac_algorithm="hmac-sha-256" if signs else None,
        mac_drafts=("01",),
        family_id=f"t{number:016d}",
        grant_id=f"g{number:016d}",
    )


def _resident() -> int:
    gc.collect()
    return machine.status(os.getpid(), "VmRSS:")


if __name__ == "__main__":
    main()
