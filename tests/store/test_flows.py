"""Requests that wait for a decision, the decision, once, and the grant that remembers it."""

import asyncio
from dataclasses import replace

import asyncpg
import pytest
from msgspec.structs import fields

from gateway.crypto import random_text
from gateway.oauth.authorize import AuthorizationRequest
from gateway.store import Store
from tests.serving import until
from tests.store.rig import API, MovableClock, Rig, count, everything, fetch, outcome

BOTH = frozenset({"read", "write"})
READ = frozenset({"read"})
WRITE = frozenset({"write"})


async def test_answered_flow_remembers_the_request_to_the_byte(rig: Rig, store: Store) -> None:
    request = rig.request(
        resource=("https://b.example", "https://a.example"),
        state=bytes(range(256)),
        prompt=frozenset({"login", "consent"}),
        login_hint="ada\x01\ufffd\U0001f511\\",
        device=bytes(range(32)),
        nonce="\u2028é",
        max_age=1,
        id_token_claims=("email",),
        userinfo_claims=("address", "name"),
        subject="u1",
        id_token_hint="a.b.c",
        dpop_jkt="x" * 43,
    )
    assert all(getattr(request, field.name) for field in fields(request)), "a parameter that this test leaves out"
    flow = store.flows.start(rig.user.subject, request)
    assert await store.flows.deny(flow, rig.session_id)
    assert await store.flows.find(flow.flow_id, rig.session_id) == replace(flow, decision="denied")


async def test_nothing_is_written_of_a_flow_before_its_answer(rig: Rig, store: Store, database: str) -> None:
    before = await everything(database)
    flow = store.flows.start(rig.user.subject, rig.request())
    assert await store.flows.find(flow.flow_id, rig.session_id) is None
    assert await everything(database) == before


@pytest.mark.parametrize("state", [None, b""])
async def test_flow_tells_an_absent_state_from_an_empty_one(rig: Rig, store: Store, state: bytes | None) -> None:
    flow = store.flows.start(rig.user.subject, rig.request(state=state, code_challenge=None))
    assert await store.flows.deny(flow, rig.session_id)
    found = await store.flows.find(flow.flow_id, rig.session_id)
    assert found is not None
    assert found.request.state == state


async def test_visit_tells_what_was_allowed_before_at_just_these_resources(rig: Rig, store: Store) -> None:
    await rig.code(BOTH, resource=(OTHER, API))
    other = await Rig.build(store, username="eve")
    await other.code(BOTH)
    visit = await store.visits.find(rig.client.client_id, rig.session_token)
    for resource, granted in (((API, OTHER), BOTH), ((API,), frozenset[str]()), ((), frozenset[str]())):
        assert visit.granted_at(resource) == granted
    await store.grants.withdraw(rig.user.subject, rig.client.client_id)
    assert (await store.visits.find(rig.client.client_id, rig.session_token)).granted == {}


@pytest.mark.parametrize("asked", [True, False])
async def test_code_remembers_the_request_too(rig: Rig, store: Store, database: str, asked: bool) -> None:
    request = rig.request(resource=("https://b.example", API), state=b"\0\xff", login_hint="ada")
    if asked:
        await rig.code(READ, resource=request.resource, state=request.state, login_hint=request.login_hint)
    else:
        await store.flows.issue_code(rig.session_id, request, 60, remember=True)
    (row,) = await fetch(database, "select request, scopes from codes")
    assert AuthorizationRequest.from_json(row["request"]) == request
    assert set(row["scopes"]) == (READ if asked else request.scopes)


async def test_flow_belongs_to_its_person(rig: Rig, store: Store) -> None:
    flow = store.flows.start(rig.user.subject, rig.request())
    other = await Rig.build(store, username="eve")
    assert await store.flows.allow(flow, other.session_id, BOTH, 60) is None
    assert not await store.flows.deny(flow, other.session_id)
    assert await store.flows.allow(flow, rig.session_id, BOTH, 60)
    assert await store.flows.find(flow.flow_id, other.session_id) is None


