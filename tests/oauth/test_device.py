"""The device authorization grant's decisions (RFC 8628)."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.errors import OAuthError
from gateway.oauth import device
from gateway.oauth.device import Answered, DeviceRecord, Wait

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
WAITING = DeviceRecord(client_id="c_tv", expires_at=NOW + timedelta(minutes=10), pace=5, polled_at=None, decision=None)


def told(record: DeviceRecord, client_id: str = "c_tv", now: datetime = NOW) -> str:
    found = device.decide(record, client_id, now)
    match found:
        case Wait(_, error):
            return error.refused.error
        case OAuthError():
            return found.refused.error
        case Answered():
            return "tokens"


def test_user_codes_are_of_the_alphabet_of_section_6_1() -> None:
    assert device.ALPHABET == "BCDFGHJKLMNPQRSTVWXZ"
    letters = iter("WDJBMJHT")
    code = device.new_user_code(lambda _: next(letters))
    assert device.shown(code) == "WDJB-MJHT"


@pytest.mark.parametrize(
    "typed",
    ["WDJB-MJHT", "wdjb-mjht", "WDJBMJHT", "Wdjb Mjht", " wdjb–mjht ", "wdjb—mjht", "w-d-j-b-m-j-h-t", "WDJB MJHT"],
)
def test_a_user_code_is_read_however_it_is_typed(typed: str) -> None:
    """Section 6.1: case and punctuation do not count."""
    assert device.user_code_of(typed) == "WDJBMJHT"


@pytest.mark.parametrize(
    "typed",
    ["", "WDJB-MJH", "WDJB-MJHTT", "ADJB-MJHT", "WDJB-MJH1", "WDJB_MJHT", "WDJB-MJH\u017f", "\uff37DJB-MJHT",
     "WDJB\0MJHT", "\udc80" * 8, "WDJB-MJHT" + " " * 60, "%57DJB-MJHT", "WDJB\nMJHT"],
)  # fmt: skip
def test_what_is_no_user_code_is_none(typed: str) -> None:
    assert device.user_code_of(typed) is None


@given(st.text(device.ALPHABET, min_size=8, max_size=8))
def test_a_user_code_that_is_shown_is_the_one_that_is_read(code: str) -> None:
    assert device.user_code_of(device.shown(code).lower()) == code


@given(st.text())
def test_nothing_else_is_read_as_one(text: str) -> None:
    found = device.user_code_of(text)
    assert found is None or (len(found) == 8 and set(found) <= set(device.ALPHABET))


@pytest.mark.parametrize(
    ("record", "answer"),
    [
        (WAITING, "authorization_pending"),
        (replace(WAITING, polled_at=NOW - 5 * SECOND), "authorization_pending"),
        (replace(WAITING, polled_at=NOW - 4 * SECOND), "authorization_pending"),  # as late as a network may make it
        (replace(WAITING, polled_at=NOW - 3 * SECOND), "slow_down"),
        (replace(WAITING, polled_at=NOW + SECOND), "slow_down"),  # another worker's clock is ahead
        (replace(WAITING, polled_at=NOW - 8 * SECOND, pace=10), "slow_down"),
        (replace(WAITING, decision="denied"), "access_denied"),
        (replace(WAITING, decision="denied", polled_at=NOW), "access_denied"),
        (replace(WAITING, decision="granted"), "tokens"),
        (replace(WAITING, decision="granted", polled_at=NOW), "tokens"),
        (replace(WAITING, expires_at=NOW), "expired_token"),
        (replace(WAITING, expires_at=NOW, decision="denied"), "expired_token"),
        (replace(WAITING, expires_at=NOW, polled_at=NOW), "expired_token"),
    ],
)
def test_a_device_is_told_what_became_of_its_code(record: DeviceRecord, answer: str) -> None:
    """Section 3.5."""
    assert told(record) == answer
    assert told(record, "c_other") == "invalid_grant"


def test_each_question_that_comes_too_soon_makes_the_interval_longer_by_five_seconds() -> None:
    """Section 3.5: for this and all subsequent requests."""
    record, now = replace(WAITING, polled_at=NOW), NOW
    for pace in (10, 15, 20):
        now += 2 * SECOND
        found = device.decide(record, "c_tv", now)
        assert isinstance(found, Wait)
        assert (found.error.refused.error, found.pace) == ("slow_down", pace)
        record = replace(record, polled_at=now, pace=found.pace)
    assert told(record, now=now + 15 * SECOND) == "slow_down"
    assert told(record, now=now + 20 * SECOND) == "authorization_pending"
