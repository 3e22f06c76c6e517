"""What was used is written down now and then: tokens, grants, and the scopes that clients used."""

import pytest

from gateway.crypto import digest
from gateway.errors import StoreUnavailable
from gateway.guard import Allowed
from gateway.guard import uses as module
from gateway.store.records import IssuedTokens
from gateway.store.uses import Uses
from tests.guard.conftest import World
from tests.serving import until
from tests.store.rig import Rig, fetch


async def test_calls_that_pass_are_uses_and_refused_ones_are_none(world: World) -> None:
    rig = await Rig.build(world.store)
    used, unused = await rig.tokens(), await rig.tokens()
    assert isinstance(await world.check(world.call(f"Bearer {used.access_token}")), Allowed)
    lacking = await world.token("write")
    assert not isinstance(await world.check(world.call(f"Bearer {lacking.access_token}")), Allowed)
    assert await fetch(world.database, "select from scope_uses") == []  # no call writes it
    await world.guard._uses.flush()
    rows = await fetch(world.database, "select digest from access_tokens where last_used_at is not null")
    assert [row["digest"] for row in rows] == [digest(used.access_token)]
    assert unused.access_token != used.access_token
    rows = await fetch(world.database, "select client_id, scope from scope_uses")
    assert [tuple(row) for row in rows] == [(rig.client.client_id, "read")]
    (grant,) = await fetch(world.database, "select last_used_at from grants")
    assert grant["last_used_at"] is not None


async def test_a_token_in_steady_use_is_written_once_in_five_minutes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.guard.start()
    await until(lambda: world.guard._ledger.holds)  # so that tokens are held
    token, written, note = await world.token(), list[int](), world.store.holdings.note

    async def noted(uses: Uses) -> None:
        written.append(len(uses.tokens))
        await note(uses)

    monkeypatch.setattr(world.store.holdings, "note", noted)
    for _ in range(2 * module._AGAIN + 1):
        for _ in range(2):
            assert isinstance(await world.check(world.call(f"Bearer {token.access_token}")), Allowed)
        await world.guard._uses.flush()
    assert written == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    (row,) = await fetch(world.database, "select from access_tokens where last_used_at is not null")
    assert row is not None


@pytest.mark.plain
async def test_what_is_remembered_is_bounded_and_the_rest_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    tokens = [await world.token() for _ in range(5)]

    async def used() -> int:
        for token in tokens:
            assert isinstance(await world.check(world.call(f"Bearer {token.access_token}")), Allowed)
        await world.guard._uses.flush()
        return len(await fetch(world.database, "select from access_tokens where last_used_at is not null"))

    await world.guard.start()
    await until(lambda: world.guard._ledger.holds)  # so that tokens are held
    assert [await used(), await used()] == [3, 5]


async def test_an_outage_stops_no_call_and_loses_no_use(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.guard.start()
    await until(lambda: world.guard._ledger.holds)
    token, late, uses = await world.token(), await world.token(), world.guard._uses
    note = world.store.holdings.note

    async def use(used: IssuedTokens) -> None:
        assert isinstance(await world.check(world.call(f"Bearer {used.access_token}")), Allowed)

    async def fail(_: Uses) -> None:
        await use(token)
        await use(late)  # while the others are on their way
        raise StoreUnavailable("it is gone")

    await use(token)
    monkeypatch.setattr(world.store.holdings, "note", fail)
    with pytest.raises(StoreUnavailable):
        await uses.flush()
    monkeypatch.setattr(world.store.holdings, "note", note)
    await uses.flush()
    rows = await fetch(world.database, "select digest from access_tokens where last_used_at is not null")
    assert {row["digest"] for row in rows} == {digest(used.access_token) for used in (token, late)}
    assert len(await fetch(world.database, "select from scope_uses")) == 1