async def test_flow_goes_on_in_another_session_of_its_person(rig: Rig, store: Store) -> None:
    flow = store.flows.start(rig.user.subject, rig.request())
    other = await store.sessions.start(rig.user.subject, random_text(), 60)
    assert other is not None
    await store.sessions.end(rig.session_token)
    assert await store.flows.allow(flow, other.session_id, BOTH, 60) is not None
    assert await store.flows.find(flow.flow_id, other.session_id) is not None


async def test_unknown_flow_is_nothing(rig: Rig, store: Store) -> None:
    assert await store.flows.find("unknown", rig.session_id) is None


async def test_flow_is_over_when_it_expires(rig: Rig, store: Store, clock: MovableClock) -> None:
    flow = store.flows.start(rig.user.subject, rig.request(), lifetime=100)
    answered = store.flows.start(rig.user.subject, rig.request(), lifetime=100)
    assert await store.flows.deny(answered, rig.session_id)
    clock.advance(100)
    assert await store.flows.allow(flow, rig.session_id, BOTH, 60) is None
    assert not await store.flows.deny(flow, rig.session_id)
    assert await store.flows.find(answered.flow_id, rig.session_id) is None
    assert await store.grants.of(rig.user.subject) == []


async def test_flow_is_over_when_it_expires_by_the_database_s_clock(
    rig: Rig, store: Store, clock: MovableClock
) -> None:
    """Its row may have been swept by then, and who does not find it would answer anew."""
    clock.advance(-3600)
    flow = store.flows.start(rig.user.subject, rig.request())
    assert await store.flows.allow(flow, rig.session_id, BOTH, 60) is None
    assert not await store.flows.deny(flow, rig.session_id)


async def test_flow_cannot_be_answered_without_a_session(rig: Rig, store: Store) -> None:
    flow = store.flows.start(rig.user.subject, rig.request())
    await store.sessions.end(rig.session_token)
    assert await store.flows.allow(flow, rig.session_id, BOTH, 60) is None
    assert not await store.flows.deny(flow, rig.session_id)
    assert await store.flows.issue_code(rig.session_id, rig.request(), 60, remember=True) is None


async def test_flow_is_answered_once(rig: Rig, store: Store, database: str) -> None:
    flow = store.flows.start(rig.user.subject, rig.request())
    answers = await asyncio.gather(*(store.flows.allow(flow, rig.session_id, BOTH, 60) for _ in range(8)))
    assert sum(answer is not None for answer in answers) == 1
    assert not await store.flows.deny(flow, rig.session_id)
    assert await count(database, "codes") == 1


async def test_flow_keeps_its_answer_while_the_code_is_good(rig: Rig, store: Store, clock: MovableClock) -> None:
    flow = store.flows.start(rig.user.subject, rig.request())
    code = await store.flows.allow(flow, rig.session_id, READ, 60)
    answered = replace(flow, decision="granted", allowed=READ, code=code)
    assert code is not None
    assert await store.flows.find(flow.flow_id, rig.session_id) == answered
    assert code not in repr(answered)
    clock.advance(60)
    assert await store.flows.find(flow.flow_id, rig.session_id) == replace(answered, code=None)


@pytest.mark.parametrize("end", ["spent", "withdrawn", "disabled client"])
async def test_code_that_is_worth_nothing_is_no_answer(rig: Rig, store: Store, end: str) -> None:
    flow = store.flows.start(rig.user.subject, rig.request())
    code = await store.flows.allow(flow, rig.session_id, BOTH, 60)
    assert code is not None
    if end == "spent":
        await rig.redeem(code)
    elif end == "withdrawn":
        await store.grants.withdraw(rig.user.subject, rig.client.client_id)
    else:
        await store.clients.disable(rig.client.client_id)
    found = await store.flows.find(flow.flow_id, rig.session_id)
    if end == "disabled client":
        assert found is None
    else:
        assert found == replace(flow, decision="granted", allowed=BOTH, spent=end == "spent")


async def test_denied_flow_says_so(rig: Rig, store: Store) -> None:
    flow = store.flows.start(rig.user.subject, rig.request())
    await store.flows.deny(flow, rig.session_id)
    assert await store.flows.find(flow.flow_id, rig.session_id) == replace(flow, decision="denied")


async def test_answer_is_kept_sealed(rig: Rig, store: Store, database: str) -> None:
    code = await rig.code()
    rows = [line for lines in (await everything(database)).values() for line in lines]
    assert not [line for line in rows if code in line or code.encode().hex() in line]


