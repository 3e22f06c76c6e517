"""Who acts, and from where: what every event of the audit record is written with.

Whoever begins to act says so once (a command, a request of the authorization plane), and all that the same task writes
carries it. It stands in the task's context, so that no method of the store has to pass it on.

`Recorder` makes the other half of what an event is written with: the number and key that prove that it is ours
(`sql/migrations/0014_events.sql`).
"""

import asyncio
import hashlib
import hmac
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import Final

from msgspec import Struct

from gateway.crypto import Keyring, equal
from gateway.store.text import storable

NUMBER_BYTES: Final = 16
_PURPOSE: Final = "event"


class Act(Struct, frozen=True):
    """One act: `actor` is such as operator:root, user:u…, client:c…; None for what is not known."""

    actor: str | None = None
    request_id: str | None = None
    address: str | None = None


_NOBODY: Final = Act()
_act: ContextVar[Act] = ContextVar("act", default=_NOBODY)


def current() -> Act:
    """The act that is under way in this task."""
    return _act.get()


@contextmanager
def acting(*, actor: str | None = None, request_id: str | None = None, address: str | None = None) -> Iterator[None]:
    """What is written inside is written by this actor, on behalf of this request from that address."""
    before = _act.set(Act(_stored(actor), _stored(request_id), _stored(address)))
    try:
        yield
    finally:
        _act.reset(before)


def acts(actor: str) -> None:
    """From here on it is known who acts: what the same task writes is written by this actor."""
    act = _act.get()
    _act.set(Act(_stored(actor), act.request_id, act.address))


def _stored(text: str | None) -> str | None:
    return text if text is None or storable(text) else None


class Recorder:
    """What the events of one process are written with; `wrote` is set when some may wait for their place."""

    def __init__(self, keyring: Keyring) -> None:
        self._keys = keyring.purpose_keys(_PURPOSE)
        self.wrote: Final = asyncio.Event()

    def parameters(self) -> Mapping[str, object]:
        """The parameters that a statement takes which writes an event."""
        act = _act.get()
        return {"request_id": act.request_id, "address": act.address, "actor": act.actor, "proof": self.proof()}

    def proof(self) -> bytes:
        """The number of one event or some that are written together, and the key that goes with it."""
        self.wrote.set()
        number = os.urandom(NUMBER_BYTES)
        return number + hmac.digest(self._keys[0], number, "sha256")

    def proves(self, text: bytes, proof: bytes | None) -> bool:
        """Whether what the database made of an event was made of this text by a key of ours."""
        if proof is None or len(proof) != 1 + NUMBER_BYTES + hashlib.sha256().digest_size:
            return False
        number, given = proof[1 : 1 + NUMBER_BYTES], proof[1 + NUMBER_BYTES :]
        keys = (hmac.digest(key, number, "sha256") for key in self._keys)
        return any(equal(sha256(key + sha256(key + text).digest()).digest(), given) for key in keys)
