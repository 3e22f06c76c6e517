"""Signing in and out, and what guessing brings."""

import asyncio

import pytest

from gateway.crypto import random_text
from gateway.store import Store
from gateway.store.sessions import WAIT, WRONG_PASSWORDS
from tests.store.rig import MovableClock, Rig, count, fetch


async def guess(store: Store, account: str, browser: str | None = None, times: int = WRONG_PASSWORDS) -> None:
    for _ in range(times):
        assert await store.sign_in_wait(account, browser) == 0
        await store.sign_in_failed(account, browser)


async def test_session_is_found_by_its_token_until_it_ends(rig: Rig, store: Store) -> None:
    session = await store.session(rig.session_token)
    assert session is not None
    assert (session.session_id, session.user) == (rig.session_id, rig.user)
    assert await store.end_session(rig.session_token)
    assert await store.session(rig.session_token) is None
    assert not await store.end_session(rig.session_token)


async def test_session_expires(store: Store, clock: MovableClock) -> None:
    clock.stop()
    rig = await Rig.build(store)
    clock.advance(3599)
    assert await store.session(rig.session_token) is not None
    clock.advance(1)
    assert await store.session(rig.session_token) is None


@pytest.mark.parametrize("token", ["", "unknown", "\0", "\ud800", "x" * 10_000])
async def test_unknown_session_token_opens_nothing(rig: Rig, store: Store, token: str) -> None:
    assert await store.session(token) is None
    assert not await store.end_session(token)


async def test_sessions_of_two_browsers_are_apart(rig: Rig, store: Store) -> None:
    token = random_text()
    other = await store.start_session(rig.user.subject, token, 60)
    assert other is not None
    assert other.session_id != rig.session_id
    await store.end_session(rig.session_token)
    assert await store.session(token) == other


async def test_nobody_begins_a_session_for_an_unknown_subject(store: Store) -> None:
    assert await store.start_session("unobody", random_text(), 60) is None


@pytest.mark.parametrize("account", ["the subject of a user", "nobody", "\0", "x" * 10_000])
async def test_tenth_wrong_password_makes_any_account_wait(
    rig: Rig, store: Store, clock: MovableClock, account: str
) -> None:
    clock.stop()
    account = rig.user.subject if account.startswith("the subject") else account
    await guess(store, account)
    wait = await store.sign_in_wait(account, None)
    assert wait == WAIT
    assert await store.sign_in_wait("somebody else", None) == 0


async def test_wait_ends_by_itself_and_the_count_begins_anew(rig: Rig, store: Store, clock: MovableClock) -> None:
    clock.stop()
    await guess(store, rig.user.subject)
    clock.advance(WAIT - 5)
    assert 0 < await store.sign_in_wait(rig.user.subject, None) <= 5
    clock.advance(5)
    await guess(store, rig.user.subject)
    assert await store.sign_in_wait(rig.user.subject, None) > 0


async def test_success_clears_the_count(rig: Rig, store: Store) -> None:
    await guess(store, rig.user.subject, times=9)
    await store.start_session(rig.user.subject, random_text(), 60)
    await guess(store, rig.user.subject, times=9)
    assert await store.sign_in_wait(rig.user.subject, None) == 0


async def test_known_browser_has_an_allowance_of_its_own(rig: Rig, store: Store) -> None:
    await guess(store, rig.user.subject)
    assert await store.sign_in_wait(rig.user.subject, None) > 0
    await guess(store, rig.user.subject, browser="known")
    assert await store.sign_in_wait(rig.user.subject, "known") > 0
    assert await store.sign_in_wait(rig.user.subject, "another") == 0


async def test_guesses_that_come_at_once_are_all_counted(rig: Rig, store: Store) -> None:
    await asyncio.gather(*(store.sign_in_failed(rig.user.subject, None) for _ in range(WRONG_PASSWORDS)))
    assert await store.sign_in_wait(rig.user.subject, None) > 0


async def test_attempts_show_no_login_that_was_typed(rig: Rig, store: Store, database: str) -> None:
    await store.sign_in_failed("my-secret-password-in-the-wrong-field", None)
    assert await count(database, "failed_attempts") == 1
    rows = await fetch(database, "select subject from events where kind = 'sign_in.failed'")
    assert [row["subject"] for row in rows] == [None]
    await store.sign_in_failed(rig.user.subject, None)
    rows = await fetch(database, "select subject from events where kind = 'sign_in.failed' order by event_id")
    assert [row["subject"] for row in rows] == [None, rig.user.subject]