async def test_answer_sealed_with_a_key_that_is_gone_is_none(rig: Rig, store: Store, database: str) -> None:
    flow = store.flows.start(rig.user.subject, rig.request())
    await store.flows.allow(flow, rig.session_id, BOTH, 60)
    await fetch(database, "update flows set sealed_code = set_byte(sealed_code, 0, get_byte(sealed_code, 0) # 1)")
    answered = replace(flow, decision="granted", allowed=BOTH)
    assert await store.flows.find(flow.flow_id, rig.session_id) == answered


async def test_of_allow_and_deny_at_once_one_counts(rig: Rig, store: Store, database: str) -> None:
    for _ in range(10):
        flow = store.flows.start(rig.user.subject, rig.request())
        allowed, denied = await asyncio.gather(
            store.flows.allow(flow, rig.session_id, BOTH, 60), store.flows.deny(flow, rig.session_id)
        )
        assert (allowed is not None) != denied


async def test_denial_issues_nothing_and_remembers_nothing(rig: Rig, store: Store, database: str) -> None:
    flow = store.flows.start(rig.user.subject, rig.request())
    assert await store.flows.deny(flow, rig.session_id)
    assert await store.flows.allow(flow, rig.session_id, BOTH, 60) is None
    assert await store.grants.of(rig.user.subject) == []
    assert await count(database, "codes") == 0


@pytest.mark.parametrize("whom", ["users where username = 'ada'", "clients"])
@pytest.mark.parametrize("act", ["allow", "deny", "issue"])
async def test_nothing_comes_of_an_answer_while_its_person_or_client_is_being_deleted(
    rig: Rig, store: Store, database: str, act: str, whom: str
) -> None:
    async def answered() -> object:
        flow = store.flows.start(rig.user.subject, rig.request())
        if act == "issue":
            return await store.flows.issue_code(rig.session_id, flow.request, 60, remember=True)
        if act == "deny":
            return await store.flows.deny(flow, rig.session_id)
        return await store.flows.allow(flow, rig.session_id, BOTH, 60)

    connection = await asyncpg.connect(database)
    try:
        async with connection.transaction():
            await connection.execute(f"delete from {whom}")
            answer = asyncio.create_task(answered())
            await until(lambda: fetch(database, "select 1 from pg_locks where not granted"))
        assert not await answer
    finally:
        await connection.close()
    assert (await count(database, "flows"), await count(database, "codes")) == (0, 0)


async def test_scope_that_was_not_asked_for_cannot_be_allowed(rig: Rig, store: Store) -> None:
    flow = store.flows.start(rig.user.subject, rig.request(scopes=READ))
    assert await store.flows.allow(flow, rig.session_id, BOTH, 60) is None
    assert await store.flows.find(flow.flow_id, rig.session_id) is None
    assert await store.flows.allow(flow, rig.session_id, READ, 60) is not None


async def test_unticked_scope_is_neither_in_the_grant_nor_in_the_tokens(rig: Rig, store: Store) -> None:
    tokens = await rig.tokens(scopes=READ)
    assert tokens.scope == "read"
    assert await store.grants.scopes(rig.user.subject, rig.client.client_id) == READ


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
        flow = store.flows.start(rig.user.subject, rig.request(scopes=wanted))
        assert await store.flows.allow(flow, rig.session_id, chosen, 60)
    assert await store.grants.scopes(rig.user.subject, rig.client.client_id) == has
    assert len(await store.grants.of(rig.user.subject)) == 1


async def test_connected_application_is_listed_with_its_name_until_withdrawn(rig: Rig, store: Store) -> None:
    await rig.code()
    (grant,) = await store.grants.of(rig.user.subject)
    assert (grant.client_id, grant.client_name, grant.scopes) == (rig.client.client_id, "Example", BOTH)
    assert await store.grants.withdraw(rig.user.subject, rig.client.client_id)
    assert not await store.grants.withdraw(rig.user.subject, rig.client.client_id)
    assert await store.grants.of(rig.user.subject) == []
    assert await store.grants.scopes(rig.user.subject, rig.client.client_id) == frozenset()


