"""Signing in and out."""

import pytest

from gateway.crypto import random_text
from gateway.store import Store
from tests.store.rig import MovableClock, Rig


async def test_session_is_found_by_its_token_until_it_ends(rig: Rig, store: Store) -> None:
    session = await store.sessions.find(rig.session_token)
    assert session is not None
    assert (session.session_id, session.user) == (rig.session_id, rig.user)
    assert await store.sessions.end(rig.session_token)
    assert await store.sessions.find(rig.session_token) is None
    assert not await store.sessions.end(rig.session_token)


async def test_session_expires(store: Store, clock: MovableClock) -> None:
    clock.stop()
    rig = await Rig.build(store)
    clock.advance(3599)
    assert await store.sessions.find(rig.session_token) is not None
    clock.advance(1)
    assert await store.sessions.find(rig.session_token) is None


@pytest.mark.parametrize("token", ["", "unknown", "\0", "\ud800", "x" * 10_000])
async def test_unknown_session_token_opens_nothing(rig: Rig, store: Store, token: str) -> None:
    assert await store.sessions.find(token) is None
    assert not await store.sessions.end(token)


async def test_sessions_of_two_browsers_are_apart(rig: Rig, store: Store) -> None:
    token = random_text()
    other = await store.sessions.start(rig.user.subject, token, 60)
    assert other is not None
    assert other.session_id != rig.session_id
    await store.sessions.end(rig.session_token)
    assert await store.sessions.find(token) == other


async def test_nobody_begins_a_session_for_an_unknown_subject(store: Store) -> None:
    assert await store.sessions.start("unobody", random_text(), 60) is None
