"""Tables do not grow with history, and nothing goes that is still needed."""

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from gateway.crypto import random_text
from gateway.model import Client
from gateway.oauth.grants import ClientCredentialsGrant
from gateway.store import Clock, Store
from gateway.store.database import Statements, connect
from gateway.store.records import NewClient
from gateway.store.registrations import Registered
from gateway.store.upkeep import _EXPIRED, _KEPT
from tests.store.rig import MovableClock, Rig, aged, count, counted, everything, fetch, outcome

DAY = 86400


async def swept(store: Store, batch: int = 1000) -> int:
    total = 0
    while removed := await store.upkeep.sweep(batch):
        total += removed
    return total


async def test_sweep_takes_nothing_that_lives(rig: Rig, store: Store, database: str) -> None:
    tokens = await rig.tokens()
    await store.flows.deny(store.flows.start(rig.user.subject, rig.request()), rig.session_id)
    for _ in range(2):
        store.guesses.begin("nobody", None, None).wrong("wrong password")
    await counted(store)
    await store.clients.rotate_secret(rig.client.client_id, overlap=60)
    await store.nonces.spend_untimed([(b"k" * 16, store.now() + timedelta(minutes=1))])
    code = await rig.code()
    assert await swept(store) == 0
    assert await rig.lives(tokens)
    assert await rig.lives(await rig.redeem(code))
    assert await store.sessions.find(rig.session_token) is not None


async def test_sweep_leaves_nothing_that_expired(rig: Rig, store: Store, database: str) -> None:
    for _ in range(3):
        tokens = await rig.tokens()
        await rig.refresh(tokens.refresh_token)
        await rig.code()
        await store.tokens.client_credentials(rig.client, ClientCredentialsGrant(frozenset()), store.now())
    for _ in range(2):
        store.guesses.begin("nobody", None, None).wrong("wrong password")
    await counted(store)
    await store.clients.rotate_secret(rig.client.client_id)
    await store.devices.start(rig.client.client_id, frozenset(), ())
    await store.pushed.add(rig.request(), 60)
    await store.nonces.spend_untimed([(bytes([n]) * 16, store.now()) for n in range(5)])
    await store.grants.withdraw(rig.user.subject, rig.client.client_id)
    await aged(database, 100 * DAY)
    assert await swept(store, batch=4) > 40
    for table in (
        "sessions", "flows", "codes", "families", "access_tokens", "refresh_tokens", "grants", "token_nonces",
        "failed_attempts", "events", "pushed_requests", "device_codes",
    ):  # fmt: skip
        assert await count(database, table) == 0, table
    for table in ("users", "clients", "client_secrets"):
        assert await count(database, table) == 1, table


async def test_sweep_keeps_what_people_granted(rig: Rig, store: Store, database: str) -> None:
    await rig.tokens()
    await aged(database, 100 * DAY)
    await swept(store)
    assert len(await store.grants.of(rig.user.subject)) == 1


async def registered(store: Store, idle: float = 60) -> Registered:
    """A client that registered itself."""
    new = NewClient(
        name="Registered",
        confidential=False,
        redirect_uris=("https://client.example/cb",),
        grant_types=frozenset({"authorization_code", "refresh_token"}),
        scopes=frozenset({"read", "write"}),
        token_type="bearer",
        mac_drafts=("01",),
        mac_algorithm="hmac-sha-256",
        verified=False,
    )
    made = await store.registrations.add(new, {}, idle=idle, place="192.0.2.7", initial_token=None)
    assert isinstance(made, Registered)
    return made


async def signed_in(rig: Rig, client: Client) -> Rig:
    """The rig's person in a browser of today, with another client."""
    session = await rig.store.sessions.start(rig.user.subject, token := random_text(), 3600)
    assert session is not None
    return replace(rig, client=client, session_id=session.session_id, session_token=token)


async def test_client_that_registered_itself_goes_when_it_was_not_used(rig: Rig, store: Store, database: str) -> None:
    unused, used = await registered(store, 10 * DAY), await registered(store, 10 * DAY)
    await aged(database, 9 * DAY)
    await (await signed_in(rig, used.client)).tokens()
    await aged(database, 2 * DAY)
    await swept(store)
    left = {client.client_id for client in await store.clients.all()}
    assert left == {rig.client.client_id, used.client.client_id}
    (event,) = await fetch(database, "select client_id from events where kind = 'client.expired'")
    assert event["client_id"] == unused.client.client_id