async def test_withdrawal_ends_everything_from_that_grant_and_nothing_else(rig: Rig, store: Store) -> None:
    tokens, code = await rig.tokens(), await rig.code()
    other = Rig(store, rig.user, (await Rig.build(store, username="bob")).client, "", rig.session_id, "")
    others = await other.tokens()
    assert await store.grants.withdraw(rig.user.subject, rig.client.client_id)
    assert not await rig.lives(tokens)
    assert await outcome(rig.refresh(tokens.refresh_token)) == "invalid_grant"
    assert await outcome(rig.redeem(code)) == "invalid_grant"
    assert await rig.lives(others)
    assert await rig.lives(await rig.tokens()), "a new consent begins anew"
    assert not await rig.lives(tokens), "and revives nothing"


async def test_code_without_asking_needs_a_grant_that_covers_it_now(rig: Rig, store: Store) -> None:
    request = rig.request(scopes=READ)
    assert await store.flows.issue_code(rig.session_id, request, 60, remember=False) is None
    await rig.code(scopes=READ)
    code = await store.flows.issue_code(rig.session_id, request, 60, remember=False)
    assert code is not None
    assert (await rig.redeem(code)).scope == "read"
    assert await store.flows.issue_code(rig.session_id, rig.request(scopes=BOTH), 60, remember=False) is None
    await store.grants.withdraw(rig.user.subject, rig.client.client_id)
    assert await store.flows.issue_code(rig.session_id, request, 60, remember=False) is None


async def test_first_party_code_records_its_grant(rig: Rig, store: Store) -> None:
    for scopes in (READ, WRITE):
        assert await store.flows.issue_code(rig.session_id, rig.request(scopes=scopes), 60, remember=True)
    (grant,) = await store.grants.of(rig.user.subject)
    assert grant.scopes == BOTH


async def test_grants_of_consents_at_once_are_one(rig: Rig, store: Store) -> None:
    codes = await asyncio.gather(
        *(store.flows.issue_code(rig.session_id, rig.request(), 60, remember=True) for _ in range(8))
    )
    assert None not in codes
    assert len(await store.grants.of(rig.user.subject)) == 1


OTHER = f"{API}/other"


# RFC 8707, section 2.2: what was allowed at one resource says nothing of another.
@pytest.mark.parametrize(
    ("allowed", "asked", "covered"),
    [
        ((), (), True),
        ((API,), (API,), True),
        ((API, OTHER), (OTHER, API), True),
        ((API,), (OTHER,), False),
        ((API,), (), False),
        ((), (API,), False),
        ((API, OTHER), (API,), False),
        ((API,), (API, OTHER), False),
    ],
)
async def test_grant_covers_the_resources_that_were_asked_for(
    rig: Rig, store: Store, allowed: tuple[str, ...], asked: tuple[str, ...], covered: bool
) -> None:
    await rig.code(resource=allowed)
    granted = await store.grants.scopes(rig.user.subject, rig.client.client_id, asked)
    assert granted == (BOTH if covered else frozenset())
    code = await store.flows.issue_code(rig.session_id, rig.request(resource=asked), 60, remember=False)
    assert (code is not None) == covered


async def test_one_more_resource_is_a_grant_of_its_own(rig: Rig, store: Store) -> None:
    await rig.code(scopes=BOTH, resource=(API,))
    flow = store.flows.start(rig.user.subject, rig.request(resource=(OTHER,)))
    await store.flows.allow(flow, rig.session_id, READ, 60)
    await store.flows.issue_code(rig.session_id, rig.request(resource=(OTHER, API)), 60, remember=True)
    found = {grant.resource: grant.scopes for grant in await store.grants.of(rig.user.subject)}
    assert found == {(API,): BOTH, (OTHER,): READ, (API, OTHER): BOTH}


async def test_withdrawal_ends_the_grants_for_all_resources(rig: Rig, store: Store, database: str) -> None:
    tokens = [await rig.tokens(resource=resource) for resource in ((), (API,), (OTHER,))]
    assert await store.grants.withdraw(rig.user.subject, rig.client.client_id)
    assert [await rig.lives(token) for token in tokens] == [False] * 3
    assert await store.grants.of(rig.user.subject) == []
    events = await fetch(database, "select from events where kind = 'grant.withdrawn'")
    assert len(events) == 1
