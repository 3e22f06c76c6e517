"""Tables do not grow with history, and nothing goes that is still needed."""

from datetime import timedelta

import pytest

from gateway.store import Store
from gateway.store.database import connect
from tests.store.rig import MovableClock, Rig, count, counted, fetch, outcome

DAY = 86400


async def swept(store: Store, batch: int = 1000) -> int:
    total = 0
    while removed := await store.sweep(batch):
        total += removed
    return total


async def test_sweep_takes_nothing_that_lives(rig: Rig, store: Store, database: str) -> None:
    tokens = await rig.tokens()
    await store.start_flow(rig.session_id, rig.request())
    for _ in range(2):
        store.guess("nobody", None, None).wrong()
    await counted(store)
    await store.rotate_secret(rig.client.client_id, overlap=60)
    await store.spend_token_nonces([(b"k" * 16, store.now() + timedelta(minutes=1))])
    code = await rig.code()
    assert await swept(store) == 0
    assert await rig.lives(tokens)
    assert await rig.lives(await rig.redeem(code))
    assert await store.session(rig.session_token) is not None


async def test_sweep_leaves_nothing_that_expired(rig: Rig, store: Store, database: str, clock: MovableClock) -> None:
    for _ in range(3):
        tokens = await rig.tokens()
        await rig.refresh(tokens.refresh_token)
        await rig.code()
        await store.client_credentials(rig.client, frozenset(), (), store.now())
    for _ in range(2):
        store.guess("nobody", None, None).wrong()
    await counted(store)
    await store.rotate_secret(rig.client.client_id)
    await store.spend_token_nonces([(bytes([n]) * 16, store.now()) for n in range(5)])
    await store.withdraw(rig.user.subject, rig.client.client_id)
    clock.advance(100 * DAY)
    assert await swept(store, batch=4) > 40
    for table in (
        "sessions", "flows", "codes", "families", "access_tokens", "refresh_tokens", "grants", "token_nonces",
        "failed_attempts", "events",
    ):  # fmt: skip
        assert await count(database, table) == 0, table
    for table in ("users", "clients", "client_secrets"):
        assert await count(database, table) == 1, table


async def test_sweep_keeps_what_people_granted(rig: Rig, store: Store, clock: MovableClock) -> None:
    await rig.tokens()
    clock.advance(100 * DAY)
    await swept(store)
    assert len(await store.grants(rig.user.subject)) == 1


async def test_sweep_takes_a_bounded_batch(rig: Rig, store: Store, clock: MovableClock) -> None:
    await store.spend_token_nonces([(bytes([n]) * 16, store.now()) for n in range(25)])
    clock.advance(1)
    assert [await store.sweep(10) for _ in range(4)] == [10, 10, 5, 0]


async def test_spent_code_outlives_its_time_so_that_a_replay_still_revokes(
    rig: Rig, store: Store, clock: MovableClock
) -> None:
    code = await rig.code(ttl=60)
    tokens = await rig.redeem(code)
    for _ in range(10):
        clock.advance(7 * DAY)
        tokens = await rig.refresh(tokens.refresh_token)
        await swept(store)
    assert await rig.lives(tokens)
    assert await outcome(rig.redeem(code)) == "invalid_grant"
    assert not await rig.lives(tokens)
    assert await outcome(rig.refresh(tokens.refresh_token)) == "invalid_grant"


async def test_reuse_of_an_old_refresh_token_is_seen_after_a_sweep(rig: Rig, store: Store, clock: MovableClock) -> None:
    first = await rig.tokens()
    clock.advance(7 * DAY)
    second = await rig.refresh(first.refresh_token)
    clock.advance(6 * DAY)
    await swept(store)
    assert await outcome(rig.refresh(first.refresh_token)) == "invalid_grant"
    assert await outcome(rig.refresh(second.refresh_token)) == "invalid_grant"


async def test_one_sweeps_at_a_time(rig: Rig, store: Store, database: str, clock: MovableClock) -> None:
    await store.spend_token_nonces([(b"k" * 16, store.now())])
    clock.advance(1)
    holder = await connect(database, "gateway-test")
    async with holder.transaction():
        await holder.execute("select pg_advisory_xact_lock($1)", 0x73776570)
        assert await store.sweep() == 0
    await holder.close()
    assert await store.sweep() == 1


async def test_clock_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import UTC, datetime

    from gateway.store import Clock, clock

    class Broken:
        times = iter([10, 20, 5, 15, 30])

        @classmethod
        def now(cls, _: object) -> datetime:
            return datetime.fromtimestamp(next(cls.times), UTC)

    monkeypatch.setattr(clock, "datetime", Broken)
    time = Clock()
    assert [time().timestamp() for _ in range(4)] == [20, 20, 20, 30]


async def test_audit_names_what_happened_to_whom(rig: Rig, store: Store, database: str) -> None:
    code = await rig.code()
    tokens = await rig.redeem(code)
    again = await rig.refresh(tokens.refresh_token)
    await store.revoke_token(again.access_token, rig.client)
    await outcome(rig.refresh(tokens.refresh_token))
    await outcome(rig.redeem(code))
    store.guess("ada", rig.user, None).wrong()
    await counted(store)
    flow = await store.start_flow(rig.session_id, rig.request())
    assert flow is not None
    await store.deny(flow.flow_id, rig.session_id)
    await store.issue_code(rig.session_id, rig.request(), 60, remember=True)
    await store.withdraw(rig.user.subject, rig.client.client_id)
    await store.end_session(rig.session_token)
    await store.set_password("ada", "$argon2id$fake")
    await store.disable_user("ada")
    await store.disable_user("ada", disabled=False)
    await store.rotate_secret(rig.client.client_id)
    await store.disable_client(rig.client.client_id)
    await store.delete_client(rig.client.client_id)
    await store.delete_user("ada")
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