async def test_client_whose_refresh_token_lives_is_used_however_long_ago(rig: Rig, store: Store, database: str) -> None:
    client = (await registered(store, DAY)).client
    tokens = await (await signed_in(rig, client)).tokens()
    await aged(database, 5 * DAY)
    await swept(store)
    assert await store.clients.find(client.client_id) is not None
    await replace(rig, client=client).refresh(tokens.refresh_token)
    await aged(database, 100 * DAY)
    await swept(store)
    assert await store.clients.find(client.client_id) is None


async def full(rig: Rig, database: str) -> None:
    """A row of every kind that expires."""
    store = rig.store
    tokens = await rig.tokens()
    await rig.refresh(tokens.refresh_token)
    await rig.code()
    await store.flows.deny(store.flows.start(rig.user.subject, rig.request()), rig.session_id)
    await store.tokens.issue(rig.client.client_id, "ada", frozenset({"read"}), 60, "mac")
    for _ in range(2):
        store.guesses.begin("nobody", None, None).wrong("wrong password")
    await counted(store)
    await store.clients.rotate_secret(rig.client.client_id, overlap=60)
    await store.nonces.spend_untimed([(os.urandom(16), store.now() + timedelta(minutes=1))])
    await registered(store)
    await store.registrations.create_token(60, 1)
    other = await Rig.build(store, username=f"friend-of-{rig.user.username}")
    await other.code()
    await store.grants.withdraw(other.user.subject, other.client.client_id)


@pytest.mark.parametrize("seconds", [100 * DAY, 61, -61, -100 * DAY])
async def test_worker_whose_clock_is_wrong_removes_nothing_and_says_so(
    rig: Rig, store: Store, database: str, clock: MovableClock, seconds: float
) -> None:
    await full(rig, database)
    await aged(database, 30)
    before = await everything(database)
    clock.advance(seconds)
    with capture_logs() as lines:
        assert await store.upkeep.sweep() == 0
    assert await everything(database) == before
    (line,) = [line for line in lines if line["event"].startswith("nothing is removed")]
    assert (line["log_level"], abs(line["seconds"] - seconds) <= 1) == ("warning", True)


async def test_no_statement_of_the_sweep_believes_a_clock_that_is_ahead(rig: Rig, store: Store, database: str) -> None:
    await full(rig, database)
    before, ahead = await everything(database), store.now() + timedelta(days=1000)
    connection = await connect(database, "gateway-test")
    statements = Statements(connection, store.recorder)
    for name in _EXPIRED:
        assert await statements.value(name, now=ahead, batch=1000) == 0, name
    for name, kept in _KEPT.items():
        assert await statements.value(name, now=ahead, batch=1000, kept=kept) == 0, name
    await connection.close()
    assert await everything(database) == before


async def test_worker_whose_clock_leaps_sweeps_and_writes_by_the_time_that_it_is(
    rig: Rig, database: str, another: Callable[..., Awaitable[Store]]
) -> None:
    leap = 0.0
    leapt = await another(clock=Clock(system=lambda: time.time() + leap))
    await full(rig, database)
    before = await everything(database)
    leap = 100 * DAY
    assert await leapt.upkeep.sweep() == 0
    assert await everything(database) == before
    assert await leapt.sessions.find(rig.session_token) is not None
    later = await Rig.build(leapt, username="eve")
    await full(later, database)
    for table, column in (("sessions", "expires_at"), ("access_tokens", "expires_at"), ("events", "at")):
        (row,) = await fetch(database, f"select max({column}) < now() + interval '1 day' as near from {table}")
        assert row["near"], table


async def test_what_a_clock_that_was_ahead_dated_stands_in_nobody_s_way(rig: Rig, store: Store, database: str) -> None:
    for _ in range(2):
        store.guesses.begin("nobody", None, None).wrong("wrong password")
    await counted(store)
    await aged(database, -100 * DAY)
    await swept(store, batch=4)
    assert await count(database, "failed_attempts") == 0


async def test_no_event_is_dated_ahead_of_the_database(store: Store, database: str, clock: MovableClock) -> None:
    clock.advance(100 * DAY)
    await Rig.build(store)
    (row,) = await fetch(database, "select count(*) as n, bool_and(at <= now()) as good from events")
    assert tuple(row) == (3, True)
    await store.chain.complete()
    assert not (await store.chain.verify()).faults


async def test_sweep_takes_a_bounded_batch(rig: Rig, store: Store, clock: MovableClock) -> None:
    await store.nonces.spend_untimed([(bytes([n]) * 16, store.now()) for n in range(25)])
    clock.advance(1)
    assert [await store.upkeep.sweep(10) for _ in range(4)] == [10, 10, 5, 0]


