"""The device authorization grant's decisions (RFC 8628): user codes, and what a device that asks is told.

    waiting ──▶ granted ──▶ tokens, once: the code that was allowed is redeemed as any (`oauth.decisions`)
       │  └───▶ denied     access_denied
       └─ over             expired_token

A device that asks sooner than it may is told to slow down, and may from then on ask less often by five seconds,
whichever worker it asks (section 3.5).
"""

import re
import unicodedata
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec import Struct

from gateway.errors import OAuthError, Refused, invalid_grant, unauthorized_client
from gateway.model import DEVICE_CODE, Client
from gateway.oauth.forms import Form
from gateway.oauth.grants import requested_resources, requested_scopes

LIFETIME: Final = 600  # seconds of a device code and its user code (section 3.2)
PACE: Final = 5  # seconds between two questions, to begin with
_SLOWER: Final = 5  # seconds, section 3.5
_EARLY: Final = timedelta(seconds=1)  # by which a question may come too soon: networks do not keep the beat
ALPHABET: Final = "BCDFGHJKLMNPQRSTVWXZ"  # section 6.1: 20 letters that make no words and look like no others
_LETTERS: Final = 8  # 34.5 bits: of ten guesses in a quarter of an hour none is right
_USER_CODE: Final = re.compile(f"[{ALPHABET}]{{{_LETTERS}}}")
_LONGEST: Final = 64  # characters typed

Decision = Literal["granted", "denied"]


class DeviceRecord(Struct, frozen=True, kw_only=True):
    """A locked device code, as its decision sees it; `pace` is in seconds."""

    client_id: str
    expires_at: datetime
    pace: int
    polled_at: datetime | None
    decision: Decision | None


class Wait(Struct, frozen=True):
    """The device is to ask again, no sooner than in `pace` seconds."""

    pace: int
    error: OAuthError


class Answered(Struct, frozen=True):
    """A person has allowed it: there is a code to redeem, unless that was done."""


def new_user_code(choose: Callable[[str], str]) -> str:
    """A user code without its dash; `choose` picks one letter of a text at random."""
    return "".join(choose(ALPHABET) for _ in range(_LETTERS))


def shown(user_code: str) -> str:
    """A user code as people read it: WDJB-MJHT."""
    return f"{user_code[:4]}-{user_code[4:]}"


def user_code_of(typed: str) -> str | None:
    """The user code that somebody typed, in any case, with or without dash and spaces (section 6.1); None if none."""
    if len(typed) > _LONGEST:
        return None
    text = "".join(mark for mark in typed if unicodedata.category(mark) not in ("Pd", "Zs"))
    text = text.upper() if text.isascii() else ""
    return text if _USER_CODE.fullmatch(text) else None


def parse(
    form: Form, client: Client, known_scopes: frozenset[str], known_resources: frozenset[str]
) -> tuple[frozenset[str], tuple[str, ...]]:
    """The scopes and resources of a device authorization request (section 3.1). Raises OAuthError."""
    if DEVICE_CODE not in client.grant_types:
        raise unauthorized_client("This client may not use the device authorization grant.")
    scopes = requested_scopes(form.get("scope"), client, known_scopes)
    return scopes, requested_resources(form.all("resource"), known_resources)


def decide(record: DeviceRecord, client_id: str, now: datetime) -> Wait | Answered | OAuthError:
    """What a client that asks with this device code is told (section 3.5). Another client changes nothing."""
    if record.client_id != client_id:
        return refused("another client's device code")
    if record.decision == "granted":
        return Answered()
    if now >= record.expires_at:
        return expired()
    if record.decision == "denied":
        return OAuthError(Refused("access_denied", "The person did not allow it.", status=400))
    if record.polled_at is not None and now < record.polled_at + timedelta(seconds=record.pace) - _EARLY:
        pace = record.pace + _SLOWER
        return Wait(pace, OAuthError(Refused("slow_down", f"Ask no sooner than {pace} seconds after the last time.")))
    return Wait(record.pace, OAuthError(Refused("authorization_pending", "Nobody has allowed it yet: ask again.")))


def expired() -> OAuthError:
    """RFC 8628, section 3.5: the person did not answer in time, or the device did not ask in time."""
    return OAuthError(Refused("expired_token", "The device code has expired: begin anew."))


def refused(cause: str) -> OAuthError:
    """A device code that is no good; the cause is for the log."""
    return invalid_grant("The device code is invalid, used or was issued to another client.", cause)
