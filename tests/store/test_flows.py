"""Requests that wait for a decision, the decision, once, and the grant that remembers it."""

import asyncio

import pytest

from gateway.crypto import random_text
from gateway.store import Store
from tests.store.rig import MovableClock, Rig, count, outcome

BOTH = frozenset({"read", "write"})
READ = frozenset({"read"})
WRITE = frozenset({"write"})


async def test_flow_remembers_the_request_to_the_byte(rig: Rig, store: Store) -> None:
    request = rig.request(state=bytes(range(256)), resource=("https://a.example", "https://b.example"))
    flow = await store.start_flow(rig.session_id, request)
    assert flow is not None
    assert flow.request == request
    assert flow.subject == rig.user.subject
    assert await store.flow(flow.flow_id, rig.session_id) == flow


@pytest.mark.parametrize("state", [None, b""])
async def test_flow_tells_an_absent_state_from_an_empty_one(rig: Rig, store: Store, state: bytes | None) -> None:
    flow = await store.start_flow(rig.session_id, rig.request(state=state, code_challenge=None))
    assert flow is not None
    assert flow.request.state == state


async def test_flow_belongs_to_its_session(rig: Rig, store: Store) -> None:
    flow = await store.start_flow(rig.session_id, rig.request())
    other = await store.start_session(rig.user.subject, random_text(), 60)
    assert flow is not None
    assert other is not None
    assert await store.flow(flow.flow_id, other.session_id) is None
    assert await store.allow(flow.flow_id, other.session_id, BOTH, 60) is None
    assert not await store.deny(flow.flow_id, other.session_id)
    assert await store.flow(flow.flow_id, rig.session_id) == flow


@pytest.mark.parametrize("flow_id", ["", "unknown", "f\0", "\ud800"])
async def test_unknown_flow_is_nothing(rig: Rig, store: Store, flow_id: str) -> None:
    assert await store.flow(flow_id, rig.session_id) is None
    assert await store.allow(flow_id, rig.session_id, BOTH, 60) is None
    assert not await store.deny(flow_id, rig.session_id)


async def test_flow_is_over_when_it_expires(rig: Rig, store: Store, clock: MovableClock) -> None:
    flow = await store.start_flow(rig.session_id, rig.request(), lifetime=100)
    assert flow is not None
    clock.advance(100)
    assert await store.flow(flow.flow_id, rig.session_id) is None
    assert await store.allow(flow.flow_id, rig.session_id, BOTH, 60) is None
    assert not await store.deny(flow.flow_id, rig.session_id)
    assert await store.grants(rig.user.subject) == []


async def test_flow_ends_with_its_session(rig: Rig, store: Store, database: str) -> None:
    flow = await store.start_flow(rig.session_id, rig.request())
    assert flow is not None
    await store.end_session(rig.session_token)
    assert await store.allow(flow.flow_id, rig.session_id, BOTH, 60) is None
    assert await store.start_flow(rig.session_id, rig.request()) is None
    assert await store.issue_code(rig.session_id, rig.request(), 60, remember=True) is None
    assert await count(database, "flows") == 0


async def test_flow_is_answered_once(rig: Rig, store: Store, database: str) -> None:
    flow = await store.start_flow(rig.session_id, rig.request())
    assert flow is not None
    answers = await asyncio.gather(*(store.allow(flow.flow_id, rig.session_id, BOTH, 60) for _ in range(8)))
    assert sum(answer is not None for answer in answers) == 1
    assert not await store.deny(flow.flow_id, rig.session_id)
    assert await store.flow(flow.flow_id, rig.session_id) is None
    assert await count(database, "codes") == 1


async def test_of_allow_and_deny_at_once_one_counts(rig: Rig, store: Store, database: str) -> None:
    for _ in range(10):
        flow = await store.start_flow(rig.session_id, rig.request())
        assert flow is not None
        allowed, denied = await asyncio.gather(
            store.allow(flow.flow_id, rig.session_id, BOTH, 60), store.deny(flow.flow_id, rig.session_id)
        )
        assert (allowed is not None) != denied


async def test_denial_issues_nothing_and_remembers_nothing(rig: Rig, store: Store, database: str) -> None:
    flow = await store.start_flow(rig.session_id, rig.request())
    assert flow is not None
    assert await store.deny(flow.flow_id, rig.session_id)
    assert await store.allow(flow.flow_id, rig.session_id, BOTH, 60) is None
    assert await store.grants(rig.user.subject) == []
    assert await count(database, "codes") == 0