async def test_spent_code_outlives_its_time_so_that_a_replay_still_revokes(
    rig: Rig, store: Store, database: str
) -> None:
    code = await rig.code(ttl=60)
    tokens = await rig.redeem(code)
    for _ in range(10):
        await aged(database, 7 * DAY)
        tokens = await rig.refresh(tokens.refresh_token)
        await swept(store)
    assert await rig.lives(tokens)
    assert await outcome(rig.redeem(code)) == "invalid_grant"
    assert not await rig.lives(tokens)
    assert await outcome(rig.refresh(tokens.refresh_token)) == "invalid_grant"


async def test_reuse_of_an_old_refresh_token_is_seen_after_a_sweep(rig: Rig, store: Store, database: str) -> None:
    first = await rig.tokens()
    await aged(database, 7 * DAY)
    second = await rig.refresh(first.refresh_token)
    await aged(database, 6 * DAY)
    await swept(store)
    assert await outcome(rig.refresh(first.refresh_token)) == "invalid_grant"
    assert await outcome(rig.refresh(second.refresh_token)) == "invalid_grant"


async def test_one_sweeps_at_a_time(rig: Rig, store: Store, database: str, clock: MovableClock) -> None:
    await store.nonces.spend_untimed([(b"k" * 16, store.now())])
    clock.advance(1)
    holder = await connect(database, "gateway-test")
    async with holder.transaction():
        await holder.execute("select pg_advisory_xact_lock($1)", 0x73776570)
        assert await store.upkeep.sweep() == 0
    await holder.close()
    assert await store.upkeep.sweep() == 1


async def test_audit_names_what_happened_to_whom(rig: Rig, store: Store, database: str) -> None:
    code = await rig.code()
    tokens = await rig.redeem(code)
    again = await rig.refresh(tokens.refresh_token)
    await store.tokens.revoke(again.access_token, rig.client)
    await outcome(rig.refresh(tokens.refresh_token))
    await outcome(rig.redeem(code))
    store.guesses.begin("ada", rig.user, None).wrong("wrong password")
    await counted(store)
    flow = store.flows.start(rig.user.subject, rig.request())
    await store.flows.deny(flow, rig.session_id)
    await store.flows.issue_code(rig.session_id, rig.request(), 60, remember=True)
    await store.grants.withdraw(rig.user.subject, rig.client.client_id)
    await store.sessions.end(rig.session_token)
    await store.users.set_password("ada", "$argon2id$fake")
    await store.users.disable("ada")
    await store.users.enable("ada")
    await store.clients.rotate_secret(rig.client.client_id)
    await store.clients.disable(rig.client.client_id)
    await store.clients.delete(rig.client.client_id)
    await store.users.delete("ada")
    rows = await fetch(database, "select kind, subject, client_id from events order by event_id")
    assert [row["kind"] for row in rows] == [
        "user.created", "client.created", "sign_in.succeeded", "consent.given", "token.issued", "token.issued",
        "token.revoked", "refresh.reused", "sign_in.failed", "consent.denied", "consent.assumed", "grant.withdrawn",
        "signed_out", "user.password_changed", "user.disabled", "user.enabled", "client.secret_rotated",
        "client.disabled", "client.deleted", "user.deleted",
    ]  # fmt: skip
    by_kind = {row["kind"]: (row["subject"], row["client_id"]) for row in rows}
    assert by_kind["refresh.reused"] == (rig.user.subject, rig.client.client_id)
    assert by_kind["sign_in.failed"] == (rig.user.subject, None)
    assert by_kind["client.deleted"] == (None, rig.client.client_id)


async def test_replayed_code_is_in_the_audit(rig: Rig, database: str) -> None:
    code = await rig.code()
    await rig.redeem(code)
    await outcome(rig.redeem(code))
    (row,) = await fetch(database, "select subject, client_id from events where kind = 'code.replayed'")
    assert (row["subject"], row["client_id"]) == (rig.user.subject, rig.client.client_id)


async def test_sweep_removes_full_buckets_and_quotas_of_days_before_yesterday(store: Store, database: str) -> None:
    await fetch(
        database,
        "insert into rate_buckets select int8send(n), now() + (n - 1) * interval '1 minute', 0, "
        "now() - interval '1 hour' from generate_series(0, 2) as n",
    )
    await fetch(
        database,
        "insert into quotas select (now() at time zone 'UTC')::date - n, int8send(n), 5, 5, 1, 1 "
        "from generate_series(0, 4) as n",
    )
    await fetch(database, "insert into rate_workers values ('\\x01', now() - interval '2 hours'), ('\\x02', now())")
    await swept(store)
    assert await count(database, "rate_buckets") == 1  # that of the next minute
    assert await count(database, "quotas") == 2  # of today and yesterday
    assert await count(database, "rate_workers") == 1