async def test_scope_that_was_not_asked_for_cannot_be_allowed(rig: Rig, store: Store) -> None:
    flow = await store.start_flow(rig.session_id, rig.request(scopes=READ))
    assert flow is not None
    assert await store.allow(flow.flow_id, rig.session_id, BOTH, 60) is None
    assert await store.flow(flow.flow_id, rig.session_id) == flow


async def test_unticked_scope_is_neither_in_the_grant_nor_in_the_tokens(rig: Rig, store: Store) -> None:
    tokens = await rig.tokens(scopes=READ)
    assert tokens.scope == "read"
    assert await store.granted_scopes(rig.user.subject, rig.client.client_id) == READ


@pytest.mark.parametrize(
    ("had", "asked", "allowed", "has"),
    [
        (BOTH, BOTH, READ, READ),
        (READ, WRITE, WRITE, BOTH),
        (READ, BOTH, WRITE, WRITE),
        (BOTH, READ, READ, BOTH),
    ],
)
async def test_grant_keeps_the_last_word_on_each_scope(
    rig: Rig, store: Store, had: frozenset[str], asked: frozenset[str], allowed: frozenset[str], has: frozenset[str]
) -> None:
    for wanted, chosen in ((had, had), (asked, allowed)):
        flow = await store.start_flow(rig.session_id, rig.request(scopes=wanted))
        assert flow is not None
        assert await store.allow(flow.flow_id, rig.session_id, chosen, 60)
    assert await store.granted_scopes(rig.user.subject, rig.client.client_id) == has
    assert len(await store.grants(rig.user.subject)) == 1


async def test_connected_application_is_listed_with_its_name_until_withdrawn(rig: Rig, store: Store) -> None:
    await rig.code()
    (grant,) = await store.grants(rig.user.subject)
    assert (grant.client_id, grant.client_name, grant.scopes) == (rig.client.client_id, "Example", BOTH)
    assert await store.withdraw(rig.user.subject, rig.client.client_id)
    assert not await store.withdraw(rig.user.subject, rig.client.client_id)
    assert await store.grants(rig.user.subject) == []
    assert await store.granted_scopes(rig.user.subject, rig.client.client_id) == frozenset()


async def test_withdrawal_ends_everything_from_that_grant_and_nothing_else(rig: Rig, store: Store) -> None:
    tokens, code = await rig.tokens(), await rig.code()
    other = Rig(store, rig.user, (await Rig.build(store, username="bob")).client, "", rig.session_id, "")
    others = await other.tokens()
    assert await store.withdraw(rig.user.subject, rig.client.client_id)
    assert not await rig.lives(tokens)
    assert await outcome(rig.refresh(tokens.refresh_token)) == "invalid_grant"
    assert await outcome(rig.redeem(code)) == "invalid_grant"
    assert await rig.lives(others)
    assert await rig.lives(await rig.tokens()), "a new consent begins anew"
    assert not await rig.lives(tokens), "and revives nothing"


async def test_code_without_asking_needs_a_grant_that_covers_it_now(rig: Rig, store: Store) -> None:
    request = rig.request(scopes=READ)
    assert await store.issue_code(rig.session_id, request, 60, remember=False) is None
    await rig.code(scopes=READ)
    code = await store.issue_code(rig.session_id, request, 60, remember=False)
    assert code is not None
    assert (await rig.redeem(code)).scope == "read"
    assert await store.issue_code(rig.session_id, rig.request(scopes=BOTH), 60, remember=False) is None
    await store.withdraw(rig.user.subject, rig.client.client_id)
    assert await store.issue_code(rig.session_id, request, 60, remember=False) is None


async def test_first_party_code_records_its_grant(rig: Rig, store: Store) -> None:
    for scopes in (READ, WRITE):
        assert await store.issue_code(rig.session_id, rig.request(scopes=scopes), 60, remember=True)
    (grant,) = await store.grants(rig.user.subject)
    assert grant.scopes == BOTH


async def test_grants_of_consents_at_once_are_one(rig: Rig, store: Store) -> None:
    codes = await asyncio.gather(
        *(store.issue_code(rig.session_id, rig.request(), 60, remember=True) for _ in range(8))
    )
    assert None not in codes
    assert len(await store.grants(rig.user.subject)) == 1
